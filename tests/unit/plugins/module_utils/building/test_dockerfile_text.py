# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dockerfiles: base images, arguments and needs, whatever the file looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.building import dockerfile_text


def read(text: str, **build_args: str) -> dockerfile_text.Facts:
    return dockerfile_text.read(text, build_args)


def test_a_mad_dockerfile() -> None:
    facts = read(
        "# CONTEXT {'gpu_vendor': 'AMD'}\nARG BASE_DOCKER=rocm/pytorch\nFROM $BASE_DOCKER\nARG MAD_SYSTEM_GPU_ARCHITECTURE\nRUN true\n"
    )
    assert facts.images == ["rocm/pytorch"]
    assert facts.base == "rocm/pytorch"
    assert facts.arguments == {"BASE_DOCKER": "rocm/pytorch", "MAD_SYSTEM_GPU_ARCHITECTURE": None}
    assert not facts.needs_buildkit


def test_a_given_argument_wins_over_the_default() -> None:
    assert read("ARG B=x:1\nFROM ${B}\n", B="y:2").base == "y:2"


def test_an_argument_that_is_given_but_not_declared_changes_nothing() -> None:
    assert read("FROM x:${TAG:-1}\n", TAG="2").images == ["x:1"]


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("FROM --platform=linux/amd64 x:1 AS y\n", "x:1"),
        ("from x\n", "x"),
        ("ARG A=x B=1\nFROM ${A}:${B}\n", "x:1"),
        ("ARG A\nFROM ${A:-x}${A:+no}\n", "x"),
        ("ARG A='q'\nFROM ${A:-x}${A:+-yes}\n", "q-yes"),
        ("FROM \\\n  x\n", "x"),
        ("# escape=`\nFROM `\n  x\n", "x"),
        ("FROM \\\n# a comment within\n\n x\n", "x"),
        ("FROM x AS a\nFROM a AS b\nFROM b\n", "x"),
        ("FROM x AS x\n", "x"),
        ("FROM x\r\nRUN y\r\n", "x"),
        ("FROM scratch\n", "scratch"),
        ("ARG A\nFROM $A\n", ""),
        ("RUN nothing\n", ""),
    ],
)
def test_what_an_image_stands_on(text: str, base: str) -> None:
    assert read(text).base == base


def test_every_external_image_counts_once() -> None:
    facts = read(
        "FROM a:1 AS one\nFROM scratch\nFROM one\nCOPY --from=one x y\nCOPY --from=0 x y\nCOPY --from=q.io/b:2 x y\n"
        "RUN --mount=type=bind,from=c/d:3,target=/x true\nFROM a:1\n"
    )
    assert facts.images == ["a:1", "q.io/b:2", "c/d:3"]


def test_named_contexts() -> None:
    facts = read("FROM x\nCOPY --from=tools a b\nRUN --mount=from=other,target=/m true\n")
    assert facts.contexts == ["other", "tools"]
    assert facts.images == ["x"]


def test_here_documents_are_not_instructions() -> None:
    facts = read("FROM x\nRUN <<EOF cat <<-'SQL'\nFROM evil\nARG HF_TOKEN\nEOF\nselect 1 FROM y\n\tSQL\nARG REAL\n")
    assert facts.images == ["x"]
    assert facts.arguments == {"REAL": None}
    assert facts.needs_buildkit


@pytest.mark.parametrize("line", ["RUN cat <<<hello", "RUN echo $((1<<N))", "RUN sh -c 'cat <<E'", 'RUN sh -c "cat \\"<<E\\""', "RUN cat <<'E E'"])
def test_what_only_looks_like_a_here_document_hides_no_instruction(line: str) -> None:
    facts = read("FROM x\n%s\nARG REAL\nFROM y\n" % line)
    assert (facts.images, facts.base, facts.arguments, facts.needs_buildkit) == (["x", "y"], "y", {"REAL": None}, False)


def test_here_documents_end_at_their_own_word() -> None:
    facts = read("FROM x\nRUN python3 - 3<<'E.O-F' <<T\nFROM evil\nE.O-F\nFROM worse\nT\nARG REAL\n")
    assert (facts.images, facts.arguments) == (["x"], {"REAL": None})


@pytest.mark.parametrize(
    "line", ["RUN --mount=type=secret,id=x true", "COPY --link a b", "COPY --chmod=755 a b", "RUN <<E\nE", "ADD --exclude=x a b"]
)
def test_what_the_classic_builder_cannot_do(line: str) -> None:
    assert read("FROM x\n%s\n" % line).needs_buildkit


@pytest.mark.parametrize(
    "line", ["RUN echo --mount=x", "COPY --chown=a:b x y", "COPY --from=0 a b", "RUN cat <x >y", "ENV A=<<B", "# RUN --mount=type=x y"]
)
def test_what_it_can(line: str) -> None:
    assert not read("FROM x\n%s\n" % line).needs_buildkit


def test_arguments_in_all_spellings() -> None:
    facts = read("ARG A\nARG B=1 C=\"two words\" D='3'\narg E=$B\nFROM x\nARG A=late\nARG\tF\nRUN ARG=1\n")
    assert facts.arguments == {"A": "late", "B": "1", "C": "two words", "D": "3", "E": "$B", "F": None}


@given(
    st.text(alphabet=st.sampled_from("FROMARGUNCOPY \n\\$<{}:-=#'\"xE`\t\r"), max_size=200),
    st.dictionaries(st.sampled_from(["A", "B"]), st.text(max_size=5)),
)
def test_no_text_breaks_the_reader(text: str, build_args: dict[str, str]) -> None:
    facts = dockerfile_text.read(text, build_args)
    assert "scratch" not in facts.images
    assert "" not in facts.images
