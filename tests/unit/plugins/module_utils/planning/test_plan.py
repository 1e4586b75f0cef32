# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make_plan: one case per rule of the reference, bad models beside good ones, golden runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import target_k8s
from ansible_collections.mad.engine.tests.support import golden, plans
from ansible_collections.mad.engine.tests.support.plans import card, fails, host, make, one, runs, skips

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


# -- the whole ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,given_host",
    [
        (
            "amd",
            host(
                {
                    "docker_gpus": "0-1",
                    "env_vars": {"NCCL_DEBUG": "INFO", "HF_TOKEN": "value-1"},
                    "docker_mounts": {"/data:ro": "/srv/data"},
                }
            ),
        ),
        ("cpu", host(known=plans.CPU_HOST)),
        ("unreachable", plans.unreachable()),
    ],
)
def test_golden_run(repo: Path, name: str, given_host: dict) -> None:
    model = card(
        args="--name 'a b' --n 2", n_gpus="-1", timeout=360, additional_docker_run_options="--shm-size 8g", dockerfile="docker/any"
    )
    text = json.dumps(one(repo, [model], {"n1": given_host}), indent=1, sort_keys=True) + "\n"
    path = GOLDEN / ("plan_run_%s.json" % name)
    golden.check(path, text)


def test_the_plan_is_plain_json_and_pure(repo: Path) -> None:
    before = sorted((str(path), path.stat().st_mtime_ns) for path in repo.rglob("*"))
    first, second = make(repo), make(repo)
    assert json.loads(json.dumps(first)) == first == second
    assert sorted((str(path), path.stat().st_mtime_ns) for path in repo.rglob("*")) == before


def test_models_times_hosts_times_repeats(repo: Path) -> None:
    found = runs(repo, [card("a"), card("b")], {"n1": host(), "n2": host()}, repeats=2)
    assert [(run["place"]["host"], run["repeat"], run["model"], run["order"]) for run in found] == [
        ("n1", 1, "a", 0), ("n1", 1, "b", 1), ("n1", 2, "a", 2), ("n1", 2, "b", 3),
        ("n2", 1, "a", 0), ("n2", 1, "b", 1), ("n2", 2, "a", 2), ("n2", 2, "b", 3),
    ]  # fmt: skip


def test_one_bad_model_never_stops_the_others(repo: Path) -> None:
    bad = [
        card("b1", scripts="scripts/none.sh"),
        card("b2", args="'"),
        card("b3", distributed={"launcher": "mpirun"}),
        card("b4", n_gpus="99"),
        card("b5", cred="x"),
    ]
    found = runs(repo, [*bad, card("good")])
    assert [bool(run["outcome"]) for run in found] == [True] * 5 + [False]
    assert len({run["id"] for run in found}) == 6


def test_a_model_selected_twice_is_planned_once(repo: Path) -> None:
    made = make(repo, [card(), card(), card(args="--x 1")])
    assert [run["args"] for run in made["runs"]] == ["", "--x 1"]
    assert any("selected twice" in warning for warning in made["warnings"])
    assert len(made["builds"]) == 1, "the image is the same"


def test_no_models_no_runs(repo: Path) -> None:
    assert make(repo, [])["runs"] == []


# -- command -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model,argv,directory",
    [
        (card(), ["bash", "run.sh"], "scripts/dummy"),
        (card(scripts="scripts/dummy/job.slurm"), ["bash", "job.slurm"], "scripts/dummy"),
        (card(scripts="scripts/dummy/train.py", args=" --a 1"), ["python3", "train.py", "--a", "1"], "scripts/dummy"),
        (card(scripts="scripts/tree"), ["bash", "run.sh"], "scripts/tree"),
        (card(scripts="scripts/./tree/"), ["bash", "run.sh"], "scripts/tree"),
        (card(args="--x 'a b' \"c d\" e\\ f"), ["bash", "run.sh", "--x", "a b", "c d", "e f"], "scripts/dummy"),
        (
            card(args="$(id) ; rm -rf / `x` $HOME > f"),
            ["bash", "run.sh", "$(id)", ";", "rm", "-rf", "/", "`x`", "$HOME", ">", "f"],
            "scripts/dummy",
        ),
    ],
)
def test_command(repo: Path, model: dict, argv: list, directory: str) -> None:
    run = one(repo, [model])
    assert run["command"]["argv"] == argv and run["command"]["directory"] == directory
    assert run["stage"] == sorted(["scripts/common", directory])


