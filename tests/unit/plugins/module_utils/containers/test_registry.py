# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries: push names as in the reference's table, credentials, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.containers import registry

IMAGE = "ci-dummy_dummy.ubuntu.amd"


@pytest.mark.parametrize(
    ("given_registry", "repository", "expected"),
    [
        ("docker.io", "your-repository", "your-repository:" + IMAGE),
        ("dockerhub", "org/repo", "org/repo:" + IMAGE),
        ("docker.io", "", IMAGE),
        ("localhost:5000", "your-repository", "localhost:5000/your-repository:" + IMAGE),
        ("localhost:5000", "", "localhost:5000/" + IMAGE),
        ("localhost:5999/x", "", "localhost:5999/x/" + IMAGE),
        ("https://registry.example.com/", "/team/", "registry.example.com/team:" + IMAGE),
        ("[::1]:5000", "", "[::1]:5000/" + IMAGE),
    ],
)
def test_push_names(given_registry: str, repository: str, expected: str) -> None:
    credential = {"repository": repository} if repository else {}
    assert registry.push_name(IMAGE, registry.normalise(given_registry), credential) == expected


@pytest.mark.parametrize("name", ["docker.io", "dockerhub", "index.docker.io", "https://index.docker.io/v1/", "registry.hub.docker.com"])
def test_docker_hub_has_one_name(name: str) -> None:
    assert registry.normalise(name) == "docker.io"


@pytest.mark.parametrize("text", ["-x", "a b", "host/UPPER", "$(id)", "host:port", "../x", "host//x", "x;y", "a\nb", "host/-"])
def test_text_that_is_no_registry_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="mad_registry"):
        registry.normalise(text)


def test_no_registry_stays_none() -> None:
    assert registry.normalise("") == ""


@pytest.mark.parametrize(
    ("image", "repository"), [("ci-" + "x" * 130, "r"), ("ci-Upper", ""), ("ci-a", "Bad Repo"), ("-x", ""), ("a;b", "r"), ("ci-x ", "r")]
)
def test_names_no_registry_takes_are_refused_before_the_build(image: str, repository: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be pushed"):
        registry.push_name(image, "localhost:5000", {"repository": repository} if repository else {})


@pytest.mark.parametrize(
    ("reference", "host"),
    [
        ("localhost:5000/a/b:c", "localhost:5000"),
        ("ubuntu:22.04", "docker.io"),
        ("rocm/pytorch", "docker.io"),
        ("docker.io/rocm/pytorch", "docker.io"),
        ("quay.io/x/y@sha256:" + "0" * 64, "quay.io"),
        ("localhost/x", "localhost"),
    ],
)
def test_host_of_a_reference(reference: str, host: str) -> None:
    assert registry.host_of(reference) == host


@pytest.mark.parametrize(
    ("host", "expected"), [("localhost:5000", True), ("127.0.0.1", True), ("[::1]:5000", True), ("local", False), ("10.0.0.1:5000", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert registry.is_loopback(host) is expected


def test_credential_is_found_by_the_whole_text_then_by_the_host() -> None:
    credentials = {
        "ghcr.io": {"username": "a", "password": "b"},
        "ghcr.io/org": {"username": "c", "password": "d"},
        "dockerhub": {"repository": "r"},
    }
    assert registry.credential_for("ghcr.io/org", credentials)["username"] == "c"
    assert registry.credential_for("ghcr.io/other", credentials)["username"] == "a"
    assert registry.credential_for("docker.io", credentials) == {"repository": "r"}
    assert registry.credential_for("localhost:5000", credentials) == {}


@pytest.mark.parametrize(
    ("entry", "named"),
    [([], "must be"), ({"username": "u"}, "no password"), ({"username": 1, "password": "x"}, "username"), ("text", "must be")],
)
def test_a_malformed_entry_is_named_and_not_shown(entry: object, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        registry.credential_for("localhost:5000", {"localhost:5000": entry})
    assert "localhost:5000" in caught.value.message


def test_environment_stands_above_the_file(tmp_path) -> None:
    path = tmp_path / "credential.json"
    path.write_text(
        json.dumps(
            {"dockerhub": {"username": "old", "password": "kept", "repository": "old"}, "my_git": {"username": "x", "password": "y"}}
        )
    )
    environment = {
        "MAD_DOCKERHUB_USER": "new",
        "MAD_DOCKERHUB_REPO": "team/repo",
        "MAD_AWS_S3": '{"USERNAME": "k", "PASSWORD": "s"}',
        "my_git": '{"username": "z"}',
    }
    found = registry.load_credentials(str(path), environment)
    assert found["dockerhub"] == {"username": "new", "password": "kept", "repository": "team/repo"}
    assert found["MAD_AWS_S3"] == {"USERNAME": "k", "PASSWORD": "s"}
    assert found["my_git"] == {"username": "z"}


def test_environment_alone_defines_docker_hub() -> None:
    found = registry.load_credentials("", {"MAD_DOCKERHUB_USER": "u", "MAD_DOCKERHUB_PASSWORD": "p"})
    assert registry.credential_for("docker.io", found) == {"username": "u", "password": "p"}


def test_a_variable_that_is_no_json_is_named_and_its_value_is_not() -> None:
    with pytest.raises(InvalidInput, match="MAD_MINIO") as caught:
        registry.load_credentials("", {"MAD_MINIO": "hunter2 is my password"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", "null", ""])
def test_a_credential_file_that_is_none_is_named(tmp_path, text: str) -> None:
    path = tmp_path / "credential.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="credential file .*credential.json"):
        registry.load_credentials(str(path), {})


def test_build_secrets_are_the_fields_of_the_cards_cred() -> None:
    credentials = {"my_git": {"username": "u", "password": "p", "nested": {"x": 1}}}
    assert registry.build_secrets("my_git", credentials) == {"my_git_USERNAME": "u", "my_git_PASSWORD": "p"}
    assert registry.build_secrets("", credentials) == {}
    with pytest.raises(InvalidInput, match="'other'.*my_git"):
        registry.build_secrets("other", credentials)


def test_split_digest() -> None:
    digest = "sha256:" + "a" * 64
    assert registry.split_digest("x/y@" + digest) == ("x/y", digest)
    assert registry.split_digest("x/y:tag") == ("", "")


@given(st.text(max_size=40))
def test_whatever_passes_is_one_word_of_the_grammar(text: str) -> None:
    try:
        name = registry.normalise(text)
    except InvalidInput:
        return
    assert not name or (not name.startswith("-") and " " not in name and "\n" not in name and name == registry.normalise(name))
