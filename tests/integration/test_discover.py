# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook mad.engine.discover as people run it, on the awkward repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support.play import DEMO, ROOT, Played, play

AWKWARD = ROOT / "tests" / "fixtures" / "awkward"


def discover(folder: Path, *arguments: str, env: dict[str, str] | None = None, inventory: Path | None = None, **variables: Any) -> Played:
    """Run the playbook in a folder of its own, with a cache of its own."""
    names = {"mad_%s" % name: value for name, value in variables.items()}
    more = {"XDG_CACHE_HOME": str(folder / "cache"), **(env or {})}
    return play("mad.engine.discover", folder, inventory=inventory, variables=names, arguments=arguments, env=more)


def answer(played: Played) -> str:
    """What stands between the task's headline and the host's status: what a person reads."""
    return played.output.partition("TASK [Find the models]")[2].partition("\n")[2].rpartition("\nok: [")[0]


def test_a_list_for_a_person(tmp_path: Path) -> None:
    """One name a line, nothing escaped; no inventory is needed."""
    played = discover(tmp_path, repo=str(AWKWARD))
    assert played.status == 0
    lines = answer(played).splitlines()
    assert lines[0] == "Available models (58 total)"
    assert lines[1:3] == ["  plain", "  comma_tags"]
    assert "  name with blanks & $(touch pwned) 'quotes' é" in lines
    assert lines[-1] == "  static/deep/Model.V2"
    assert len(lines) == 59
    assert played.recap() == {"localhost": {"ok": 1, "changed": 0, "unreachable": 0, "failed": 0, "skipped": 0, "rescued": 0, "ignored": 0}}


def test_selected_models_as_json(tmp_path: Path) -> None:
    """Indented by four; what is printed can be copied and parsed."""
    played = discover(tmp_path, repo=str(AWKWARD), tags="static/all:k=v,lazy/computed")
    printed = json.loads(answer(played))
    assert [(model["name"], model["args"]) for model in printed] == [
        ("static/model1", " --k v"),
        ("static/deep/Model.V2", "--batch-size 16 --k v"),
        ("lazy/computed", "--steps 5"),
    ]
    assert '\n        "name": "static/model1",\n' in answer(played)


def test_output_check_and_diff(tmp_path: Path) -> None:
    """Check mode writes nothing; the second time nothing changes; a relative path is one from where the command runs."""
    wanted: dict[str, Any] = {"repo": str(AWKWARD), "tags": ["plain"], "output": "models.json"}
    played = discover(tmp_path, "--check", "--diff", **wanted)
    assert played.status == 0
    assert '+        "name": "plain",' in played.output
    assert played.recap()["localhost"]["changed"] == 1
    assert not (tmp_path / "models.json").exists()
    assert discover(tmp_path, **wanted).recap()["localhost"]["changed"] == 1
    assert [model["name"] for model in json.loads((tmp_path / "models.json").read_text())] == ["plain"]
    assert discover(tmp_path, **wanted).recap()["localhost"]["changed"] == 0


def test_empty_answers_of_a_survey_mean_unset(tmp_path: Path) -> None:
    """As AWX sends them; MODEL_DIR then names the repository."""
    played = discover(tmp_path, repo="", tags="", output="", hosts="", discover_timeout="", env={"MODEL_DIR": str(AWKWARD)})
    assert played.status == 0
    assert answer(played).startswith("Available models (58 total)\n")


def test_the_current_directory_is_the_repository(tmp_path: Path) -> None:
    """As madengine has it."""
    shutil.copytree(AWKWARD, tmp_path / "repo")
    assert answer(discover(tmp_path / "repo")).startswith("Available models (58 total)\n")


def test_a_tag_that_selects_nothing(tmp_path: Path) -> None:
    """One readable error that names what resembles it."""
    played = discover(tmp_path, repo=str(AWKWARD), tags="plane")
    assert played.status == 2
    assert "[ERROR]: Task failed: No models found corresponding to the given tag: plane. Did you mean plain" in played.output


def test_not_a_repository(tmp_path: Path) -> None:
    """The default place is named, and how to name another."""
    played = discover(tmp_path)
    assert played.status == 2
    assert "models.json file not found in %s" % tmp_path in played.output
    assert "mad_repo or MODEL_DIR" in played.output