@pytest.mark.parametrize(
    "model,words",
    [
        (card(scripts="scripts/none/run.sh"), ("scripts/none/run.sh", "does not exist")),
        (card(scripts="scripts/empty"), ("scripts/empty", "run.sh")),
        (card(scripts="scripts/dummy/notes.txt"), ("notes.txt", ".py")),
        (card(scripts="run.sh"), ("run.sh", "at the top")),
        (card(scripts="."), ("expected a file",)),
        (card(scripts="../outside/run.sh"), ("leads out",)),
        (card(scripts="/etc/profile.sh"), ("leads out",)),
        (card(args="it's"), ("args", "split")),
        (card(args="x" * 200_000), ("args", "200001 bytes")),
        (card(additional_docker_run_options="--name x"), ("additional_docker_run_options", "--name")),
        (card(additional_docker_run_options="'"), ("additional_docker_run_options",)),
        (card(distributed={"launcher": "mpirun"}), ("launcher", "mpirun")),
        (card(distributed={"nnodes": "many"}), ("nnodes",)),
        (card(cred="missing"), ("missing", "credential file")),
        (card(n_gpus="two"), ("n_gpus",)),
        (card(log_error_patterns="x y", log_error_benign_patterns=[1]), ("log_error_benign_patterns",)),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value[0])[:20],
)
def test_bad_cards_are_rows_of_class_invalid(repo: Path, model: dict, words: tuple) -> None:
    run = one(repo, [model])
    fails(run, "invalid", *words)
    assert len(json.dumps(run)) < 20_000, "a hostile card does not blow up the plan"


def test_model_args_replace_and_encapsulate_goes_before(repo: Path) -> None:
    run = one(repo, [card(args="--a 1")], {"n1": host({"model_args": "--zz", "encapsulate_script": "nice -n 5"})})
    assert run["command"]["argv"] == ["nice", "-n", "5", "bash", "run.sh", "--zz"]
    assert run["args"] == "--zz" and run["card"]["args"] == "--a 1"


def test_encapsulation_with_variables_goes_through_env(repo: Path) -> None:
    run = one(repo, hosts={"n1": host({"encapsulate_script": "A=1 time -p"})})
    assert run["command"]["argv"][:4] == ["env", "A=1", "time", "-p"]


@pytest.mark.parametrize("text", ["a | b", "x && y", "cd /; ls", "a > b", "(x)"])
def test_encapsulation_that_needs_a_shell_is_refused(repo: Path, text: str) -> None:
    fails(one(repo, hosts={"n1": host({"encapsulate_script": text})}), "invalid", "encapsulate_script", "shell")


def test_side_scripts(repo: Path) -> None:
    layer = {
        "pre_scripts": [{"path": "scripts/common/pre_scripts/hello.sh", "args": "1 'a b'"}],
        "post_scripts": ["scripts/common/post_scripts/bye.sh"],
    }
    run = one(repo, hosts={"n1": host(layer)}, common=lambda name: name == "post_scripts/bye.sh")
    assert run["pre_scripts"] == [{"path": "scripts/common/pre_scripts/hello.sh", "args": ["1", "a b"]}]
    assert run["post_scripts"] == [{"path": "scripts/common/post_scripts/bye.sh", "args": []}]
    fails(one(repo, hosts={"n1": host(layer)}), "invalid", "post_scripts[0]", "bye.sh")
    fails(one(repo, hosts={"n1": host({"pre_scripts": ["../x.sh"]})}), "invalid", "pre_scripts[0]", "leads out")


# -- environment -------------------------------------------------------------------------------------------------------------------


def test_own_variables(repo: Path) -> None:
    env = one(repo, [card("dir/m", multiple_results="perf.csv", n_gpus="2")], environ={"BUILD_NUMBER": "77"})["env"]
    assert env == {
        "MAD_MODEL_NAME": "dir/m", "MAD_OUTPUT_CSV": "perf.csv", "JENKINS_BUILD_NUMBER": "77", "MAD_GPU_VENDOR": "AMD", "MAD_SYSTEM_NGPUS": "2",
        "MAD_SYSTEM_GPU_ARCHITECTURE": "gfx942", "MAD_SYSTEM_HIP_VERSION": "6.4", "MAD_SYSTEM_GPU_PRODUCT_NAME": "Instinct", "MAD_GUEST_OS": "UBUNTU",
        "MAD_RUNTIME_NGPUS": "2", "MAD_MULTI_NODE_RUNNER": "torchrun --standalone --nproc_per_node=2",
    }  # fmt: skip


