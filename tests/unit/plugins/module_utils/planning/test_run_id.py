# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ids: pinned by a golden file, content and nothing but content."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import run_id
from ansible_collections.mad.engine.tests.support import plans

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "run_id.json").read_text())
PARTS = {
    "card": {"name": "dummy", "args": ""},
    "args": "",
    "hashes": {"scripts": "a", "pre_post": "", "docker": "b", "tools": "", "data": ""},
    "build_args": {},
    "context": {"given": {"deploy": "local"}, "secrets": []},
    "place": {"target": "local", "host": "n1"},
    "repeat": 1,
    "variant": "",
    "runtime": "auto",
}


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["what"])
def test_golden(case: dict) -> None:
    """An id that changes here orphans every result that was ever kept: raise run_id.SCHEMA and say so in the changelog."""
    parts = copy.deepcopy(PARTS)
    for path, value in case["changes"].items():
        node = parts
        *above, last = path.split(".")
        for key in above:
            node = node[key]
        node[last] = value
    assert run_id.run_id(parts) == case["id"]


def test_golden_ids_differ() -> None:
    assert len({case["id"] for case in GOLDEN}) == len(GOLDEN)


def shuffled(value: object, order: list) -> object:
    """The same value with other orders of keys."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (order[len(key) % len(order)], key))
        return {key: shuffled(value[key], order) for key in keys}
    return value


@settings(max_examples=50)
@given(st.permutations(range(7)))
def test_the_order_of_keys_does_not_matter(order: list) -> None:
    assert run_id.run_id(shuffled(PARTS, order)) == run_id.run_id(PARTS)


PATHS = [
    "args",
    "hashes.scripts",
    "hashes.docker",
    "hashes.pre_post",
    "hashes.tools",
    "hashes.data",
    "build_args.X",
    "context.given.x",
    "place.host",
]


@settings(max_examples=100)
@given(st.sampled_from(PATHS), st.text(min_size=1, max_size=10))
def test_any_change_changes_it(path: str, value: str) -> None:
    parts = copy.deepcopy(PARTS)
    node = parts
    *above, last = path.split(".")
    for key in above:
        node = node[key]
    before = node.get(last)
    node[last] = value
    assert (run_id.run_id(parts) == run_id.run_id(PARTS)) == (before == value)


@pytest.mark.parametrize("change", [{"timeout": 5}, {"schema": 2}])
def test_unknown_parts_are_refused(change: dict) -> None:
    with pytest.raises(InvalidInput):
        run_id.run_id(dict(PARTS, **change))


def test_missing_parts_are_refused() -> None:
    with pytest.raises(InvalidInput):
        run_id.run_id({key: value for key, value in PARTS.items() if key != "repeat"})


def test_of_secrets_only_the_names() -> None:
    one = run_id.context_part({"env_vars": {"HF_TOKEN": "a", "A": "1"}})
    assert one == run_id.context_part({"env_vars": {"HF_TOKEN": "b", "A": "1"}})
    assert one != run_id.context_part({"env_vars": {"OTHER_TOKEN": "a", "A": "1"}})
    assert one != run_id.context_part({"env_vars": {"HF_TOKEN": "a", "A": "2"}})
    assert "HF_TOKEN" in json.dumps(one) and '"a"' not in json.dumps(one)
    assert run_id.build_part({"X_TOKEN": "a"}) == run_id.build_part({"X_TOKEN": "b"})
    assert run_id.card_part({"env_vars": {"X_TOKEN": "a"}}) == run_id.card_part({"env_vars": {"X_TOKEN": "b"}})


@pytest.mark.parametrize("section,key", [("slurm", "output_dir"), ("slurm", "max_jobs"), ("slurm", "time"), ("k8s", "output_dir"), ("k8s", "kubeconfig")])
def test_how_a_cluster_is_watched_does_not_count(section: str, key: str) -> None:
    one = run_id.context_part({section: {"partition": "p"}})
    assert one == run_id.context_part({section: {"partition": "p", key: "x"}}) != run_id.context_part({section: {"partition": "q"}})


# -- ids of plans ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def identity(repo: Path, card: object = None, host: object = None, **options: object) -> str:
    return plans.one(repo, [card or plans.card()], {"n1": host or plans.host()}, **options)["id"]


@pytest.mark.parametrize(
    "options",
    [{"timeout": 60}, {"keep_alive": True}, {"keep_model_dir": True}, {"retries": 3}, {"results": "/elsewhere"}, {"skip_model_run": True},
     {"registry": "localhost:5000"}, {"rerun": "all"}, {"disable_skip_gpu_arch": True}, {"build_host": "n1"}],
    ids=str,
)  # fmt: skip
def test_options_that_are_not_content(repo: Path, options: dict) -> None:
    assert identity(repo, **options) == identity(repo)


@pytest.mark.parametrize("layer", [{"timeout": 5}, {"debug": True}, {"live_output": True}, {"monitor": False}], ids=str)
def test_context_that_is_not_content(repo: Path, layer: dict) -> None:
    assert identity(repo, host=plans.host(layer)) == identity(repo)


@pytest.mark.parametrize(
    "card",
    [plans.card(timeout=60), plans.card(source="elsewhere.json"), dict(reversed(list(plans.card().items())))],
    ids=["timeout", "source", "order"],
)
def test_card_keys_that_are_not_content(repo: Path, card: dict) -> None:
    assert identity(repo, card) == identity(repo)


@pytest.mark.parametrize(
    "card",
    [
        plans.card(args="--a 1"),
        plans.card(n_gpus="2"),
        plans.card(env_vars={"A": "1"}),
        plans.card(owner="me"),
        plans.card(multiple_results="x.csv"),
    ],
    ids=["args", "n_gpus", "env_vars", "owner", "multiple_results"],
)
def test_card_keys_that_are_content(repo: Path, card: dict) -> None:
    assert identity(repo, card) != identity(repo)


@pytest.mark.parametrize(
    "layer",
    [{"env_vars": {"A": "1"}}, {"docker_mounts": {"/a": "/b"}}, {"docker_gpus": "0"}, {"model_args": "-x"}, {"docker_build_arg": {"A": "1"}},
     {"custom": 1}, {"pre_scripts": ["scripts/common/pre_scripts/hello.sh"]}, {"log_error_patterns": ["x"]}, {"docker_privileges": {"ipc_host": True}}],
    ids=str,
)  # fmt: skip
def test_context_that_is_content(repo: Path, layer: dict) -> None:
    assert identity(repo, host=plans.host(layer)) != identity(repo)


@pytest.mark.parametrize(
    "path",
    [
        "scripts/dummy/run.sh",
        "scripts/dummy/notes.txt",
        "scripts/common/pre_scripts/hello.sh",
        "docker/dummy.ubuntu.amd.Dockerfile",
        "docker/added",
    ],
)
def test_files_that_reach_the_run_are_content(repo: Path, path: str) -> None:
    before = identity(repo)
    (repo / path).write_text("# CONTEXT {'gpu_vendor': 'AMD'}\nFROM changed\n")
    assert identity(repo) != before


@pytest.mark.parametrize("path", ["scripts/tree/run.sh", "models.json", "README.md", ".git/HEAD", "scripts/dummy/__pycache__/x.pyc"])
def test_files_that_do_not_reach_the_run_are_not(repo: Path, path: str) -> None:
    before = identity(repo)
    (repo / path).parent.mkdir(parents=True, exist_ok=True)
    (repo / path).write_text("changed")
    assert identity(repo) == before


def test_the_executable_bit_is_content_and_times_are_not(repo: Path) -> None:
    import os

    before = identity(repo)
    os.utime(repo / "scripts/dummy/run.sh", (1, 1))
    assert identity(repo) == before
    (repo / "scripts/dummy/run.sh").chmod(0o755)
    assert identity(repo) != before


@pytest.mark.parametrize(
    "known",
    [
        plans.facts(count=8),
        plans.facts("NVIDIA", 1, "H100"),
        plans.CPU_HOST,
        plans.NO_ENGINE,
        plans.facts(engine="podman"),
        plans.facts(architecture="gfx90a"),
    ],
    ids=["gpus", "vendor", "cpu", "no engine", "podman", "architecture"],
)
def test_what_is_detected_is_not_content(repo: Path, known: dict) -> None:
    assert identity(repo, host=plans.host(known=known)) == identity(repo)


def test_a_host_that_is_unreachable_today_has_the_same_ids_tomorrow(repo: Path) -> None:
    cards = [
        plans.card(),
        plans.card("any", dockerfile="docker/any"),
        plans.card("ctx", dockerfile="docker/ctx"),
        plans.card("arch", dockerfile="docker/arch"),
    ]
    layer = {"ctx_test": "2"}
    today = [run["id"] for run in plans.runs(repo, cards, {"n1": plans.unreachable(layer)}, repeats=2)]
    tomorrow = [run["id"] for run in plans.runs(repo, cards, {"n1": plans.host(layer)}, repeats=2)]
    assert today == tomorrow and len(set(today)) == 10


def test_place_repeat_variant_and_runtime_are_content(repo: Path) -> None:
    hosts = {"n1": plans.host(), "n2": plans.host()}
    ids = [run["id"] for run in plans.runs(repo, None, hosts, repeats=3)]
    assert len(set(ids)) == 6
    assert identity(repo, runtime="docker") != identity(repo)


def test_environment_variables_of_the_controller_count_by_name(repo: Path) -> None:
    one = identity(repo, environ={"MAD_SECRETS_X": "a", "BUILD_NUMBER": "1", "HOME": "/root"})
    assert one == identity(repo, environ={"MAD_SECRETS_X": "b", "BUILD_NUMBER": "2"})
    assert one != identity(repo)


def test_the_given_image_is_content(repo: Path) -> None:
    ids = {identity(repo, host=plans.host({"MAD_CONTAINER_IMAGE": name})) for name in ("a:1", "a:2")}
    assert len(ids) == 2


def test_what_is_not_decided_runs_more_often_than_the_others(repo: Path) -> None:
    further = [{"model": "b", "args": "--n 2", "host": "n2", "repeats": 3}]
    models = [plans.card("a"), plans.card("b", args="--n  2")]
    found = plans.runs(repo, models, {"n1": plans.host(), "n2": plans.host()}, repeats=1, further=further)
    assert [(run["place"]["host"], run["repeat"], run["model"]) for run in found] == [
        ("n1", 1, "a"), ("n1", 1, "b"), ("n2", 1, "a"), ("n2", 1, "b"), ("n2", 2, "b"), ("n2", 3, "b"),
    ]  # fmt: skip
    every = {run["id"] for run in plans.runs(repo, models, {"n1": plans.host(), "n2": plans.host()}, repeats=3)}
    assert {run["id"] for run in found} < every, "a repeat is the same run, whoever asks for it"
