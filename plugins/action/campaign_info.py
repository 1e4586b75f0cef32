# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look up a campaign on the controller: its folder, its hosts, what is final and what is not."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.planning import plan_hosts, targets
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, find_campaign
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import PlayInputs, load_context_file

ARGUMENTS: dict[str, t.Any] = {"results": {"type": "path", "default": "results"}, "campaign": {"type": "str", "default": "last"}}

NONE = "none"  # no campaign: what the inventory says


class ActionModule(ControllerAction):
    """Reads files of the campaign folder, or what the inventory says; nothing else."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Find the campaign."""
        if arguments["campaign"] == NONE:
            inputs = PlayInputs(self.variables, self._templar)
            return {"changed": False, "hosts": of_inventory(inputs.by_host(inputs.hosts(), ""))}
        return dict(changed=False, **describe(find_campaign(arguments["results"], arguments["campaign"] or "last")))


def of_inventory(entries: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, dict[str, str]]:
    """{host: {"target", "login_node"}} of the hosts that take part; a target that this release does not serve is an error here too."""
    hosts, dummy = plan_hosts.make_hosts(entries, load_context_file)
    return {
        name: {"target": targets.supported(name, host["context"]), "login_node": targets.login_node(host["context"])} for name, host in hosts.items()
    }


def describe(campaign: Campaign) -> dict[str, t.Any]:
    """Name, folder, counts, and per host the target and how many of its runs have no final row."""
    plan, unfinished = campaign.plan(), set(campaign.unfinished())
    hosts: dict[str, dict[str, t.Any]] = {}
    for run in plan["runs"]:
        name = run["place"]["host"]
        login = targets.login_node(((plan.get("hosts") or {}).get(name) or {}).get("context") or {})
        host = hosts.setdefault(name, {"target": run["place"]["target"], "login_node": login, "runs": 0, "unfinished": 0})
        host["runs"] += 1
        host["unfinished"] += run["id"] in unfinished
    return {
        "campaign": campaign.name,
        "campaign_dir": campaign.folder,
        "finished": not unfinished,
        "counts": {"total": len(plan["runs"]), "done": len(plan["runs"]) - len(unfinished)},
        "hosts": hosts,
    }