def test_no_leak_between_models(repo: Path) -> None:
    first, second = runs(repo, [card("a", n_gpus="-1"), card("b", n_gpus="1")], {"n1": host(known=plans.facts(count=8))})
    assert first["env"]["MAD_MULTI_NODE_RUNNER"].endswith("=8") and second["env"]["MAD_MULTI_NODE_RUNNER"].endswith("=1")
    assert "MAD_OUTPUT_CSV" not in second["env"]


def test_precedence(repo: Path) -> None:
    layer = {
        "env_vars": {"B": "context", "C": "context"},
        "docker_env_vars": {"C": "docker", "MAD_RUNTIME_NGPUS": "5", "MAD_MULTI_NODE_RUNNER": ""},
    }
    env = one(repo, [card(env_vars={"A": "card", "B": "card", "C": "card"})], {"n1": host(layer)})["env"]
    assert (env["A"], env["B"], env["C"], env["MAD_RUNTIME_NGPUS"], env["MAD_MULTI_NODE_RUNNER"]) == ("card", "context", "docker", "5", "")


@pytest.mark.parametrize("vendor,version,expected", [("AMD", "6.4.1", "6.4"), ("NVIDIA", "12.4", ""), ("NONE", "6.4.1", "")])
def test_hip_version(repo: Path, vendor: str, version: str, expected: str) -> None:
    known = plans.facts(vendor, 0 if vendor == "NONE" else 2)
    known["gpu"]["runtime_version"] = version
    assert one(repo, [card(dockerfile="docker/any")], {"n1": host(known=known)})["env"]["MAD_SYSTEM_HIP_VERSION"] == expected


def test_secrets_travel_by_name_only(repo: Path) -> None:
    secrets = {"HF_TOKEN": "value-one", "MAD_SECRETS_X": "value-two", "CARD_PASSWORD": "value-three", "git_USERNAME": "value-four"}
    model = card(cred="git", env_vars={"CARD_PASSWORD": "value-three", "TOKENS_PER_SECOND": "1"})
    layer = {"env_vars": {"HF_TOKEN": "value-one"}, "docker_build_arg": {"NPM_TOKEN": "value-five", "BASE_DOCKER": "b"}}
    made = make(repo, [model], {"n1": host(layer)}, environ={"MAD_SECRETS_X": "value-two"}, credentials={"git": {"username": "value-four"}})
    (run,) = made["runs"]
    assert run["secret_env"] == sorted(secrets) and run["env"]["TOKENS_PER_SECOND"] == "1"
    assert not set(run["secret_env"]) & set(run["env"])
    assert made["builds"][0]["secret_build"] == ["MAD_SECRETS_X", "NPM_TOKEN"] and made["builds"][0]["cred"] == "git"
    assert "value-" not in json.dumps(made)


def test_two_values_for_one_secret_on_one_host(repo: Path) -> None:
    first, second, third = runs(
        repo, [card("a", env_vars={"X_TOKEN": "1"}), card("b", env_vars={"X_TOKEN": "2"}), card("c", env_vars={"X_TOKEN": "1"})]
    )
    assert first["outcome"] is None and third["outcome"] is None
    fails(second, "invalid", "X_TOKEN", "another value")


@pytest.mark.parametrize(
    "variables,words",
    [({"A": "x" * 131_072}, ("A", "131")), ({"A%d" % index: "x" * 100_000 for index in range(20)}, ("environment", "bytes"))],
    ids=["one value", "all together"],
)
def test_an_environment_that_no_process_can_have(repo: Path, variables: dict, words: tuple) -> None:
    run = one(repo, hosts={"n1": host({"env_vars": variables})})
    fails(run, "invalid", *words)
    assert run["env"] == {} and len(json.dumps(run)) < 20_000


