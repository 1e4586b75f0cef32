# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's builds on one build host, as the controller knows them: what to ask for, what became of it, the manifest."""

from __future__ import annotations

import hashlib
import json
import os
import time
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.base.merge import common
from ansible_collections.mad.engine.plugins.module_utils.building import build_host, build_source, manifest
from ansible_collections.mad.engine.plugins.module_utils.containers import registry
from ansible_collections.mad.engine.plugins.module_utils.planning.plan_env import GUEST_OS
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign

Request = t.Dict[str, t.Any]
Outcome = t.Dict[str, t.Any]
ArgumentsOf = t.Callable[[t.Sequence[str]], t.Mapping[str, t.Any]]

_LONGEST = 2000  # characters of an error in a task's result


class HostBuilds:
    """What one build host has to build in one campaign."""

    def __init__(self, campaign: Campaign, host: str, options: t.Mapping[str, t.Any], arguments_of: ArgumentsOf | None = None) -> None:
        """`arguments_of` gives docker_build_arg of hosts' contexts; asked only when a secret needs it."""
        self.campaign, self.host, self.options = campaign, host, options
        self._arguments_of = arguments_of or (lambda hosts: {})
        self.plan = campaign.plan()
        self.repo = str((self.plan.get("repo") or {}).get("path") or ".")
        self.registry = registry.normalise(options["registry"] or str((self.plan.get("options") or {}).get("registry") or ""))
        self.requests: list[Request] = [build for build in self.plan.get("builds", ()) if build.get("build_host") == host]
        self.failed: list[Outcome] = []
        self._contexts: dict[tuple[str, str], str] = {}

    # -- what to ask for -------------------------------------------------------------------------------------------------------------

    def prepare(self) -> tuple[list[Request], build_host.Secrets]:
        """The requests with their sources, and the secret values they need. One that cannot be asked for is a failure at once."""
        credentials = self._credentials()
        credential = registry.credential_for(self.registry, credentials) if self.registry else {}
        found, values = [], {}
        for request in self.requests:
            try:
                if self.registry:
                    registry.push_name(request["image"], self.registry, credential)
                values[request["image"]] = self._values(request, credentials)
                found.append(dict(request, source=build_source.describe(request, self.repo, self._contexts)))
            except MadError as error:
                self.failed.append(_failure(request, error.message, error.failure_class))
        logins = {name: registry.credential_for(name, credentials) for name in build_host.registries_of(found, self.registry)}
        return found, build_host.Secrets(values, {name: login for name, login in logins.items() if login})

    def _credentials(self) -> dict[str, t.Any]:
        """The credential file: as given to the task, else the one that the plan found."""
        path = self.options["credential_file"] or str((self.plan.get("options") or {}).get("credential_file") or "")
        return registry.load_credentials(path, os.environ)

    def _values(self, request: Request, credentials: t.Mapping[str, t.Any]) -> dict[str, str]:
        """Of one request: given to the task, else a field of its credential, else out of its hosts' contexts, else of the environment."""
        values = registry.build_secrets(str(request.get("cred") or ""), credentials)
        values.update(
            {name: str(self.options["secrets"][name]) for name in request.get("secret_build", ()) if name in self.options["secrets"]}
        )
        missing = [name for name in request.get("secret_build", ()) if name not in values]
        arguments = self._arguments_of(request.get("hosts", ())) if missing else {}
        for name in missing:
            value = arguments.get(name, os.environ.get(name))
            if value is None:
                raise InvalidInput(
                    "model %s: the build secret %s has no value here: give it in docker_build_arg of mad_context, in the credential file or in "
                    "the controller's environment" % (request["model"], name)
                )
            values[name] = str(value)
        return values

    def job(self, requests: t.Sequence[Request]) -> dict[str, t.Any]:
        """What the host is asked to do (build_host.Job as a dict)."""
        options = self.options
        return {
            "requests": list(requests),
            "source_id": build_source.archive_id(request["source"] for request in requests),
            "campaign": self.campaign.name,
            "host": self.host,
            "work_dir": options["work_dir"],
            "engine": options["engine"],
            "registry": self.registry,
            "save": [] if self.registry else self.wanted_elsewhere(),
            "have": self._archives_here(),
            "no_cache": options["no_cache"],
            "pull": options["pull"],
            "allow_secret_build_args": options["allow_secret_build_args"],
            "timeout": options["timeout"],
            "parallel": options["parallel"],
        }

    def wanted_elsewhere(self) -> list[str]:
        """Names of the images that hosts without a common registry wait for."""
        return [request["image"] for request in self.requests if set(request.get("hosts", ())) - {self.host}]

    def _archives_here(self) -> list[str]:
        """Ids of the images whose archives this campaign or another one beside it has."""
        found = set()
        for name in sorted(os.listdir(self.campaign.results_dir)):
            folder = os.path.join(self.campaign.results_dir, name, os.path.basename(self.campaign.images_dir))
            if os.path.isdir(folder):
                found |= {"sha256:" + entry[:-4] for entry in os.listdir(folder) if len(entry) == 68 and entry.endswith(".tar")}
        return sorted(found)

    # -- what became of it -------------------------------------------------------------------------------------------------------------

    @property
    def logs_dir(self) -> str:
        """Where build logs go on the controller."""
        return self.campaign.path("build")

    def in_order(self, outcomes: t.Iterable[Outcome]) -> list[Outcome]:
        """Outcomes in the order of the plan."""
        order = {request["image"]: number for number, request in enumerate(self.requests)}
        return sorted(outcomes, key=lambda outcome: order[outcome["image"]])

    def _part_path(self, host: str) -> str:
        return os.path.join(self.logs_dir, hashlib.sha256(host.encode("utf-8", "surrogateescape")).hexdigest()[:12] + ".json")

    def keep(self, outcomes: t.Iterable[Outcome]) -> None:
        """Write down what became of this host's builds; what an unchanged image once took to build stays known."""
        os.makedirs(self.logs_dir, exist_ok=True)
        requests = {request["image"]: request for request in self.requests}
        known = self._part(self._part_path(self.host))["images"]
        for outcome in outcomes:
            record, before = outcome.get("record"), ((known.get(outcome["image"]) or {}).get("outcome") or {}).get("record")
            if record and before and outcome["status"] == "SKIPPED" and before.get("digest") == record["digest"]:
                record["build_duration"] = before.get("build_duration", 0.0)
            if record and outcome["status"] == "SKIPPED":
                self._note_unchanged(record)
            known[outcome["image"]] = {"request": requests[outcome["image"]], "outcome": outcome, "time": time.time()}
        files.write_json(self._part_path(self.host), {"schema": 1, "host": self.host, "images": known})

    def _note_unchanged(self, record: t.Mapping[str, t.Any]) -> None:
        """A log for an image that was not built in this campaign."""
        path = os.path.join(self.logs_dir, os.path.basename(record["log_file"]))
        if not os.path.exists(path):
            text = "mad.engine: %s (%s) had this content already and was not built again\n" % (record["docker_image"], record["digest"])
            files.write_atomic(path, text.encode())

    @staticmethod
    def _part(path: str) -> dict[str, t.Any]:
        """What one build host has said in this campaign: {"host", "images": {name: {"request", "outcome", "time"}}}."""
        document = files.read_json(path, "the outcomes of builds") if os.path.exists(path) else {}
        return {"host": document.get("host", ""), "images": dict(document.get("images") or {})}

    def _parts(self) -> list[dict[str, t.Any]]:
        names = sorted(os.listdir(self.logs_dir)) if os.path.isdir(self.logs_dir) else []
        return [self._part(os.path.join(self.logs_dir, name)) for name in names if name.endswith(".json")]

    def _all_builds(self) -> tuple[list[Request], dict[str, Outcome]]:
        """Every build of the campaign with what became of it: those of this plan, and those that earlier plays of the campaign wanted."""
        found: dict[str, dict[str, t.Any]] = {}
        wanted = {build["image"]: build for build in self.plan.get("builds", ())}
        for part in self._parts():
            for image, entry in part["images"].items():
                mine = image not in wanted or wanted[image].get("build_host") == part["host"]
                if mine and entry["time"] >= found.get(image, entry)["time"]:
                    found[image] = entry
        earlier = [entry["request"] for image, entry in found.items() if image not in wanted]
        return [*wanted.values(), *earlier], {image: entry["outcome"] for image, entry in found.items()}

    def write_manifest(self, reasons: t.Mapping[str, str]) -> tuple[bool, dict[str, t.Any]]:
        """Compose the manifest from what every build host has said so far, and write it; `reasons` say why a host said nothing.

        Returns whether it changed, and the manifest. A campaign that runs from a given manifest builds nothing and has none of its own.
        """
        given = str((self.plan.get("options") or {}).get("manifest") or "")
        output = os.path.abspath(self.options["manifest_output"]) if self.options["manifest_output"] else ""
        if given and output and os.path.realpath(given) == os.path.realpath(output):
            raise InvalidInput("mad_manifest_output %s is the given mad_manifest, which is never written" % output)
        with self.campaign.lock():
            if given:
                document = dict(files.read_json(given, "the build manifest"))
                return bool(output) and manifest.write(output, document), dict(document, summary={})
            builds, outcomes = self._all_builds()
            document = manifest.compose(dict(self.plan, builds=builds), outcomes, self.registry, self._context(), reasons)
            changed = [manifest.write(path, document) for path in (self.campaign.manifest_path, output) if path]
        return any(changed), document

    def _context(self) -> dict[str, t.Any]:
        """What the normalised contexts of all hosts say, with what was detected on the first one where they are silent.

        The manifest is the lowest layer of every host that runs from it: what one host says of itself must not reach the others.
        """
        hosts = list((self.plan.get("hosts") or {}).values())
        detected = ((hosts[0].get("facts") or {}).get("gpu") or {}).get("vendor") or "" if hosts else ""
        shared = common(*(host.get("context") or {} for host in hosts)) if hosts else {}
        return dict({"gpu_vendor": detected, "guest_os": GUEST_OS}, **shared)


