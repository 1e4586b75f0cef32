# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs from a build manifest: only its images, hardware that does not fit is skipped, its context is the lowest layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.plugins.module_utils.contexts import context
from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_env, plan_manifest
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, host


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def image(model: str, **more: str) -> dict:
    return dict({"model": model, "docker_image": "ci-" + model, "dockerfile": "docker/x.Dockerfile", "digest": plans.DIGEST}, **more)


def read(folder: Path, images: dict, models: dict, **more: object) -> dict:
    path = folder / "build_manifest.json"
    path.write_text(json.dumps(dict({"built_images": images, "built_models": models}, **more)))
    return manifest.read(str(path))


def test_runs_are_its_images(repo: Path, tmp_path: Path) -> None:
    known = read(tmp_path, {"ci-dummy": image("dummy", registry_image="r/ci-dummy")}, {"ci-dummy": card()})
    (run,) = plans.runs(repo, [card("not_this")], manifest=known)
    assert run["model"] == "dummy" and run["outcome"] is None
    assert (run["image"]["digest"], run["image"]["registry_image"], run["image"]["given"]) == (plans.DIGEST, "r/ci-dummy", False)
    assert plans.make(repo, manifest=known)["builds"] == []
    assert plan.resolve(run, plans.facts(), {}) == run


def test_what_of_its_context_is_not_taken_over_is_said(repo: Path, tmp_path: Path) -> None:
    context = {"_comment": "words", "docker_env_vars": {"A": "1"}, "gpu_vendor": "AMD", "docker_build_arg": {"X": "1"}, "docker_gpus": ""}
    images, models = {"ci-dummy": image("dummy")}, {"ci-dummy": card()}
    assert plans.make(repo, manifest=read(tmp_path, images, models, context=context))["warnings"] == []
    context.update(docker_mounts={"/dev/infiniband": "/dev/infiniband"}, require_pinned_image=True)
    (warning,) = plans.make(repo, manifest=read(tmp_path, images, models, context=context))["warnings"]
    assert "docker_mounts, require_pinned_image are not taken over" in warning and "build_manifest.json" in warning and "mad_context" in warning
    hosts = {"n1": host({"docker_mounts": {"/data": "/srv"}})}
    (warning,) = plans.make(repo, hosts=hosts, manifest=read(tmp_path, images, models, context=context))["warnings"]
    assert "docker_mounts" not in warning, "the host has its own"


@pytest.mark.parametrize("deploy", ["local", "slurm"])
@pytest.mark.parametrize("key, value", [("skip_gpu_arch", 5), ("env_vars", ["A=1"]), ("slurm", ["x"]), ("tags", 7), ("distributed", "x")])
def test_one_bad_card_is_one_row(repo: Path, tmp_path: Path, deploy: str, key: str, value: object) -> None:
    images = {"ci-dummy": image("dummy"), "ci-other": image("other")}
    known = read(tmp_path, images, {"ci-dummy": dict(card(), **{key: value}), "ci-other": card("other")})
    bad, good = plans.runs(repo, hosts={"n1": host({"deploy": deploy, "gpu_vendor": "AMD"})}, manifest=known)
    assert bad["model"] == "dummy" and bad["outcome"]["failure_class"] == "invalid"
    assert "key '%s'" % key in bad["outcome"]["reason"] and "build_manifest.json" in bad["outcome"]["reason"]
    assert good["model"] == "other" and good["outcome"] is None


def test_a_batch_manifest_is_no_build_manifest(tmp_path: Path) -> None:
    (tmp_path / "batch.json").write_text('[{"model_name": "dummy", "build_new": true}]')
    with pytest.raises(InvalidInput, match="a list is a batch manifest"):
        manifest.read(str(tmp_path / "batch.json"))


