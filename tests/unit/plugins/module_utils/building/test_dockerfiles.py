# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dockerfiles: candidates, CONTEXT headers, the matching rule, image names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building import dockerfiles
from ansible_collections.mad.engine.plugins.module_utils.building.dockerfiles import Candidate

AMD = {"gpu_vendor": "AMD", "guest_os": "UBUNTU"}


def write(repo: Path, name: str, text: str) -> None:
    path = repo / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    write(tmp_path, "docker/dummy.ubuntu.amd.Dockerfile", "# CONTEXT {'gpu_vendor': 'AMD', 'guest_os': 'UBUNTU'}\nFROM x\n")
    write(tmp_path, "docker/dummy.ubuntu.nvidia.Dockerfile", "# CONTEXT {'gpu_vendor': 'NVIDIA', 'guest_os': 'UBUNTU'}\nFROM x\n")
    write(tmp_path, "docker/dummy.ubuntu.amd.Dockerfile.dockerignore", "*\n")
    write(tmp_path, "docker/dummy2.ubuntu.amd.Dockerfile", "# CONTEXT {}\nFROM x\n")
    write(tmp_path, "docker/dummy.d/inner", "a directory is no candidate")
    return tmp_path


def test_candidates_by_prefix(repo: Path) -> None:
    found = dockerfiles.candidates(str(repo), "docker/dummy")
    assert [candidate.path for candidate in found] == ["docker/dummy.ubuntu.amd.Dockerfile", "docker/dummy.ubuntu.nvidia.Dockerfile"]
    assert found[0].header == AMD
    assert dockerfiles.candidates(str(repo), "docker/nothing") == []
    assert dockerfiles.candidates(str(repo), "nowhere/x") == []
    assert dockerfiles.candidates(str(repo), "") == []


def test_a_whole_file_name_is_explained() -> None:
    text = dockerfiles.describe([], "docker/dummy.ubuntu.amd.Dockerfile", {})
    assert "no file docker/dummy.ubuntu.amd.Dockerfile.*" in text and "docker/x for docker/x.ubuntu.amd.Dockerfile" in text
    assert "without its ending" not in dockerfiles.describe([], "docker/dummy", {})


@pytest.mark.parametrize(
    "text,expected",
    [
        ("# CONTEXT {'gpu_vendor': 'AMD'}\n", {"gpu_vendor": "AMD"}),
        ("FROM x\n# a\n#b\n\n# CONTEXT {'a': 1, 'b': True, 'guest_os': 'ubuntu'}", {"a": "1", "b": "True", "guest_os": "UBUNTU"}),
        ("## CONTEXT {'a': '2'}", {"a": "2"}),
        ("1\n2\n3\n4\n5\n# CONTEXT {'a': '6'}\n", None),
        ("FROM x\n", None),
        ("", None),
        ("#CONTEXT {'a': '2'}", None),
    ],
)
def test_header(text: str, expected: object) -> None:
    assert dockerfiles.header(text, "f") == expected


@pytest.mark.parametrize("literal", ["{", "x", "[1]", "{'a': f()}", "{1: 2}", "{'a': [1]}", "", "{'a': None}", "(" * 3000])
def test_a_malformed_header_names_file_and_line(literal: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape("docker/x.Dockerfile:2")):
        dockerfiles.header("FROM x\n# CONTEXT %s\n" % literal, "docker/x.Dockerfile")


@pytest.mark.parametrize(
    "header,context,expected",
    [
        (AMD, AMD, True),
        (AMD, {}, True),
        (AMD, {"gpu_vendor": "NVIDIA"}, False),
        (AMD, {"gpu_vendor": "amd"}, True),
        ({}, AMD, True),
        (None, AMD, False),
        ({"unknown": "x"}, AMD, True),
        ({"unknown": "x"}, {"unknown": "y"}, False),
        ({"a": "2"}, {"a": 2}, True),
        ({"a": "True"}, {"a": True}, True),
        ({"ctx_test": "None"}, {}, True),
        ({"ctx_test": "2"}, {}, False),
        ({"ctx_test": "2"}, {"ctx_test": "2"}, True),
    ],
)
def test_matching(header: object, context: dict, expected: bool) -> None:
    assert dockerfiles.matches(header, context) is expected


@pytest.mark.parametrize(
    "headers,context,expected",
    [
        ([AMD], {}, True),
        ([AMD, {"gpu_vendor": "NVIDIA"}], {}, True),
        ([AMD, dict(AMD, ctx="2")], {}, False),
        ([AMD, {"gpu_vendor": "NVIDIA"}, {}], {}, False),
        ([AMD, {"gpu_vendor": "NVIDIA"}], {"gpu_vendor": "AMD"}, False),
        ([], {}, True),
    ],
)
def test_exclusive(headers: list, context: dict, expected: bool) -> None:
    assert dockerfiles.exclusive(headers, context) is expected


def test_the_error_lists_candidates_and_headers() -> None:
    text = dockerfiles.describe([Candidate("docker/x.a", AMD), Candidate("docker/x.b", None)], "docker/x", {"gpu_vendor": "NONE"})
    assert "docker/x.a has CONTEXT {gpu_vendor: AMD, guest_os: UBUNTU}" in text and "gpu_vendor NONE, guest_os not set" in text
    assert "docker/x.b has no '# CONTEXT" in text
    assert "docker/x.*" in dockerfiles.describe([], "docker/x", {})


@pytest.mark.parametrize(
    "path,header,expected",
    [
        ("a.ubuntu.amd.Dockerfile", {}, "AMD"),
        ("a.ubuntu.nvidia.Dockerfile", None, "NVIDIA"),
        ("a.amd.Dockerfile", {"gpu_vendor": "NONE"}, "NONE"),
        ("amdahl.ubuntu.Dockerfile", {}, ""),
    ],
)
def test_vendor(path: str, header: object, expected: str) -> None:
    assert dockerfiles.vendor(Candidate(path, header)) == expected


@pytest.mark.parametrize(
    "model,dockerfile,variant,expected",
    [
        ("dummy", "docker/dummy.ubuntu.amd.Dockerfile", "", "ci-dummy_dummy.ubuntu.amd"),
        ("dummy_ctxtest", "docker/dummy_ctxtest.noctx.ubuntu.amd.Dockerfile", "", "ci-dummy_ctxtest_dummy_ctxtest.noctx.ubuntu.amd"),
        ("sub/m1", "docker/x.ubuntu.amd.Dockerfile", "", "ci-sub_m1_x.ubuntu.amd"),
        ("ok", "docker/ok.ubuntu.amd.Dockerfile", "gfx90a", "ci-ok_ok.ubuntu.amd_gfx90a"),
        ("Big", "docker/Big.Ubuntu.Dockerfile", "", "ci-big_big.ubuntu"),
    ],
)
def test_image_names(model: str, dockerfile: str, variant: str, expected: str) -> None:
    assert dockerfiles.image_name(model, dockerfile, variant) == expected


REFERENCE = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*\Z")


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=60))
def test_any_name_is_a_name_for_an_engine(model: str, base: str) -> None:
    name = dockerfiles.image_name(model, "docker/%s.Dockerfile" % base)
    assert REFERENCE.match(name) and len(name) <= 200


@pytest.mark.parametrize(
    "one,other", [("a b", "a-b"), ("a'b", 'a"b'), ("ü", "ö"), ("x" * 300, "x" * 301), ("a___b", "a_-_b"), ("m_", "m/_")]
)
def test_replaced_names_stay_apart(one: str, other: str) -> None:
    assert dockerfiles.image_name(one, "x.Dockerfile") != dockerfiles.image_name(other, "x.Dockerfile")
