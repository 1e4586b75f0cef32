# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one decision about a run: SUCCESS, FAILURE or SKIPPED, for every target. Unknown means failed.

SUCCESS needs all of: the process ended with 0, the expected metrics were parsed, no error pattern matched in the model's own output.
"""

from __future__ import annotations

import signal
from typing import Any, Dict, List, Mapping, Optional

from ..base.errors import FAILURE_CLASSES, InvalidInput

SUCCESS, FAILURE, SKIPPED = "SUCCESS", "FAILURE", "SKIPPED"
# Exit codes that mean something, for cards with `resumable: true` only.
AGAIN = 75  # run me again; not counted as a retry
NEVER = 93  # running again cannot help
# Classes that mad_rerun=missing runs again: the run itself was not judged.
UNJUDGED = ("infra", "lost_contact", "preempted")
# First word of the reason of a SKIPPED row that no attempt was made for because the play was stopped.
STOPPED = "stopped"
RERUNS = ("missing", "failed", "all")

Decision = Dict[str, str]


def _failure(failure_class: str, reason: str) -> Decision:
    return {"status": FAILURE, "failure_class": failure_class, "reason": reason}


def decide(run: Mapping[str, Any], outcome: Mapping[str, Any], parsed: Optional[Mapping[str, Any]]) -> Decision:
    """{"status", "failure_class", "reason"} of one attempt.

    `run` is the planned run, `outcome` what the target saw, `parsed` what perf.parse_run found (None: there is no log). Causes are
    asked in a fixed order, from what was done to the run over what the process did to what it printed; the first that holds is the
    answer. A key that is missing counts as not known, and not known is never a success.
    """
    planned = run.get("outcome")
    if planned:
        return _planned(planned)
    return (
        _from_outside(outcome)
        or _skipped_by_request(run)
        or _from_process(run, outcome, parsed or {})
        or _from_output(run, parsed or {})
        or {"status": SUCCESS, "failure_class": "", "reason": ""}
    )


def _planned(planned: Mapping[str, Any]) -> Decision:
    """The plan's own decision; a plan that says it badly is not believed to be a success."""
    reason = str(planned.get("reason") or "the plan gave no reason")
    if planned.get("status") == SKIPPED:
        return {"status": SKIPPED, "failure_class": "", "reason": reason}
    failure_class = planned.get("failure_class")
    return _failure(failure_class if failure_class in FAILURE_CLASSES else "invalid", reason)


def _from_outside(outcome: Mapping[str, Any]) -> Optional[Decision]:
    """What happened to the run: a person, a scheduler, the engine, the machine."""
    error = outcome.get("error")
    if outcome.get("cancelled"):
        return _failure("cancelled", str((error or {}).get("reason") or "cancelled"))
    if outcome.get("preempted"):
        return _failure("preempted", str((error or {}).get("reason") or "the scheduler took the machine"))
    if error:
        known = error.get("class") in FAILURE_CLASSES
        reason = str(error.get("reason") or "no reason was given")
        return _failure(error["class"] if known else "infra", reason)
    if not outcome.get("launched"):
        return _failure("launch", "it was never started, and nobody said why")
    return None


def _skipped_by_request(run: Mapping[str, Any]) -> Optional[Decision]:
    if run.get("skip_model_run"):
        return {"status": SKIPPED, "failure_class": "", "reason": "prepared only: mad_skip_model_run is set"}
    return None


def _from_process(run: Mapping[str, Any], outcome: Mapping[str, Any], parsed: Mapping[str, Any]) -> Optional[Decision]:
    """How the process ended."""
    if outcome.get("oom"):
        return _failure("oom", "killed for memory (out of memory)")
    if outcome.get("timed_out"):
        limit = run.get("timeout")
        return _failure("timeout", "stopped after its time limit%s" % (" of %s s" % limit if limit else ""))
    code, number = outcome.get("exit_code"), outcome.get("signal") or 0
    if number:
        return _failure("crash", "killed by %s%s" % (_signal_name(number), _last_error(parsed)))
    if not isinstance(code, int) or isinstance(code, bool):
        return _failure("infra", "it was started, but how it ended is not known")
    return _from_exit_code(run, code, parsed) if code else None


