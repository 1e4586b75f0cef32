# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contexts: text, spellings, layers, types, refusals."""

from __future__ import annotations

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import context, context_keys

# The specification's appendix B, character by character.
B1 = """
{
  "deploy": "slurm",
  "launcher": "torchrun",
  "nnodes": 4,
  "nproc_per_node": 8,
  "slurm": {
    "login_node": "hpc-login.example.com",
    "partition": "gpu",
    "qos": "high",
    "account": "ml-research",
    "time_limit": 14400,
    "modules": [
      "rocm/5.7.0",
      "python/3.10",
      "git/2.40"
    ],
    "output_dir": "./slurm_jobs",
    "work_dir": "/projects/ml/experiments"
  },
  "env_vars": {
    "NCCL_DEBUG": "INFO",
    "NCCL_IB_HCA": "mlx5_0"
  }
}
"""
B2 = """
{
  "deploy": "k8s",
  "launcher": "torchrun",
  "nnodes": 2,
  "nproc_per_node": 4,
  "k8s": {
    "namespace": "ml-prod",
    "kubeconfig": "~/.kube/config",
    "gpu_vendor": "AMD",
    "memory": "64Gi",
    "memory_limit": "128Gi",
    "cpu": "16",
    "cpu_limit": "32",
    "node_selector": {
      "gpu-type": "mi250x",
      "zone": "us-west1-a"
    },
    "volumes": [
      {
        "name": "data",
        "type": "pvc",
        "claim_name": "ml-data",
        "mount_path": "/data"
      }
    ],
    "output_dir": "./k8s_manifests"
  },
  "env_vars": {
    "NCCL_DEBUG": "INFO"
  }
}
"""
A2 = """{
    "deploy": "slurm",
    "launcher": "torchrun",
    "nnodes": 4,
    "nproc_per_node": 8,
    "slurm": {
      "partition": "gpu",
      "time_limit": 7200,
      "modules": ["rocm/5.7.0", "python/3.10"]
    }
  }"""
A3 = """{
    "deploy": "k8s",
    "launcher": "python",
    "nnodes": 2,
    "nproc_per_node": 4,
    "k8s": {
      "namespace": "ml-workloads",
      "gpu_vendor": "AMD",
      "memory": "64Gi",
      "node_selector": {"gpu-type": "mi250x"}
    }
  }"""


def one(*layers: object) -> dict:
    return context.normalise([context.load_text(layer, "mad_context") for layer in layers])["context"]


def warnings_of(*layers: object) -> list:
    return context.normalise([context.load_text(layer, "mad_context") for layer in layers])["warnings"]


