# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `k8s`: every option of the specification and the reference, presets below, errors that name the key."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import context, presets
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_options
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_options import Options
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_volumes import Claim


def parse(section: Dict[str, Any], **top: Any) -> Options:
    normal = context.normalise([{"deploy": "k8s", "k8s": section, **top}])["context"]
    return k8s_options.parse(presets.apply_presets(normal))


SPECIFICATION = {
    "namespace": "ml-prod",
    "kubeconfig": "~/.kube/config",
    "gpu_vendor": "AMD",
    "memory": "64Gi",
    "memory_limit": "128Gi",
    "cpu": "16",
    "cpu_limit": "32",
    "node_selector": {"gpu-type": "mi250x", "zone": "us-west1-a"},
    "volumes": [{"name": "data", "type": "pvc", "claim_name": "ml-data", "mount_path": "/data"}],
    "output_dir": "./k8s_manifests",
}


def test_the_specification_s_own_example() -> None:
    options = parse(SPECIFICATION, launcher="torchrun", nnodes=2, nproc_per_node=4)
    assert (options.namespace, options.kubeconfig, options.output_dir) == ("ml-prod", "~/.kube/config", "./k8s_manifests")
    assert (options.cpu, options.cpu_limit, options.memory, options.memory_limit) == ("16", "32", "64Gi", "128Gi")
    assert options.gpu_resource == "amd.com/gpu" and options.node_selector["zone"] == "us-west1-a"
    assert options.volumes[0]["claim_name"] == "ml-data" and options.host_ipc and options.shm_size == ""


def test_the_reference_s_defaults_without_a_site_s_names() -> None:
    options = parse({})
    assert options.namespace == "default" and options.image_pull_policy == "Always" and options.ttl_seconds is None
    assert options.secrets_strategy == "from_local_credentials" and options.gpu_resource == "amd.com/gpu"
    assert (options.memory, options.memory_limit, options.cpu, options.cpu_limit) == ("16Gi", "32Gi", "8", "16")
    assert parse({}, gpu_vendor="NVIDIA").gpu_resource == "nvidia.com/gpu" and parse({}, gpu_vendor="NONE").gpu_resource == ""
    assert options.warnings == ()


def test_the_reference_s_other_keys() -> None:
    secrets = {"strategy": "existing", "image_pull_secret_names": ["a", "b"], "runtime_secret_name": "run"}
    options = parse({"secrets": secrets, "ttl_seconds_after_finished": 60, "allow_privileged_profiling": True, "host_ipc": True})
    assert (options.secrets_strategy, options.image_pull_secrets, options.runtime_secret) == ("existing", ("a", "b"), "run")
    assert options.ttl_seconds == 60 and options.privileged_profiling and options.host_ipc
    assert parse({}, debug=True).output_dir == "./k8s_manifests"


def test_other_spellings_of_what_presets_set() -> None:
    """They count above the preset, which knows the one name only."""
    options = parse({"cpu_request": "20", "memory_request": "256Gi", "gpu_resource": "amd.com/mi300x"}, gpu_vendor="AMD", n_gpus=8)
    assert (options.cpu, options.memory, options.gpu_resource) == ("20", "256Gi", "amd.com/mi300x")
    assert parse({"hostIPC": False}, nnodes=2).host_ipc is False
    with pytest.raises(InvalidInput, match="cpu_request"):
        parse({"cpu_request": "20", "cpu": "21"})


@pytest.mark.parametrize("key", ["single_node_results_storage_class", "results_storage_size", "data_storage_size"])
def test_what_claims_have_themselves_is_refused_with_its_place(key: str) -> None:
    with pytest.raises(InvalidInput, match="%s is not an option of this release.*create: true" % key):
        parse({key: "x"})


def test_claims_and_their_storage_classes() -> None:
    options = parse({"data_pvc": "models", "results_pvc": {"claim_name": "r", "create": True}, "storage_class": "fast"})
    assert options.data_pvc == Claim("models", "/data", False, "100Gi", "", "ReadWriteMany")
    assert options.results_pvc == Claim("r", "/results", True, "10Gi", "fast", "ReadWriteMany")
    with pytest.raises(InvalidInput, match="data_storage_class has an effect"):
        parse({"data_storage_class": "x"})


def test_a_limit_below_the_request_is_lifted() -> None:
    options = parse({"memory": "64Gi"})
    assert options.memory_limit == "64Gi" and "memory_limit" in options.warnings[0]