def test_no_host_is_touched(tmp_path: Path) -> None:
    """Hosts that do not exist, several of them: it runs once, on the controller."""
    inventory = tmp_path / "inventory.ini"
    inventory.write_text("[gpus]\nno-such-host-[1:3].invalid ansible_become=true\n")
    played = discover(tmp_path, inventory=inventory, repo=str(AWKWARD), tags="plain")
    assert played.status == 0
    assert json.loads(answer(played))[0]["name"] == "plain"
    assert list(played.recap()) == ["no-such-host-1.invalid"]


JSON_CALLBACK = """
import json
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "only_json"

    def v2_runner_on_ok(self, result):
        self._display.display(json.dumps(result.result if hasattr(result, "result") else result._result))
"""


def test_output_stays_json_under_a_json_callback(tmp_path: Path) -> None:
    """For those who parse it: nothing of ours stands beside what the callback prints."""
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "only_json.py").write_text(JSON_CALLBACK)
    env = {"ANSIBLE_STDOUT_CALLBACK": "only_json", "ANSIBLE_CALLBACK_PLUGINS": str(tmp_path / "callbacks")}
    result = json.loads(discover(tmp_path, repo=str(AWKWARD), tags="plain", env=env).output)
    assert (result["count"], result["models"][0]["name"]) == (1, "plain")


def test_text_of_the_repository_is_never_a_template(tmp_path: Path) -> None:
    """Neither in the answer nor in what a later task does with it."""
    repo = tmp_path / "repo"
    repo.mkdir()
    trap = "{{ lookup('pipe', 'touch %s') }}" % (tmp_path / "pwned")
    card = {"name": "m {{ 1 / 0 }}", "dockerfile": "d", "scripts": "s", "args": trap, "tags": ["t"]}
    (repo / "models.json").write_text(json.dumps([card]))
    (tmp_path / "site.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - mad.engine.model_info: {repo: repo, tags: t}\n      register: found\n"
        "    - ansible.builtin.copy: {content: '{{ found.models[0].args }}', dest: '%s/args'}\n" % tmp_path
    )
    played = play("site.yml", tmp_path, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert played.status == 0, played.output
    assert (tmp_path / "args").read_text() == trap
    assert not (tmp_path / "pwned").exists()


def test_a_host_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    """Ansible alone would warn, run nothing and end with 0: a night without a single run, and all is green."""
    (tmp_path / "hosts.yml").write_text("all: {hosts: {a: {ansible_connection: local}}}")
    played = play("mad.engine.discover", tmp_path, inventory=tmp_path / "hosts.yml", variables={"mad_repo": str(DEMO), "mad_hosts": ["b", "c*"]})
    assert played.status != 0 and "mad_hosts is b,c*, and no host of the inventory matches it" in played.output, played.output
    played = play("mad.engine.discover", tmp_path, inventory=tmp_path / "hosts.yml", variables={"mad_repo": str(DEMO), "mad_hosts": ["b", "a*"]})
    assert played.status == 0, played.output


def test_an_inventory_without_hosts_is_an_error(tmp_path: Path) -> None:
    """A mistyped name: Ansible alone would warn, and the fleet's benchmarks would run on the controller."""
    missing = tmp_path / "inventroy.yml"
    for playbook in ("mad.engine.discover", "mad.engine.run"):
        played = play(playbook, tmp_path, inventory=missing, variables={"mad_repo": str(DEMO), "mad_tags": "hash_sha256"})
        assert played.status != 0 and "no hosts in %s: is the name of the inventory right?" % missing in played.output, played.output
    played = play("mad.engine.discover", tmp_path, inventory=missing, variables={"mad_repo": str(DEMO), "mad_hosts": "localhost"})
    assert played.status == 0, played.output
    played = play("mad.engine.report", tmp_path, inventory=missing, variables={"mad_results": str(tmp_path)})  # it only reads, on the controller
    assert "there is no campaign in %s" % tmp_path in played.output, played.output


@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_warnings_are_ansible_s(tmp_path: Path, strategy: str) -> None:
    """Whatever the strategy."""
    played = discover(tmp_path, repo=str(AWKWARD), tags="plain,plain", env={"ANSIBLE_STRATEGY": strategy})
    assert played.status == 0
    assert "[WARNING]: the tag 'plain' selects plain again, with the same arguments; counted once" in played.output


def test_the_repository_is_not_written_to(tmp_path: Path) -> None:
    """Not even when it can be; its Python leaves no bytecode."""
    shutil.copytree(AWKWARD, tmp_path / "repo")
    before = sorted(str(path) for path in (tmp_path / "repo").rglob("*"))
    assert discover(tmp_path, repo="repo", tags="all").status == 0
    assert sorted(str(path) for path in (tmp_path / "repo").rglob("*")) == before
