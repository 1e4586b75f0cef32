# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""build_manifest.json: what is written (golden), and every manifest that can be read."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.tests.support import golden

GOLDEN = Path(__file__).parents[3] / "golden" / "manifest.json"
DIGEST = "sha256:" + "1a" * 32
SECRET = "hunter2-hunter2"


def build(image: str, **more) -> dict:
    return {
        "image": image,
        "model": "dummy",
        "dockerfile": "docker/dummy.ubuntu.amd.Dockerfile",
        "dockercontext": "./docker",
        "build_args": {},
        "secret_build": [],
        "cred": "",
        "gpu_vendor": "AMD",
        "gpu_architecture": "",
        "hosts": ["n1"],
        "build_host": "n1",
        **more,
    }


def outcome(image: str, **more) -> dict:
    record = {
        "model": "dummy",
        "docker_image": image,
        "dockerfile": "docker/dummy.ubuntu.amd.Dockerfile",
        "base_docker": "rocm/pytorch",
        "docker_sha": "sha256:" + "2b" * 32,
        "build_duration": 0.297,
        "build_command": "docker build ./docker",
        "gpu_vendor": "AMD",
        "log_file": "dummy_dummy.ubuntu.amd.build.live.log",
        "content": "3c" * 32,
        "build_host": "n1",
        "digest": DIGEST,
    }
    return {
        "image": image,
        "model": "dummy",
        "status": "SUCCESS",
        "seconds": 0.4,
        "reason": "",
        "failure_class": "",
        "record": record,
        **more,
    }


CARD = {
    "name": "dummy",
    "dockerfile": "docker/dummy",
    "scripts": "scripts/dummy/run.sh",
    "n_gpus": "1",
    "tags": ["dummies"],
    "args": " --a 'b c'",
    "skip_gpu_arch": ["gfx908", "A100"],
    "source": "models.json",
    "env_vars": {"HF_TOKEN": SECRET, "X": "1"},
}
CONTEXT = {
    "deploy": "local",
    "gpu_vendor": "AMD",
    "guest_os": "UBUNTU",
    "docker_gpus": "0,2-4",
    "docker_env_vars": {"FOO": "bar baz", "HF_TOKEN": SECRET, "tokens_per_second": "kept"},
    "docker_mounts": {"/data": "/srv/data"},
    "docker_build_arg": {"BASE_DOCKER": "rocm/pytorch", "MAD_SECRETS_X": SECRET},
    "pre_scripts": [{"path": "scripts/pre.sh"}],
    "distributed": {"launcher": "torchrun", "nnodes": 2, "nproc_per_node": 8, "port": 29501, "backend": "nccl"},
    "env_vars": {"NCCL_DEBUG": "INFO", "MIOPEN_USER_DB_PATH": "/tmp/x", "AWS_SECRET_ACCESS_KEY": SECRET},
    "k8s": {"namespace": "bench", "secrets": {"image_pull_secret_names": ["pull"], "runtime_secret_name": "run", "password": SECRET}},
}


def the_plan() -> dict:
    """One image with a run, one that fails, one that nobody built, one whose push fails."""
    run = {
        "card": CARD,
        "image": {"name": "ci-dummy_dummy.ubuntu.amd"},
        "secret_env": ["HF_TOKEN"],
        "launcher": {"name": "torchrun", "nnodes": 2, "nproc_per_node": {"unresolved": "all GPUs"}, "port": 29501},
    }
    builds = [
        build("ci-dummy_dummy.ubuntu.amd", secret_build=["MAD_SECRETS_X"], cred="my_git"),
        build("ci-bad_bad.ubuntu.amd", model="bad", gpu_architecture="gfx90a"),
        build("ci-lost_lost.ubuntu.amd", model="lost", build_host="n2"),
        build("ci-stuck_stuck.ubuntu.amd", model="stuck"),
    ]
    hosts = {"n1": {"target": "local", "reachable": True}, "n2": {"target": "slurm", "reachable": False}}
    return {"campaign": "c1", "builds": builds, "runs": [run], "hosts": hosts}


