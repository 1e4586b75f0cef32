# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""campaign_plan under a real ansible-playbook: layers of variables, check mode, refusals, secrets, hosts that do not answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.play import Played, play

PLAYBOOK = """
- hosts: all
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - name: A host behind a connection
      ansible.builtin.ping:
      register: pinged
      when: known is not defined
    - name: As mad.engine.gpu_info answers
      ansible.builtin.set_fact:
        mad_facts: "{{ {'facts': known} if known is defined else pinged }}"
    - name: Plan
      mad.engine.campaign_plan:
      run_once: true
      register: mad_plan
    - name: Say it
      ansible.builtin.copy:
        content: "{{ mad_plan }}"
        dest: answer.json
        mode: "0600"
      run_once: true
      delegate_to: localhost
      check_mode: false
      diff: false
"""
MODELS = [
    {"name": "dummy", "dockerfile": "docker/dummy", "scripts": "scripts/dummy/run.sh", "args": "", "tags": ["t"]},
    {"name": "any", "dockerfile": "docker/any", "scripts": "scripts/dummy/run.sh", "args": "--x 'a b'", "tags": ["t"]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model repository, a playbook and an inventory of two AMD hosts and a skipped one."""
    repo = plans.repository(tmp_path / "repo")
    (repo / "models.json").write_text(json.dumps(MODELS))
    (tmp_path / "plan.yml").write_text(PLAYBOOK)
    inventory(tmp_path, n1={"mad_context": {"env_vars": {"WHO": "n1"}}}, n2={}, n3={"mad_skip": True})
    return tmp_path


def inventory(folder: Path, **hosts: dict) -> None:
    known = {"known": plans.facts(), "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    entries = {name: ({} if "ansible_host" in own else known) | own for name, own in hosts.items()}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": entries}}))


def planned(folder: Path, *arguments: str, **variables: object) -> Played:
    given = {"mad_repo": str(folder / "repo"), "mad_tags": "t", **variables}
    return play("plan.yml", folder, inventory=folder / "inventory.json", variables=given, arguments=arguments)


def answer(folder: Path) -> dict:
    return json.loads((folder / "answer.json").read_text())


def plan_of(folder: Path, campaign: str) -> dict:
    return json.loads((folder / "results" / campaign / "plan.json").read_text())


def test_a_campaign_is_planned_and_planned_again(folder: Path) -> None:
    context = {"env_vars": {"WHO": "play", "ALL": "play", "HF_TOKEN": "hf_not_to_be_seen"}}
    first = planned(folder, "--check", "--diff", mad_context=context, mad_campaign="c1")
    assert first.status == 0, first.output
    assert not (folder / "results").exists(), "check mode writes nothing"
    assert "+run" in first.output, first.output
    assert "bash run.sh --x 'a b'" in first.output and "flight plan of campaign c1" in first.output

    real = planned(folder, mad_context=context, mad_campaign="c1")
    assert real.status == 0 and real.recap()["n1"]["changed"] == 2, real.output
    made = plan_of(folder, "c1")
    env = {(run["model"], run["place"]["host"]): run["env"] for run in made["runs"]}
    assert len(env) == 4, "n3 has mad_skip"
    assert (env["dummy", "n1"]["WHO"], env["dummy", "n1"]["ALL"], env["dummy", "n2"]["WHO"]) == ("n1", "play", "play"), (
        "a host's own context is on top"
    )
    said = answer(folder)
    assert said["counts"]["execute"] == 4 and said["counts"]["total"] == 4
    assert said["hosts"]["n1"] == {"reachable": True, "runs": 2, "collect": 0, "runtime": "docker", "target": "local", "login_node": ""}
    assert said["build_hosts"] == {"n1": 2} and said["resume_command"].endswith("-e mad_campaign=c1")
    assert made["command"][0] == "ansible-playbook" and made["version"] and made["created"] > 0

    again = planned(folder, mad_context=context, mad_campaign="last")
    assert again.status == 0 and answer(folder)["changed"] is False and answer(folder)["campaign"] == "c1"
    everything = [first.output, real.output, again.output] + [
        path.read_text() for path in (folder / "results").rglob("*") if path.is_file()
    ]
    assert not any("hf_not_to_be_seen" in text for text in everything)


def test_contexts_come_as_text_and_from_files(folder: Path) -> None:
    (folder / "context.yml").write_text("env_vars: {A: file, B: file}\ndocker_gpus: '0'\n")
    inventory(folder, n1={"mad_context": "{'env_vars': {'C': 'host'}}", "mad_runtime": "host"}, n2={"mad_context_file": "nowhere.json"})
    refused = planned(folder, mad_context='{"env_vars": {"B": "play"}}')
    assert refused.status == 2 and "mad_context_file nowhere.json cannot be read" in refused.output
    inventory(folder, n1={"mad_context": "{'env_vars': {'C': 'host'}}", "mad_runtime": "host"})
    assert planned(folder, mad_context='{"env_vars": {"B": "play"}}', mad_context_file="context.yml", mad_campaign="c").status == 0
    run = plan_of(folder, "c")["runs"][0]
    assert [run["env"][name] for name in "ABC"] == ["file", "play", "host"]
    assert run["gpus"]["pool"] == [0] and run["runtime"] == "host"


REFUSALS = {
    "no tags": ({"tags": ""}, 4, "neither mad_tags nor mad_manifest"),
    "timeout": ({"options": {"timeout": -2}}, 4, "mad_timeout"),
    "context": ({"hosts": {"n1": {"context": "{"}}}, 4, "mad_context of host n1"),
    "tools": ({"hosts": {"n1": {"context": {"tools": [{"name": "rocprof"}]}}}}, 4, "tools is not supported"),
    "use_image": ({"options": {"use_image": "auto"}}, 4, "mad_use_image is not supported"),
    "campaign": ({"options": {"campaign": "../evil"}}, 4, "mad_campaign '../evil'"),
    "last": ({"options": {"campaign": "last"}}, 4, "mad_campaign=last"),
    "manifest": ({"manifest": "none.json"}, 4, "none.json does not exist"),
    "slurm": ({"hosts": {"n1": {"target": "slurm"}}}, 4, "target slurm needs gpu_vendor"),
    "unknown tag": ({"tags": "nothing"}, 1, "nothing"),
    "no repository": ({"repo": "/nowhere"}, 1, "/nowhere"),
    "no host": ({"hosts": {}}, 4, "no host to plan for"),
    "hosts": ({"hosts": "n1"}, 4, "hosts: expected a dict"),
}
REFUSING = """
- hosts: n1
  gather_facts: false
  tasks:
    - name: Refused
      mad.engine.campaign_plan: "{{ item.value }}"
      loop: "{{ cases | dict2items }}"
      loop_control: {label: "{{ item.key }}"}
      ignore_errors: true
      register: refused
    - name: Say it
      ansible.builtin.copy: {content: "{{ refused.results }}", dest: answer.json, mode: "0600"}
"""


def test_refusals_have_madengine_s_exit_code(folder: Path) -> None:
    (folder / "refuse.yml").write_text(REFUSING)
    cases = {}
    for name, (given, _code, _words) in REFUSALS.items():
        kept = {"results": name, "summary_output": name + ".json"}
        base = {"repo": str(folder / "repo"), "tags": "t", "hosts": {"n1": {"facts": plans.facts()}}}
        cases[name] = dict(base, **dict(given, options=dict(kept, **given.get("options", {}))))
    ended = play("refuse.yml", folder, inventory=folder / "inventory.json", variables={"cases": cases})
    answers = {result["item"]["key"]: result for result in answer(folder)}
    for name, (_given, code, words) in REFUSALS.items():
        assert answers[name]["failed"] and words in answers[name]["msg"], ended.output
        assert answers[name]["exit_code"] == code, name
        for path in (folder / name / "last-summary.json", folder / (name + ".json")):
            summary = json.loads(path.read_text())
            assert summary["exit_code"] == code and words in summary["problems"][0]
        assert [path.name for path in (folder / name).iterdir()] == ["last-summary.json"], "no campaign was begun"


def test_a_refusal_in_check_mode_writes_nothing(folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert planned(folder, "--check", mad_timeout=-2).status == 2
    assert sorted(path.name for path in folder.iterdir() if path.name not in ("ansible.cfg", "ansible-home")) == before


def test_hosts_that_do_not_answer_have_their_rows(folder: Path) -> None:
    inventory(folder, n1={}, gone={"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"})
    ended = planned(folder, mad_campaign="c")
    assert ended.status == 0, ended.output
    outcomes = {(run["model"], run["place"]["host"]): run["outcome"] for run in plan_of(folder, "c")["runs"]}
    assert outcomes["dummy", "n1"] is None
    assert outcomes["dummy", "gone"]["failure_class"] == "infra" and "host gone is unreachable" in outcomes["dummy", "gone"]["reason"]
    assert answer(folder)["hosts"]["gone"]["runs"] == 0


def test_a_manifest_is_run_only_and_never_written(folder: Path) -> None:
    image = {"model": "dummy", "docker_image": "ci-dummy", "digest": plans.DIGEST, "gpu_vendor": "AMD"}
    document = json.dumps({"built_images": {"ci-dummy": image}, "built_models": {"ci-dummy": MODELS[0]}})
    path = folder / "build_manifest.json"
    path.write_text(document)
    ended = planned(folder, mad_manifest=str(path), mad_tags="", mad_campaign="c")
    assert ended.status == 0, ended.output
    made = plan_of(folder, "c")
    assert [run["image"]["digest"] for run in made["runs"]] == [plans.DIGEST] * 2 and made["builds"] == []
    assert path.read_text() == document


def test_what_is_wrong_with_the_play_is_said(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "ansible_collections" / "mad" / "engine"
    other.mkdir(parents=True)
    from ansible_collections.mad.engine.tests.support.play import environment

    paths = environment(folder)["ANSIBLE_COLLECTIONS_PATH"] + ":" + str(other.parents[2])
    given = {"mad_repo": str(folder / "repo"), "mad_tags": "t", "mad_tag": "t", "mad_context": {"gpu_vender": "AMD"}}
    ended = play(
        "plan.yml",
        folder,
        inventory=folder / "inventory.json",
        variables=given,
        arguments=["--forks", "1"],
        env={"ANSIBLE_COLLECTIONS_PATH": paths},
    )
    text = " ".join(ended.output.split())
    assert ended.status == 0, ended.output
    for words in ("mad_tag is not an option", "gpu_vendor?", "1 forks for 2 hosts", "another copy of mad.engine"):
        assert words in text, words
