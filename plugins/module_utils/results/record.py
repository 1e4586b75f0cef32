# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one record of an attempt, the same for every target. Its JSON Schema is plugins/plugin_utils/result_schema.json."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Mapping, Optional

from ..base.errors import FAILURE_CLASSES
from ..base.merge import merge
from . import status

SCHEMA = 1
MAX_REASON = 2000
# Keys of an outcome that describe the target's own side and stand in the record as they are.
_FROM_OUTCOME = ("target", "files", "data")


def resolved(value: Any, default: Any) -> Any:
    """A planned value, or the default where it is still `{"unresolved": reason}` or absent."""
    if value is None or (isinstance(value, dict) and "unresolved" in value):
        return default
    return value


def make_record(
    run: Mapping[str, Any], outcome: Mapping[str, Any], parsed: Optional[Mapping[str, Any]], facts: Optional[Mapping[str, Any]]
) -> Dict[str, Any]:
    """The record of an attempt that was made.

    `run` is resolved as far as it got; `outcome` is what the target saw (it may carry, beside the keys of the contract, `target`, `files`,
    `data`, `gpus`, `cpus` and `git_commit` for the record); `parsed` comes from perf.parse_run (None: nothing was printed or read);
    `facts` are the host's. Metrics that were printed are kept whatever the status.
    """
    decision = status.decide(run, outcome, parsed)
    output = parsed or {}
    record = _base(run, decision, facts)
    own = {
        "launched": bool(outcome.get("launched")),
        "log_excerpt": [] if decision["status"] == status.SUCCESS else list(output.get("excerpt") or []),
        "exit_code": outcome.get("exit_code"),
        "timings": timings(outcome.get("times") or {}, run),
        "metrics": list(output.get("metrics") or []),
        "errors": list(output.get("errors") or []),
        "gpus": outcome.get("gpus") or {},
        "files": {"log_bytes": output.get("bytes", 0)},
        "notes": [*(outcome.get("notes") or []), *(output.get("notes") or [])],
    }
    record = merge(record, own, {key: outcome[key] for key in _FROM_OUTCOME if isinstance(outcome.get(key), dict)})
    for key in ("cpus", "git_commit"):
        record[key] = str(outcome.get(key) or record[key])
    return _document(record)


def make_unrun_record(
    run: Mapping[str, Any], failure_class: str, reason: str, launched: bool = False, source: str = "target"
) -> Dict[str, Any]:
    """The record of a planned run that has no result of its own: unreachable, lost, stopped, without an image.

    `failure_class` "" makes it SKIPPED; `launched` says whether a start was acknowledged (lost_contact); `source` who judged: "target"
    is final, a row that the "controller" filled because nothing was known is judged anew by the next play.
    """
    if failure_class and failure_class not in FAILURE_CLASSES:
        raise ValueError("unknown failure class %r" % failure_class)
    state = status.FAILURE if failure_class else status.SKIPPED
    record = _base(run, {"status": state, "failure_class": failure_class, "reason": reason}, None)
    record.update(launched=launched, source=source)
    return _document(record)


def make_planned_record(run: Mapping[str, Any]) -> Dict[str, Any]:
    """The record of a run whose outcome the plan decided (deprecated, architecture, no Dockerfile, bad arguments)."""
    record = _base(run, status.decide(run, {}, None), None)
    record["source"] = "plan"
    return _document(record)


