# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered objects: golden files for each launcher, valid for every Kubernetes from 1.29, whatever stands in a run."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes_validate.utils import validate

from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import launchers
from ansible_collections.mad.engine.plugins.plugin_utils import k8s_files, k8s_objects
from ansible_collections.mad.engine.tests.support import golden
from ansible_collections.mad.engine.tests.support.k8s_runs import contents, kinds, make_options, make_run

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden" / "k8s"
NAMES = [name for name in launchers.NAMES if name != "slurm_multi"]
HOSTILE = "a'b\"c $(touch hacked) `id`; x: {y} # z\n- w\x7f\u2028\U0001f600"
VERSIONS = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")


def nodes_for(name: str) -> int:
    return 4 if name == "sglang-disagg" else 2


def case(launcher: str, nodes: int, *layers: Dict[str, Any], **more: Any) -> Dict[str, Any]:
    vendor = {"gpus": 8, "vendor": "AMD", "processes": 8}
    options = make_options({"gpu_vendor": "AMD", "nnodes": nodes, "k8s": {"namespace": "ml"}}, *layers)
    return k8s_objects.render(make_run(1, launcher, nodes, **{**vendor, **more}), options, {"version": (1, 31)})


SITE: Dict[str, Any] = {
    "gpu_vendor": "NVIDIA",
    "k8s": {
        "node_selector": {"gpu-type": "h100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
                }
            }
        },
        "priority_class": "benchmarks",
        "runtime_class": "nvidia",
        "service_account": "bench",
        "queue_name": "gpus",
        "host_network": True,
        "memory": "200Gi",
        "resources": {"rdma/hca": 1},
        "labels": {"example.com/team": "perf"},
        "annotations": {"example.com/note": "any text, also: this"},
        "data_pvc": {"claim_name": "models", "create": True, "size": "500Gi", "storage_class": "fast"},
        "results_pvc": "results",
        "volumes": [
            {"name": "data", "type": "pvc", "claim_name": "ml-data", "mount_path": "/ml"},
            {"name": "conf", "type": "configmap", "config_name": "bench-conf", "mount_path": "/conf"},
            {"name": "keys", "type": "secret", "secret_name": "keys", "mount_path": "/keys", "read_only": True},
            {"name": "host", "type": "hostPath", "path": "/opt/x", "path_type": "Directory", "mount_path": "/x"},
            {"name": "tmp", "type": "emptyDir", "size_limit": "1Gi", "mount_path": "/scratch"},
            {"name": "nfs", "type": "nfs", "server": "filer", "path": "/export", "mount_path": "/nfs", "sub_path": "a/b"},
        ],
        "patch": {
            "spec": {
                "template": {
                    "spec": {"containers": [{"name": "model", "workingDir": "/"}], "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x"]}]}
                }
            }
        },
    },
}
CASES = {"several-%s" % name: case(name, nodes_for(name)) for name in NAMES}
CASES.update({"single-%s" % name: case(name, 1) for name in NAMES if name != "sglang-disagg"})
CASES["resumable"] = case("torchrun", 1, {"k8s": {"restart_in_place": True}}, card={"resumable": True})
CASES["restricted"] = case("", 1, {"gpu_vendor": "NONE", "k8s": {"restricted": True}}, gpus=0, vendor="NONE")
CASES["site"] = case(
    "torchrun", 1, SITE, mounts=[{"source": "/h", "target": "/c", "read_only": True}], options=["--cap-add=IPC_LOCK", "--shm-size", "8g"]
)
AFTER_1_30 = ["several-sglang", "several-sglang-disagg"]
SECRETS = {"secrets": {"HF_TOKEN": HOSTILE.replace("\x7f", "")}, "registry_auth": {"auths": {"r": {"auth": "eA=="}}}}


