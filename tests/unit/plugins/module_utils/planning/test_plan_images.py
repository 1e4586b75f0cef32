# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make_plan: which image a run needs, for which architecture, and who builds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import plan
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, fails, host, make, one, runs, skips


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


# -- images ------------------------------------------------------------------------------------------------------------------------


def test_the_vendor_chooses_the_dockerfile(repo: Path) -> None:
    hosts = {"n1": host(), "n2": host(known=plans.facts("NVIDIA", 1, "H100")), "n3": host({"gpu_vendor": "AMD"})}
    made = make(repo, hosts=hosts)
    assert [run["image"]["name"] for run in made["runs"]] == [
        "ci-dummy_dummy.ubuntu.amd",
        "ci-dummy_dummy.ubuntu.nvidia",
        "ci-dummy_dummy.ubuntu.amd",
    ]
    assert [(build["image"], build["hosts"], build["build_host"], build["gpu_vendor"]) for build in made["builds"]] == [
        ("ci-dummy_dummy.ubuntu.amd", ["n1", "n3"], "n1", "AMD"), ("ci-dummy_dummy.ubuntu.nvidia", ["n2"], "n2", "NVIDIA"),
    ]  # fmt: skip


def test_several_dockerfiles_are_several_runs(repo: Path) -> None:
    model = card("dummy_ctxtest", dockerfile="docker/ctx")
    names = [run["image"]["name"] for run in runs(repo, [model], {"n1": host({"ctx_test": "2"})})]
    assert names == ["ci-dummy_ctxtest_ctx.ctx2a.ubuntu.amd", "ci-dummy_ctxtest_ctx.ctx2b.ubuntu.amd"]
    assert one(repo, [model])["image"]["dockerfile"] == "docker/ctx.noctx.ubuntu.amd.Dockerfile"
    assert one(repo, [model], {"n1": host({"ctx_test": "1"})})["image"]["dockerfile"] == "docker/ctx.ctx1.ubuntu.amd.Dockerfile"


def test_several_dockerfiles_and_none_fits_the_host(repo: Path) -> None:
    run = one(repo, [card(dockerfile="docker/ctx")], {"n1": host({"ctx_test": "2"}, plans.facts("NVIDIA", 1))})
    fails(run, "image", "ctx2a", "ctx2b", "gpu_vendor NVIDIA")


def test_several_dockerfiles_without_an_engine_are_one_run(repo: Path) -> None:
    run = one(repo, [card(dockerfile="docker/ctx")], {"n1": host({"ctx_test": "2"}, plans.NO_ENGINE)})
    assert run["runtime"] == "host" and run["image"] is None


@pytest.mark.parametrize(
    "prefix,failure_class,words",
    [
        ("docker/none", "image", ("docker/none.*",)),
        ("docker/bare", "image", ("bare.ubuntu.amd.Dockerfile", "no '# CONTEXT")),
        ("docker/broken", "invalid", ("docker/broken.ubuntu.amd.Dockerfile:1",)),
        ("docker/dummy", "image", ("gpu_vendor AMD", "gpu_vendor NVIDIA", "gpu_vendor NONE")),
        ("", "image", ("no Dockerfile",)),
    ],
)
def test_no_image(repo: Path, prefix: str, failure_class: str, words: tuple) -> None:
    run = one(repo, [card(dockerfile=prefix)], {"n1": host(known=plans.CPU_HOST)})
    fails(run, failure_class, *words)
    assert make(repo, [card(dockerfile=prefix)], {"n1": host(known=plans.CPU_HOST)})["builds"] == []


@pytest.mark.parametrize("prefix", ["docker/none", "docker/bare", ""])
def test_without_an_engine_no_image_is_needed(repo: Path, prefix: str) -> None:
    run = one(repo, [card(dockerfile=prefix)], {"n1": host(known=plans.NO_ENGINE)})
    assert run["outcome"] is None and run["runtime"] == "host" and run["image"] is None
    assert one(repo, [card(dockerfile=prefix)], runtime="host")["outcome"] is None
    fails(one(repo, [card(dockerfile=prefix)], runtime="docker"), "image")