def _base(run: Mapping[str, Any], decision: Mapping[str, str], facts: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """A complete record as far as plan and decision know it; what nobody measured is null or empty, never invented."""
    env = run.get("env") or {}
    return {
        "schema": SCHEMA,
        "campaign": run.get("campaign", ""),
        "run_id": run.get("id", ""),
        "attempt": run.get("attempt", 1),
        "order": run.get("order", 0),
        "model": run.get("model", ""),
        "card": run.get("card") or {},
        "args": run.get("args", ""),
        "repeat": run.get("repeat", 1),
        "place": run.get("place") or {},
        "status": decision["status"],
        "failure_class": decision["failure_class"],
        "reason": decision["reason"][:MAX_REASON],
        "source": "target",
        "launched": False,
        "log_excerpt": [],
        "exit_code": None,
        "timings": timings({}, run),
        "metrics": [],
        "errors": [],
        "image": _image(run.get("image")),
        "git_commit": str(run.get("git_commit") or ""),
        "repo_commit": str(run.get("repo_commit") or ""),
        "dirty": bool(run.get("dirty")),
        "repo_diff": str(run.get("repo_diff") or ""),
        "version": str(run.get("version") or ""),
        "content": dict(run.get("content") or {}),
        "launcher": run.get("launcher") or {},
        "gpus": _gpus(run.get("gpus") or {}, facts or {}),
        "cpus": resolved(run.get("cpus"), ""),
        "host": dict(facts or {}),
        "target": {"kind": (run.get("place") or {}).get("target", "local"), "runtime": resolved(run.get("runtime"), "")},
        "files": {"log": "run.log", "log_bytes": 0, "artifacts": []},
        "data": {},
        "pipeline": str(env.get("pipeline") or ""),
        "build_number": str(env.get("BUILD_NUMBER") or env.get("JENKINS_BUILD_NUMBER") or "0"),
        "notes": [],
    }


def _image(image: Optional[Mapping[str, Any]]) -> Optional[Dict[str, Any]]:
    if not image:
        return None
    texts = {key: str(resolved(image.get(key), "")) for key in ("name", "digest", "dockerfile", "base_docker", "docker_sha")}
    return {**texts, "given": bool(image.get("given"))}


def _gpus(planned: Mapping[str, Any], facts: Mapping[str, Any]) -> Dict[str, Any]:
    found = facts.get("gpu") or {}
    return {
        "count": resolved(planned.get("count"), None),
        "indexes": [],
        "vendor": resolved(planned.get("vendor"), "") or found.get("vendor", ""),
        "architecture": found.get("architecture", ""),
    }


def timings(times: Mapping[str, Any], run: Mapping[str, Any]) -> Dict[str, Any]:
    """Durations in seconds (null: not known) out of the moments an outcome names; waiting and staging are never part of `run`.

    stage: queued to staged; queue: from the later of these two to the start (the wait for the machine); run: start to finish; model: the
    model's own process.
    """
    moments: Dict[str, float] = {name: float(value) for name, value in times.items() if is_moment(value)}
    ready: List[float] = [moments[name] for name in ("queued", "staged") if name in moments]
    return {
        "queue": _between(max(ready) if ready else None, moments.get("started")),
        "stage": _between(moments.get("queued"), moments.get("staged")),
        "build": resolved((run.get("image") or {}).get("build_duration"), None),
        "run": _between(moments.get("started"), moments.get("finished")),
        "model": _between(moments.get("model_started"), moments.get("model_finished")),
        "started": moments.get("started"),
        "finished": moments.get("finished"),
    }


def is_moment(value: Any) -> bool:
    """Whether a value is a point in time: a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _between(start: Optional[float], end: Optional[float]) -> Optional[float]:
    return None if start is None or end is None else round(max(0.0, end - start), 6)


def _document(record: Dict[str, Any]) -> Dict[str, Any]:
    document: Dict[str, Any] = plain(record)
    return document


def with_origin(record: Dict[str, Any], plan: Mapping[str, Any]) -> Dict[str, Any]:
    """A target knows nothing of the repository and of us: its commit and state, and our version, come from the plan; once, for a
    campaign may go on with another commit."""
    repo = plan.get("repo") or {}
    if record.get("version") or record.get("repo_commit"):
        return record
    told = {"repo_commit": str(repo.get("commit") or ""), "dirty": bool(repo.get("dirty")), "repo_diff": str(repo.get("diff") or "")}
    return {**record, **told, "version": str(plan.get("version") or "")}


def plain(value: Any) -> Any:
    """The same value as JSON that any file and database can hold: text without lone surrogates, numbers finite, keys text."""
    try:  # nearly every record is so already, and its copy costs little then
        text = json.dumps(value, allow_nan=False)
        if "\\ud" not in text:
            return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        pass
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
