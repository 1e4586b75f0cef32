# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""perf_store and perf_parse in real plays: with every host unreachable, a second time, in check mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.tests.support.play import Played, play
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success

STORE = """
- hosts: all
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - name: Touch the host
      ansible.builtin.ping:
      register: touched
      when: not ansible_check_mode
    - name: Results
      mad.engine.perf_store:
        campaign_dir: "{{ campaign_dir }}"
        hosts: "{{ hosts }}"
        perf_output: "{{ perf_output }}"
      run_once: true
      register: stored
    - name: Goes on
      ansible.builtin.set_stats:
        data:
          mad_summary: "{{ stored.mad_summary }}"
      run_once: true
    - name: Keep the answer
      ansible.builtin.copy:
        content: "{{ stored | to_json }}"
        dest: "{{ answer }}"
        mode: "0600"
      delegate_to: localhost
      connection: local
      run_once: true
      check_mode: false
      vars:
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""
# Port 1 of this machine: nobody listens there, so the connection is refused at once.
INVENTORY = """
all:
  hosts:
    n1: {ansible_host: 127.0.0.1, ansible_port: 1}
    n2: {ansible_host: 127.0.0.1, ansible_port: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store.yml").write_text(STORE)
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    campaign = make_campaign(tmp_path / "results", [make_run(1), make_run(2, model="=1+1"), make_run(3, place={"host": "n2"})])
    campaign.save_result(success(1))
    campaign.save_result(crash(2, model="=1+1"))
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[Played, dict[str, Any]]:
    variables = {
        "campaign_dir": str(folder / "results" / "20261122T101500Z"),
        "hosts": {"n1": {"state": "ok", "reason": ""}, "n2": {"state": "unreachable", "reason": "Connection refused"}},
        "perf_output": str(folder / "perf.csv"),
        "answer": str(folder / "answer.json"),
    }
    played = play("store.yml", folder, inventory=folder / "inventory.yml", variables=variables, arguments=arguments)
    return played, json.loads((folder / "answer.json").read_text())


def test_with_every_host_unreachable(folder: Path) -> None:
    played, answer = run(folder)
    assert "Connection refused" in played.output
    assert (answer["changed"], answer["exit_code"]) == (True, 3)
    assert answer["counts"] == {"total": 3, "done": 3, "success": 1, "failure": 2, "skipped": 0, "running": 0, "queued": 0}
    assert answer["message"] == "2 of 3 runs failed (1 crash, 1 infra)"
    for line in answer["lines"]:
        assert line in played.output
    assert (folder / "perf.csv").read_text().count("\n") == 4
    assert "\n'=1+1," in (folder / "perf.csv").read_text()
    with Index(database_url(str(folder / "results"))) as index:
        assert len(index.select()) == 3
    _again, answer = run(folder)
    assert answer["changed"] is False


def test_check_mode_writes_nothing(folder: Path) -> None:
    before = sorted(path for path in folder.rglob("*") if "results" in path.parts)
    _played, answer = run(folder, "--check")
    assert answer["changed"] is True
    assert sorted(path for path in folder.rglob("*") if "results" in path.parts) == before
    assert not (folder / "perf.csv").exists()


def test_a_folder_that_is_no_campaign(folder: Path) -> None:
    (folder / "results" / "20261122T101500Z" / "plan.json").unlink()
    (folder / "answer.json").write_text("{}")
    played, _answer = run(folder)
    assert played.status == 2
    assert "has no plan.json" in played.output


PARSE = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - mad.engine.perf_parse:
        path: "{{ log }}"
      register: parsed
    - ansible.builtin.assert:
        that:
          - parsed is not changed
          - parsed.status == 'SUCCESS'
          - parsed.metrics[0].value == 14164.0
          - parsed.metrics[0].better == 'higher'
    - mad.engine.perf_parse:
        path: "{{ log }}.gone"
"""


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_perf_parse(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "parse.yml").write_text(PARSE)
    (tmp_path / "model.log").write_bytes(b"\xff\xfe\n" * 1000 + b"performance: 14164, tok/s\n")
    played = play("parse.yml", tmp_path, variables={"log": str(tmp_path / "model.log")}, arguments=arguments)
    assert "model.log.gone cannot be read: No such file or directory" in played.output
    assert played.recap()["localhost"]["ok"] == 2
    assert played.recap()["localhost"]["failed"] == 1
