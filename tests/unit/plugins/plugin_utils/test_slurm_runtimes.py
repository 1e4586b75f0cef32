# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runtimes on nodes: golden scripts that bring the image and start the model, what each refuses, and an archive whose content is proved."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_runtimes
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_runtimes import Where
from ansible_collections.mad.engine.tests.support import components, golden
from ansible_collections.mad.engine.tests.support.slurm_runs import make_run

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "slurm_runtimes"
DIGEST = "sha256:" + "0123456789abcdef" * 4
ARCHIVES = {DIGEST: "/shared/mad/images/0123.tar"}
PINNED = "reg.example.com:5000/ml/x@sha256:" + "f" * 64
WHERE = Where("mad-c-1-1-0", "/shared/mad/c/runs/1/attempt-1/work", "/shared/mad/c/runs/1/attempt-1/io", {"mad.engine": "1"})
SHARED = slurm_runtimes.Shared("/shared/mad/c/images", "/shared/mad/locks", "/shared/mad/c/logins")
MOUNTS = [{"source": "/data/imagenet", "target": "/data", "read_only": True}]


def run(runtime: str, vendor: str = "AMD", registry: str = "reg.example.com:5000/ml/x:1", **more: Any) -> dict[str, Any]:
    image = {"name": "ci-x", "digest": DIGEST, "registry_image": registry, **more.pop("image", {})}
    return make_run(1, runtime=runtime, vendor=vendor, image=image, mounts=MOUNTS, **more)


def scripts(made: dict[str, Any], archives: dict[str, str] | None = None) -> tuple[str, str]:
    """(what brings the image, what starts the model)."""
    slurm_runtimes.check(made)
    found = slurm_runtimes.source(made, archives or {})
    brought = slurm_runtimes.bring(made, found, SHARED)
    sandbox = made["runtime"] in slurm_runtimes.SANDBOXES
    image = slurm_runtimes.image_file(made, found, "/shared/mad/c/images") if sandbox else ""
    return brought, "\n".join(["#!/usr/bin/env bash", "set -eu", *slurm_runtimes.start(made, WHERE, image)]) + "\n"


CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "host": (run("host"), {}),
    "docker-registry": (run("docker"), {}),
    "docker-named": (run("docker", registry="", image={"name": "rocm/pytorch:latest", "digest": "", "given": True}), {}),
    "podman-archive-nvidia": (run("podman", "NVIDIA"), ARCHIVES),
    "apptainer-archive": (run("apptainer"), ARCHIVES),
    "apptainer-registry-nvidia": (run("apptainer", "NVIDIA", PINNED), {}),
    "apptainer-given": (run("apptainer", "INTEL", "", image={"name": "/shared/x.sif", "digest": ""}), {}),
    "enroot-registry-nvidia": (run("enroot", "NVIDIA", image={"registry_digest": "sha256:" + "e" * 64}), {}),
    "enroot-given-checked": (run("enroot", "AMD", "", image={"name": "/shared/x.sqsh"}), {}),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("part", [0, 1], ids=["bring", "start"])