def test_madengine_s_own_manifest(repo: Path, tmp_path: Path) -> None:
    model = {
        "name": "dummy",
        "dockerfile": "docker/dummy",
        "scripts": "scripts/dummy/run.sh",
        "n_gpus": 1,
        "tags": "a,b",
        "args": "",
        "skip_gpu_arch": "A100",
    }
    known = read(
        tmp_path,
        {"ci-dummy": image("dummy", digest="")},
        {"ci-dummy": model},
        deployment_config={"target": "local", "env_vars": {}, "debug": False},
    )
    (run,) = plans.runs(repo, manifest=known)
    assert run["image"]["given"] is True and run["card"]["tags"] == ["a", "b"] and run["skip_gpu_arch"] == ["A100"]
    assert plan.resolve(run, plans.facts(), {})["image"]["digest"] == ""


def test_other_hardware_is_skipped(repo: Path, tmp_path: Path) -> None:
    images = {
        "a": image("dummy", gpu_vendor="AMD", gpu_architecture="gfx942"), "b": image("dummy", gpu_vendor="NVIDIA"),
        "c": image("dummy", gpu_vendor="AMD", gpu_architecture="gfx90a"),
    }  # fmt: skip
    found = plans.runs(repo, manifest=read(tmp_path, images, dict.fromkeys(images, card())))
    assert [run["outcome"] and run["outcome"]["status"] for run in found] == [None, "SKIPPED", "SKIPPED"]
    assert "gfx90a" in found[2]["outcome"]["reason"] and "NVIDIA" in found[1]["outcome"]["reason"]
    assert len({run["id"] for run in found}) == 3


def test_a_bad_card_of_a_manifest_is_one_row(repo: Path, tmp_path: Path) -> None:
    images = {"a": image("x"), "b": image("dummy")}
    found = plans.runs(repo, manifest=read(tmp_path, images, {"a": {"name": "x", "scripts": 5}, "b": card()}))
    assert found[0]["outcome"]["failure_class"] == "invalid" and "scripts" in found[0]["outcome"]["reason"]
    assert found[1]["outcome"] is None


def test_an_image_needs_an_engine(repo: Path, tmp_path: Path) -> None:
    known = read(tmp_path, {"a": image("dummy", digest="")}, {"a": card()})
    (run,) = plans.runs(repo, None, {"n1": host(known=plans.NO_ENGINE)}, manifest=known)
    assert run["outcome"]["failure_class"] == "infra" and "no engine" in run["outcome"]["reason"]


def test_its_context_is_the_lowest_layer(tmp_path: Path) -> None:
    context = {
        "docker_env_vars": {"FOO": "1", "MAD_SYSTEM_GPU_ARCHITECTURE": "gfx90a", "MAD_GPU_VENDOR": "AMD"}, "docker_mounts": {"/a": "/b"},
        "gpu_vendor": "AMD", "docker_gpus": "0", "pre_scripts": [{"path": "x"}],
    }  # fmt: skip
    known = read(
        tmp_path,
        {},
        {},
        context=context,
        deployment_config={"target": "local", "env_vars": {"BAR": "2"}, "distributed": {"launcher": "vllm"}},
    )
    assert plan_manifest.context_layer(known) == {
        "docker_env_vars": {"FOO": "1"}, "pre_scripts": [{"path": "x"}], "env_vars": {"BAR": "2"}, "distributed": {"launcher": "vllm"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        ({"deployment_config": {"target": "slurm"}}, {"deploy": "slurm"}),
        ({"deployment_config": {"target": "kubernetes", "kubernetes": {"namespace": "n"}}}, {"deploy": "k8s", "kubernetes": {"namespace": "n"}}),
        ({"deployment_config": {"target": "k8s", "k8s": {"a": 1}, "kubernetes": {"a": 1}}}, {"deploy": "k8s", "k8s": {"a": 1}}),
        ({"deployment": {"target": "slurm", "config": {"slurm": {"nodes": 1}}}}, {"deploy": "slurm", "slurm": {"nodes": 1}}),
        ({"deployment": {"target": "slurm", "config": {}, "hosts": {"a": "slurm", "b": "local"}}}, {}),
    ],
)
def test_its_target_is_that_of_hosts_that_name_none(tmp_path: Path, deployment: dict, expected: dict) -> None:
    assert plan_manifest.context_layer(read(tmp_path, {}, {}, **deployment)) == dict(expected, docker_env_vars={})


