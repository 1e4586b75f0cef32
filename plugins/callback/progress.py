# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person watching sees which run is where, and for how long."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
short_description: Shows which run of a campaign is where, and for how long
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Tells the progress of a campaign of mad.engine beside the ordinary output, out of the results of the collection's own tasks.
    It asks no host anything.
  - Without a terminal it prints one line with the UTC time per change. Many changes at once, as with hundreds of hosts, are summed up,
    and failures are named.
  - On a terminal, where the Python package C(rich) is installed, what runs now stands in a small area below the output.
  - When the play is interrupted (Ctrl-C) it prints that the runs go on, and the commands to attach to them again and to stop them.
  - In other people's plays it is silent.
requirements:
  - enable it in C(callbacks_enabled)
options:
  live:
    description:
      - V(auto) uses the area on a terminal, V(never) prints lines everywhere.
    type: str
    choices: [auto, never]
    default: auto
    env:
      - name: MAD_PROGRESS_LIVE
    ini:
      - section: callback_mad_progress
        key: live
  interval:
    description:
      - Seconds between two reports at least. Changes in between are told together.
    type: float
    default: 5
    env:
      - name: MAD_PROGRESS_INTERVAL
    ini:
      - section: callback_mad_progress
        key: interval
  lines:
    description:
      - Lines of one report at most. Above it, what went well is only counted.
    type: int
    default: 12
    env:
      - name: MAD_PROGRESS_LINES
    ini:
      - section: callback_mad_progress
        key: lines
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = mad.engine.progress
#
# or once: ANSIBLE_CALLBACKS_ENABLED=mad.engine.progress ansible-playbook -i inventory.yml mad.engine.run
"""

import atexit
import functools
import os
import signal
import sys
import time

from ansible import context
from ansible.plugins.callback import CallbackBase

from ansible_collections.mad.engine.plugins.plugin_utils import progress_command, progress_screen
from ansible_collections.mad.engine.plugins.plugin_utils.progress_state import Progress, duration, utc

_OURS = "mad.engine."
# Steps after which nothing comes for a while: what is known is told before.
_WAITING = ("mad.engine.campaign_wait",)
_PREFIX = "mad.engine: "


def _harmless(method):
    """A defect in here must cost the progress, never the play."""

    @functools.wraps(method)
    def guarded(self, *arguments, **named):
        if self._broken:
            return
        try:
            method(self, *arguments, **named)
        except Exception as error:  # noqa: BLE001  # whatever it is, the play goes on without progress
            self._broken = True
            self._close()
            self._display.warning("mad.engine.progress stopped showing the progress: %s: %s" % (type(error).__name__, error))

    return guarded


class CallbackModule(CallbackBase):
    """Feeds progress_state from task results, and shows it as lines or as an area."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "mad.engine.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._broken = False
        self._progress = Progress()
        self._screen = None
        self._told_at = float("-inf")
        self._begun = time.time()
        self._announced = ""
        self._ended = False
        self._pid = os.getpid()
        self._handlers = {}

    def set_options(self, task_keys=None, var_options=None, direct=None):
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._interval, self._lines = self.get_option("interval"), max(3, self.get_option("lines"))
        self._live = self.get_option("live") == "auto" and progress_screen.usable(sys.stdout, os.environ)

    # -- what Ansible says ------------------------------------------------------------------------------------------------------

    @_harmless
    def v2_playbook_on_start(self, playbook):
        self._watch_signals()
        atexit.register(self._at_exit)

    @_harmless
    def v2_playbook_on_task_start(self, task, is_conditional):
        if _action(task) in _WAITING:
            self._tell(at_once=True)

    @_harmless
    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    @_harmless
    def v2_runner_on_ok(self, result):
        self._take(result)

    @_harmless
    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._take(result)

    @_harmless
    def v2_runner_on_unreachable(self, result):
        if _action(_task(result)).startswith(_OURS):
            self._progress.unreachable(_host(result), _result(result).get("msg", ""))
            self._tell()

    @_harmless
    def v2_playbook_on_stats(self, stats):
        self._tell(at_once=True)
        self._close()
        self._ended = True
        if not self._announced:
            return
        progress = self._progress
        self._say("%s after %s" % (progress.summary(time.time()), duration(time.time() - self._begun)))
        if progress.table:
            self._say("results: %s" % progress.table)
        for line in self._how_to_go_on():
            self._say(line)

    # -- what is made of it -----------------------------------------------------------------------------------------------------

    def _take(self, result):
        step = _action(_task(result))
        if not step.startswith(_OURS):
            return
        self._progress.take(step[len(_OURS) :], _host(result), _result(result), time.time())
        self._announce()
        self._tell()

    def _announce(self):
        """The first line of a campaign: how to resume it. Not in check mode, which begins none."""
        campaign = self._progress.campaign
        if campaign and campaign != self._announced and not context.CLIARGS.get("check"):
            self._announced = campaign
            self._say("; ".join(["campaign " + campaign, *self._how_to_resume()]))

    def _tell(self, at_once=False):
        """Report the changes, not more often than the interval says."""
        now = time.time()
        if not self._announced or self._ended or (not at_once and 0 <= now - self._told_at < self._interval):
            return
        if self._live and self._screen is None and self._progress.started:
            self._screen = progress_screen.Screen(sys.stdout, self._area)
            self._screen.open()
        lines = self._progress.tell(self._lines)
        for line in lines:
            self._say(line)
        if lines:
            self._told_at = now
            if self._screen is None and self._progress.started:
                self._say(self._progress.summary(now))
        if self._screen is not None:
            self._screen.draw()

    def _area(self):
        now = time.time()
        rows = [(host, model, duration(now - start)) for host, model, _run, start in self._progress.running()]
        return "%s %s" % (self._announced, self._progress.summary(now)), rows

    def _say(self, text):
        self._display.display("%s %s%s" % (utc(time.time()), _PREFIX, text))

    def _close(self):
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    # -- going on, and stopping -------------------------------------------------------------------------------------------------

    def _how_to_resume(self):
        """At most one line: the campaign's own steps say the command."""
        hint = progress_command.job_hint(os.environ, self._announced)
        command = self._progress.resume_command
        return [hint] if hint else ["to resume: " + command] if command else []

    def _how_to_go_on(self):
        """At the end: at most one line for what the next play does, and one for what it does only when told to."""
        progress, lines = self._progress, []
        hint = progress_command.job_hint(os.environ, self._announced)
        if progress.left() and (hint or not progress.resume_told):
            lines += self._how_to_resume()
        if progress.final and progress.judged_failures and progress.resume_command:
            lines.append(progress_command.rerun_hint(progress.judged_failures, hint, progress.resume_command))
        return lines

    def _watch_signals(self):
        """Stand before Ansible's own handlers; each fork of Ansible sets its own."""
        for number in (signal.SIGINT, signal.SIGTERM):
            known = signal.getsignal(number)
            if callable(known):
                self._handlers[number] = known
                signal.signal(number, self._interrupted)

    def _interrupted(self, number, frame):
        if os.getpid() == self._pid and not self._ended:
            self._ended = True
            self._farewell()
        signal.signal(number, self._handlers[number])
        self._handlers[number](number, frame)

    def _at_exit(self):
        """Ways out that raise no signal here and reach no stats, such as an error of Ansible itself."""
        if os.getpid() == self._pid and not self._ended:
            self._ended = True
            self._farewell()

    def _farewell(self):
        """Written past Ansible's display and Python's buffers: this may be in the middle of either."""
        if self._screen is not None:
            self._screen.abandon()
        for line in self._last_words():
            text = "%s %s%s\n" % (utc(time.time()), _PREFIX, line)
            try:
                os.write(2, text.encode("utf-8", "replace"))
            except OSError:  # nobody is listening any more
                return

    def _last_words(self):
        if not self._announced:
            return []
        if not self._progress.started:
            return ["interrupted before anything was started on a host", *self._how_to_resume()]
        running = len(self._progress.running())
        lines = ["interrupted; what runs on the hosts goes on (%d running when last heard of)" % running, *self._how_to_resume()]
        if self._progress.resume_command:
            playbooks = context.CLIARGS.get("args") or ()
            lines.append("to stop it: " + progress_command.cancel_command(self._progress.resume_command, playbooks))
        return lines


def _task(result):
    return getattr(result, "task", None) or result._task


def _host(result):
    return (getattr(result, "host", None) or result._host).get_name()


def _result(result):
    return getattr(result, "result", None) or result._result


def _action(task):
    """Full name of a task's action; a playbook may have used the short one with `collections`."""
    name = getattr(task, "resolved_action", None) or getattr(task, "action", "") or ""
    return str(name)