def objects_of(rendered: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [*rendered["standing"], rendered.get("job") or rendered["deployment"], *rendered["owned"]]


def readable(rendered: Dict[str, Any]) -> str:
    """The text without the parts that are the same in every file."""
    documents = list(yaml.safe_load_all(rendered["text"]))
    for document in documents:
        if document["kind"] == "ConfigMap":
            document["data"].pop("driver.sh")
            script = document["data"]["pod.sh"]
            begin, end = script.index("launch_environment() ("), script.index("gpu() {")
            document["data"]["pod.sh"] = script[begin:end]
    return k8s_objects.text_of(documents)


@pytest.mark.parametrize("name", sorted(CASES))
def test_golden(name: str) -> None:
    """What a person has read and approved."""
    path, text = GOLDEN / (name + ".yaml"), readable(CASES[name])
    golden.check(path, text)


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir() if path.suffix == ".yaml"} == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_bash_and_shellcheck_take_the_pod_s_script(name: str, tmp_path: Path) -> None:
    script = tmp_path / "pod.sh"
    script.write_bytes(contents(CASES[name])["pod.sh"])
    subprocess.run(["bash", "-n", str(script)], check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck:  # dev/test brings it
        done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def check(items: List[Dict[str, Any]], version: str) -> None:
    for item in items:
        validate(item, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(set(CASES) - {"resumable", *AFTER_1_30}))
def test_every_job_is_valid(name: str, version: str) -> None:
    check([CASES[name]["job"]], version)


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in ("1.29", "1.30")])
@pytest.mark.parametrize("name", AFTER_1_30)
def test_what_newer_clusters_are_given_is_valid_there(name: str, version: str) -> None:
    check([CASES[name]["job"]], version)


def test_an_older_cluster_is_not_given_what_it_does_not_know() -> None:
    for version in ((1, 29), (1, 30), ()):
        run = make_run(1, "sglang", 2)
        job = k8s_objects.render(run, make_options({"nnodes": 2}), {"version": version})["job"]
        check([job], "1.29")
        assert "successPolicy" not in job["spec"]
    assert "successPolicy" in CASES["several-sglang"]["job"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_other_object_is_valid(version: str) -> None:
    options = make_options({"nnodes": 2, **SITE})
    rendered = k8s_objects.render(make_run(1, "torchrun", 2), options, {**SECRETS, "files": b"x"})
    assert kinds(rendered["owned"]) == ["Secret", "Secret", "ConfigMap", "Service"]
    check(objects_of(rendered), version)


@pytest.mark.parametrize("version", ["1.35", "1.36", "1.37"])
def test_restarts_in_place_are_valid_where_they_exist(version: str) -> None:
    check([CASES["resumable"]["job"]], version)


def test_a_benchmark_runs_once() -> None:
    spec = CASES["single-torchrun"]["job"]["spec"]
    assert (spec["suspend"], spec["backoffLimit"], spec["podReplacementPolicy"]) == (True, 0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never" and "ttlSecondsAfterFinished" not in spec
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"FailJob"}
    resumable = CASES["resumable"]["job"]["spec"]
    assert resumable["backoffLimit"] == 6 and [rule["action"] for rule in resumable["podFailurePolicy"]["rules"]] == [
        "FailJob",
        "Ignore",
        "Ignore",
    ]


def test_several_pods_find_each_other() -> None:
    rendered = CASES["several-vllm"]
    spec = rendered["job"]["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
    (service,) = [item for item in rendered["owned"] if item["kind"] == "Service"]
    assert service["spec"]["clusterIP"] == "None" and service["metadata"]["name"] == spec["template"]["spec"]["subdomain"]


def test_secrets_stand_in_secrets_alone() -> None:
    rendered = k8s_objects.render(
        make_run(secret_env=["HF_TOKEN"]), make_options(), {"secrets": {"HF_TOKEN": "topsecret"}, "registry_auth": {"auths": {}}}
    )
    assert kinds(rendered["owned"]) == ["Secret", "Secret", "ConfigMap"] and "topsecret" not in rendered["text"]
    assert "topsecret" not in str([item for item in objects_of(rendered) if item["kind"] != "Secret"])
    by_type = {item["type"]: item for item in rendered["owned"] if item["kind"] == "Secret"}
    assert base64.b64decode(by_type["Opaque"]["data"]["env.sh"]) == b"export HF_TOKEN=topsecret\n"
    pod = rendered["job"]["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": by_type["kubernetes.io/dockerconfigjson"]["metadata"]["name"]}]


def test_a_secret_among_a_card_s_options_is_a_secret() -> None:
    run = make_run(options=["--env", "HF_TOKEN=topsecret", "-e", "A=plain"])
    rendered = k8s_objects.render(run, make_options(), {})
    assert "topsecret" not in rendered["text"] and kinds(rendered["owned"]) == ["Secret", "ConfigMap"]
    assert {"name": "A", "value": "plain"} in rendered["job"]["spec"]["template"]["spec"]["containers"][0]["env"]


def test_existing_secrets_are_used_and_none_is_made() -> None:
    options = make_options(
        {"k8s": {"secrets": {"strategy": "existing", "image_pull_secret_names": ["pull"], "runtime_secret_name": "run"}}}
    )
    rendered = k8s_objects.render(make_run(), options, SECRETS)
    pod = rendered["job"]["spec"]["template"]["spec"]
    assert kinds(rendered["owned"]) == ["ConfigMap"] and pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "run"}}]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60).filter(lambda text: "\0" not in text), st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_stays_what_it_is(model: str, value: str) -> None:
    value = value.replace("\0", "")
    model = model.encode("utf-8", "replace").decode()
    options = make_options({"k8s": {"annotations": {"x.y/z": value}, "patch": {"metadata": {"annotations": {"x.y/p": value}}}}})
    run = make_run(
        model=model, env={"A": value}, command={"argv": ["bash", "run.sh", value], "scripts": "scripts/m1", "directory": "scripts/m1"}
    )
    rendered = k8s_objects.render(run, options, {"secrets": {"B_TOKEN": value}})
    annotations = rendered["job"]["metadata"]["annotations"]
    assert annotations["x.y/z"] == annotations["x.y/p"] == value and annotations["mad.engine/model"] == model
    assert [item["kind"] for item in yaml.safe_load_all(rendered["text"])] == ["Job", "ConfigMap"]
    script = contents(rendered)["env.sh"] + b'\nprintf %s "$A"'
    assert subprocess.run(["bash"], input=script, capture_output=True, check=True).stdout == value.encode()