def outcomes() -> dict:
    return {
        "ci-dummy_dummy.ubuntu.amd": outcome(
            "ci-dummy_dummy.ubuntu.amd",
            push={"name": "localhost:5000/ci-dummy_dummy.ubuntu.amd", "digest": "sha256:" + "4d" * 32, "sent": True},
        ),
        "ci-bad_bad.ubuntu.amd": {
            "image": "ci-bad_bad.ubuntu.amd",
            "model": "bad",
            "status": "FAILURE",
            "seconds": 1.5,
            "reason": "it failed",
            "failure_class": "image",
            "record": None,
        },
        "ci-stuck_stuck.ubuntu.amd": outcome("ci-stuck_stuck.ubuntu.amd", push={"name": "localhost:5000/ci-stuck", "error": "refused"}),
    }


def composed() -> dict:
    return manifest.compose(the_plan(), outcomes(), "localhost:5000", CONTEXT, {"n2": "host n2 is unreachable"})


def test_golden(tmp_path) -> None:
    manifest.write(str(tmp_path / "m.json"), composed())
    text = (tmp_path / "m.json").read_text()
    golden.check(GOLDEN, text)


def test_every_key_of_madengines_format_is_there() -> None:
    document = composed()
    assert {"built_images", "built_models", "context", "credentials_required", "summary", "deployment_config"} <= set(document)
    record = document["built_images"]["ci-dummy_dummy.ubuntu.amd"]
    assert {
        "model",
        "docker_image",
        "dockerfile",
        "base_docker",
        "docker_sha",
        "build_duration",
        "build_command",
        "log_file",
        "gpu_vendor",
    } <= set(record)
    assert {"docker_env_vars", "docker_mounts", "docker_build_arg", "gpu_vendor", "guest_os", "docker_gpus", "pre_scripts"} <= set(
        document["context"]
    )
    assert {"successful_builds", "failed_builds", "total_build_time", "successful_pushes", "failed_pushes"} == set(document["summary"])
    assert {"target", "env_vars", "debug", "distributed", "k8s", "kubernetes"} <= set(document["deployment_config"])
    assert isinstance(document["built_models"]["ci-dummy_dummy.ubuntu.amd"]["skip_gpu_arch"], str)


def test_no_secret_gets_in_and_names_of_kubernetes_secrets_stay() -> None:
    document = composed()
    assert SECRET not in json.dumps(document)
    assert document["context"]["docker_env_vars"] == {"FOO": "bar baz", "tokens_per_second": "kept"}
    assert document["deployment_config"]["k8s"]["secrets"] == {"image_pull_secret_names": ["pull"], "runtime_secret_name": "run"}
    assert document["secrets_required"] == ["HF_TOKEN", "MAD_SECRETS_X"]


def test_every_planned_build_is_built_or_failed() -> None:
    document = composed()
    failed = manifest.failures(document)
    assert set(document["built_images"]) | set(failed) == {entry["image"] for entry in the_plan()["builds"]}
    assert not set(document["built_images"]) & set(failed)
    assert failed["ci-lost_lost.ubuntu.amd"].endswith("host n2 is unreachable")
    assert failed["ci-bad_bad.ubuntu.amd"] == "it failed"


def test_the_same_with_nothing_known() -> None:
    document = manifest.compose(the_plan(), {})
    assert len(document["summary"]["failed_builds"]) == 4
    assert "build host 'n1', which gave no result" in document["summary"]["failed_builds"][0]["error"]
    assert manifest.exit_code(document) == 2


def test_a_failed_push_is_a_failure() -> None:
    plan = dict(the_plan(), builds=the_plan()["builds"][3:])
    document = manifest.compose(plan, outcomes(), "localhost:5000", CONTEXT)
    record = document["built_images"]["ci-stuck_stuck.ubuntu.amd"]
    assert record["push_error"] == "refused"
    assert "registry_image" not in record
    assert (
        document["push_failures"]
        == document["summary"]["failed_pushes"]
        == [{"image": "ci-stuck_stuck.ubuntu.amd", "model": "dummy", "error": "refused"}]
    )
    assert document["summary"]["failed_builds"] == []
    assert manifest.exit_code(document) == 2