def _failure(request: Request, reason: str, failure_class: str = "image") -> Outcome:
    """An outcome that the controller decides."""
    return {
        "image": request["image"],
        "model": request["model"],
        "record": None,
        "status": "FAILURE",
        "reason": reason,
        "failure_class": "invalid" if failure_class == "invalid" else "image",
        "seconds": 0.0,
    }


def all_failed(requests: t.Iterable[Request], reason: str) -> list[Outcome]:
    """One reason for every image: the host could not be asked."""
    return [
        _failure(request, "image %s of model %s was not built: %s" % (request["image"], request["model"], reason)) for request in requests
    ]


def shown(outcomes: t.Sequence[Outcome]) -> dict[str, t.Any]:
    """What the task returns about images: small, and no secrets."""
    images = {}
    for outcome in outcomes:
        record, push = outcome.get("record") or {}, outcome.get("push") or {}
        images[outcome["image"]] = {
            "digest": record.get("digest", ""),
            "registry_image": "" if push.get("error") else push.get("name", ""),
            "registry_digest": push.get("digest", ""),
            "status": outcome["status"],
        }
    by_status: dict[str, list[str]] = {"SUCCESS": [], "SKIPPED": [], "FAILURE": []}
    for outcome in outcomes:
        by_status[outcome["status"]].append(outcome["image"])
    return {
        "built": [
            {**{key: outcome[key] for key in ("image", "model", "status", "seconds")}, "reason": _cut(outcome["reason"])}
            for outcome in outcomes
        ],
        "unchanged": by_status["SKIPPED"],
        "failed_images": by_status["FAILURE"],
        "pushed": [name for name, image in images.items() if image["registry_image"]],
        "images": images,
    }


