# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign that is planned again: what is done, what runs, what runs again, which images that needs and who builds them."""

from __future__ import annotations

from typing import Any, Container, Dict, List, Mapping, Optional, Sequence, Tuple

from ..base import scalars
from ..base.errors import ImageError, InvalidInput, MadError
from ..results.status import SKIPPED, needs_run
from .plan_draft import outcome_of

CONTROLLER = "localhost"
_ENGINES = ("docker", "podman")
_ASKED = ("args", "build_args", "context", "variant", "runtime")  # of a run's content, what is not the repository's

Run = Dict[str, Any]
Records = Mapping[str, Mapping[str, Any]]


def remember_facts(hosts: Dict[str, Dict[str, Any]], old: Optional[Mapping[str, Any]]) -> None:
    """A host that does not answer now is planned with the facts of an earlier play of the campaign."""
    known = (old or {}).get("hosts") or {}
    for name, host in hosts.items():
        if not host.get("facts") and not host.get("reachable", True):
            host["facts"] = (known.get(name) or {}).get("facts")
            host["machine"] = host["facts"]


def _again(run: Run, record: Mapping[str, Any], rerun: str) -> bool:
    """Whether a run with a row is run again: by mad_rerun, or because it was only skipped for a reason that no longer holds."""
    skipped_before = record.get("status") == SKIPPED and not run["outcome"] and not run["skip_model_run"]
    return skipped_before or needs_run(record, rerun)


def _one(run: Run, record: Optional[Mapping[str, Any]], launched: int, rerun: str) -> Run:
    """The run with `attempt` and `wanted`. An attempt that was launched and has no row is attached to, not started again."""
    if record is not None and not _again(run, record, rerun):
        return dict(run, attempt=record.get("attempt", 1), wanted=False)
    done = int(record.get("attempt", 1)) if record is not None else 0
    attached = launched > done or _may_still_run(record)
    attempt = max(launched, done) if attached else done + 1
    outcome = run["outcome"]
    if attached and outcome and outcome["failure_class"] == "infra":
        outcome = outcome_of(MadError(outcome["reason"] + ". What it was given to run may still be running there", "lost_contact"))
    return dict(run, attempt=max(1, attempt), wanted=True, outcome=outcome)


def _may_still_run(record: Optional[Mapping[str, Any]]) -> bool:
    """Whether a row says only that the controller lost contact: the same attempt is asked for again. A host that says so is believed."""
    return record is not None and record.get("failure_class") == "lost_contact" and record.get("source", "target") != "target"


def _asked(run: Run) -> Tuple[Any, ...]:
    """What a person asks for with a run: the same again after a change in the repository is the same question."""
    content = run.get("content") or {}
    return (run["model"], run["place"]["host"], run["repeat"], *(content.get(key) for key in _ASKED))


def _kept(
    old: Sequence[Run], new: Sequence[Run], hosts: Container[str], records: Records, launched: Mapping[str, int]
) -> Tuple[List[Run], List[Run]]:
    """(kept, replaced) of the runs of earlier plays that this one does not plan. What runs is waited for; what was replaced before it ran
    goes. So does what ran with another content of the repository: its row stays in perf.csv and the history."""
    ids = {run["id"] for run in new}
    planned = {(run["model"], run["place"]["host"], run["repeat"]) for run in new}
    asked = set(map(_asked, new))
    kept, replaced = [], []
    for run in old:
        if run["id"] in ids:
            continue
        record, here = records.get(run["id"]), run["place"]["host"] in hosts
        running = launched.get(run["id"], 0) > (int(record.get("attempt", 1)) if record else 0)
        if record and not running and _asked(run) in asked:
            replaced.append(run)
        elif record or running or (run["model"], run["place"]["host"], run["repeat"]) not in planned:
            kept.append(dict(run, wanted=running and here))
    return kept, replaced


def _about_replaced(runs: Sequence[Run]) -> List[str]:
    """The warning that says where their rows are."""
    if not runs:
        return []
    names = list(dict.fromkeys("%s on %s" % (run["model"], run["place"]["host"]) for run in runs))
    return [
        "%d runs of this campaign were made with other scripts, Dockerfiles or cards than the repository has now; their rows stay in perf.csv "
        "and the history, table and exit code are about those of now: %s" % (len(runs), scalars.named(names))
    ]