def test_golden_and_clean(case: str, part: int, tmp_path: Path) -> None:
    """What a person has read and approved."""
    text = scripts(*CASES[case])[part]
    path = GOLDEN / ("%s-%s.sh" % (case, ("bring", "start")[part]))
    golden.check(path, text)
    subprocess.run(["bash", "-n", str(path)], check=True)
    if not shutil.which("shellcheck"):
        components.absent("shellcheck, which dev/test brings")
    done = subprocess.run(["shellcheck", "-e", "SC2016", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {"%s-%s" % (case, part) for case in CASES for part in ("bring", "start")}


@pytest.mark.parametrize(
    "made,archives,words",
    [
        (run("apptainer", options=["--shm-size", "1g"]), ARCHIVES, "additional_docker_run_options are Docker's.*apptainer.*--shm-size 1g"),
        (run("enroot", privileges={"sys_admin": True}), {}, "docker_privileges.sys_admin cannot be given by runtime enroot"),
        (run("enroot"), ARCHIVES, "runtime enroot makes its image out of a registry by its digest"),
        (run("apptainer"), {}, "out of an archive, or a registry by its digest, and neither is known of image ci-x"),
        (run("apptainer"), {DIGEST: "/a:b.tar"}, "whose path holds a colon: /a:b.tar"),
        (run("apptainer", image={"digest": "sha256:1"}), ARCHIVES, "has no verified id"),
        (run("apptainer", registry=PINNED) | {"mounts": [{"source": "/a:b", "target": "/b"}]}, {}, "apptainer cannot mount '/a:b'"),
        (run("enroot", registry=PINNED) | {"mounts": [{"source": "/a$HOME", "target": "/b"}]}, {}, "enroot cannot mount"),
        (run("apptainer", registry=PINNED) | {"mounts": [{"source": "/a", "target": "/.mad/"}]}, {}, "is where the run lives"),
    ],
)
def test_what_cannot_be_done_is_said(made: dict[str, Any], archives: dict[str, str], words: str) -> None:
    with pytest.raises(MadError, match=words):
        scripts(made, archives)


def test_hostile_paths_stay_words(tmp_path: Path) -> None:
    hostile = "/d/a'b\"c $(touch hacked) `id`; x"
    made = run("apptainer", registry=PINNED)
    made["mounts"] = [{"source": hostile, "target": "/data"}]
    lines = scripts(made)[1].replace('"$apptainer" exec', "printf '%s\\n' exec")
    done = subprocess.run(["bash", "-c", "apptainer() { :; }\n" + lines], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert hostile + ":/data" in done.stdout.splitlines() and not (tmp_path / "hacked").exists()


def test_a_registry_of_docker_hub_has_no_host() -> None:
    made = run("enroot", registry="rocm/pytorch@sha256:" + "a" * 64)
    assert "docker://rocm/pytorch:sha256:" + "a" * 64 in scripts(made)[0]


def test_a_named_image_with_its_digest_is_pinned() -> None:
    made = run("apptainer", registry="", image={"name": "rocm/pytorch@sha256:" + "a" * 64, "digest": "", "given": True})
    assert "/images/%s.sif" % ("a" * 64) in scripts(made)[1] and "docker://rocm/pytorch@sha256:aa" in scripts(made)[0]


def archive(path: Path, config: bytes, entry: str) -> str:
    """An archive that holds this under this name; returns its id."""
    digest = hashlib.sha256(config).hexdigest()
    with tarfile.open(path, "w") as tar:
        for name, data in ((entry % digest, config), ("manifest.json", b"[]")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return "sha256:" + digest


@pytest.mark.parametrize("entry", ["%s.json", "blobs/sha256/%s"])
@pytest.mark.parametrize("true", [True, False], ids=["the planned image", "another image"])
def test_an_archive_is_proved_before_its_image_is_made(tmp_path: Path, entry: str, true: bool) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "apptainer").write_text('#!/bin/sh\necho "$@" >>%s/calls\ntouch "$3"\n' % tmp_path)
    (tools / "apptainer").chmod(0o755)
    digest = archive(tmp_path / "image.tar", b'{"os": "linux"}', entry)
    wanted = digest if true else DIGEST
    made = run("apptainer", image={"digest": wanted})
    text = slurm_runtimes.bring(made, slurm_runtimes.source(made, {wanted: str(tmp_path / "image.tar")}), SHARED._replace(images=str(tmp_path / "images")))
    environment = {**os.environ, "PATH": "%s:%s" % (tools, os.environ["PATH"])}

    def bring() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)

    done = bring()
    made_file = tmp_path / "images" / (wanted[7:] + ".sif")
    assert (done.returncode == 0) is true and (tmp_path / "calls").exists() is true
    if true:
        made_file.write_text("made")
        assert bring().returncode == 0 and len((tmp_path / "calls").read_text().splitlines()) == 1, "made once"
        assert not list((tmp_path / "images").glob("*.sif.*[0-9]"))
    else:
        assert "does not hold the image %s" % DIGEST in done.stdout


def test_a_given_file_is_checked_where_its_sum_is_known(tmp_path: Path) -> None:
    given = tmp_path / "x.sif"
    given.write_text("image")
    true = "sha256:" + hashlib.sha256(b"image").hexdigest()
    for digest, code in ((true, 0), (DIGEST, 1), ("", 0)):
        made = run("apptainer", registry="", image={"name": str(given), "digest": digest})
        text = slurm_runtimes.bring(made, slurm_runtimes.source(made, {}), SHARED)
        assert subprocess.run(["bash", "-c", text], capture_output=True, check=False).returncode == code