def _cut(text: str) -> str:
    """An error as a task returns it: beginning and end of a long one; the manifest has it whole."""
    return text if len(text) <= _LONGEST else "%s\n...\n%s" % (text[: _LONGEST // 2], text[-_LONGEST // 2 :])


def in_brief(entries: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, str]]:
    """Entries of the manifest's lists of failures: image, model and the first line of the error."""
    return [{"image": entry["image"], "model": entry["model"], "error": entry["error"].split("\n", 1)[0][:500]} for entry in entries]


def sealed(secrets: build_host.Secrets) -> str:
    """Secrets as one text: a no_log text of a module masks only itself, where a dict's every short value would blacken the results."""
    return json.dumps({"build": secrets.build, "logins": secrets.logins})


def line(outcome: Outcome) -> str:
    """One line for a person; a failure with its reason, which may have more."""
    if outcome["status"] == "FAILURE":
        return "FAILED %s (%s): %s" % (outcome["image"], outcome["model"], _cut(outcome["reason"]))
    word = "built" if outcome["status"] == "SUCCESS" else "unchanged"
    push = outcome.get("push") or {}
    more = ", push FAILED: %s" % push["error"] if push.get("error") else ", pushed as %s" % push["name"] if push else ""
    return "%s %s (%s) in %.1f s%s" % (word, outcome["image"], outcome["model"], outcome["seconds"], more)