def continue_plan(
    plan: Dict[str, Any], old: Optional[Mapping[str, Any]], records: Records, launched: Mapping[str, int], rerun: str = "missing"
) -> Dict[str, Any]:
    """The plan with every run's `attempt` and `wanted` set from the campaign's ledger, and with the runs of earlier plays.

    `records` are the rows by run id, `launched` the number of the newest attempt that a host acknowledged (absent: none). `wanted` runs are
    this play's: they are executed, attached to, or get a row from their outcome. The others are final or belong to hosts outside this play.
    """
    runs = [_one(run, records.get(run["id"]), launched.get(run["id"], 0), rerun) for run in plan["runs"]]
    old_runs = list((old or {}).get("runs") or [])
    kept, replaced = _kept(old_runs, runs, plan["hosts"], records, launched)
    hosts = {name: host for name, host in ((old or {}).get("hosts") or {}).items() if name not in plan["hosts"]}
    warnings = [*plan["warnings"], *_about_replaced(replaced)]
    result = dict(plan, runs=runs + kept, hosts=dict(plan["hosts"], **hosts), warnings=warnings)
    result["builds"] = needed_builds(result, plan["builds"])
    return result


def to_execute(plan: Mapping[str, Any]) -> List[Run]:
    """Runs that need work on a host in this play."""
    return [run for run in plan["runs"] if run["wanted"] and not run["outcome"]]


def what_runs(plan: Optional[Mapping[str, Any]]) -> List[Tuple[str, int]]:
    """(id, attempt) of every run, sorted: two plans with the same answer ask for the same work."""
    return sorted((run["id"], run["attempt"]) for run in (plan or {}).get("runs") or [])


def counts(plan: Mapping[str, Any], records: Records, launched: Mapping[str, int]) -> Dict[str, int]:
    """Numbers of the whole campaign: total = done + running + queued + rows still to be written; execute is this play's work."""
    wanted = {run["id"] for run in plan["runs"] if run["wanted"]}
    done = [records[run["id"]] for run in plan["runs"] if run["id"] in records and run["id"] not in wanted]
    execute = to_execute(plan)
    running = sum(1 for run in execute if launched.get(run["id"], 0) >= run["attempt"])
    found = {name: sum(1 for record in done if record.get("status") == name.upper()) for name in ("success", "failure", "skipped")}
    return dict(found, total=len(plan["runs"]), done=len(done), running=running, queued=len(execute) - running, execute=len(execute))


# -- images ----------------------------------------------------------------------------------------------------------------------


def needed_builds(plan: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """The builds that this play's runs need, each with the hosts that need it; a build alone needs all."""
    hosts: Dict[str, Dict[str, None]] = {}
    for run in to_execute(plan):
        image = run["image"]
        if isinstance(image, Mapping) and image.get("name") and not image.get("given"):
            hosts.setdefault(image["name"], {})[run["place"]["host"]] = None
    if plan["options"].get("build_only"):
        everywhere = [name for name, host in plan["hosts"].items() if host["reachable"]]
        return [dict(request, hosts=list(hosts.get(request["image"], {})) or everywhere) for request in requests]
    return [dict(request, hosts=list(hosts[request["image"]])) for request in requests if request["image"] in hosts]


def _has_engine(host: Mapping[str, Any]) -> bool:
    facts = host.get("machine" if "machine" in host else "facts")  # what was found there, not what is declared of nodes behind it
    engines = (facts or {}).get("engines") or {}
    return bool(host.get("reachable")) and any((engines.get(name) or {}).get("available") for name in _ENGINES)


def build_hosts(plan: Dict[str, Any], asked: str = "", controller_has_engine: bool = False) -> None:
    """Say for every build who does it: mad_build_host, else the first of its hosts that answers and has an engine, else the controller.

    The first of an image's own hosts has its vendor and architecture. ImageError when nobody can.
    """
    if asked and asked != CONTROLLER and asked not in plan["hosts"]:
        raise InvalidInput("mad_build_host %r is not a host of this play; its hosts: %s" % (asked, ", ".join(list(plan["hosts"])[:20])))
    able = {name for name, host in plan["hosts"].items() if _has_engine(host)} | ({CONTROLLER} if controller_has_engine else set())
    for request in plan["builds"]:
        candidates = [asked] if asked else [*request["hosts"], CONTROLLER]
        request["build_host"] = next((name for name in candidates if name in able), "")
        if not request["build_host"]:
            raise ImageError(
                "nobody can build image %s: no engine answers on %s; install one (mad.engine.prepare_host), name another mad_build_host, "
                "or give an image with MAD_CONTAINER_IMAGE in mad_context" % (request["image"], ", ".join(candidates[:20]))
            )