def test_a_dockerfile_without_header_is_warned_about(repo: Path) -> None:
    (repo / "docker/dummy.old").write_text("FROM x\n")
    made = make(repo)
    assert made["runs"][0]["outcome"] is None
    assert any("docker/dummy.old" in warning for warning in made["warnings"])


def test_a_backup_of_a_dockerfile_is_warned_about(repo: Path) -> None:
    """madengine builds every file of the prefix, so it is an image and a row of its own; hardly what somebody wants."""
    for ending in ("~", ".orig"):
        (repo / ("docker/any.ubuntu.Dockerfile" + ending)).write_text(plans.header(guest_os="UBUNTU"))
    made = make(repo, [card(dockerfile="docker/any")])
    assert len(made["runs"]) == 3
    assert [text.split()[0] for text in made["warnings"] if "looks like a backup" in text] == [
        "docker/any.ubuntu.Dockerfile.orig", "docker/any.ubuntu.Dockerfile~",
    ]  # fmt: skip


def test_an_engine_is_missing(repo: Path) -> None:
    made = make(repo, hosts={"n1": host(known=plans.NO_ENGINE)})
    assert made["runs"][0]["runtime"] == "host" and made["builds"] == []
    assert "no engine answers on n1: runs there use the runtime host, without an image" in made["warnings"]
    fails(one(repo, hosts={"n1": host(known=plans.NO_ENGINE, runtime="docker")}), "infra", "mad_runtime is docker", "not installed")
    assert one(repo, hosts={"n1": host(known=plans.facts(engine="podman"))})["runtime"] == "podman"


def test_an_engine_that_is_there_and_does_not_answer(repo: Path) -> None:
    """Nobody takes the runtime host for meant, where only a right is missing."""
    shut = plans.facts(engine="")
    shut["engines"]["docker"].update(command="/usr/bin/docker", problem="this user may not use it")
    made = make(repo, hosts={"n1": host(known=shut), "n2": host(known=shut), "n3": host(known=plans.NO_ENGINE)})
    told = [warning for warning in made["warnings"] if "no engine answers" in warning]
    assert told == [
        "no engine answers on n1, n2: runs there use the runtime host, without an image (this user may not use it)",
        "no engine answers on n3: runs there use the runtime host, without an image",
    ]


def test_base_docker(repo: Path) -> None:
    assert one(repo)["image"]["base_docker"] == "rocm/pytorch"
    made = make(repo, hosts={"n1": host({"docker_build_arg": {"BASE_DOCKER": "mine:1"}})})
    assert made["runs"][0]["image"]["base_docker"] == "mine:1" and made["builds"][0]["build_args"] == {"BASE_DOCKER": "mine:1"}


def test_a_dockerfile_that_cannot_be_read(repo: Path) -> None:
    (repo / "docker/dummy.ubuntu.amd.Dockerfile").write_text("# CONTEXT {'gpu_vendor': 'AMD'}\nARG BASE_DOCKER\nFROM $BASE_DOCKER\n")
    fails(one(repo), "image", "BASE_DOCKER")
    assert one(repo, hosts={"n1": host({"docker_build_arg": {"BASE_DOCKER": "x"}})})["outcome"] is None


def test_the_context_of_primus_is_the_repository(repo: Path) -> None:
    (repo / "docker/primus.ubuntu.amd.Dockerfile").write_text(plans.header(gpu_vendor="AMD"))
    builds = make(repo, [card("p", dockerfile="docker/primus"), card("q", dockercontext="scripts"), card("r")])["builds"]
    assert [build["dockercontext"] for build in builds] == [".", "scripts", "./docker"]


