# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins that a build or a pull takes along: all that the user has, wherever the engine's client would look for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.containers import registry_client
from ansible_collections.mad.engine.plugins.module_utils.containers.image_engine import ImageEngine


def write(path: Path, **auths: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {name.replace("_", "."): {"auth": word} for name, word in auths.items()}}))
    return str(path)


def taken(home: Path, **environment: str) -> Dict[str, Any]:
    """{registry: word} of the file that podman is pointed to."""
    engine = ImageEngine("podman", "true", dict({"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}, **environment))
    with registry_client.logins(engine, str(home / "private")):
        document = json.loads(Path(engine.environment["REGISTRY_AUTH_FILE"]).read_text())
    return {name: entry["auth"] for name, entry in document["auths"].items()}


def test_podman_finds_every_login_of_the_user(tmp_path: Path) -> None:
    """In the order of containers-auth.json(5); the folder below XDG_RUNTIME_DIR goes with the session, so what is to last lies in the others."""
    write(tmp_path / ".docker" / "config.json", a_test="docker", b_test="docker", c_test="docker")
    write(tmp_path / ".config" / "containers" / "auth.json", a_test="config", b_test="config")
    assert taken(tmp_path) == {"a.test": "config", "b.test": "config", "c.test": "docker"}
    write(tmp_path / "run" / "containers" / "auth.json", a_test="runtime")
    assert taken(tmp_path) == {"a.test": "runtime", "b.test": "config", "c.test": "docker"}
    write(tmp_path / "xdg" / "containers" / "auth.json", b_test="xdg")
    write(tmp_path / "own" / "config.json", c_test="own")
    found = taken(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg"), DOCKER_CONFIG=str(tmp_path / "own"))
    assert found == {"a.test": "runtime", "b.test": "xdg", "c.test": "own"}


def test_a_file_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", a_test="docker")
    assert taken(tmp_path, REGISTRY_AUTH_FILE=write(tmp_path / "named.json", b_test="named")) == {"b.test": "named"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"auths": []}', '{"auths": null}'])
def test_a_file_that_cannot_be_read_has_no_logins(tmp_path: Path, text: str) -> None:
    write(tmp_path / ".docker" / "config.json", a_test="docker")
    Path(write(tmp_path / "run" / "containers" / "auth.json")).write_text(text)
    assert taken(tmp_path) == {"a.test": "docker"}