def test_hostile_settings_of_a_whole_run() -> None:
    options = make_options({"k8s": {"annotations": {"a": HOSTILE}}})
    rendered = k8s_objects.render(make_run(model=HOSTILE, env={"A": HOSTILE}), options, SECRETS)
    for item in objects_of(rendered):
        validate(item, "1.36", strict=True)
    assert rendered["job"]["metadata"]["annotations"]["a"] == HOSTILE


def test_large_scripts_are_spread() -> None:
    archive = os.urandom(3 << 20)
    rendered = k8s_objects.render(make_run(), make_options(), {"files": archive})
    maps = [item for item in rendered["owned"] if item["kind"] == "ConfigMap"]
    assert len(maps) > 3
    for item in maps:
        assert sum(len(base64.b64decode(data)) for data in item["binaryData"].values()) + sum(map(len, item["data"].values())) < 1 << 20
    found = contents(rendered)
    assert b"".join(found[name] for name in sorted(found) if name.startswith("tree.")) == archive
    sources = rendered["job"]["spec"]["template"]["spec"]["volumes"][2]["projected"]["sources"]
    assert [source["configMap"]["name"] for source in sources] == [item["metadata"]["name"] for item in maps]


def test_equal_trees_give_equal_archives(tmp_path: Path) -> None:
    (tmp_path / "scripts/a").mkdir(parents=True)
    (tmp_path / "scripts/a/run.sh").write_text("echo")
    first = k8s_files.pack(str(tmp_path), ["scripts/a"])
    os.utime(tmp_path / "scripts/a/run.sh", (1, 1))
    assert k8s_files.pack(str(tmp_path), ["scripts/a"]) == first