# -- GPUs --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_gpus,layer,count,pool",
    [
        ("1", {}, 1, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("-1", {}, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("0", {}, 0, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("6", {"docker_gpus": "0,2-4,5-5,7"}, 6, [0, 2, 3, 4, 5, 7]),
        ("-1", {"docker_gpus": "3,1"}, 2, [3, 1]),
        ("1", {"n_gpus": 4}, 4, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("1", {"gpus_per_node": "-1"}, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("4", {"gpu_vendor": "none"}, None, None),
        ("1", {"gpu_vendor": "none"}, 0, []),
    ],
)
def test_gpu_count(repo: Path, n_gpus: str, layer: dict, count: object, pool: object) -> None:
    run = one(repo, [card(n_gpus=n_gpus, dockerfile="docker/any")], {"n1": host(layer, plans.facts(count=8))})
    if count is None:
        return fails(run, "placement", "Too many gpus requested(4). System has 0 gpus.")
    assert (run["gpus"]["count"], run["gpus"]["pool"]) == (count, pool)
    assert run["env"]["MAD_RUNTIME_NGPUS"] == str(count)
    return None


def test_devices(repo: Path) -> None:
    assert one(repo)["gpus"]["devices"] == {"0": "/dev/dri/renderD128", "1": "/dev/dri/renderD129"}
    named = one(repo, hosts={"n1": host({"gpu_renderDs": [140, 141]})})
    assert named["gpus"]["devices"] == {"0": "/dev/dri/renderD140", "1": "/dev/dri/renderD141"}


def test_numbers_of_gpus_may_have_gaps(repo: Path) -> None:
    known = plans.facts()
    known["gpu"]["devices"][1]["index"] = 5
    assert one(repo, [card(n_gpus="-1")], {"n1": host(known=known)})["gpus"]["pool"] == [0, 5]
    fails(one(repo, hosts={"n1": host({"docker_gpus": "1"}, known)}), "placement", "docker_gpus names GPU 1", "0,5")


def test_too_many_gpus(repo: Path) -> None:
    fails(one(repo, [card(n_gpus="9")]), "placement", "Too many gpus requested(9). System has 2 gpus.")


def test_broken_gpus_say_why(repo: Path) -> None:
    known = plans.facts(count=0, problems=["amd-smi hung"])
    fails(one(repo, hosts={"n1": host(known=known)}), "placement", "Too many gpus requested(1). System has 0 gpus.", "amd-smi hung")
    fails(one(repo, [card(n_gpus="-1")], {"n1": host(known=known)}), "placement", "All GPUs requested (n_gpus -1), and none was found", "amd-smi hung")


@pytest.mark.parametrize("n_gpus,count", [("1", 0), ("-1", 0), ("0", 0)])
def test_a_cpu_host_is_a_host(repo: Path, n_gpus: str, count: int) -> None:
    run = one(repo, [card(n_gpus=n_gpus, dockerfile="docker/any")], {"n1": host(known=plans.CPU_HOST)})
    assert run["outcome"] is None and run["gpus"] == {"vendor": "NONE", "count": count, "pool": [], "devices": {}}
    assert (run["env"]["MAD_GPU_VENDOR"], run["env"]["MAD_SYSTEM_NGPUS"], run["env"]["MAD_RUNTIME_NGPUS"]) == ("NONE", "0", "0")
    assert run["env"]["MAD_MULTI_NODE_RUNNER"] == "torchrun --standalone --nproc_per_node=1"


def test_several_gpus_on_a_cpu_host(repo: Path) -> None:
    fails(one(repo, [card(n_gpus="2", dockerfile="docker/any")], {"n1": host(known=plans.CPU_HOST)}), "placement", "requested(2)")


def test_cpus(repo: Path) -> None:
    assert one(repo, hosts={"n1": host({"docker_cpus": "0-3,7"})})["cpus"] == "0-3,7"
    fails(one(repo, hosts={"n1": host({"docker_cpus": "0-8"})}), "placement", "docker_cpus names CPU 8", "0-7")


# -- launcher ----------------------------------------------------------------------------------------------------------------------


def test_launcher_of_card_and_context(repo: Path) -> None:
    model = card(distributed={"launcher": "deepspeed", "nproc_per_node": 2, "port": 1234})
    run = one(repo, [model])
    assert run["launcher"] == {"name": "deepspeed", "nnodes": 1, "nproc_per_node": 2, "port": 1234}
    assert run["env"]["MAD_MULTI_NODE_RUNNER"] == "deepspeed --num_gpus=2"
    over = one(repo, [model], {"n1": host({"launcher": "vllm"})})
    assert over["launcher"]["name"] == "vllm" and over["env"]["MAD_MULTI_NODE_RUNNER"] == ""
    assert over["env"]["VLLM_TENSOR_PARALLEL_SIZE"] == "2"


@pytest.mark.parametrize(
    "distributed,words",
    [({"nnodes": 4}, ("4 nodes", "one machine")), ({"launcher": "slurm_multi"}, ("slurm",)), ({"launcher": "sglang-disagg"}, ("3 nodes",))],
)
def test_what_one_machine_cannot_do(repo: Path, distributed: dict, words: tuple) -> None:
    fails(one(repo, [card(distributed=distributed)]), "placement", *words)
    fails(one(repo, hosts={"n1": host({"distributed": distributed})}), "placement", *words)


@pytest.mark.parametrize(
    "layer,own,expected",
    [
        ({"slurm": {}}, {"launcher": "deepspeed", "nnodes": 2, "port": 4000}, ("deepspeed", 2, 4000)),
        ({"slurm": {"nodes": 1}}, {"launcher": "deepspeed", "nnodes": 2}, ("deepspeed", 1, 29500)),
        ({"slurm": {}}, {}, ("", 1, 29500)),
        ({"k8s": {}, "n_gpus": 8}, {"launcher": "vllm", "nnodes": 2}, ("vllm", 2, 29500)),
        ({"k8s": {}, "n_gpus": 8}, {}, ("torchrun", 1, 29500)),
    ],
)
def test_presets_card_context(repo: Path, layer: dict, own: dict, expected: tuple) -> None:
    """What a cluster's presets say of the launch lies below the card, the card below the context."""
    run = one(repo, [card(distributed=own)], {"n1": host({"gpu_vendor": "AMD", "guest_os": "UBUNTU", **layer})})
    assert tuple(run["launcher"][key] for key in ("name", "nnodes", "port")) == expected


def test_all_gpus_of_a_cluster_s_node_are_as_many_as_the_context_says(repo: Path) -> None:
    """Nobody can look at a cluster's nodes before a pod runs there: k8s.node_gpus says what n_gpus -1 asks for, and bounds the others."""
    cluster = {"deploy": "k8s", "gpu_vendor": "AMD", "guest_os": "UBUNTU"}
    cards = [card("all", n_gpus="-1"), card("four", n_gpus="4"), card("greedy", n_gpus="9")]
    context = {**cluster, "k8s": {"node_gpus": 8}}
    every, four, greedy = runs(repo, cards, {"n1": host(context, known=target_k8s.facts(context, None))})
    assert (every["gpus"]["count"], four["gpus"]["count"]) == (8, 4)
    fails(greedy, "placement", "requested(9)", "8 gpus")
    target_k8s.check({**context, "n_gpus": -1}, {})
    with pytest.raises(InvalidInput, match="set k8s.node_gpus"):
        target_k8s.check({**context, "n_gpus": -1, "k8s": {}}, {})


def test_the_context_may_bring_a_big_model_to_one_machine(repo: Path) -> None:
    assert one(repo, [card(distributed={"nnodes": 4})], {"n1": host({"nnodes": 1})})["outcome"] is None


# -- timeout -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option,layer,own,expected",
    [(-1, {}, None, 7200), (-1, {}, 360, 360), (120, {}, 360, 120), (120, {}, None, 120), (0, {}, 5, 0), (7200, {}, 360, 7200), (-1, {}, 0, 7200),
     (-1, {}, -1, 7200), (-1, {"timeout": 50}, 360, 50), (-1, {"timeout": 0}, 360, 0), (9, {"timeout": 50}, 360, 9), ("", {}, None, 7200), ("60", {}, 5, 60)],
)  # fmt: skip
def test_timeouts(repo: Path, option: object, layer: dict, own: object, expected: int) -> None:
    model = card() if own is None else card(timeout=own)
    assert one(repo, [model], {"n1": host(layer)}, timeout=option)["timeout"] == expected


def test_a_timeout_below_minus_one_is_a_bad_argument(repo: Path) -> None:
    with pytest.raises(InvalidInput, match="mad_timeout"):
        make(repo, timeout=-2)


# -- skipping ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["deprecated", "is_deprecated"])
def test_deprecated(repo: Path, key: str) -> None:
    skips(one(repo, [card(**{key: True})]), "deprecated")
    assert one(repo, [card(**{key: True})], ignore_deprecated=True)["outcome"] is None


@pytest.mark.parametrize(
    "names,known,matched",
    [
        (["gfx942"], plans.facts(), True),
        (["mi300x"], plans.facts(), True),
        (["MI300X", "gfx90a"], plans.facts(architecture="gfx90a"), True),
        (["gfx90a"], plans.facts(), False),
        (["A100"], plans.facts("NVIDIA", 1, "NVIDIA A100-SXM4-80GB", product="NVIDIA A100-SXM4-80GB"), True),
        (["H100"], plans.facts("NVIDIA", 1, "NVIDIA A100-SXM4-80GB", product="NVIDIA A100-SXM4-80GB"), False),
        (["gfx942"], plans.CPU_HOST, False),
        ([], plans.facts(), False),
    ],
)
def test_skip_gpu_arch(repo: Path, names: list, known: dict, matched: bool) -> None:
    model = card(skip_gpu_arch=names, dockerfile="docker/any")
    run = one(repo, [model], {"n1": host(known=known)})
    assert bool(run["outcome"]) == matched
    if matched:
        skips(run, "skip_gpu_arch")
    assert one(repo, [model], {"n1": host(known=known)}, disable_skip_gpu_arch=True)["outcome"] is None


# -- hosts that do not answer --------------------------------------------------------------------------------------------------------


def test_an_unreachable_host_has_its_rows(repo: Path) -> None:
    found = runs(repo, [card(), card("old", deprecated=True)], {"n1": plans.unreachable(), "n2": host()})
    fails(found[0], "infra", "host n1 is unreachable: ssh: no route to host")
    skips(found[1], "deprecated")
    assert [run["outcome"] for run in found[2:]] == [None, found[1]["outcome"]]


def test_every_host_unreachable(repo: Path) -> None:
    made = make(repo, hosts={"n1": plans.unreachable(), "n2": plans.unreachable()})
    assert [run["outcome"]["failure_class"] for run in made["runs"]] == ["infra", "infra"] and made["builds"] == []


# -- other options -----------------------------------------------------------------------------------------------------------------


def test_keep_privileges_scan_mounts(repo: Path) -> None:
    layer = {
        "docker_privileges": {"sys_admin": True},
        "docker_mounts": {"/b": "/host/b", "/a:ro": "/host/a", "/c:rw": "/host/c"},
        "log_error_patterns": ["BOOM"],
        "log_error_benign_patterns": ["fine"],
    }
    run = one(
        repo,
        [card(log_error_patterns=["CARD"], log_error_benign_patterns=["own"])],
        {"n1": host(layer)},
        keep_alive="yes",
        skip_model_run=True,
    )
    assert run["keep"] == {"alive": True, "model_dir": False} and run["skip_model_run"] is True
    assert run["privileges"] == {"sys_admin": True, "seccomp_unconfined": False, "ipc_host": False}
    assert (
        run["scan"]["patterns"] == ["BOOM"] and run["scan"]["benign"][-2:] == ["own", "fine"] and "FutureWarning" in run["scan"]["benign"]
    )
    assert run["mounts"] == [
        {"source": "/host/a", "target": "/a", "read_only": True},
        {"source": "/host/b", "target": "/b", "read_only": False},
        {"source": "/host/c", "target": "/c", "read_only": False},
    ]
    assert not any(one(repo)["privileges"].values()), "nothing is weakened unasked"


@pytest.mark.parametrize(
    "option", ["data_config", "tools_config", "force_mirror_local", "batch_manifest", "use_image", "sys_env_details"]
)
def test_options_of_later_releases_are_refused_by_name(repo: Path, option: str) -> None:
    with pytest.raises(InvalidInput, match="mad_%s is not supported" % option):
        make(repo, **{option: "5"})
    assert make(repo, **{option: ""})["runs"], "an empty survey answer means unset"


@pytest.mark.parametrize(
    "options", [{"repeats": 0}, {"repeats": "many"}, {"rerun": "some"}, {"runtime": "lxc"}, {"retries": -1}, {"keep_alive": "perhaps"}]
)
def test_mistyped_options_name_themselves(repo: Path, options: dict) -> None:
    with pytest.raises(InvalidInput, match="mad_%s" % next(iter(options))):
        make(repo, **options)


HOSTILE = st.one_of(
    st.sampled_from(["'", '"', "$(x)", ";", "../", "a\nb", "ünï ☃", "=cmd()", "-n", "\\", "x" * 70000]), st.text(max_size=30)
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        ["args", "scripts", "dockerfile", "additional_docker_run_options", "url", "cred", "multiple_results", "n_gpus", "name"]
    ),
    HOSTILE,
)
def test_hostile_cards_are_literal_or_one_clear_row(repo: Path, key: str, value: str) -> None:
    run = one(repo, [card(**{key: value})])
    assert json.loads(json.dumps(run)) == run
    if run["outcome"]:
        assert run["outcome"]["failure_class"] in ("invalid", "image", "placement") and run["outcome"]["reason"]
    elif key == "args":
        assert "".join(run["command"]["argv"][2:]).split() == "".join(run["command"]["argv"][2:]).split()
        assert all(isinstance(word, str) for word in run["command"]["argv"])
