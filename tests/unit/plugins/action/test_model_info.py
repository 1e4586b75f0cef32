# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin model_info: arguments, defaults, the output file, check mode and diff."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.mad.engine.plugins.action import model_info as action
from ansible_collections.mad.engine.plugins.modules import model_info as documentation
from ansible_collections.mad.engine.plugins.plugin_utils import saying

CARD = {"name": "m", "dockerfile": "docker/m", "scripts": "run.sh", "args": "", "tags": ["t"]}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two models, and no cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MODEL_DIR", raising=False)
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "models.json").write_text(json.dumps([CARD, {**CARD, "name": "é $(x)", "script": "?"}]))
    return folder


def run(check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run the action with these arguments."""
    task = MagicMock(args=arguments, check_mode=check, diff=diff, async_val=0)
    result: dict[str, Any] = action.ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock()).run(task_vars={})
    return result


def test_no_tags_gives_names(repo: Path) -> None:
    """And no models."""
    result = run(repo=str(repo))
    assert (result["models"], result["names"], result["count"], result["changed"]) == ([], ["m", "é $(x)"], 2, False)


def test_tags_give_cards(repo: Path) -> None:
    """With their names, and with the warnings about them."""
    result = run(repo=str(repo), tags=["t:k=v", "m"])
    assert [(model["name"], model["args"]) for model in result["models"]] == [("m", " --k v"), ("é $(x)", " --k v"), ("m", "")]
    assert result["names"] == ["m", "é $(x)", "m"]
    assert result["count"] == 3
    assert result["warnings"] == ["models.json: model 'é $(x)': unknown key 'script'; did you mean 'scripts'?"]


@pytest.mark.parametrize("tags", ["m,t:x", ["m,t:x"], ["m", "t:x"]])
def test_tags_are_a_list_or_a_text(repo: Path, tags: Any) -> None:
    """With commas in both."""
    assert run(repo=str(repo), tags=tags)["count"] == 3


def test_where_the_repository_is(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The argument, else MODEL_DIR, else the current directory."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "models.json").write_text("[]")
    monkeypatch.chdir(repo)
    assert run()["count"] == 2
    monkeypatch.setenv("MODEL_DIR", "")
    assert run()["count"] == 2
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "other"))
    assert run()["count"] == 0
    assert run(repo=str(repo))["count"] == 2


def test_errors_are_the_core_s(repo: Path) -> None:
    """In their own words."""
    with pytest.raises(AnsibleActionFail, match="No models found corresponding to the given tag: n"):
        run(repo=str(repo), tags=["n"])
    with pytest.raises(AnsibleActionFail, match="timeout: expected a number of seconds above 0"):
        run(repo=str(repo), timeout=0)
    with pytest.raises(AnsibleError, match="colour"):
        run(repo=str(repo), colour="red")


def test_the_output_file(repo: Path, tmp_path: Path) -> None:
    """Written if it differs, and only then changed."""
    output = tmp_path / "out.json"
    result = run(repo=str(repo), tags=["m"], output=str(output))
    assert result["changed"] is True
    assert result["output"] == str(output)
    assert "diff" not in result
    assert json.loads(output.read_text()) == result["models"]
    assert output.read_text().startswith('[\n    {\n        "name": "m",')
    before = output.stat()
    assert run(repo=str(repo), tags=["m"], output=str(output))["changed"] is False
    assert output.stat().st_mtime_ns == before.st_mtime_ns
    assert run(repo=str(repo), tags=["t"], output=str(output))["changed"] is True
    assert len(json.loads(output.read_text())) == 2


def test_the_output_file_without_tags(repo: Path, tmp_path: Path) -> None:
    """It gets every model; the answer stays the names."""
    result = run(repo=str(repo), output=str(tmp_path / "out.json"))
    assert [model["name"] for model in json.loads((tmp_path / "out.json").read_text())] == ["m", "é $(x)"] == result["names"]
    assert result["models"] == []


def test_check_mode_writes_nothing(repo: Path, tmp_path: Path) -> None:
    """But tells what would be, with the diff if asked for."""
    output = tmp_path / "out.json"
    result = run(check=True, diff=True, repo=str(repo), tags=["m"], output=str(output))
    assert result["changed"] is True
    assert not output.exists()
    assert result["diff"]["before"] == ""
    assert json.loads(result["diff"]["after"])[0]["name"] == "m"
    run(repo=str(repo), tags=["m"], output=str(output))
    assert run(check=True, repo=str(repo), tags=["m"], output=str(output))["changed"] is False


def test_output_where_it_cannot_be(repo: Path, tmp_path: Path) -> None:
    """A directory, a device, a directory that isn't there: refused by name."""
    for output, said in (
        (tmp_path, "is not a regular file"),
        (Path("/dev/null"), "is not a regular file"),
        (tmp_path / "no/where.json", "does not exist"),
    ):
        with pytest.raises(AnsibleActionFail, match=said):
            run(repo=str(repo), tags=["m"], output=str(output))


def test_an_output_file_that_is_no_text_is_replaced(repo: Path, tmp_path: Path) -> None:
    """Whatever it held."""
    output = tmp_path / "out.json"
    output.write_bytes(b"\xff\xfe")
    assert run(repo=str(repo), tags=["m"], output=str(output), diff=True)["changed"] is True
    assert json.loads(output.read_text())[0]["name"] == "m"


@pytest.mark.parametrize(("callback", "shown"), [("default", True), ("minimal", True), ("json", False), ("ansible.posix.jsonl", False)])
def test_showing(repo: Path, monkeypatch: pytest.MonkeyPatch, callback: str, shown: bool) -> None:
    """Names or JSON for a person, nothing for a machine that expects JSON."""
    lines: list[str] = []
    monkeypatch.setattr(saying.Display(), "display", lines.append)
    monkeypatch.setattr(saying.C.config, "get_config_value", lambda *_args, **_more: callback)
    run(repo=str(repo), show=True)
    run(repo=str(repo), show=True, tags=["m"])
    run(repo=str(repo), tags=["m"])
    assert len(lines) == (2 if shown else 0)
    if shown:
        assert lines[0] == "Available models (2 total)\n  m\n  é $(x)"
        assert json.loads(lines[1])[0]["name"] == "m"


def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the desktop specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert action.default_cache() == "/x/mad.engine/discovery"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert action.default_cache() == os.path.expanduser("~/.cache/mad.engine/discovery")


def test_the_documentation_says_what_the_code_does() -> None:
    """What it returns and how it is called; the options of all action plugins: test_arguments.py."""
    assert set(yaml.safe_load(documentation.RETURN)) == {"models", "names", "count", "output"}
    assert all("mad.engine.model_info" in task for task in yaml.safe_load(documentation.EXAMPLES))