def _from_exit_code(run: Mapping[str, Any], code: int, parsed: Mapping[str, Any]) -> Decision:
    if is_resumable(run) and code == AGAIN:
        return _failure("preempted", "exit code %d: the model saved its state and asks to be run again" % AGAIN)
    if is_resumable(run) and code == NEVER:
        return _failure("crash", "exit code %d: the model says that running it again cannot help" % NEVER + _last_error(parsed))
    killed = " (%s)" % _signal_name(code - 128) if 128 < code < 160 else ""
    return _failure("crash", "exit code %d%s%s" % (code, killed, _last_error(parsed)))


def _from_output(run: Mapping[str, Any], parsed: Mapping[str, Any]) -> Optional[Decision]:
    """What the model printed and left behind; asked only when it ended with 0."""
    errors = parsed.get("errors")
    if errors:
        return _failure("error_pattern", "it ended with 0, but its output holds %s" % _describe(errors[0]))
    problem = parsed.get("problem")
    if problem:
        known = problem.get("class") in FAILURE_CLASSES
        return _failure(problem["class"] if known else "parse", str(problem.get("reason") or "its results cannot be read"))
    if not metrics_expected(run):
        return None if "errors" in parsed else _failure("parse", "its output was not read")
    metrics: List[Mapping[str, Any]] = list(parsed.get("metrics") or [])
    missing = [str(metric.get("row") or "?") for metric in metrics if not has_performance(metric)]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        return _failure("no_metric", "%d of %d results have no performance: %s" % (len(missing), len(metrics), shown))
    if not metrics:
        return _failure("no_metric", "it ended with 0 and printed no line 'performance: <number> <metric>'")
    return None


def metrics_expected(run: Mapping[str, Any]) -> bool:
    """A worker of a multi-node run (MAD_COLLECT_METRICS=false) prints none; everybody else must."""
    return str((run.get("env") or {}).get("MAD_COLLECT_METRICS", "")).strip().lower() not in ("false", "0", "no")


def has_performance(metric: Mapping[str, Any]) -> bool:
    """Whether a metric carries a result: a finite number, or a text that is not a word for 'nothing'."""
    return metric.get("value") is not None or bool(metric.get("text"))


def row_status(record: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """Status of one result of several. A result without performance failed; one that has it fails with its run, unless nothing but a
    sibling's missing number failed the run."""
    if record["status"] != SKIPPED and not has_performance(metric):
        return FAILURE
    if record["failure_class"] == "no_metric" and metric.get("row"):
        return SUCCESS
    return str(record["status"])


def is_resumable(run: Mapping[str, Any]) -> bool:
    """Whether the card says `resumable: true`."""
    return (run.get("card") or {}).get("resumable") is True


def retry_kind(run: Mapping[str, Any], outcome: Mapping[str, Any], decision: Mapping[str, str]) -> str:
    """What a retry of this attempt would be: "free" (asked for by the model, not counted), "counted", or "" (none makes sense)."""
    if decision.get("status") != FAILURE or decision.get("failure_class") in ("cancelled", "invalid"):
        return ""
    if is_resumable(run) and outcome.get("exit_code") == AGAIN and decision.get("failure_class") == "preempted":
        return "free"
    if is_resumable(run) and outcome.get("exit_code") == NEVER:
        return ""
    return "counted"


def needs_run(record: Optional[Mapping[str, Any]], rerun: str = "missing") -> bool:
    """Whether a play with this mad_rerun runs a planned run again, given its row (None: no row yet).

    missing: no row, or one that judges nothing (classes infra, lost_contact, preempted; SKIPPED because the play was stopped);
    failed: those and every FAILURE; all: everything.
    """
    if rerun not in RERUNS:
        raise InvalidInput("mad_rerun %r: expected one of %s" % (rerun, ", ".join(RERUNS)))
    if record is None or rerun == "all":
        return True
    if record.get("status") == SKIPPED:
        return str(record.get("reason", "")).startswith(STOPPED)
    return record.get("status") != SUCCESS and (rerun == "failed" or record.get("failure_class") in UNJUDGED)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def _describe(error: Mapping[str, Any]) -> str:
    return "%r in line %s: %s" % (error.get("pattern"), error.get("number"), error.get("line"))


def _last_error(parsed: Mapping[str, Any]) -> str:
    errors = parsed.get("errors")
    return "; its output holds %s" % _describe(errors[-1]) if errors else ""
