# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds as command lines: what an engine is asked for, where secrets are, which faults become which failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.building import build_command, build_host, build_source, builder
from ansible_collections.mad.engine.plugins.module_utils.containers import image_archive, image_engine, registry_client
from ansible_collections.mad.engine.plugins.module_utils.containers.build_log import BuildLog, Commands
from ansible_collections.mad.engine.tests.support import golden
from ansible_collections.mad.engine.tests.support.fake_engine import BUILDKIT, FakeEngine, image

GOLDEN = Path(__file__).parents[3] / "golden" / "build_commands.txt"
SECRET = "hunter2-hunter2"


@pytest.fixture()
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "docker" / "common").mkdir(parents=True)
    (folder / "docker" / "x.ubuntu.amd.Dockerfile").write_text("ARG BASE_DOCKER=base:1\nFROM $BASE_DOCKER\nARG HF_TOKEN\n")
    (folder / "docker" / "tools.ubuntu.amd.Dockerfile").write_text(
        "FROM base:1\nCOPY --from=tools a /\nRUN --mount=type=secret,id=A true\n"
    )
    return folder


def request(**more) -> dict:
    return {
        "image": "ci-sub_m_x.ubuntu.amd", "model": "sub/M", "dockerfile": "docker/x.ubuntu.amd.Dockerfile", "dockercontext": "./docker",
        "build_args": {}, "secret_build": [], "cred": "", "gpu_vendor": "AMD", "gpu_architecture": "", "hosts": ["n1"], "build_host": "n1",
        **more,
    }  # fmt: skip


def engine_of(fake: FakeEngine, kind: str = "docker", **environment: str) -> image_engine.ImageEngine:
    return image_engine.ImageEngine(kind, str(fake.program), {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment})


def options(tmp_path: Path, **more) -> builder.Options:
    return builder.Options(str(tmp_path / "logs"), host="n1", **more)


# -- the command -----------------------------------------------------------------------------------------------------------------


def test_commands_golden(repo: Path, tmp_path: Path) -> None:
    """What each kind of builder is asked for, word by word."""
    lines = []
    hostile = {"PLAIN": "a b", "QUOTES": 'it\'s "q" $(id) ;', "LINES": "1\n2"}
    for name, kind, flags in (("classic", "docker", ()), ("buildkit", "docker", BUILDKIT), ("podman", "podman", BUILDKIT[:2])):
        for number, wanted in enumerate(
            (
                request(build_args=hostile, gpu_architecture="gfx942"),
                request(secret_build=["HF_TOKEN", "my_git_PASSWORD"], cred="my_git"),
                request(dockerfile="docker/tools.ubuntu.amd.Dockerfile"),
            )
        ):
            fake = FakeEngine(tmp_path / name / str(number), kind, flags)
            engine = engine_of(fake, kind)
            secrets = dict.fromkeys(wanted["secret_build"], SECRET)
            try:
                builder.build(wanted, str(repo), engine, options(tmp_path, allow_secret_build_args=True, no_cache=number == 0), secrets)
            except MadError as error:
                lines.append("%s %d: %s" % (name, number, error.message.replace(str(fake.program), kind)))
                continue
            call = fake.calls("build")[-1]
            words = [word if not word.startswith("mad.content=") else "mad.content=..." for word in call["argv"]]
            lines.append("%s %d: %s" % (name, number, json.dumps(words)))
            assert SECRET not in json.dumps(call["argv"])
            assert call["cwd"] == str(repo)
    text = "\n".join(lines) + "\n"
    golden.check(GOLDEN, text)


