# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's builds on one build host, as the controller knows them: what to ask for, what became of it, the manifest."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t

from ansible_collections.mad.engine.plugins.module_utils import build_host, build_source, files, manifest, registry
from ansible_collections.mad.engine.plugins.module_utils.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.errors import InvalidInput, MadError

Request = t.Dict[str, t.Any]
Outcome = t.Dict[str, t.Any]

# Arguments of the action; the module file documents them.
ARGUMENTS: dict[str, t.Any] = {
    "campaign_dir": {"type": "path", "required": True},
    "state": {"type": "str", "default": "built", "choices": ["built", "manifest"]},
    "build_host": {"type": "str", "default": ""},
    "work_dir": {"type": "str", "default": ""},
    "engine": {"type": "str", "default": "auto", "choices": ["auto", "docker", "podman"]},
    "registry": {"type": "str", "default": ""},
    "credential_file": {"type": "str", "default": ""},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "pull": {"type": "str", "default": "missing", "choices": ["missing", "always"]},
    "no_cache": {"type": "bool", "default": False},
    "allow_secret_build_args": {"type": "bool", "default": False},
    "parallel": {"type": "int", "default": 2},
    "timeout": {"type": "int", "default": 0},
    "manifest_output": {"type": "str", "default": ""},
    "unreachable": {"type": "dict", "default": {}},
}
_LONGEST = 2000  # characters of an error in a task's result
_CREDENTIAL_FILE = "credential.json"  # in the model repository, as madengine has it


class HostBuilds:
    """What one build host has to build in one campaign."""

    def __init__(self, campaign: Campaign, host: str, options: t.Mapping[str, t.Any]) -> None:
        self.campaign, self.host, self.options = campaign, host, options
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
        """The credential file: as given, else credential.json of the model repository if it has one."""
        path = self.options["credential_file"] or str((self.plan.get("options") or {}).get("credential_file") or "")
        usual = os.path.join(self.repo, _CREDENTIAL_FILE)
        return registry.load_credentials(path or (usual if os.path.exists(usual) else ""), os.environ)

    def _values(self, request: Request, credentials: t.Mapping[str, t.Any]) -> dict[str, str]:
        """Of one request: given by the play, else a field of its credential, else the controller's environment."""
        values = registry.build_secrets(str(request.get("cred") or ""), credentials)
        for name in request.get("secret_build", ()):
            value = self.options["secrets"].get(name, values.get(name, os.environ.get(name)))
            if value is None:
                raise InvalidInput(
                    "model %s: the build secret %s has no value here: give it in the task's `secrets`, in the credential file or in the "
                    "controller's environment" % (request["model"], name)
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
        known = self._part(self.host)
        for outcome in outcomes:
            record, before = outcome.get("record"), (known.get(outcome["image"]) or {}).get("record")
            if record and before and outcome["status"] == "SKIPPED" and before.get("digest") == record["digest"]:
                record["build_duration"] = before.get("build_duration", 0.0)
            known[outcome["image"]] = outcome
        files.write_json(self._part_path(self.host), {"schema": 1, "host": self.host, "outcomes": known})

    def _part(self, host: str) -> dict[str, Outcome]:
        path = self._part_path(host)
        if not os.path.exists(path):
            return {}
        document = files.read_json(path, "the outcomes of builds")
        return dict(document.get("outcomes") or {})

    def write_manifest(self, reasons: t.Mapping[str, str]) -> tuple[bool, dict[str, t.Any]]:
        """Compose the manifest from what every build host has said so far, and write it; `reasons` say why a host said nothing.

        Returns whether it changed, and the manifest.
        """
        with self.campaign.lock():
            hosts = {str(build.get("build_host") or "") for build in self.plan.get("builds", ())} - {""}
            outcomes = {image: outcome for host in sorted(hosts) for image, outcome in self._part(host).items()}
            document = manifest.compose(self.plan, outcomes, self.registry, self._context(), reasons)
            changed = [manifest.write(path, document) for path in (self.campaign.manifest_path, self.options["manifest_output"]) if path]
        return any(changed), document

    def _context(self) -> dict[str, t.Any]:
        """The normalised context of the first host that has one."""
        hosts = self.plan.get("hosts") or {}
        return next((dict(host["context"]) for host in hosts.values() if host.get("context")), dict(self.plan.get("context") or {}))


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