def test_the_given_image(repo: Path) -> None:
    made = make(repo, hosts={"n1": host({"MAD_CONTAINER_IMAGE": "local/debian:12"})})
    image = made["runs"][0]["image"]
    assert (image["name"], image["dockerfile"], image["given"], made["builds"]) == ("local/debian:12", "N/A (local image mode)", True, [])
    fails(one(repo, hosts={"n1": host({"MAD_CONTAINER_IMAGE": "x"}, plans.NO_ENGINE)}), "infra", "no engine answers")
    fails(one(repo, hosts={"n1": host({"MAD_CONTAINER_IMAGE": "x"}, runtime="host")}), "invalid", "mad_runtime is host")


# -- architectures, builds ---------------------------------------------------------------------------------------------------------


def test_the_host_s_architecture_reaches_a_dockerfile_that_asks(repo: Path) -> None:
    build = make(repo, [card(dockerfile="docker/arch")])["builds"][0]
    assert build["build_args"] == {"MAD_SYSTEM_GPU_ARCHITECTURE": "gfx942"} and build["gpu_architecture"] == "gfx942"
    assert make(repo)["builds"][0]["build_args"] == {}, "who does not ask gets nothing"


def test_hosts_of_two_architectures_need_two_images(repo: Path) -> None:
    hosts = {"n1": host(), "n2": host(known=plans.facts(architecture="gfx90a")), "n3": host()}
    made = make(repo, [card("a", dockerfile="docker/arch")], hosts)
    assert [run["image"]["name"] for run in made["runs"]] == [
        "ci-a_arch.ubuntu.amd_gfx942",
        "ci-a_arch.ubuntu.amd_gfx90a",
        "ci-a_arch.ubuntu.amd_gfx942",
    ]
    assert [(build["image"], build["hosts"]) for build in made["builds"]] == [
        ("ci-a_arch.ubuntu.amd_gfx942", ["n1", "n3"]), ("ci-a_arch.ubuntu.amd_gfx90a", ["n2"]),
    ]  # fmt: skip


def test_different_build_arguments_make_different_names(repo: Path) -> None:
    hosts = {name: host({"docker_build_arg": {"BASE_DOCKER": name}}) for name in ("n1", "n2")}
    names = [run["image"]["name"] for run in runs(repo, hosts=hosts)]
    assert len(set(names)) == 2 and all(name.startswith("ci-dummy_dummy.ubuntu.amd_") for name in names)


@pytest.mark.parametrize("archs", [None, "gfx90a,gfx942"])
def test_different_dockerfiles_of_models_that_sound_alike_make_different_names(repo: Path, archs: str | None) -> None:
    for folder in ("docker/one", "docker/two"):
        (repo / folder).mkdir()
        (repo / folder / "x.ubuntu.Dockerfile").write_text(plans.header(guest_os="UBUNTU"))
    cards = [card(name, dockerfile="docker/%s/x" % folder) for name, folder in (("a_b", "one"), ("a/b", "two"), ("A_B", "two"))]
    made = make(repo, cards, **({"target_archs": archs, "build_only": True} if archs else {}))
    built = {(build["dockerfile"], build["gpu_architecture"]): build["image"] for build in made["builds"]}
    assert len(built) == len(set(built.values())) == len(made["builds"]) == (4 if archs else 2)
    used = {run["image"]["name"]: run["image"]["dockerfile"] for run in made["runs"] if not archs}
    assert used == {name: path for (path, _architecture), name in built.items() if not archs}


def test_target_archs(repo: Path) -> None:
    made = make(repo, [card(dockerfile="docker/arch")], target_archs="mi250, gfx942")
    assert made["runs"][0]["image"]["name"] == "ci-dummy_arch.ubuntu.amd_gfx942"
    skips(
        one(repo, [card(dockerfile="docker/arch")], {"n1": host(known=plans.facts(architecture="gfx1100"))}, target_archs="gfx90a,gfx942"),
        "gfx1100",
    )
    fixed = make(repo, hosts={"n1": host({"docker_build_arg": {"MAD_SYSTEM_GPU_ARCHITECTURE": "gfx908"}})}, target_archs="gfx90a")
    assert fixed["builds"][0]["build_args"] == {"MAD_SYSTEM_GPU_ARCHITECTURE": "gfx908"}
    assert any("mad_target_archs has no effect" in warning for warning in fixed["warnings"])