def test_all_good_is_0() -> None:
    plan = dict(the_plan(), builds=the_plan()["builds"][:1])
    assert manifest.exit_code(manifest.compose(plan, outcomes(), "localhost:5000", CONTEXT)) == 0


def test_composing_leaves_its_inputs_alone() -> None:
    plan, known, context = the_plan(), outcomes(), copy.deepcopy(CONTEXT)
    before = copy.deepcopy((plan, known, context))
    manifest.compose(plan, known, "localhost:5000", context)
    assert (plan, known, context) == before


def test_write_says_whether_it_changed(tmp_path) -> None:
    path = str(tmp_path / "m.json")
    assert manifest.write(path, composed())
    assert not manifest.write(path, composed())
    Path(path).write_text("{ broken")
    assert manifest.write(path, composed())


def test_what_is_written_is_read(tmp_path) -> None:
    path = str(tmp_path / "m.json")
    manifest.write(path, composed())
    found = manifest.read(path)
    assert [image["name"] for image in found["images"]] == list(composed()["built_images"])
    first = found["images"][0]
    by_name = {image["name"]: image for image in found["images"]}
    assert found["registry"] == "localhost:5000"
    assert found["deployment"]["target"] == "local"
    assert found["deployment"]["hosts"] == {"n1": "local", "n2": "slurm"}
    assert found["deployment"]["config"]["distributed"]["launcher"] == "torchrun"
    assert first["docker_image"] == first["name"]
    assert by_name["ci-dummy_dummy.ubuntu.amd"]["digest"] == DIGEST
    assert by_name["ci-dummy_dummy.ubuntu.amd"]["execution"]["nproc_per_node"] is None
    assert by_name["ci-dummy_dummy.ubuntu.amd"]["given"] is False
    assert found["models"]["ci-dummy_dummy.ubuntu.amd"]["name"] == "dummy"
    assert found["credentials_required"] == ["my_git"]


# madengine's own, as the reference shows it.
MADENGINE = {
    "built_images": {
        "ci-dummy_dummy.ubuntu.amd": {
            "model": "dummy",
            "docker_image": "ci-dummy_dummy.ubuntu.amd",
            "dockerfile": "docker/dummy.ubuntu.amd.Dockerfile",
            "base_docker": "rocm/pytorch",
            "docker_sha": "error: no such manifest",
            "build_duration": 0.297,
            "build_command": "docker build",
            "log_file": "x.log",
            "gpu_vendor": "AMD",
            "gpu_architecture": "gfx942",
            "registry": "docker.io",
            "registry_image": "r:ci-dummy",
        }
    },
    "built_models": {
        "ci-dummy_dummy.ubuntu.amd": {"name": "dummy", "dockerfile": "docker/dummy", "scripts": "scripts/dummy/run.sh", "args": ""}
    },
    "context": {
        "docker_env_vars": {"FOO": "bar baz"},
        "docker_mounts": {},
        "docker_build_arg": {},
        "gpu_vendor": "AMD",
        "guest_os": "UBUNTU",
    },
    "credentials_required": [],
    "summary": {"successful_builds": [], "failed_builds": [{"model": "old", "error": "x"}], "total_build_time": 0.297},
    "deployment_config": {"target": "docker", "env_vars": {}, "debug": False, "slurm": {"partition": "gpu"}},
}


def read(tmp_path, document) -> dict:
    path = tmp_path / "build_manifest.json"
    path.write_text(json.dumps(document))
    before = path.read_bytes(), path.stat().st_mtime_ns
    try:
        return manifest.read(str(path))
    finally:
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_madengines_manifest(tmp_path) -> None:
    found = read(tmp_path, MADENGINE)
    image = found["images"][0]
    assert image["docker_sha"] == ""  # an error text is no digest
    assert image["digest"] == ""
    assert image["registry_image"] == "r:ci-dummy"
    assert image["gpu_architecture"] == "gfx942"
    assert found["registry"] == "docker.io"
    assert found["deployment"] == {"target": "local", "config": {"env_vars": {}, "debug": False, "slurm": {"partition": "gpu"}}}
    assert manifest.failures(found) == {"old": "x"}  # madengine names the model, not the image


