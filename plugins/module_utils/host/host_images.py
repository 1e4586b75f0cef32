# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on a host: there with the planned id, pulled, or loaded from an archive; never run on trust."""

from __future__ import annotations

import calendar
import os
import time
from typing import Any, Collection, Dict, List, Mapping, Tuple

from ..base.canonical import hash_file
from ..base.errors import ImageError, MadError
from ..containers import image_engine, registry, registry_client
from ..containers.image_engine import ImageEngine, last_line, normal_id

_PULL_SECONDS = 6 * 3600.0  # a large image over a slow line; a person can still cancel

Wish = Dict[str, Any]  # {"runtime", "name", "digest" ("" for a given image), "registry_image", "given", "push_error"}


def wish(run: Mapping[str, Any]) -> Wish:
    """What a run needs of an image."""
    image = run.get("image") or {}
    digest = image.get("digest")
    return {
        "runtime": run["runtime"],
        "name": str(image.get("name") or ""),
        "digest": digest if isinstance(digest, str) else "",
        "registry_image": str(image.get("registry_image") or ""),
        "given": bool(image.get("given")),
        "push_error": str(image.get("push_error") or ""),
    }


def key(wanted: Wish) -> str:
    """Equal for runs that need the same image from the same engine."""
    return "%s %s %s" % (wanted["runtime"], wanted["name"], wanted["digest"])


class Images:
    """The images of one staging. `answers` holds for each wish {"digest", "how", "seconds"} or {"error", "failure_class"}; `missing` what an
    archive could bring."""

    def __init__(self, private: str, credentials: Mapping[str, Any], archives: Mapping[str, Mapping[str, Any]]) -> None:
        self.private = private  # folder for login files
        self.credentials = credentials
        self.archives = archives  # digest to {"path", "sha256"} of archives that lie on this host
        self.answers: Dict[str, Dict[str, Any]] = {}
        self.missing: List[str] = []
        self._engines: Dict[str, ImageEngine] = {}

    def ensure(self, runs: List[Mapping[str, Any]]) -> None:
        """See to every image of these runs; nothing is raised for one, its answer says what is wrong."""
        for wanted in {key(found): found for found in (wish(run) for run in runs if run["runtime"] != "host")}.values():
            started = time.monotonic()
            try:
                digest, how = self._ensure(wanted)
                self.answers[key(wanted)] = {
                    "name": wanted["name"],
                    "digest": digest,
                    "how": how,
                    "seconds": round(time.monotonic() - started, 3),
                }
            except MadError as error:
                self.answers[key(wanted)] = {"name": wanted["name"], "error": error.message, "failure_class": error.failure_class}

    def _engine(self, runtime: str) -> ImageEngine:
        if runtime not in self._engines:
            engine, problem = image_engine.look(runtime)
            if engine is None:
                raise MadError("the engine %s of this host, which had answered, no longer does: %s" % (runtime, problem))
            self._engines[runtime] = engine
        return self._engines[runtime]

    def _ensure(self, wanted: Wish) -> Tuple[str, str]:
        engine = self._engine(wanted["runtime"])
        found = self._present(engine, wanted)
        if found:
            return found, "present"
        source = wanted["registry_image"] or (wanted["name"] if wanted["given"] else "")
        if wanted["digest"] in self.archives:
            self._load(engine, wanted)
            how = "loaded"
        elif source:
            self._pull(engine, source)
            how = "pulled"
        else:
            if wanted["digest"]:
                self.missing.append(wanted["digest"])
            why = ": " + wanted["push_error"] if wanted["push_error"] else ""
            raise ImageError(
                "image %s (%s) is not on this host, and neither a registry nor an archive has it%s"
                % (wanted["name"], wanted["digest"] or "no id", why)
            )
        found = self._present(engine, wanted, source)
        if not found:
            raise ImageError("image %s was %s, but it is not the planned %s" % (source or wanted["name"], how, wanted["digest"]))
        return found, how

    @staticmethod
    def _present(engine: ImageEngine, wanted: Wish, source: str = "") -> str:
        """The id under which the wanted image is here, or ""."""
        if not wanted["digest"]:
            return engine.image_id(source or wanted["registry_image"] or wanted["name"])
        if engine.image(wanted["digest"]):
            return str(wanted["digest"])
        # Engines that keep images by manifest have another id: then the registry's digest must be the planned one.
        document = engine.image(source) if source else None
        digests = [str(entry).rpartition("@")[2] for entry in (document or {}).get("RepoDigests") or []]
        return normal_id(str((document or {})["Id"])) if wanted["digest"] in digests else ""

    def _pull(self, engine: ImageEngine, name: str) -> None:
        host = registry.host_of(name)
        credential = registry.credential_for(host, self.credentials) or registry.credential_for(name.rpartition("/")[0], self.credentials)
        words = ["--tls-verify=false"] if engine.kind == "podman" and registry.is_loopback(host) else []
        with registry_client.logins(engine, self.private):
            registry_client.login(engine, host, credential)
            code, output, errors = engine.call("pull", "--quiet", *words, name, timeout=_PULL_SECONDS)
        if code:
            raise ImageError("image %s cannot be pulled: %s" % (name, last_line(errors or output)))

    def _archive(self, wanted: Wish) -> str:
        """The archive of an image that the controller brought here, once it is seen to be whole."""
        archive = self.archives[wanted["digest"]]
        if archive.get("sha256") and hash_file(str(archive["path"])) != archive["sha256"]:
            raise ImageError("the archive of image %s was damaged on its way" % wanted["name"])
        return str(archive["path"])

    def _load(self, engine: ImageEngine, wanted: Wish) -> None:
        code, output, errors = engine.call("load", "--quiet", "--input", self._archive(wanted), timeout=_PULL_SECONDS)
        if code:
            raise ImageError("image %s cannot be loaded from its archive: %s" % (wanted["name"], last_line(errors or output)))


def private_folder(work_dir: str) -> str:
    """Where login files may lie for the length of a pull."""
    return os.path.join(work_dir, "auth")


def old_images(limit: float, keep: Collection[str], check: bool) -> List[str]:
    """Remove images that our builder labelled, made before `limit`, not to be kept and used by no container; returns what went."""
    removed: List[str] = []
    for runtime in ("docker", "podman"):
        engine, _problem = image_engine.look(runtime)
        if engine is None:
            continue  # not installed, or not answering: nothing of ours can be there or be reached
        code, output, _errors = engine.call("image", "ls", "--quiet", "--no-trunc", "--filter", "label=mad.content")
        for digest in sorted({normal_id(word) for word in output.split()} - set(keep)) if code == 0 else []:
            if _made(engine.image(digest) or {}) < limit and not _in_use(engine, digest):
                removed.append("%s image %s" % (runtime, digest))
                if not check:
                    engine.call("image", "rm", "--force", digest)
    return removed


def _made(document: Mapping[str, Any]) -> float:
    """When an image was made, seconds since the epoch; now where its date cannot be read (then it stays)."""
    try:
        return float(calendar.timegm(time.strptime(str(document["Created"])[:19], "%Y-%m-%dT%H:%M:%S")))
    except (KeyError, ValueError):
        return time.time()


def _in_use(engine: ImageEngine, digest: str) -> bool:
    code, output, _errors = engine.call("ps", "--all", "--quiet", "--filter", "ancestor=" + digest)
    return code != 0 or bool(output.strip())
