# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `k8s_job`: objects of a campaign's runs are rendered here, where Jinja, the repository and the secrets are."""

from __future__ import annotations

import base64
import json
import typing as t

from ansible.errors import AnsibleActionFail

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.containers import registry
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_options, k8s_pod
from ansible_collections.mad.engine.plugins.module_utils.k8s.arguments import ARGUMENTS, SINGLE
from ansible_collections.mad.engine.plugins.module_utils.results import record
from ansible_collections.mad.engine.plugins.plugin_utils import host_runs, k8s_files, k8s_objects, zipapp
from ansible_collections.mad.engine.plugins.plugin_utils.target_action import Result, TargetAction

_HUB_NAMES = ("https://index.docker.io/v1/",)
_SETTINGS = (
    "namespace",
    "kubeconfig",
    "context",
    "in_cluster",
    "pending_timeout",
    "max_jobs",
    "ttl_seconds",
    "queue_name",
    "cleanup_on_failure",
)


class ActionModule(TargetAction):
    """A campaign's states as for every target; without a campaign a single Job, which is the module's alone."""

    TARGET = "k8s"
    MODULE = "mad.engine.k8s_job"
    ARGUMENTS = ARGUMENTS
    PROGRAM = "k8s.k8s_runner"

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        """A campaign's state, or a single Job."""
        given = self._task.args
        if given.get("campaign_dir") or given.get("keep_days") is not None:
            return super().run(tmp, task_vars)
        dummy, options = self.validate_argument_spec(dict(ARGUMENTS))
        if options["state"] not in ("present", "absent"):
            raise AnsibleActionFail("state=%s is a state of a campaign; give campaign_dir" % options["state"])
        arguments = {name: options[name] for name in (*SINGLE, "state", "wait")}
        result: Result = self._execute_module(module_name=self.MODULE, module_args=arguments, task_vars=task_vars)
        return result

    # -- of a campaign -----------------------------------------------------------------------------------------------------------------

    def _of_campaign(self, campaign: t.Any) -> Result:
        if self._options["state"] == "present":
            raise MadError("state=present is for a single Job; a campaign has staged, started, polled, collected, cancelled and absent")
        self._kinds: set[str] = set()
        return super()._of_campaign(campaign)

    @property
    def _k8s(self) -> k8s_options.Options:
        """The section k8s of the host's context."""
        if not hasattr(self, "_parsed"):
            self._known_context = self._context(self._mine.host)
            self._parsed = k8s_options.parse(self._known_context)
        return self._parsed

    def _words(self, state: str) -> dict[str, t.Any]:
        """The core's hash and how the cluster is reached, where a state needs them."""
        if state == "staged":
            return {"settings": self._settings(), "kinds": sorted(self._kinds)}
        if state not in ("started", "polled", "cancelled"):
            return {}
        words: dict[str, t.Any] = {"core": zipapp.build(self.PROGRAM)[0]}
        if state == "started":
            words["settings"] = self._settings()
        elif state == "polled":
            words["patience"] = self._options["patience"]
        return words

    def _settings(self) -> dict[str, t.Any]:
        return {name: getattr(self._k8s, name) for name in _SETTINGS}

    def _stage_paths(self) -> t.Collection[str]:
        """Nothing of the repository goes to the inventory host: it travels in the objects."""
        return ()

    def _document(self, runs: list[host_runs.Run], secrets: host_runs.Secrets) -> tuple[dict[str, t.Any], list[host_runs.Run]]:
        """The runs with the objects of every attempt that they may have."""
        objects: dict[str, dict[str, t.Any]] = {}
        good, records = [], []
        packed: dict[tuple[str, ...], bytes] = {}
        document, dummy = self._mine.stage_document(runs, secrets), self._k8s
        self._auth = registry_auth(document["credentials"])
        for run in runs:
            try:
                objects[run["id"]] = self._rendered(run, document["secrets"].get(run["id"]) or {}, packed)
                good.append(run)
            except MadError as error:
                records.append(record.make_unrun_record(run, error.failure_class, error.message))
        return dict(document, runs=good, objects=objects, credentials={}), records

    def _rendered(self, run: host_runs.Run, values: t.Mapping[str, str], packed: dict[tuple[str, ...], bytes]) -> dict[str, t.Any]:
        """{attempt: {"job", "owned", "standing"}}."""
        vague = str(run["card"].get("n_gpus")).strip() == "-1" and "n_gpus" not in self._known_context and not self._k8s.node_gpus
        if vague and k8s_pod.gpu_count(run):
            text = "model %s: n_gpus is -1 (all), and a pod asks for a number of GPUs; set k8s.node_gpus in the context of host %s: how many a node has"
            raise MadError(text % (run["model"], self._mine.host), "placement")
        settings: dict[str, t.Any] = {"secrets": dict(values)}
        if self._k8s.scripts_from == "configmap":
            paths = tuple(sorted({str(path) for path in run.get("stage") or []}))
            if paths not in packed:
                packed[paths] = k8s_files.pack(self._mine.repo, paths)
            settings["files"] = packed[paths]
        if self._auth:
            settings["registry_auth"] = self._auth
        found = {}
        first = int(run.get("attempt") or 1)
        for number in range(first, first + int(run.get("retries") or 0) + 1):
            made = k8s_objects.render(dict(run, attempt=number), self._k8s, settings, with_text=bool(self._k8s.output_dir))
            self._kinds.update(item["kind"] for item in [*made["owned"], *made["standing"]])
            found[str(number)] = {name: made[name] for name in ("job", "owned", "standing")}
            self._keep_rendered(self._k8s.output_dir, made["job"]["metadata"]["name"] + ".yaml", made["text"])
        return found


def registry_auth(credentials: t.Mapping[str, t.Any]) -> str:
    """The registry logins of a credential file as the text of a Docker configuration; "" without any."""
    auths = {}
    for key in credentials:
        entry = registry.credential_for("" if key == registry.HUB_KEY else key, credentials)
        if entry.get("username"):
            word = "%s:%s" % (entry["username"], entry.get("password", ""))
            names = _HUB_NAMES if key == registry.HUB_KEY else (key,)
            auths.update({name: {"auth": base64.b64encode(word.encode()).decode()} for name in names})
    return json.dumps({"auths": auths}) if auths else ""
