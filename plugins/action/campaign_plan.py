# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what a campaign runs where, before anything executes; runs wholly on the controller, once for the whole play."""

from __future__ import annotations

import collections
import os
import sys
import typing as t

import yaml
from ansible import constants as C
from ansible import context as cli

from ansible_collections.mad.engine.plugins.action.model_info import default_repo
from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, MadError
from ansible_collections.mad.engine.plugins.module_utils.models import discovery
from ansible_collections.mad.engine.plugins.module_utils.models.discovery_cache import default_cache
from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_continue, plan_options, targets
from ansible_collections.mad.engine.plugins.plugin_utils import command_line, host_runs, planning, summary
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import PlayInputs
from ansible_collections.mad.engine.plugins.plugin_utils.progress_command import callback_enabled
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# None: the play's mad_* variable counts.
ARGUMENTS: dict[str, t.Any] = {
    "repo": {"type": "str"},
    "tags": {"type": "raw"},
    "manifest": {"type": "str"},
    "hosts": {"type": "raw"},
    "facts": {"type": "str", "default": "mad_facts"},
    "options": {"type": "dict"},
    "further": {"type": "list", "elements": "dict"},
    "campaign": {"type": "str"},
    "cache_dir": {"type": "str"},
}
NOTHING = "campaign %s: nothing to run, %d runs have their row (mad_rerun=failed or all measures again, without mad_campaign a new campaign begins)"
_LARGEST_DIFF = 200_000  # characters of a flight plan that travel in a task's result


class ActionModule(ControllerAction):
    """Gather what the play says, plan, answer; what is decided stands in plugin_utils/planning.py and module_utils/plan*.py."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Plan; a refusal is written to last-summary.json with madengine's exit code."""
        inputs = PlayInputs(self.variables, self._templar)
        self._given: dict[str, t.Any] = {}
        try:
            planned = planning.make(self._request(arguments, inputs))
        except planning.DiscoveryFailed as error:
            return self._refused(inputs, str(error), summary.FAILED)
        except ImageError as error:
            return self._refused(inputs, error.message, summary.BUILD_FAILED)
        except MadError as error:
            return self._refused(inputs, error.message, summary.BAD_ARGUMENTS)
        result = self._answer(planned, inputs)
        if result["counts"]["done"] and not result["counts"]["execute"]:
            say(NOTHING % (result["campaign"], result["counts"]["done"]))
        if not self.check and not callback_enabled():  # it says it in its own way
            say("campaign %s; to resume: %s" % (result["campaign"], result["resume_command"]))
        return result

    # -- in ----------------------------------------------------------------------------------------------------------------------

    def _request(self, arguments: dict[str, t.Any], inputs: PlayInputs) -> planning.Request:
        """Arguments of the task above the play's mad_* variables."""
        given = arguments["options"]
        said = [*plan_options.OPTIONS, *plan_options.LATER, *plan_options.REFUSED, "baseline", "summary_output"]
        self._given = given if given is not None else inputs.options(said)  # also for a refusal: it says where results and summary go
        if given is None:
            inputs.must_agree(plan_options.COMMON, inputs.hosts())
        given = self._given
        again = {"rerun": "missing"} if arguments["further"] else {}
        named = {"campaign": arguments["campaign"]} if arguments["campaign"] else {}
        options = planning.parse_options({**given, **again, **named})
        replay = scalars.to_text(_first(inputs.value("replay"), ""), "mad_replay").strip()
        repo = _first(arguments["repo"], inputs.value("repo"), "" if replay else default_repo())
        return planning.Request(
            repo=_absolute(scalars.to_text(repo, "mad_repo")),
            tags=scalars.to_list(_first(arguments["tags"], inputs.value("tags"), []), "mad_tags"),
            manifest=_absolute(scalars.to_text(_first(arguments["manifest"], inputs.value("manifest"), ""), "mad_manifest")),
            hosts=self._hosts(arguments, inputs),
            options=options,
            environ=dict(os.environ),
            command=command_line.for_resuming(command_line.spoken(sys.argv)),
            version=collection_version(),
            discover_timeout=float(_first(given.get("discover_timeout"), discovery.TIMEOUT)),
            cache_dir=_first(arguments["cache_dir"], default_cache()),
            check=self.check,
            replay=replay,
            baseline=scalars.to_list(given.get("baseline"), "mad_baseline") if options["repeats_max"] else [],
            further=arguments["further"] or [],
            database_url=scalars.to_text(_first(inputs.value("database_url"), ""), "mad_database_url"),
        )

    @staticmethod
    def _hosts(arguments: dict[str, t.Any], inputs: PlayInputs) -> dict[str, t.Any]:
        given = arguments["hosts"]
        if isinstance(given, dict):
            return given
        if given is not None and not isinstance(given, (list, tuple)):
            raise scalars.wrong("hosts", "a dict of hosts or a list of their names", given)
        return inputs.by_host(given or inputs.hosts(), arguments["facts"])

    # -- out ---------------------------------------------------------------------------------------------------------------------

    def _refused(self, inputs: PlayInputs, reason: str, code: int) -> dict[str, t.Any]:
        """A failed task, with what was mistyped, since that may be why; outside check mode last-summary.json says why."""
        if not self.check:
            results = os.path.abspath(os.path.expanduser(str(_first(self._given.get("results"), "results"))))
            output = os.path.expanduser(str(_first(self._given.get("summary_output"), "")))
            try:
                summary.refuse(results, reason, code, output)
            except (MadError, OSError) as error:
                reason = "%s (and last-summary.json cannot be written: %s)" % (reason, error)
        return {"failed": True, "changed": False, "msg": reason, "exit_code": code, "warnings": plan_options.slips(inputs.said(inputs.hosts()))}

    def _answer(self, planned: planning.Planned, inputs: PlayInputs) -> dict[str, t.Any]:
        """The task's result: counts and paths; the plan itself stays in its file."""
        made, campaign = planned.plan, planned.campaign
        text = plan.flight_plan(made, planned.records)
        answer = {
            "changed": planned.changed,
            "campaign": campaign.name,
            "campaign_dir": campaign.folder,
            "plan": campaign.plan_path,
            "counts": plan_continue.counts(made, planned.records, planned.launched),
            "hosts": _hosts_answer(planned),
            "build_hosts": dict(collections.Counter(build["build_host"] for build in made["builds"])),
            "baseline": list(made["options"].get("against") or []),
            "resume_command": summary.resume_command(made, campaign.name),
            "flight_plan": text if len(text) <= _LARGEST_DIFF else text[:_LARGEST_DIFF] + "...\n",
        }
        warnings = made["warnings"] + self._play_warnings(made, inputs)
        if warnings:
            answer["warnings"] = warnings
        headers = {"before_header": "done in campaign %s" % campaign.name, "after_header": "flight plan of campaign %s" % campaign.name}
        answer["diff"] = dict(headers, before=planned.before, after=answer["flight_plan"])
        return answer

    @staticmethod
    def _play_warnings(made: dict[str, t.Any], inputs: PlayInputs) -> list[str]:
        """What is wrong with the play itself, not with a model."""
        warnings = plan_options.slips(inputs.said(inputs.hosts())) + other_copies()
        forks, hosts = int(cli.CLIARGS.get("forks") or 0), len(made["hosts"])
        if 0 < forks < hosts:
            warnings.append("%d forks for %d hosts: hosts wait for one another; run with --forks %d" % (forks, hosts, hosts))
        return warnings