def test_a_build_alone_builds_every_architecture(repo: Path) -> None:
    layer = {"gpu_vendor": "AMD", "guest_os": "UBUNTU"}
    hosts = {"n1": host(layer, plans.CPU_HOST)}
    made = make(repo, [card(dockerfile="docker/arch")], hosts, target_archs=["gfx90a", "gfx942"], build_only=True)
    assert [build["image"] for build in made["builds"]] == ["ci-dummy_arch.ubuntu.amd_gfx90a", "ci-dummy_arch.ubuntu.amd_gfx942"]
    plain = make(repo, [card(dockerfile="docker/arch")], hosts, build_only=True)
    assert [(build["image"], build["gpu_architecture"], build["hosts"]) for build in plain["builds"]] == [
        ("ci-dummy_arch.ubuntu.amd", "", ["n1"])
    ]


def test_a_build_alone_needs_vendor_and_system(repo: Path) -> None:
    with pytest.raises(InvalidInput, match="gpu_vendor.*guest_os.*'gpu_vendor': 'AMD'"):
        make(repo, hosts={"n1": plans.unreachable()}, build_only=True)
    assert make(repo, build_only=True)["builds"], "detection fills them"


@pytest.mark.parametrize("names", [("gone", "there"), ("there", "gone")])
def test_a_host_that_is_gone_stops_no_build(repo: Path, names: tuple[str, str]) -> None:
    """Nothing is built for its sake, and everything for the others, whoever comes first."""
    known = {"gone": plans.unreachable(), "there": host()}
    made = make(
        repo, [card(dockerfile="docker/arch"), card()], {name: known[name] for name in names}, target_archs="gfx90a,gfx942", build_only=True
    )
    found = [build["image"] for build in made["builds"]]
    assert sorted(found) == sorted(
        "ci-dummy_%s.ubuntu.amd_%s" % (name, arch) for name in ("arch", "dummy") for arch in ("gfx90a", "gfx942")
    )
    assert all(build["build_host"] == "there" for build in made["builds"])
    assert {run["place"]["host"]: bool(run["outcome"]) for run in made["runs"]} == {"gone": True, "there": False}


@pytest.mark.parametrize("build_host,expected", [("", "n2"), ("n3", "n3"), ("localhost", None)])
def test_build_host(repo: Path, build_host: str, expected: object) -> None:
    hosts = {"n1": plans.unreachable({"gpu_vendor": "AMD"}), "n2": host(), "n3": host()}
    if expected is None:
        with pytest.raises(plan.ImageError, match="nobody can build"):
            make(repo, hosts=hosts, build_host=build_host)
        return
    assert make(repo, hosts=hosts, build_host=build_host)["builds"][0]["build_host"] == expected


def test_a_strange_build_host_is_a_bad_argument(repo: Path) -> None:
    with pytest.raises(InvalidInput, match="mad_build_host 'elsewhere'"):
        make(repo, build_host="elsewhere")


def test_build_arguments_of_a_card_lie_below_the_contexts(repo: Path) -> None:
    pinned = [card("a", docker_build_arg={"REF": "1", "REPO": "x"}), card("b", docker_build_arg={"REF": "2"}), card("c")]
    builds = make(repo, pinned)["builds"]
    assert [build["build_args"] for build in builds] == [{"REF": "1", "REPO": "x"}, {"REF": "2"}, {}]
    over = make(repo, pinned, {"n1": host({"docker_build_arg": {"REF": "9"}})})["builds"]
    assert [build["build_args"]["REF"] for build in over] == ["9"] * 3
