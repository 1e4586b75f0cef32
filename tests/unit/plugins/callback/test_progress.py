# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback with recorded results: what it prints and when, how it ends, and that it can never hurt a play."""

from __future__ import annotations

import os
import re
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict

from ansible_collections.mad.engine.plugins.callback import progress
from ansible_collections.mad.engine.plugins.plugin_utils import progress_command, progress_screen

STAMP = re.compile(r"^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ mad\.engine: ")


class Recorder:
    """In the place of Ansible's display."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def display(self, text: str, **_options: Any) -> None:
        assert "\n" not in text and STAMP.match(text), text
        self.lines.append(STAMP.sub("", text))

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def take(self) -> list[str]:
        taken, self.lines = self.lines, []
        return taken


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(args=("mad.engine.run",), check=False))
    plugin = progress.CallbackModule()
    plugin._interval, plugin._lines, plugin._live = 0.0, 12, False  # set_options, through Ansible's loader, is tried in tests/integration
    plugin._display = Recorder()
    yield plugin
    plugin._ended = True  # nothing to say at the exit of pytest


def result(step: str, host: str, values: dict[str, Any], old: bool = False) -> SimpleNamespace:
    """A result as ansible-core 2.19 hands it to callbacks (`old`: as 2.18 does)."""
    task = SimpleNamespace(action="mad.engine." + step, resolved_action="mad.engine." + step)
    inventory_host = SimpleNamespace(get_name=lambda: host)
    if old:
        return SimpleNamespace(_result=values, _task=task, _host=inventory_host)
    return SimpleNamespace(result=values, task=task, host=inventory_host, _result=values, _task=task, _host=inventory_host)


COMMAND = "ansible-playbook mad.engine.run -e mad_tags=a -e 'hf_token=********' -e mad_campaign=c1"
RESUME = "to resume: " + COMMAND
PLAN = {"campaign": "c1", "campaign_dir": "/r/c1", "counts": {"total": 2}, "resume_command": COMMAND}


def plan(callback: Any, **values: Any) -> None:
    callback.v2_runner_on_ok(result("campaign_plan", "n1", {**PLAN, **values}))


RUNNING = {"counts": {"total": 2, "done": 0, "queued": 1}, "running": [{"run": "1f", "model": "a", "seconds": 3}], "ended": []}
FINISHED = {
    "counts": {"total": 2, "done": 1, "success": 1},
    "running": [],
    "ended": [{"run": "1f", "model": "a", "status": "SUCCESS", "failure_class": "", "metric": "5 x"}],
}


@pytest.mark.parametrize("old", [False, True])
def test_first_and_last_line_say_how_to_resume(callback: Any, old: bool) -> None:
    plan(callback)
    assert callback._display.take() == ["campaign c1; " + RESUME]
    callback.v2_runner_on_ok(result("container_run", "n1", RUNNING, old))
    assert callback._display.take() == [
        "n1: started a (run 1f)",
        "0 of 2 runs done (0 ok, 0 failed, 0 skipped), 1 running on 1 host, 1 queued; longest: a on n1 for 3s",
    ]
    callback.v2_runner_on_ok(result("container_run", "n1", FINISHED, old))
    assert callback._display.take()[0].startswith("n1: SUCCESS a in ")
    callback.v2_playbook_on_stats(None)
    lines = callback._display.take()
    assert lines[0].startswith("1 of 2 runs done") and lines[-1] == RESUME
    callback._at_exit()
    assert callback._display.take() == []


def test_the_results_file_is_named(callback: Any) -> None:
    plan(callback)
    judged = {"counts": {"total": 2, "done": 2, "success": 2}, "exit_code": 0, "table": "/r/c1/perf.csv"}
    callback.v2_runner_on_ok(result("perf_store", "n1", judged))
    callback.v2_playbook_on_stats(None)
    assert "results: /r/c1/perf.csv" in callback._display.take()


def end_of(callback: Any, counts: dict[str, int], again: int, classes: dict[str, int], lines: list[str]) -> list[str]:
    """What the callback says at the end of a play whose rows were judged."""
    plan(callback)
    summary = {"again": again, "classes": classes}
    values = {"counts": {"total": 2, **counts}, "exit_code": 3, "resume_command": COMMAND, "mad_summary": summary, "lines": lines}
    callback.v2_runner_on_ok(result("perf_store", "n1", values))
    callback._display.take()
    callback.v2_playbook_on_stats(None)
    taken: list[str] = callback._display.take()
    return taken[1:]


def test_failed_runs_that_are_final_are_not_to_be_resumed(callback: Any) -> None:
    lines = end_of(callback, {"done": 2, "success": 0, "failure": 2}, 0, {"crash": 1, "cancelled": 1}, [])
    assert lines == ["2 failed runs are final; to measure them again: " + COMMAND + " -e mad_rerun=failed"]


def test_of_invalid_rows_there_is_nothing_to_say(callback: Any) -> None:
    assert end_of(callback, {"done": 2, "success": 1, "failure": 1}, 0, {"invalid": 1}, []) == []


def test_the_command_is_not_said_again_right_after_the_table(callback: Any) -> None:
    done, classes = {"done": 2, "success": 1, "failure": 1}, {"lost_contact": 1}
    assert end_of(callback, done, 1, classes, ["go on with: " + COMMAND]) == []


def test_what_the_next_play_does_is_said_where_no_table_said_it(callback: Any) -> None:
    lines = end_of(callback, {"done": 2, "failure": 2}, 1, {"lost_contact": 1, "oom": 1}, ["results in /r/c1"])
    assert lines == [RESUME, "1 failed run is final; to measure it again: " + COMMAND + " -e mad_rerun=failed"]


def test_a_controller_has_no_command_to_type(callback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    lines = end_of(callback, {"done": 2, "failure": 2}, 1, {"infra": 1, "oom": 1}, ["go on with: " + COMMAND])
    assert [line.rpartition("variable ")[2] for line in lines] == ["mad_campaign=c1", "mad_campaign=c1 and mad_rerun=failed"]


def test_other_peoples_plays_are_silent(callback: Any) -> None:
    other = result("x", "n1", {**RUNNING, "campaign": "c1"})
    other.task.action = other.task.resolved_action = "ansible.builtin.command"
    callback.v2_runner_on_ok(other)
    callback.v2_runner_on_unreachable(other)
    callback.v2_playbook_on_stats(None)
    callback._farewell()
    assert callback._display.take() == []


def test_check_mode_begins_no_campaign(callback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(args=("mad.engine.run",), check=True))
    plan(callback)
    callback.v2_runner_on_ok(result("container_run", "n1", RUNNING))
    callback.v2_playbook_on_stats(None)
    assert callback._display.take() == []


def test_reports_are_rate_limited_but_told_before_a_wait(callback: Any) -> None:
    callback._interval = 3600.0
    plan(callback)
    callback._display.take()
    for number in range(100):
        callback.v2_runner_on_ok(result("container_run", "n%d" % number, RUNNING))
    assert len(callback._display.take()) == 2  # the first change is told at once, with the summary
    callback.v2_playbook_on_task_start(SimpleNamespace(action="mad.engine.campaign_wait", resolved_action=None), False)
    lines = callback._display.take()
    assert lines[0] == "99 runs started on 99 hosts" and "100 running on 100 hosts" in lines[1] and len(lines) == 2


def test_a_silent_host(callback: Any) -> None:
    plan(callback)
    callback.v2_runner_on_ok(result("container_run", "n1", RUNNING))
    callback._display.take()
    callback.v2_runner_on_unreachable(result("container_run", "n1", {"unreachable": True, "msg": "no route"}))
    assert callback._display.take()[0] == "n1: does not answer, its runs go on: no route"


def test_a_hidden_result_shows_nothing(callback: Any) -> None:
    plan(callback)
    callback._display.take()
    callback.v2_runner_on_ok(result("container_run", "n1", {"censored": "the output has been hidden", "changed": True}))
    assert callback._display.take() == []


def test_a_defect_costs_the_progress_and_not_the_play(callback: Any) -> None:
    callback._progress = None
    plan(callback)
    plan(callback)
    callback.v2_playbook_on_stats(None)
    assert len(callback._display.warnings) == 1 and "stopped showing the progress: AttributeError" in callback._display.warnings[0]


def test_the_last_words_when_interrupted(callback: Any, capfd: pytest.CaptureFixture[str]) -> None:
    plan(callback)
    callback.v2_runner_on_ok(result("container_run", "n1", RUNNING))
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        callback._watch_signals()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, callback._handlers.get(signal.SIGTERM, signal.SIG_DFL))
    assert seen == [signal.SIGINT, signal.SIGINT], "Ansible's own handler must still be called"
    lines = [STAMP.sub("", line) for line in capfd.readouterr().err.splitlines()]
    assert lines == [
        "interrupted; what runs on the hosts goes on (1 running when last heard of)",
        RESUME,
        "to stop it: ansible-playbook mad.engine.cancel -e mad_tags=a -e 'hf_token=********' -e mad_campaign=c1",
    ]


def test_interrupted_before_the_start(callback: Any, capfd: pytest.CaptureFixture[str]) -> None:
    plan(callback)
    callback._at_exit()
    assert "interrupted before anything was started on a host" in capfd.readouterr().err


def test_under_awx(callback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    plan(callback)
    assert callback._display.take() == ["campaign c1; " + progress_command.job_hint(os.environ, "c1")]


def test_the_area_is_used_on_a_terminal_with_rich(callback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    class FakeScreen:
        def __init__(self, _stream: Any, content: Any) -> None:
            self.content = content

        def open(self) -> None:
            drawn.append("open")

        def draw(self) -> None:
            drawn.append(self.content())

        def close(self) -> None:
            drawn.append("close")

    monkeypatch.setattr(progress_screen, "Screen", FakeScreen)
    callback._live = True
    plan(callback)
    assert drawn == []
    callback.v2_runner_on_ok(result("container_run", "n1", RUNNING))
    assert drawn[0] == "open" and drawn[1][1] == [("n1", "a", "3s")] and drawn[1][0].startswith("c1 0 of 2 runs done")
    assert callback._display.take() == ["campaign c1; " + RESUME, "n1: started a (run 1f)"]
    callback.v2_playbook_on_stats(None)
    assert drawn[-1] == "close"