def _absolute(path: str) -> str:
    """A path that means the same when the campaign is taken up from another folder; "" stays ""."""
    return os.path.abspath(os.path.expanduser(path)) if path else ""


def _first(*values: t.Any) -> t.Any:
    """The first value that is set; the last one if none is."""
    return next((value for value in values if not scalars.is_unset(value)), values[-1])


def _hosts_answer(planned: planning.Planned) -> dict[str, dict[str, t.Any]]:
    """{host: {"runs" that need it now, "collect": runs whose logs it still has, "target", "runtime"}}; runtime "": they differ, or none is known."""
    made = planned.plan
    runs: dict[str, list[str]] = {name: [] for name in made["hosts"]}
    for run in plan_continue.to_execute(made):
        runs[run["place"]["host"]].append(run["runtime"] if isinstance(run["runtime"], str) else "")
    left = collections.Counter(
        str(record["place"].get("host", "")) for record in planned.records.values() if host_runs.is_uncollected(planned.campaign, record)
    )
    return {
        name: {
            "runs": len(runs[name]),
            "collect": left[name],
            "target": host["target"],
            "login_node": targets.login_node(host["context"]),
            "reachable": host["reachable"],
            "runtime": runs[name][0] if len(set(runs[name])) == 1 else "",
        }
        for name, host in made["hosts"].items()
    }


def collection_version() -> str:
    """The version in galaxy.yml or, where Galaxy installed the collection, in MANIFEST.json (which is YAML too)."""
    for name, path in (("galaxy.yml", ()), ("MANIFEST.json", ("collection_info",))):
        try:
            with open(os.path.join(ROOT, name), encoding="utf-8") as stream:
                document = yaml.safe_load(stream)
        except OSError:
            continue
        for key in path:
            document = document.get(key) or {}
        return str(document.get("version") or "")
    return ""


def other_copies() -> list[str]:
    """A warning when a second copy of mad.engine lies on the collections path: which one is used depends on the order."""
    own = os.path.realpath(ROOT)
    found = []
    for folder in [*C.config.get_config_value("COLLECTIONS_PATHS"), *sys.path]:
        base = folder if os.path.basename(folder) == "ansible_collections" else os.path.join(folder, "ansible_collections")
        path = os.path.realpath(os.path.join(base, "mad", "engine"))
        if os.path.isdir(path) and path != own:
            found.append(path)
    return ["another copy of mad.engine lies at %s; this play uses %s" % (", ".join(dict.fromkeys(found)), own)] if found else []
