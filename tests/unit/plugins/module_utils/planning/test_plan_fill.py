# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""resolve: exactly the marks are filled, nothing else, and nothing is left."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import plan, unresolved
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, host, one

IMAGES = {
    name: {
        "digest": plans.DIGEST,
        "docker_sha": "sha256:" + "2" * 64,
        "build_duration": 1.5,
        "registry_image": "r/" + name,
        "base_docker": "b",
    }
    for name in ("ci-dummy_dummy.ubuntu.amd", "ci-dummy_dummy.ubuntu.nvidia", "ci-dummy_any.ubuntu", "ci-dummy_arch.ubuntu.amd_gfx942")
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def awaited(repo: Path, layer: object = None, **changes: object) -> dict:
    """A run planned before its host was asked."""
    run = one(repo, [card(**changes)], {"n1": dict(host(layer), facts=None)})
    assert run["outcome"] is None
    return run


@pytest.mark.parametrize(
    "known,layer,changes",
    [
        (plans.facts(), {}, {}),
        (plans.facts("NVIDIA", 4, "H100"), {}, {"n_gpus": "-1"}),
        (plans.CPU_HOST, {}, {"dockerfile": "docker/any"}),
        (plans.NO_ENGINE, {}, {}),
        (plans.facts(engine="podman"), {"docker_gpus": "1"}, {}),
        (plans.facts(), {"env_vars": {"MAD_RUNTIME_NGPUS": "7"}, "launcher": "deepspeed"}, {}),
        (plans.facts(count=9), {"gpu_renderDs": list(range(200, 209))}, {}),
    ],
)
def test_what_is_resolved_later_is_what_would_have_been_planned(repo: Path, known: dict, layer: dict, changes: dict) -> None:
    """The dry run returns the object that the real run consumes."""
    late = plan.resolve(awaited(repo, layer, **changes), known, IMAGES)
    early = plan.resolve(one(repo, [card(**changes)], {"n1": host(layer, known)}), known, IMAGES)
    assert late == early and late["outcome"] is None


def test_only_marks_are_filled(repo: Path) -> None:
    run = awaited(repo)
    before = copy.deepcopy(run)
    filled = plan.resolve(run, plans.facts(), IMAGES)
    assert run == before, "the planned run is not changed"
    for key in set(run) - {"runtime", "image", "launcher", "gpus", "env"}:
        assert filled[key] == run[key], key
    for name, value in run["env"].items():
        assert unresolved.is_unresolved(value) or filled["env"][name] == value
    assert not plan.resolve(filled, {}, {})["outcome"], "resolving again changes nothing"
    assert plan.resolve(filled, {}, {}) == filled


def test_the_digest_comes_with_what_the_build_said(repo: Path) -> None:
    image = plan.resolve(one(repo), plans.facts(), IMAGES)["image"]
    assert (image["digest"], image["build_duration"], image["registry_image"]) == (plans.DIGEST, 1.5, "r/ci-dummy_dummy.ubuntu.amd")


def test_an_image_that_was_not_built(repo: Path) -> None:
    outcome = plan.resolve(one(repo), plans.facts(), {})["outcome"]
    assert outcome["failure_class"] == "image" and "ci-dummy_dummy.ubuntu.amd" in outcome["reason"]


def test_a_given_image_is_identified_by_the_host(repo: Path) -> None:
    run = one(repo, hosts={"n1": host({"MAD_CONTAINER_IMAGE": "local/x"})})
    assert plan.resolve(run, plans.facts(), {})["image"]["digest"] == ""


@pytest.mark.parametrize(
    "known,changes,failure_class",
    [
        (plans.facts("INTEL", 1), {}, "image"),
        (plans.facts(), {"n_gpus": "5"}, "placement"),
        (plans.facts(), {"skip_gpu_arch": ["mi300x"]}, ""),
    ],
)
def test_a_host_that_cannot_gives_an_outcome(repo: Path, known: dict, changes: dict, failure_class: str) -> None:
    outcome = plan.resolve(awaited(repo, **changes), known, IMAGES)["outcome"]
    assert outcome["failure_class"] == failure_class
    assert outcome["status"] == ("FAILURE" if failure_class else "SKIPPED")


def test_a_decided_run_is_left_alone(repo: Path) -> None:
    run = one(repo, hosts={"n1": plans.unreachable()})
    assert plan.resolve(run, plans.facts(), IMAGES) == run


def test_without_facts_everything_open_is_named(repo: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan.resolve(awaited(repo), {}, IMAGES)
    for word in ("runtime", "gpus.count", "env.MAD_GPU_VENDOR", "launcher.nproc_per_node", "image", "dummy"):
        assert word in caught.value.message


def test_marks_of_people_mean_nothing(repo: Path) -> None:
    run = one(repo, [card(unresolved="x", owner={"unresolved": "y"})])
    assert plan.resolve(run, plans.facts(), IMAGES)["outcome"] is None


PATHS = [
    "runtime",
    "image",
    "image.digest",
    "gpus.count",
    "gpus.pool",
    "gpus.vendor",
    "gpus.devices",
    "launcher.nproc_per_node",
    "env.MAD_GPU_VENDOR",
]


@settings(max_examples=40)
@given(st.sets(st.sampled_from(PATHS), min_size=1))
def test_find_names_every_mark(paths: set) -> None:
    run = json.loads((Path(__file__).parents[3] / "golden" / "plan_run_amd.json").read_text())
    run["image"]["digest"] = plans.DIGEST
    for path in sorted(paths, key=len, reverse=True):
        *above, last = path.split(".")
        node = run
        for key in above:
            node = node[key]
        node[last] = unresolved.unresolved("test")
    found = {path for path, _why in unresolved.find({key: run[key] for key in ("runtime", "image", "gpus", "launcher", "env")})}
    assert found == paths - ({"image.digest"} if "image" in paths else set())