def test_backoff_is_for_resumable_cards() -> None:
    options = parse({"backoff_limit": 3})
    assert options.backoff_limit == 3 and "resumable" in options.warnings[0] and "mad_retries" in options.warnings[0]


WRONG: Tuple[Tuple[Dict[str, Any], Tuple[str, ...]], ...] = (
    ({"namspace": "x"}, ("k8s.namspace", "did you mean namespace?")),
    ({"nodeselector": {"a": "b"}}, ("k8s.nodeselector", "did you mean node")),
    ({"wholly_unknown": 1}, ("k8s.wholly_unknown", "known are", "namespace")),
    ({"namespace": "Big_One"}, ("k8s.namespace", "lower case")),
    ({"memory": "lots"}, ("k8s.memory", "64Gi")),
    ({"node_selector": {"a b": "c"}}, ("k8s.node_selector", "a b")),
    ({"node_selector": ["a"]}, ("k8s.node_selector", "a dict")),
    ({"tolerations": {"key": "a"}}, ("k8s.tolerations", "a list")),
    ({"volumes": [{"name": "x", "type": "floppy", "mount_path": "/a"}]}, ("k8s.volumes[0].type", "pvc", "nfs")),
    ({"volumes": [{"name": "x", "type": "pvc", "mount_path": "/a"}]}, ("k8s.volumes[0]", "claim_name is missing")),
    ({"volumes": [{"name": "x", "type": "pvc", "claim_name": "c", "mount_path": "/a", "size": 1}]}, ("k8s.volumes[0].size", "type pvc")),
    ({"volumes": [{"name": "x", "type": "pvc", "claim_name": "c", "mount_path": "/.mad/x"}]}, ("k8s.volumes[0].mount_path", "/.mad")),
    ({"volumes": [{"name": "mad-x", "type": "emptyDir", "mount_path": "/x"}]}, ("k8s.volumes[0].name", "mad-")),
    ({"volumes": [{"name": n, "type": "emptyDir", "mount_path": "/x"} for n in "ab"]}, ("k8s.volumes", "two volumes", "/x")),
    ({"secrets": {"strategy": "steal"}}, ("k8s.secrets.strategy", "existing")),
    ({"secrets": {"stratgy": "omit"}}, ("k8s.secrets.stratgy", "did you mean strategy?")),
    ({"env": {"A": "1"}}, ("k8s.env", "env_vars")),
    ({"recreate_shared_data_pvc": True}, ("k8s.recreate_shared_data_pvc", "never removed")),
    ({"labels": {"mad.engine/run": "x"}}, ("mad.engine/run", "set by mad.engine")),
    ({"restricted": True, "host_network": True}, ("host_network", "restricted")),
    ({"restricted": True, "run_as_user": 0}, ("run_as_user", "root")),
    ({"scripts_from": "pvc"}, ("scripts_claim",)),
    ({"scripts_from": "image"}, ("scripts_path",)),
    ({"scripts_claim": "x"}, ("scripts_claim", "no effect")),
    ({"in_cluster": True, "context": "x"}, ("in_cluster", "context")),
    ({"priority_class": "a", "priority_class_name": "b"}, ("another spelling",)),
    ({"data_pvc": {"claim_name": "x", "size": "1Gi"}}, ("k8s.data_pvc.size", "create: true")),
    ({"data_pvc": {"claim_name": "x", "size": "1Gi", "create": "false"}}, ("k8s.data_pvc.size", "create: true")),
    ({"grace_seconds": "soon"}, ("k8s.grace_seconds", "seconds")),
)


@pytest.mark.parametrize("section,words", WRONG)
def test_what_is_wrong_is_named(section: Dict[str, Any], words: Tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(section)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_what_is_unset_is_not_there() -> None:
    assert parse({"namespace": "", "volumes": [], "node_selector": {}, "patch": None}) == parse({})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(k8s_options.KEYS), json_values, max_size=4))
def test_anything_is_taken_or_refused_with_its_key(section: Dict[str, Any]) -> None:
    try:
        k8s_options.parse({"k8s": section})
    except InvalidInput as error:
        assert "k8s" in error.message


@pytest.mark.parametrize(("key", "place"), [("nnodes", "distributed.nnodes"), ("distributed", "distributed at the top of the context")])
def test_what_belongs_elsewhere_says_where(key: str, place: str) -> None:
    with pytest.raises(InvalidInput, match="^k8s.%s is not an option of this release: write %s$" % (key, place)):
        parse({key: 2})