def refused(layer: object, *words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        context.normalise([context.load_text(layer, "mad_context")], ["mad_context"])
    for word in words:
        assert word in caught.value.message


def test_specification_b1() -> None:
    result = context.normalise([context.load_text(B1, "B.1")])
    assert result["warnings"] == []
    assert result["context"] == {
        "deploy": "slurm",
        "distributed": {"launcher": "torchrun", "nnodes": 4, "nproc_per_node": 8},
        "slurm": {
            "login_node": "hpc-login.example.com",
            "partition": "gpu",
            "qos": "high",
            "account": "ml-research",
            "time": 14400,
            "modules": ["rocm/5.7.0", "python/3.10", "git/2.40"],
            "output_dir": "./slurm_jobs",
            "work_dir": "/projects/ml/experiments",
        },
        "env_vars": {"NCCL_DEBUG": "INFO", "NCCL_IB_HCA": "mlx5_0"},
    }


def test_specification_b2() -> None:
    result = context.normalise([context.load_text(B2, "B.2")])
    assert result["warnings"] == []
    assert result["context"] == {
        "deploy": "k8s",
        "gpu_vendor": "AMD",
        "distributed": {"launcher": "torchrun", "nnodes": 2, "nproc_per_node": 4},
        "k8s": {
            "namespace": "ml-prod",
            "kubeconfig": "~/.kube/config",
            "memory": "64Gi",
            "memory_limit": "128Gi",
            "cpu": "16",
            "cpu_limit": "32",
            "node_selector": {"gpu-type": "mi250x", "zone": "us-west1-a"},
            "volumes": [{"name": "data", "type": "pvc", "claim_name": "ml-data", "mount_path": "/data"}],
            "output_dir": "./k8s_manifests",
        },
        "env_vars": {"NCCL_DEBUG": "INFO"},
    }


def test_specification_a() -> None:
    assert one('{"deploy": "local"}') == {"deploy": "local"}
    assert one(A2)["slurm"]["time"] == 7200
    assert one(A3)["distributed"] == {"launcher": "python", "nnodes": 2, "nproc_per_node": 4}
    assert one('{"deploy": "slurm", "slurm": {}}')["deploy"] == "slurm"


@pytest.mark.parametrize(
    "layer",
    [
        {"launcher": "torchrun", "nnodes": 2, "nproc_per_node": 4, "distributed": {"port": 29501}},
        {"launcher": {"type": "torchrun", "nnodes": 2, "nproc_per_node": 4, "master_port": 29501}},
        {"distributed": {"launcher": "torchrun", "nnodes": "2", "nproc_per_node": "4", "master_port": "29501"}},
        {
            "launcher": "torchrun",
            "distributed": {"launcher": "torchrun", "nnodes": 2, "master_port": 29501, "port": 29501},
            "nproc_per_node": 4,
        },
        {"launcher": "TorchRun", "nnodes": 2, "nproc_per_node": 4.0, "distributed": {"port": 29501}},
    ],
)
def test_every_spelling_gives_one_form(layer: dict) -> None:
    assert one(layer) == {"deploy": "local", "distributed": {"launcher": "torchrun", "nnodes": 2, "nproc_per_node": 4, "port": 29501}}


@pytest.mark.parametrize("name,form", [("docker", "local"), ("local", "local"), ("Kubernetes", "k8s"), ("k8s", "k8s"), ("slurm", "slurm")])
def test_deploy_words(name: str, form: str) -> None:
    assert one({"deploy": name})["deploy"] == form


def test_target_follows_the_section() -> None:
    assert one({})["deploy"] == "local"
    assert one({"slurm": {}})["deploy"] == "slurm"
    assert one({"kubernetes": {"namespace": "x"}}) == {"deploy": "k8s", "k8s": {"namespace": "x"}}
    assert one({"deploy": "local"}, {"slurm": {"partition": "x"}})["deploy"] == "slurm"


@pytest.mark.parametrize(
    "layer,words",
    [
        ({"launcher": "torchrun", "distributed": {"launcher": "deepspeed"}}, ("distributed.launcher", "launcher", "differ")),
        ({"nnodes": 2, "distributed": {"nnodes": 3}}, ("distributed.nnodes (3)", "nnodes (2)")),
        ({"distributed": {"port": 1, "master_port": 2}}, ("distributed.port", "distributed.master_port")),
        ({"slurm": {"nodes": 2}, "nnodes": 4}, ("nnodes (4)", "slurm.nodes (2)")),
        ({"k8s": {"a": 1}, "kubernetes": {"a": 2}}, ("k8s", "kubernetes", "differ")),
        ({"gpu_vendor": "AMD", "k8s": {"gpu_vendor": "NVIDIA"}}, ("gpu_vendor", "k8s.gpu_vendor")),
        ({"n_gpus": 2, "gpus_per_node": 4}, ("n_gpus (2)", "gpus_per_node (4)")),
        ({"slurm": {"time": "1:00:00", "time_limit": 60}}, ("slurm.time", "slurm.time_limit")),
    ],
)
def test_spellings_that_differ_name_both(layer: dict, words: tuple) -> None:
    refused(layer, "mad_context", *words)


def test_between_layers_the_later_wins_whatever_the_spelling() -> None:
    assert one({"slurm": {"nodes": 2}}, {"distributed": {"nnodes": 4}})["distributed"]["nnodes"] == 4
    assert one({"nnodes": 4}, {"slurm": {"nodes": 2}})["distributed"]["nnodes"] == 2
    assert one({"n_gpus": 1}, {"ngpus": "-1"})["n_gpus"] == -1
    merged = one({"env_vars": {"A": "1", "B": "1"}, "docker_mounts": {"/a": "/x"}}, {"env_vars": {"B": "2"}, "docker_mounts": {"/b": "/y"}})
    assert merged["env_vars"] == {"A": "1", "B": "2"} and merged["docker_mounts"] == {"/a": "/x", "/b": "/y"}


@pytest.mark.parametrize(
    "layers", [({"slurm": {}, "k8s": {}},), ({"slurm": {}}, {"kubernetes": {}}), ({"k8s": {}, "deploy": "k8s"}, {"slurm": {}})]
)
def test_two_targets_for_one_host(layers: tuple) -> None:
    with pytest.raises(InvalidInput, match="^Conflicting deployment configuration"):
        one(*layers)


@pytest.mark.parametrize(
    "layers", [({"deploy": "local", "slurm": {}},), ({"deploy": "k8s", "slurm": {}},), ({"slurm": {}}, {"deploy": "local"})]
)
def test_deploy_must_agree_with_the_keys(layers: tuple) -> None:
    with pytest.raises(InvalidInput, match="^Conflicting deployment configuration.*slurm"):
        one(*layers)


@pytest.mark.parametrize(
    "layer",
    [
        {"docker_build_arg": []},
        {"docker_build_arg": {"A": {}}},
        {"docker_build_arg": {"A": None}},
        {"docker_env_vars": "A=1"},
        {"docker_env_vars": {"ROCM_PATH": ["/opt"]}},
        {"docker_env_vars": {"A B": "1"}},
        {"docker_env_vars": {"1A": "1"}},
        {"docker_mounts": ["/a"]},
        {"docker_mounts": {"/a": "b"}},
        {"docker_mounts": {"a": "/b"}},
        {"docker_mounts": {"/a": "~/b"}},
        {"docker_mounts": {"/a": "/b/../c"}},
        {"docker_mounts": {"/a": "/b:ro"}},
        {"env_vars": []},
        {"env_vars": {"A": []}},
        {"pre_scripts": {}},
        {"pre_scripts": [1]},
        {"pre_scripts": [{"args": "x"}]},
        {"post_scripts": "x"},
        {"post_scripts": [{"path": "a", "cmd": "x"}]},
        {"encapsulate_script": []},
        {"encapsulate_script": 1},
        {"k8s": "x"},
        {"kubernetes": []},
        {"slurm": 1},
        {"distributed": "torchrun"},
        {"vllm": "x"},
        {"deployment_config": []},
        {"deploy": {}},
        {"deploy": "cloud"},
        {"docker_gpus": [0]},
        {"docker_gpus": "0,,1"},
        {"docker_gpus": "4-2"},
        {"docker_gpus": "0,0"},
        {"docker_cpus": "a"},
        {"docker_cpus": "-1"},
        {"MAD_CONTAINER_IMAGE": 1},
        {"timeout": "soon"},
        {"timeout": -2},
        {"debug": "maybe"},
        {"MAD_ROCM_PATH": 1},
        {"log_error_pattern_scan": "perhaps"},
        {"log_error_pattern_scan": []},
        {"log_error_benign_patterns": "x"},
        {"log_error_benign_patterns": [1]},
        {"log_error_patterns": []},
        {"log_error_patterns": [""]},
        {"log_error_patterns": "x"},
        {"tools": {}},
        {"data": []},
        {"gpu_vendor": 1},
        {"gpu_vendor": "AMD; rm"},
        {"guest_os": ["UBUNTU"]},
        {"n_gpus": "two"},
        {"n_gpus": -2},
        {"gpu_renderDs": "128"},
        {"launcher": 3},
        {"launcher": {"kind": "torchrun"}},
        {"launcher": "mpirun"},
        {"nnodes": 0},
        {"nnodes": True},
        {"nproc_per_node": "all"},
        {"distributed": {"port": 70000}},
        {"docker_privileges": {"all": True}},
        {"docker_privileges": {"sys_admin": "often"}},
        {"docker_privileges": True},
    ],
    ids=str,
)
def test_type_errors_name_the_key(layer: dict) -> None:
    key, value = next(iter(layer.items()))
    refused(layer, "mad_context", key)


@pytest.mark.parametrize(
    "layer",
    [
        {"tools": [{"name": "rocprof"}]},
        {"data": {"x": {}}},
        {"shared_data": "/x"},
        {"rocenv_mode": "full"},
        {"gen_sys_env_details": True},
        {"generate_sys_env_details": "yes"},
        {"vllm": {"a": 1}},
        {"deployment_config": {"slurm": {}}},
        {"skip_perf_collection": True},
        {"MAD_ROCM_PATH": "/x"},
        {"SHM_SIZE": "8g"},
        {"mirrorlocal": "/tmp/mirror"},
        {"context": {"env_vars": {"A": "1"}}},
        {"cluster": {"rdma": {"enabled": True}}},
        {"baremetal_vm": {"enabled": True}},
        {"require_pinned_image": True},
    ],
    ids=lambda layer: next(iter(layer)),
)
def test_what_this_release_does_not_do_is_refused_by_name(layer: dict) -> None:
    refused(layer, next(iter(layer)), "not supported by this release")


def test_empty_values_of_refused_keys_are_fine() -> None:
    empty = {"tools": [], "data": {}, "shared_data": "", "rocenv_mode": "", "gen_sys_env_details": False, "vllm": {}, "SHM_SIZE": None}
    assert context.normalise([empty])["warnings"] == []


@pytest.mark.parametrize("key", ["deploy", "n_gpus", "timeout", "slurm", "env_vars", "gpu_vendor", "docker_gpus", "debug", "nnodes", "launcher"])
def test_an_empty_answer_is_none(key: str) -> None:
    """A template that comes out empty; what a lower layer said stays."""
    assert one({key: ""}) == one({key: None}) == {"deploy": "local"}
    assert one({"slurm": {}, "n_gpus": 2, "timeout": 3}, {key: ""}) == one({"slurm": {}, "n_gpus": 2, "timeout": 3})


@pytest.mark.parametrize(("key", "meant"), [("target", "deploy"), ("nodes", "nnodes"), ("image", "MAD_CONTAINER_IMAGE")])
def test_words_of_manifests_and_other_tools_are_noted(key: str, meant: str) -> None:
    assert "did you mean %s?" % meant in context.normalise([{key: "slurm"}])["warnings"][0]


def test_comments_are_left_out() -> None:
    """madengine's examples are full of them, at the top and in the sections; variables may begin with _ and stay."""
    plain = {"gpu_vendor": "AMD", "slurm": {"partition": "gpu"}, "distributed": {"launcher": "vllm"}, "env_vars": {"_X": "1"}}
    noted = {key: dict(value, _comment="words", _note={"a": []}) if key in ("slurm", "distributed") else value for key, value in plain.items()}
    noted.update(_comment="words", _architecture={"proxy": "node 0"}, _benefits=["a", "b"])
    assert context.normalise([noted]) == context.normalise([plain])
    assert context.normalise([{"k8s": {"_pvc_auto": "words", "namespace": "n"}}]) == context.normalise([{"k8s": {"namespace": "n"}}])


def test_what_says_the_default_needs_no_warning() -> None:
    """`"debug": false` stands in nearly all of madengine's examples."""
    assert context.normalise([{"debug": False, "live_output": False, "monitor": True, "cleanup_on_failure": True}])["warnings"] == []
    assert len(context.normalise([{"debug": True, "monitor": False}])["warnings"]) == 2


def test_what_is_needless_is_left_out_with_a_note() -> None:
    result = context.normalise([{"slurm": {"results_dir": "./scripts/x"}}], ["mad_context"])
    assert "results_dir" not in result["context"]["slurm"]
    assert "mad_context: slurm.results_dir has no effect" in result["warnings"][0]


def test_an_unknown_dict_or_list_is_noted() -> None:
    """No CONTEXT header can ask for one."""
    result = context.normalise([{"sglang_settings": {"a": 1}, "words": ["a"], "ctx": "1"}], ["mad_context"])
    assert result["warnings"] == ["mad_context: %s is not a known key and has no effect" % key for key in ("sglang_settings", "words")]
    assert result["context"]["words"] == ["a"]


@pytest.mark.parametrize("value,noted", [("${HF_HOME}", 1), ("${HF_HOME}/x", 1), ("$HF_HOME", 1), ("a$b", 0), ("$$", 0), ("${x", 0), ("5 $", 0)])
def test_a_variable_that_looks_like_shell_is_noted(value: str, noted: int) -> None:
    """madengine's Slurm job expands them; here the model gets the characters."""
    for key in ("env_vars", "docker_env_vars"):
        result = context.normalise([{key: {"HF_HOME": value}}])
        assert result["context"][key]["HF_HOME"] == value
        assert len(result["warnings"]) == noted and all(key + ".HF_HOME" in warning for warning in result["warnings"])


def test_a_secret_beside_a_reference_is_not_shown() -> None:
    (warning,) = context.normalise([{"env_vars": {"HF_TOKEN": "hf_abc${X}"}}])["warnings"]
    assert "env_vars.HF_TOKEN says ${X}" in warning and "hf_abc" not in warning


def test_refused_keys_are_known_keys() -> None:
    assert set(context_keys.REFUSED) | set(context_keys.ONLY_FOR) <= set(context_keys.KEYS)


def test_the_guide_s_own_free_keys_do_not_warn() -> None:
    free = {"gpu_vendor": "AMD", "guest_os": "UBUNTU", "custom_option": "value", "debug_mode": True, "log_level": "DEBUG"}
    free.update(optimization_level="high", memory_limit="16GB", timeout_multiplier=2.0)
    result = context.normalise([free])
    assert result["warnings"] == []
    assert result["context"]["custom_option"] == "value" and result["context"]["timeout_multiplier"] == 2.0


@pytest.mark.parametrize(
    "slip,meant",
    [
        ("gpu_vender", "gpu_vendor"),
        ("docker_env_var", "docker_env_vars"),
        ("guestos", "guest_os"),
        ("kubernets", "kubernetes"),
        ("Docker_GPUs", "docker_gpus"),
        ("pre_script", "pre_scripts"),
        ("mad_container_image", "MAD_CONTAINER_IMAGE"),
        ("n_nodes", "nnodes"),
    ],
)
def test_near_misses_warn_and_are_kept(slip: str, meant: str) -> None:
    result = context.normalise([{slip: "x"}], ["mad_context"])
    assert result["context"][slip] == "x"
    assert any(slip in warning and meant in warning and "mad_context" in warning for warning in result["warnings"])


def test_near_miss_below_distributed() -> None:
    (warning,) = warnings_of({"distributed": {"lancher": "torchrun"}})
    assert "distributed.lancher" in warning and "distributed.launcher" in warning


def test_keys_of_other_targets_warn() -> None:
    (warning,) = warnings_of({"debug": True})
    assert "debug" in warning and "k8s" in warning
    assert warnings_of({"debug": True, "k8s": {}}) == []


@pytest.mark.parametrize(
    "given_vendor,expected",
    [("amd", "AMD"), ("NVIDIA", "NVIDIA"), ("Intel", "INTEL"), ("none", "NONE"), ("habana", "HABANA"), ("", None), (None, None)],
)
def test_vendors(given_vendor: object, expected: object) -> None:
    assert one({"gpu_vendor": given_vendor}).get("gpu_vendor") == expected


def test_values_become_text() -> None:
    result = one({"docker_build_arg": {"A": 1, "B": True, "C": 1.5, "D": "x y"}, "docker_env_vars": {"E": 0}})
    assert result["docker_build_arg"] == {"A": "1", "B": "True", "C": "1.5", "D": "x y"} and result["docker_env_vars"] == {"E": "0"}
    assert one({"log_error_pattern_scan": "0"})["log_error_pattern_scan"] is False
    assert one({"pre_scripts": ["a.sh", {"path": "b.sh", "args": 3}]})["pre_scripts"] == [
        {"path": "a.sh", "args": ""},
        {"path": "b.sh", "args": "3"},
    ]


def test_a_secret_is_not_repeated_in_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        context.normalise([{"docker_env_vars": {"HF_TOKEN": ["hf_abcdefgh"]}}])
    assert "HF_TOKEN" in caught.value.message and "hf_abcdefgh" not in caught.value.message
