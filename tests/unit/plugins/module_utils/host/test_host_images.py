# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of a host whose engine does not do what it should; real engines are in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.host import host_images
from ansible_collections.mad.engine.tests.support.fake_engine import FakeEngine

RUN = {"runtime": "docker", "image": {"name": "ci-x", "digest": "sha256:" + "a" * 64, "registry_image": "localhost:1/ci-x"}}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return fake


def answer(tmp_path: Path) -> dict:
    """What one staging says of the run's image."""
    images = host_images.Images(str(tmp_path / "auth"), {}, {})
    images.ensure([RUN])
    return images.answers[host_images.key(host_images.wish(RUN))]


def test_an_engine_that_answers_no_more_is_the_machine_s_fault(engine: FakeEngine, tmp_path: Path) -> None:
    engine.change(faults={"info": {"says": "Cannot connect to the Docker daemon at unix:///x"}})
    told = answer(tmp_path)
    assert told["failure_class"] == "infra"
    assert "docker of this host, which had answered, no longer does" in told["error"] and "unix:///x" in told["error"]


def test_an_image_that_cannot_be_had_is_the_image_s_fault(engine: FakeEngine, tmp_path: Path) -> None:
    engine.change(faults={"pull": {"says": "manifest unknown"}})
    told = answer(tmp_path)
    assert told["failure_class"] == "image" and told["error"] == "image localhost:1/ci-x cannot be pulled: manifest unknown"
