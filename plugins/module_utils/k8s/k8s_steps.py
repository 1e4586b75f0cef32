# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `k8s_job` does for a campaign on an inventory host, one function per state: the host's own steps, with a runner in place of the supervisor
and a cluster in place of engines."""

from __future__ import annotations

import os
from typing import Any, List, Mapping

from ..base import files
from ..base.errors import MadError
from ..host import host_clean, host_collect, host_images, host_steps
from ..host.arguments import Answer, Job
from ..host.host_state import HostFolder, folder_of
from . import k8s_judge, k8s_names
from .k8s_client import Api, ApiError, Connection, kubeconfigs
from .k8s_trial import objects_path

# What the runner does, and what the people who own a namespace have to allow; docs/kubernetes.md shows the Role.
RIGHTS = (
    ("create", "jobs"),
    ("list", "jobs"),
    ("watch", "jobs"),
    ("get", "jobs"),
    ("patch", "jobs"),
    ("delete", "jobs"),
    ("list", "pods"),
    ("watch", "pods"),
    ("get", "pods/log"),
    ("create", "configmaps"),
    ("patch", "configmaps"),
)
BY_KIND = {
    "Secret": (("create", "secrets"), ("patch", "secrets")),
    "Service": (("create", "services"), ("patch", "services")),
    "PersistentVolumeClaim": (("create", "persistentvolumeclaims"),),
}


class Images(host_images.Images):
    """Images of a cluster: its nodes pull them, by name or by digest; nothing is brought."""

    def ensure(self, runs: List[Mapping[str, Any]]) -> None:
        """Take every image as it is planned."""
        for run in runs:
            wanted = host_images.wish(run)
            self.answers[host_images.key(wanted)] = {"name": wanted["name"], "digest": wanted["digest"], "how": "cluster", "seconds": 0.0}


def staged(job: Job) -> Answer:
    """Take the runs over, with the objects that the controller rendered for them."""
    document = {} if job.get("check") else host_steps.read_stage(str(job["archive"]))
    if not job.get("check"):
        api = Api(Connection.of(job.get("settings") or {}), patience=60.0)
        check_rights(api, job.get("kinds") or ())
        check_restarts(api, document.get("objects") or {})
    answer = host_steps.staged(job, lambda dummy_job, dummy_credentials: Images("", {}, {}))
    if job.get("check"):
        return answer
    folder = folder_of(job)
    with files.Batch() as batch:
        for run_id, attempts in (document.get("objects") or {}).items():
            for number, objects in attempts.items():
                path = objects_path(folder, run_id, int(number))
                if not os.path.exists(path) and folder.run(run_id):
                    batch.write(path, files.json_bytes(objects, None), 0o600)
    return answer


def check_rights(api: Api, kinds: Any) -> None:
    """One error that names every right that is missing."""
    wanted = [*RIGHTS, *(right for kind in sorted(set(kinds)) for right in BY_KIND.get(kind, ()))]
    missing = ["%s %s" % right for right in wanted if not api.may(*right)]
    if missing:
        raise MadError(
            "the credentials may not %s in namespace %s; docs/kubernetes.md has the Role that allows it"
            % (", ".join(missing), api.namespace),
            "infra",
        )


def check_restarts(api: Api, objects: Mapping[str, Mapping[str, Any]]) -> None:
    """Ask a cluster that is to start containers again in place whether it can: one that cannot leaves the rules out of what it makes, and says nothing."""
    jobs = (made["job"] for attempts in objects.values() for made in attempts.values() if made.get("job"))
    wanted = next((found for found in jobs if _restart_rules(found)), None)
    try:
        if wanted is None or _restart_rules(api.create(wanted, dry_run=True)):
            return
    except ApiError as error:
        if error.status == 409:  # it is there, and was asked about when it was made
            return
        raise
    raise MadError(
        "k8s.restart_in_place: this cluster has no restartPolicyRules of containers (Kubernetes 1.35, or 1.34 with the feature gate"
        " ContainerRestartRules); leave the option out: then the pod is replaced",
        "invalid",
    )


def _restart_rules(job: Mapping[str, Any]) -> bool:
    pod = ((job.get("spec") or {}).get("template") or {}).get("spec") or {}
    return any(container.get("restartPolicyRules") for container in pod.get("containers") or [])


def started(job: Job) -> Answer:
    """See that a runner has the list."""
    given = dict(job.get("settings") or {})
    paths = kubeconfigs(str(given.get("kubeconfig") or ""))
    if given.get("kubeconfig") or (not given.get("in_cluster") and any(map(os.path.exists, paths))):  # the runner works elsewhere, and for long
        given["kubeconfig"] = os.pathsep.join(map(os.path.abspath, paths))
    return _with_waits(job, host_steps.started(dict(job, settings=given), machine=False))


def polled(job: Job) -> Answer:
    """New results, what runs, and why what waits waits."""
    return _with_waits(job, host_steps.polled(job))


def _with_waits(job: Job, answer: Answer) -> Answer:
    """Why what waits waits; also of an attempt whose Job the cluster does not take yet, such as a quota's."""
    folder = folder_of(job)
    waits = folder.state().get("waits") or {}
    told = {entry["run"]: entry for entry in answer.get("running") or []}
    over = {entry.get("run_id") or entry.get("run") for name in ("results", "large") for entry in answer.get(name) or []}
    for run_id in sorted(set(waits) & set(job.get("runs") or {}) - over):
        if run_id not in told and folder.attempts(run_id) and answer["queued"]:
            told[run_id] = host_steps.running(folder, run_id, folder.attempts(run_id)[-1])
            answer["running"].append(told[run_id])
            answer["queued"] -= 1
        if run_id in told:
            told[run_id].update(phase="pending", waits=waits[run_id])
    return answer