def test_secret_values_are_in_the_environment_only(repo: Path, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e", "docker", BUILDKIT)
    wanted = request(secret_build=["HF_TOKEN", "DOCKER_HOST"])
    done = builder.build(
        wanted,
        str(repo),
        engine_of(fake),
        options(tmp_path, allow_secret_build_args=True),
        {"HF_TOKEN": SECRET, "DOCKER_HOST": "tcp://evil"},
    )
    call = fake.calls("build")[-1]
    assert call["env"]["HF_TOKEN"] == SECRET  # an allowed ARG
    assert call["env"]["MAD_BUILD_SECRET_0"] == "tcp://evil"  # a mount: never under a name that steers the client
    assert "DOCKER_HOST" not in call["env"]
    assert SECRET not in json.dumps([call["argv"], done])


@pytest.mark.parametrize("name", ["a,b", "a=b", 'a"b', "", "a b", "a\nb"])
def test_a_secret_whose_name_would_break_the_option_is_refused(repo: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the id of a build secret"):
        builder.build(request(), str(repo), engine_of(FakeEngine(tmp_path / "e", "docker", BUILDKIT)), options(tmp_path), {name: SECRET})


@pytest.mark.parametrize("name", ["a b", "--flag", "1x", "x=y", "", "é"])
def test_build_argument_names_are_checked(repo: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a name"):
        builder.build(request(build_args={name: "x"}), str(repo), engine_of(FakeEngine(tmp_path / "e")), options(tmp_path))


@pytest.mark.parametrize("value", ["a\0b", "x" * 200000])
def test_values_no_process_can_carry_are_named(repo: Path, tmp_path: Path, value: str) -> None:
    with pytest.raises(InvalidInput, match="the build command of image ci-sub_m_x"):
        builder.build(request(build_args={"A": value}), str(repo), engine_of(FakeEngine(tmp_path / "e")), options(tmp_path))


def test_podman_under_the_name_docker_is_left_to_podman(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "bin", "docker")
    FakeEngine(tmp_path / "bin2", "podman", BUILDKIT[:2])
    fake.change(info={"host": {}, "store": {}, "version": {"Version": "4"}})
    found = image_engine.find("auto", {"PATH": "%s:%s" % (tmp_path / "bin", tmp_path / "bin2"), "HOME": "/nonexistent"})
    assert found.kind == "podman"


def test_no_engine_says_what_each_one_answered(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "bin", "docker")
    fake.change(faults={"info": {"says": "Cannot connect to the Docker daemon at unix:///x"}})
    with pytest.raises(ImageError, match="Cannot connect to the Docker daemon.*install or start docker or podman") as caught:
        image_engine.find("docker", {"PATH": str(tmp_path / "bin"), "HOME": "/nonexistent"})
    assert "mad_build_host" in caught.value.message


def test_the_classic_builder_may_be_asked_for(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e", "docker", BUILDKIT)
    assert engine_of(fake).builder.buildkit
    classic = engine_of(fake, DOCKER_BUILDKIT="0").builder
    assert classic == (False, False, ["--force-rm"], {"DOCKER_BUILDKIT": "0"})


def test_who_only_moves_images_does_not_ask_what_the_builder_can(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e", "docker", BUILDKIT)
    engine = engine_of(fake)
    assert engine.image("base:1")
    assert [call["argv"][:2] for call in fake.calls()] == [["image", "inspect"]]


# -- bases and content -----------------------------------------------------------------------------------------------------------


def test_a_base_image_is_pulled_once_when_it_is_not_there(repo: Path, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    fake.change(images={}, registry={"base:1": dict(image("fresh"), RepoDigests=["base@sha256:" + "e" * 64])})
    record = builder.build(request(), str(repo), engine_of(fake), options(tmp_path))["record"]
    assert record["docker_sha"] == "sha256:" + "e" * 64
    builder.build(request(), str(repo), engine_of(fake), options(tmp_path))
    assert len(fake.calls("pull")) == 1
    assert len(fake.calls("build")) == 1


def test_pull_always_sees_a_new_base(repo: Path, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    assert builder.build(request(), str(repo), engine, options(tmp_path))["changed"]
    fake.change(registry={"base:1": image("newer")})
    assert not builder.build(request(), str(repo), engine, options(tmp_path))["changed"]
    assert builder.build(request(), str(repo), engine, options(tmp_path, pull="always"))["changed"]


def test_a_scratch_image_has_no_base_digest(repo: Path, tmp_path: Path) -> None:
    (repo / "docker" / "x.ubuntu.amd.Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    record = builder.build(request(), str(repo), engine_of(FakeEngine(tmp_path / "e")), options(tmp_path))["record"]
    assert (record["base_docker"], record["docker_sha"]) == ("scratch", "")


def test_content_depends_on_everything_but_secrets(repo: Path) -> None:
    source, bases = build_source.describe(request(), str(repo)), {"base:1": "sha256:1"}
    first = build_command.content_hash(request(), source, bases)
    assert build_command.content_hash(request(secret_build=["X"], model="other", gpu_vendor="NVIDIA", hosts=["n2"]), source, bases) == first
    others = [
        build_command.content_hash(request(build_args={"A": "1"}), source, bases),
        build_command.content_hash(request(gpu_architecture="gfx942"), source, bases),
        build_command.content_hash(request(), dict(source, hash="x"), bases),
        build_command.content_hash(request(), source, {"base:1": "sha256:2"}),
    ]
    assert len({first, *others}) == 5


# -- faults ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "hint"),
    [
        ("write /var/lib/docker/x: no space left on device", "the build host's disk is full"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "the engine stopped answering"),
        ("something else", "ended with 1"),
    ],
)
def test_a_failed_build_says_why(repo: Path, tmp_path: Path, says: str, hint: str) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    fake.change(faults={"build": {"says": says}})
    with pytest.raises(ImageError, match=hint) as caught:
        builder.build(request(), str(repo), engine, options(tmp_path))
    assert says in caught.value.message
    assert "sub_M_x.ubuntu.amd.build.live.log" in caught.value.message


def test_an_error_holds_no_control_characters(repo: Path, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    fake.change(faults={"build": {"says": "\x1b[31mred\x1b[0m \x07bell %s" % ("x" * 2000)}})
    with pytest.raises(ImageError) as caught:
        builder.build(request(), str(repo), engine, options(tmp_path))
    assert "red bell" in caught.value.message
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 1500


def test_an_engine_that_hangs_is_said(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    fake.change(faults={"image inspect": {"sleep": 5}})
    with pytest.raises(MadError, match="did not answer"):
        engine.call("image", "inspect", "x", timeout=0.5)


def test_an_answer_that_is_no_json_is_said(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    fake.program.write_text("#!/bin/sh\necho garbage\n")
    with pytest.raises(MadError, match="not its JSON"):
        engine.image("x")


def test_an_image_that_vanished_is_a_failure(repo: Path, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    fake.change(faults={"build": {"code": 0}})
    with pytest.raises(ImageError, match="the engine has no such image"):
        builder.build(request(), str(repo), engine, options(tmp_path))


def test_outcomes_of_every_kind_of_exception() -> None:
    errors = {"a": InvalidInput("wrong"), "b": MadError("gone"), "c": OSError(28, "No space left on device", "/x"), "d": KeyError("k")}

    def work(wanted):
        raise errors[wanted["image"]]

    found = builder.build_all([{"image": name, "model": "m"} for name in "abcd"], work)
    assert [entry["image"] for entry in found] == list("abcd")
    assert [entry["failure_class"] for entry in found] == ["invalid", "image", "image", "image"]
    assert found[2]["reason"] == "image c of model m: /x: No space left on device"
    assert "KeyError" in found[3]["reason"]
    assert all(entry["status"] == "FAILURE" and entry["record"] is None for entry in found)


def test_a_killed_controller_side_leaves_no_build_running(repo: Path, tmp_path: Path) -> None:
    """SIGKILL of the builder's process: its engine client dies at its next line."""
    fake = FakeEngine(tmp_path / "e")
    fake.program.write_text("#!/bin/sh\ncase $1$2 in build--help) exit 0;; image*) echo '[\n{\"Id\": \"sha256:1\"}\n]';; "
                            "build*) echo $$ > %s/pid; while echo line; do sleep 0.1; done;; esac\n" % tmp_path)  # fmt: skip
    script = (
        "from ansible_collections.mad.engine.plugins.module_utils.building import builder;"
        "from ansible_collections.mad.engine.plugins.module_utils.containers import image_engine;"
        "builder.build(%r, %r, image_engine.ImageEngine('docker', %r), builder.Options(%r))"
        % (request(), str(repo), str(fake.program), str(tmp_path / "logs"))
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline, "the build never started"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    client = int((tmp_path / "pid").read_text())
    while os.path.exists("/proc/%d" % client) and time.monotonic() < deadline + 10:
        time.sleep(0.05)
    assert not os.path.exists("/proc/%d" % client)


# -- registries and archives -----------------------------------------------------------------------------------------------------


def test_logins_are_private_and_gone_afterwards(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    home = tmp_path / "home"
    (home / ".docker" / "cli-plugins").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text('{"auths": {"other": {}}, "credsStore": "desktop", "proxies": {"default": {}}}')
    engine = engine_of(fake, HOME=str(home))
    with registry_client.logins(engine, str(tmp_path / "auth")):
        folder = Path(engine.environment["DOCKER_CONFIG"])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "config.json").stat().st_mode & 0o777 == 0o600
        assert json.loads((folder / "config.json").read_text()) == {"auths": {"other": {}}, "proxies": {"default": {}}}
        assert (folder / "cli-plugins").is_dir()
        registry_client.login(engine, "localhost:5000/team", {"username": "u", "password": SECRET})
        registry_client.login(engine, "localhost:5001", {})
    assert not folder.exists()
    assert "DOCKER_CONFIG" not in engine.environment
    (call,) = fake.calls("login")
    assert call["argv"] == ["login", "--username", "u", "--password-stdin", "localhost:5000"]
    assert call["stdin"] == SECRET


def test_an_error_inside_removes_the_logins_too(tmp_path: Path) -> None:
    engine = engine_of(FakeEngine(tmp_path / "e"))
    with pytest.raises(KeyError), registry_client.logins(engine, str(tmp_path / "auth")):
        raise KeyError
    assert os.listdir(tmp_path / "auth") == []


def test_a_refused_login_never_shows_the_password(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    engine = engine_of(fake)
    fake.change(faults={"login": {"says": "Error: wrong password %s" % SECRET}})
    with pytest.raises(ImageError, match="refused the login as u: Error: wrong password \\*+") as caught:
        registry_client.login(engine, "docker.io", {"username": "u", "password": SECRET})
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_push_names_the_digest(tmp_path: Path, kind: str) -> None:
    fake = FakeEngine(tmp_path / "e", kind)
    fake.change(images={"ci-x": image("x")})
    with BuildLog(str(tmp_path / "log")) as log:
        found = registry_client.push(engine_of(fake, kind), "ci-x", "localhost:5000/ci-x", log, Commands())
    assert found == ("sha256:" + "d" * 64, False)
    assert ("--tls-verify=false" in fake.calls("push")[0]["argv"]) is (kind == "podman")


def test_a_push_without_a_digest_is_a_failure(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    fake.change(images={"ci-x": image("x")}, digest="none")
    with BuildLog(str(tmp_path / "log")) as log, pytest.raises(ImageError, match="named no digest"):
        registry_client.push(engine_of(fake), "ci-x", "localhost:5000/ci-x", log, Commands())


def test_archive_names_are_ids() -> None:
    assert image_archive.file_name("sha256:" + "a" * 64) == "a" * 64 + ".tar"
    for text in ("sha256:../x", "a" * 64, "", "sha256:" + "A" * 64):
        with pytest.raises(InvalidInput, match="is not an image id"):
            image_archive.file_name(text)


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    fake.change(images={"ci-x": image("x")}, faults={"save": {"says": "no"}})
    with pytest.raises(ImageError, match="cannot save image ci-x: no"):
        image_archive.save(engine_of(fake), "ci-x", image("x")["Id"], str(tmp_path / "images"))
    assert os.listdir(tmp_path / "images") == []


def test_a_damaged_archive_is_not_accepted(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e")
    fake.change(images={"ci-x": image("x")})
    saved = image_archive.save(engine_of(fake), "ci-x", image("x")["Id"], str(tmp_path / "images"))
    for damage, content in (("longer", "abcd"), ("other", "abd")):
        fetched = tmp_path / damage
        fetched.write_text(content)
        with pytest.raises(ImageError, match="was damaged on its way"):
            image_archive.accept(str(fetched), str(tmp_path / "x.tar"), saved)
    shutil.copy(saved["path"], tmp_path / "good")
    image_archive.accept(str(tmp_path / "good"), str(tmp_path / "x.tar"), saved)
    assert json.loads((tmp_path / "x.tar.json").read_text())["sha256"] == saved["sha256"]


def test_an_archive_is_taken_from_another_campaign_only_when_complete(tmp_path: Path) -> None:
    other, mine = tmp_path / "c1" / "images", tmp_path / "c2" / "images" / "x.tar"
    other.mkdir(parents=True)
    assert not image_archive.reuse(str(mine), str(tmp_path))
    (other / "x.tar").write_text("abc")
    assert not image_archive.reuse(str(mine), str(tmp_path))
    (other / "x.tar.json").write_text("{}")
    assert image_archive.reuse(str(mine), str(tmp_path))
    assert os.path.samefile(other / "x.tar", mine)
    assert not image_archive.reuse(str(tmp_path / "nowhere" / "x.tar"), str(tmp_path / "absent"))


def test_registries_of_builds(repo: Path) -> None:
    wanted = dict(request(), source={"images": ["quay.io/a/b:1", "ubuntu", "localhost:5000/x"]})
    assert build_host.registries_of([wanted], "ghcr.io/org") == ["docker.io", "ghcr.io/org", "localhost:5000", "quay.io"]