def test_what_is_in_no_registry_is_refused() -> None:
    with pytest.raises(ImageError, match="mad_registry"):
        k8s_objects.render(make_run(image={"name": "ci-x", "given": False, "digest": "sha256:1"}), make_options(), {})
    run = make_run(image={"name": "ci-x", "given": False, "digest": "sha256:1", "registry_image": "r/ci-x:1"})
    assert k8s_objects.render(run, make_options(), {})["job"]["spec"]["template"]["spec"]["containers"][0]["image"] == "r/ci-x:1"


@pytest.mark.parametrize(
    "run,layer,words",
    [
        (make_run(1, "sglang-disagg", 2), {}, ("at least 3 nodes",)),
        (make_run(1, "slurm_multi", 2), {}, ("slurm_multi", "slurm only")),
        (make_run(options=["--ulimit", "memlock=-1"]), {}, ("--ulimit", "ignore_docker_options")),
        (make_run(cpus="0-3"), {}, ("docker_cpus", "k8s.cpu")),
        (make_run(gpus=-1, vendor="AMD"), {}, ("n_gpus",)),
        (make_run(), {"patch": {"spec": {"backoffLimit": 3}}}, ("spec.backoffLimit",)),
        (make_run(), {"patch": {"metadata": {"labels": {"mad.engine/run": "x"}}}}, ("mad.engine/run",)),
        (make_run(), {"patch": {"spec": {"template": {"spec": {"containers": [{"name": "model", "command": ["x"]}]}}}}}, ("command",)),
        (make_run(mounts=[{"source": "/a", "target": "/data"}]), {"data_pvc": "x"}, ("/data",)),
        (make_run(mounts=[{"source": "/a", "target": "/b"}]), {"restricted": True}, ("restricted",)),
    ],
)
def test_what_a_pod_cannot_do_is_refused(run: Dict[str, Any], layer: Dict[str, Any], words: List[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        k8s_objects.render(run, make_options({"k8s": layer, "nnodes": run["launcher"]["nnodes"]}), {})
    assert all(word in caught.value.message for word in words), caught.value.message


def test_the_restricted_level() -> None:
    pod = CASES["restricted"]["job"]["spec"]["template"]["spec"]
    context, container = pod["securityContext"], pod["containers"][0]["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0 and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    assert not pod.get("hostNetwork") and not pod.get("hostIPC") and not pod["automountServiceAccountToken"]


@pytest.mark.parametrize("vendor,resource", [("AMD", "amd.com/gpu"), ("NVIDIA", "nvidia.com/gpu"), ("INTEL", "gpu.intel.com/i915")])
def test_gpus_by_vendor(vendor: str, resource: str) -> None:
    rendered = k8s_objects.render(make_run(gpus=2, vendor=vendor), make_options({"gpu_vendor": vendor}), {})
    resources = rendered["job"]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"][resource] == resources["limits"][resource] == "2"
    options = make_options({"gpu_vendor": vendor, "k8s": {"gpu_resource_name": "example.com/card"}})
    assert "example.com/card" in str(k8s_objects.render(make_run(gpus=2, vendor=vendor), options, {})["job"])
    options = make_options({"gpu_vendor": vendor, "k8s": {"gpu_resource_name": "none"}})
    assert resource not in str(k8s_objects.render(make_run(gpus=2, vendor=vendor), options, {})["job"])


def test_a_server_of_its_own() -> None:
    rendered = k8s_objects.render_server(make_run(), make_options(), {"files": b"x"}, 2)
    assert rendered["deployment"]["spec"]["replicas"] == 2 and kinds(rendered["owned"]) == ["ConfigMap", "Service"]
    for version in VERSIONS:
        check(objects_of(rendered), version)


def test_what_is_owned_goes_with_its_job() -> None:
    job = dict(CASES["site"]["job"], metadata=dict(CASES["site"]["job"]["metadata"], uid="u-1"))
    for item in CASES["site"]["owned"]:
        (owner,) = k8s_objects.own(item, job)["metadata"]["ownerReferences"]
        assert owner["uid"] == "u-1" and owner["kind"] == "Job"
    assert kinds(CASES["site"]["standing"]) == ["PersistentVolumeClaim"]
