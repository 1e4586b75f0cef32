# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models with data: who runs, who waits for somebody to bring it, and what is said of data.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, fails, host, make, one, runs


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def test_data_that_somebody_brings(repo: Path) -> None:
    """Until there are data providers, a model with data runs where its place is given."""
    (repo / "data.json").write_text('{"imagenet": {"local": {"path": "/srv/imagenet"}, "aws": {"path": "s3://x"}}}')
    run = one(repo, [card(data="imagenet")])
    fails(run, "invalid", "imagenet", "local, aws", '{"docker_mounts": {"/data": "/srv/imagenet"}, "docker_env_vars": {"MAD_DATAHOME": "/data"}}')
    run = one(
        repo, [card(data="imagenet")], {"n1": host({"docker_env_vars": {"MAD_DATAHOME": "/data"}, "docker_mounts": {"/data": "/srv/x"}})}
    )
    assert run["outcome"] is None
    assert (run["env"]["MAD_DATANAME"], run["env"]["MAD_DATAHOME"]) == ("imagenet", "/data")


def test_data_that_the_model_fetches_itself(repo: Path) -> None:
    """A name that data.json has without a provider, as the public repository has it."""
    (repo / "data.json").write_text('{"huggingface": {}}')
    plan = make(repo, [card(data="huggingface")])
    assert (plan["runs"][0]["outcome"], plan["warnings"]) == (None, [])
    assert plan["runs"][0]["env"]["MAD_DATANAME"] == "huggingface"
    assert "MAD_DATAHOME" not in plan["runs"][0]["env"]
    fails(one(repo, [card(data="huggingface,imgnet")]), "invalid", "Unknown data name", "imgnet", "data.json", str(repo))


def test_without_data_json_every_model_fetches_its_data(repo: Path) -> None:
    plan = make(repo, [card(data="huggingface"), card("other", data="imagenet"), card("none")])
    assert [run["outcome"] for run in plan["runs"]] == [None] * 3
    assert [warning for warning in plan["warnings"] if "data.json" in warning and '"huggingface", "imagenet"' in warning]


@pytest.mark.parametrize("text", ["[]", "{", '{"imagenet": []}', '{"imagenet": "local"}', '{"imagenet": {"local": "x"}}', '{"imagenet": null}'])
def test_a_broken_data_json_is_named(repo: Path, text: str) -> None:
    (repo / "data.json").write_text(text)
    found = runs(repo, [card(data="imagenet"), card("good")])
    fails(found[0], "invalid", "data.json")
    assert found[1]["outcome"] is None


def test_an_image_needs_no_data(repo: Path) -> None:
    (repo / "data.json").write_text('{"imagenet": {"local": {"path": "/srv/imagenet"}}}')
    plan = make(repo, [card(data="imagenet")], build_only=True)
    assert len(plan["builds"]) == 1


def test_an_empty_data_key_is_fine(repo: Path) -> None:
    assert one(repo, [card(data="")])["outcome"] is None


def test_a_data_json_with_a_byte_order_mark(repo: Path) -> None:
    (repo / "data.json").write_bytes(b'\xef\xbb\xbf{"huggingface": {}}\r\n')
    assert one(repo, [card(data="huggingface")])["outcome"] is None