@pytest.mark.parametrize(
    ("record", "image", "is_given"),
    [
        (
            {"image_name": "org/x:1", "docker_image": "org/x:1", "local_image": True, "dockerfile": "", "build_time": 0, "prebuilt": True},
            "org/x:1",
            True,
        ),
        (
            {"docker_image": "x:1", "dockerfile": "N/A (local image mode)", "build_time": 0, "local_image": True, "registry_image": None},
            "x:1",
            True,
        ),
        (
            {"docker_image": "ci-x", "dockerfile": "docker/x", "build_duration": 0, "registry": "dockerhub", "registry_image": "r:ci-x"},
            "ci-x",
            False,
        ),
        ({"image_name": "y:2"}, "y:2", False),
        ({}, "key", False),
    ],
)
def test_other_kinds_of_manifests(tmp_path, record, image, is_given) -> None:
    found = read(tmp_path, {"built_images": {"key": record}, "built_models": {"key": {"name": "m"}}})["images"][0]
    assert (found["docker_image"], found["given"]) == (image, is_given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"built_images": None}, "built_images must be an object, not nothing"),
        ({"built_images": []}, "built_images must be an object, not list"),
        ({"built_models": {}}, "built_models has no card with a name for the image 'ci-dummy_dummy.ubuntu.amd'"),
        ({"built_models": {"ci-dummy_dummy.ubuntu.amd": {"dockerfile": "x"}}}, "no card with a name"),
        ({"built_images": {"ci-dummy_dummy.ubuntu.amd": "x"}}, r"built_images\['ci-dummy_dummy.ubuntu.amd'\] must be an object"),
        ({"built_images": {"ci-dummy_dummy.ubuntu.amd": {"registry_image": 1}}}, "registry_image must be text, not int"),
        ({"built_images": {"ci-dummy_dummy.ubuntu.amd": {"digest": "latest"}}}, "digest 'latest' is not sha256"),
        ({"built_images": {"ci-dummy_dummy.ubuntu.amd": {"docker_image": "--privileged"}}}, "docker_image: expected the name of an image.*'--privileged'"),
        ({"built_images": {"ci-dummy_dummy.ubuntu.amd": {"docker_image": 5}}}, "docker_image: expected the name of an image.*got 5"),
        ({"built_images": {"ci-dummy_dummy.ubuntu.amd": {"registry_image": "a b"}}}, "registry_image: expected the name of an image.*'a b'"),
        ({"deployment": "local"}, "deployment must be an object"),
        ({"deployment_config": []}, "deployment_config must be an object"),
        ({"context": "x"}, "context must be an object, not str"),
        ({"summary": [1]}, "summary must be an object"),
        ({"credentials_required": "my_git"}, "credentials_required must be a list of names"),
    ],
)
def test_errors_name_file_and_key(tmp_path, change, words) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read(tmp_path, {**MADENGINE, **change})
    assert "build_manifest.json" in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"', "[" * 100000])
def test_text_that_is_no_manifest(tmp_path, text) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InvalidInput, match="m.json"):
        manifest.read(str(tmp_path / "m.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["HF_TOKEN", "password", "a", "secret_name", "b"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_scrubbing_keeps_the_shape_and_takes_every_secret_text(value) -> None:
    def texts(found):
        if isinstance(found, dict):
            for key, entry in found.items():
                assert key not in ("HF_TOKEN", "password") or isinstance(entry, (dict, bool))
                texts(entry)
        elif isinstance(found, list):
            for entry in found:
                texts(entry)

    scrubbed = manifest.without_secrets(value)
    texts(scrubbed)
    assert manifest.without_secrets(scrubbed) == scrubbed