def test_what_of_its_deployment_is_not_taken_over_is_said(repo: Path, tmp_path: Path) -> None:
    """As madengine's own example has it: GPUs beside the target."""
    config = {"target": "local", "env_vars": {"A": "1"}, "debug": False, "docker_gpus": "0,1", "gpus_per_node": 8}
    known = read(tmp_path, {"ci-dummy": image("dummy")}, {"ci-dummy": card()}, deployment_config=config, context={"docker_gpus": ""})
    (warning,) = plans.make(repo, manifest=known)["warnings"]
    assert "docker_gpus, gpus_per_node are not taken over" in warning


def test_builds_that_failed_are_said(repo: Path, tmp_path: Path) -> None:
    failed = {"failed_builds": [{"model": "other", "error": "boom"}, {"model": "third", "image": "ci-third", "error": "boom"}, "odd"]}
    known = read(tmp_path, {"ci-dummy": image("dummy")}, {"ci-dummy": card()}, summary=failed)
    (warning,) = plans.make(repo, manifest=known)["warnings"]
    assert warning.endswith("builds failed, and what they are for does not run: other, ci-third")
    plan_manifest.check(known)


def test_a_manifest_without_images_is_an_error(tmp_path: Path) -> None:
    """It would be a campaign of no runs that ends well."""
    with pytest.raises(InvalidInput, match="build_manifest.json: built_images is empty, so there is nothing to run"):
        plan_manifest.check(read(tmp_path, {}, {}))
    with pytest.raises(ImageError, match=r"no image was built, so there is nothing to run; failed: dummy \(no base image\)"):
        plan_manifest.check(read(tmp_path, {}, {}, summary={"failed_builds": [{"model": "dummy", "error": "no base image"}]}))


def test_a_secret_that_names_itself_comes_from_outside(repo: Path, tmp_path: Path) -> None:
    """madengine's own examples say MAD_SECRETS_HFTOKEN: ${MAD_SECRETS_HFTOKEN}; another value is the last word."""
    outside = {"MAD_SECRETS_A": "a-secret", "MAD_SECRETS_B": "b-secret", "MAD_SECRETS_C": "c-secret"}
    values = {"A": "${MAD_SECRETS_A}", "B": "$MAD_SECRETS_B", "C": "own", "D": "${MAD_SECRETS_D}"}
    given = {"docker_env_vars": {"MAD_SECRETS_" + name: value for name, value in values.items()}}
    assert plan_env.secret_values(card(), given, outside, {}) == {
        "MAD_SECRETS_A": "a-secret", "MAD_SECRETS_B": "b-secret", "MAD_SECRETS_C": "own", "MAD_SECRETS_D": "${MAD_SECRETS_D}",
    }  # fmt: skip
    warnings = context.normalise([given])["warnings"]
    assert len(warnings) == 3 and all("the environment of the play says the value" in warning for warning in warnings)


def test_the_registry_of_the_play_stands_above_the_manifest_s(repo: Path, tmp_path: Path) -> None:
    images = {
        "ci-dummy": image("dummy", registry_image="old:5000/ci-dummy"),
        "named": image("named", registry_image="x/y:1", local_image=True),
    }
    known = read(tmp_path, images, {"ci-dummy": card(), "named": card("named")})
    before, named = plans.runs(repo, manifest=known)
    moved, named_too = plans.runs(repo, manifest=known, registry="http://new:5000/")
    assert moved["image"]["registry_image"] == "new:5000/ci-dummy"
    assert moved["id"] == before["id"]  # where an image with an id comes from is not what it is
    assert named_too == named