def cancelled(job: Job) -> Answer:
    """Stop and end exactly this campaign's runs."""
    return host_steps.cancelled(job)


def collected(job: Job) -> Answer:
    """Logs and artifacts in one archive."""
    return host_collect.collected(job)


def absent(job: Job) -> Answer:
    """Remove what campaigns left in the cluster, then their folders here."""
    return host_clean.absent(job, elsewhere=lambda folder, check: _remove_jobs(folder, check, job.get("keep_days") is not None))


def _remove_jobs(folder: HostFolder, check: bool, old: bool) -> List[str]:
    """Jobs that have ended and were left, of a folder's attempts; what they own goes with them. Failed ones may have to stay until they are old."""
    settings = folder.settings()
    if "namespace" not in settings or settings.get("ttl_seconds") is not None:
        return []  # nothing was ever started out of it, or the cluster removes its Jobs itself
    ours = {folder.attempt(run["id"], number).launch().get("uid") for run in folder.runs() for number in folder.attempts(run["id"])}
    api, known = Api(Connection.of(settings), patience=60.0), folder.host()
    labels = "%s,%s=%s" % (k8s_names.selector(str(known.get("campaign"))), k8s_names.HOST, k8s_names.label_value(str(known.get("host"))))
    removed = []
    for job in api.list("jobs", labels)[0]:
        failed = k8s_judge.condition(job, "Failed") is not None
        ended = failed or k8s_judge.condition(job, "Complete") is not None
        stays = failed and not old and not settings.get("cleanup_on_failure", True)
        if not ended or stays or job["metadata"]["uid"] not in ours:
            continue
        removed.append("job %s in namespace %s" % (job["metadata"]["name"], api.namespace))
        if not check:
            api.delete("jobs", job["metadata"]["name"], job["metadata"]["uid"])
    return removed


STATES = {
    "staged": staged,
    "started": started,
    "polled": polled,
    "collected": collected,
    "cancelled": cancelled,
    "absent": absent,
}
