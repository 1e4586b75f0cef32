# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's runs of one inventory host, as the controller knows them: what is open, what to stage, what came home."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.plugins.module_utils.containers import image_archive, registry
from ansible_collections.mad.engine.plugins.module_utils.models import discovery
from ansible_collections.mad.engine.plugins.module_utils.models.discovery_cache import default_cache
from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_env, plan_manifest, plan_repo
from ansible_collections.mad.engine.plugins.module_utils.planning.run_id import LENGTH
from ansible_collections.mad.engine.plugins.module_utils.results import record
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign

Run = t.Dict[str, t.Any]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COLOUR = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


class Secrets:
    """Where the values of secret variables come from: the play's `secrets`, the plan's own sources, the controller's environment."""

    def __init__(
        self,
        given: t.Mapping[str, t.Any],
        credential_file: str,
        repo: str,
        context: t.Callable[[], t.Mapping[str, t.Any]],
        manifest: t.Mapping[str, t.Any] | None = None,
    ) -> None:
        self.given, self.repo, self._context, self._manifest = given, repo, context, manifest
        self.credentials = registry.load_credentials(credential_file, os.environ)

    @functools.cached_property
    def context(self) -> t.Mapping[str, t.Any]:
        """The host's normalised context, asked for only when a run has secrets."""
        return self._context()

    def of(self, runs: t.Iterable[Run]) -> dict[str, dict[str, str]]:
        """{run id: {name: value}} of secret variables, as far as anybody here knows them."""
        runs = [run for run in runs if run.get("secret_env")]
        found = {run["id"]: self._known(run["card"]) for run in runs}
        lacking = [run for run in runs if not set(run["secret_env"]) <= set(found[run["id"]]) | set(self.given) | set(os.environ)]
        found.update({run_id: self._known(card) for run_id, card in self._own_cards(lacking).items()})  # the plan's copy of a card holds no secret
        return {run["id"]: self._values(run["secret_env"], found[run["id"]]) for run in runs}

    def _values(self, names: t.Iterable[str], found: t.Mapping[str, str]) -> dict[str, str]:
        values = {name: self.given.get(name, found.get(name, os.environ.get(name))) for name in names}
        return {name: str(value) for name, value in values.items() if value is not None}

    def _known(self, card: t.Mapping[str, t.Any]) -> dict[str, str]:
        return plan_env.secret_values(card, self.context, os.environ, self.credentials)

    def _own_cards(self, runs: t.Sequence[Run]) -> dict[str, t.Mapping[str, t.Any]]:
        """{run id: its card as manifest or repository has it}; without those that are no longer there."""
        if self._manifest:
            known = plan_manifest.cards_of(self._manifest)
            keys = {run["id"]: (str(run["model"]), str((run["image"] or {}).get("name"))) for run in runs}
            return {run_id: known[key] for run_id, key in keys.items() if key in known}
        cards = self._of_repository({str(run["model"]) for run in runs})
        return {run["id"]: cards[run["model"]] for run in runs if run["model"] in cards}

    def _of_repository(self, names: t.Collection[str]) -> dict[str, t.Mapping[str, t.Any]]:
        """Cards, all asked for at once; without those that the repository no longer has, for which each is asked for alone."""
        if not names:
            return {}
        try:
            models = discovery.discover(self.repo, sorted(names), default_cache(), broken={})["models"]
        except MadError:
            alone = [self._of_repository([name]) for name in names] if len(names) > 1 else []
            return {name: card for cards in alone for name, card in cards.items()}
        return {card["name"]: card for card in reversed(models) if card["name"] in names}


class HostRuns:
    """The runs of one host in one campaign, of one target (a host may have had another one in an earlier play)."""

    def __init__(self, campaign: Campaign, host: str, target: str = "local") -> None:
        self.campaign, self.host, self.target = campaign, host, target
        self.plan = campaign.host_plan(host)
        self.runs = [run for run in self.plan["runs"] if run["place"].get("host") == host and run["place"].get("target") == target]
        self.repo = str((self.plan.get("repo") or {}).get("path") or "")
        self._final: dict[str, Run] = {}  # what `result` has read: a final record changes only by our own `save`

    # -- what is open --------------------------------------------------------------------------------------------------------------

    def executable(self) -> list[Run]:
        """Runs that the plan wants executed in this play."""
        return [run for run in self.runs if run.get("wanted", True) and not run.get("outcome")]

    def result(self, run: Run) -> Run | None:
        """The final record of the wanted attempt or a newer one. That the controller lost contact is not final: the host may know better."""
        known = self._final.get(run["id"])
        if known is None:
            try:
                known = self.campaign.result(run["id"])
            except MadError:
                return None
        if not known or known.get("attempt", 1) < run.get("attempt", 1):
            return None
        if known.get("failure_class") == "lost_contact" and known.get("source") == "controller":
            return None
        self._final[run["id"]] = known
        return known

    def open_runs(self) -> list[Run]:
        """Runs without a final record."""
        return [run for run in self.executable() if self.result(run) is None]

    @staticmethod
    def wanted(runs: t.Iterable[Run]) -> dict[str, int]:
        """{run id: attempt} for a job."""
        return {run["id"]: run.get("attempt", 1) for run in runs}

    def counts(self, running: int = 0, queued: int = 0) -> dict[str, int]:
        """Of this host: only what is kept on the controller is done."""
        records = [found for found in (self.result(run) for run in self.executable()) if found]
        statuses = [found["status"] for found in records]
        numbers = {name: statuses.count(name.upper()) for name in ("success", "failure", "skipped")}
        return dict(numbers, total=len(self.executable()), done=len(records), running=running, queued=queued)

    # -- staging -------------------------------------------------------------------------------------------------------------------

    def stage_paths(self) -> set[str]:
        """Paths of the repository that any run of this host needs."""
        return {str(path) for run in self.executable() for path in run.get("stage") or []}

    def resolve(self, runs: list[Run]) -> tuple[list[Run], list[Run]]:
        """(runs with everything decided, records of those that turn out not to be possible)."""
        facts, images = self.facts(), self._images()
        filled = [plan.resolve(run, facts, images) for run in runs]
        return [run for run in filled if not run["outcome"]], [record.make_planned_record(run) for run in filled if run["outcome"]]

    def unchanged(self, runs: list[Run]) -> tuple[list[Run], list[Run]]:
        """(runs whose files are those that were planned, records of the others): id and row of a run say what was measured, so that must be it."""
        repository = plan_repo.Repository(self.repo)
        found = {run["id"]: "" if self._launched(run) else _changed(run, repository) for run in runs}
        gone = [record.make_unrun_record(run, "invalid", found[run["id"]]) for run in runs if found[run["id"]]]
        return [run for run in runs if not found[run["id"]]], gone

    def facts(self) -> dict[str, t.Any]:
        """Facts of the host as the plan has them."""
        return dict(((self.plan.get("hosts") or {}).get(self.host) or {}).get("facts") or {})

    def _images(self) -> dict[str, t.Any]:
        path = self.campaign.manifest_path
        document = files.read_json(path, "the build manifest") if os.path.exists(path) else {}
        return dict(document.get("built_images") or {})

    def stage_document(self, runs: list[Run], secrets: Secrets) -> dict[str, t.Any]:
        """What goes to the host beside files."""
        return {
            "schema": 1,
            "runs": runs,
            "facts": self.facts(),
            "secrets": secrets.of(runs),
            "credentials": _registry_logins(runs, secrets.credentials),
        }

    @functools.cached_property
    def manifest(self) -> dict[str, t.Any] | None:
        """The manifest that the campaign runs from, None when it has none."""
        path = str((self.plan.get("options") or {}).get("manifest") or "")
        return manifest.read(path) if path else None

    def archive(self, digest: str) -> str:
        """Path of an image's archive: this campaign's, else that of one beside it, else one beside the manifest that is run from; "" for none."""
        path = os.path.join(self.campaign.images_dir, image_archive.file_name(digest))
        if os.path.exists(path) or image_archive.reuse(path, self.campaign.results_dir):
            return path
        given = str((self.plan.get("options") or {}).get("manifest") or "")
        other = os.path.join(os.path.dirname(os.path.abspath(given)), "images", os.path.basename(path))
        return other if given and os.path.exists(other) else ""

    def acknowledged(self, runs: list[Run]) -> list[str]:
        """Ids of runs that the host has accepted before."""
        return [run["id"] for run in runs if self._launched(run)]

    # -- what comes home -------------------------------------------------------------------------------------------------------------

    def acknowledge(self, launches: t.Mapping[str, t.Mapping[str, t.Any]]) -> None:
        """Write down that the host has taken the runs over, before anybody waits for them."""
        now = time.time()
        fresh = [
            {"run_id": run_id, "attempt": int(launch["attempt"]), "launch": dict(launch, host=self.host, submitted=now)}
            for run_id, launch in launches.items()
            if not (self.campaign.attempt(run_id, int(launch["attempt"])) or {}).get("launch")
        ]
        self.campaign.save_attempts(fresh)

    def save(self, records: t.Iterable[Run]) -> list[Run]:
        """Keep records; returns what the progress callback shows of those that are new. One of a run that is not this host's is refused."""
        own, sent = {run["id"] for run in self.runs}, [record.with_origin(found, self.plan) for found in records]
        for found in sent:
            self._final.pop(str(found.get("run_id")), None)
        kept = self.campaign.save_results(found for found in sent if found.get("run_id") in own)
        for found in sent:
            if found.get("run_id") not in own:
                raise MadError("host %s sent a record of run %s, which is not one of its runs" % (self.host, found.get("run_id")))
        return [_shown(found) for found in kept]

    def give_up(self, run_ids: t.Iterable[str]) -> list[Run]:
        """Runs that the host had taken over and knows nothing of any more."""
        lost, asked = [], set(run_ids)
        for run in self.open_runs() if asked else ():
            if run["id"] in asked and self._launched(run):
                reason = "the host accepted the run and no longer knows it: its work folder was removed"
                lost.append(record.make_unrun_record(run, "lost_contact", reason, launched=True))
        return self.save(lost)

    def never_started(self, run_ids: t.Iterable[str]) -> list[str]:
        """Runs among these that the host never took over: staging or starting them failed, and nobody waits for them."""
        asked = set(run_ids)
        return [run["id"] for run in (self.open_runs() if asked else ()) if run["id"] in asked and not self._launched(run)]

    def _launched(self, run: Run) -> bool:
        return self.campaign.launched(run["id"], run.get("attempt", 1))

    def uncollected(self) -> dict[str, int]:
        """{run id: attempt} of runs with a record whose logs are still on the host; also of earlier plays that were killed before they had them."""
        found = ((run["id"], self.result(run)) for run in self.runs)
        return {run_id: int(known["attempt"]) for run_id, known in found if known and is_uncollected(self.campaign, known)}

    def forget_files(self, run_ids: t.Iterable[str]) -> None:
        """The host no longer has the logs of these runs: nobody asks again."""
        self.campaign.collected.add(self.host, self._attempts(run_ids), "gone")

    def came_home(self, run_ids: t.Iterable[str]) -> None:
        """The logs of these runs are here."""
        self.campaign.collected.add(self.host, self._attempts(run_ids), "home")

    def _attempts(self, run_ids: t.Iterable[str]) -> dict[str, int]:
        """{run id: the attempt whose record stands}."""
        return {run_id: int((self._final.get(run_id) or self.campaign.result(run_id) or {}).get("attempt", 1)) for run_id in run_ids}

    # -- live output -------------------------------------------------------------------------------------------------------------------

    def _live_path(self) -> str:
        return self.campaign.path("live", hashlib.sha256(self.host.encode("utf-8", "surrogateescape")).hexdigest()[:12] + ".json")

    def live_offsets(self) -> dict[str, t.Any]:
        """How much of each log was shown."""
        if not os.path.exists(self._live_path()):
            return {}
        try:
            return dict(files.read_json(self._live_path(), "the file"))
        except (MadError, TypeError, ValueError):
            return {}

    def remember_live(self, entry: t.Mapping[str, t.Any]) -> None:
        """Keep the new offset; a log that has ended is forgotten."""
        known = self.live_offsets()
        known[entry["run"]] = {"attempt": entry["attempt"], "offset": entry["offset"]}
        if entry["ended"]:
            del known[entry["run"]]
        os.makedirs(os.path.dirname(self._live_path()), exist_ok=True)
        files.write_json(self._live_path(), known)


def is_uncollected(campaign: Campaign, known: t.Mapping[str, t.Any]) -> bool:
    """Whether logs and artifacts of a final record are still to be brought home."""
    if not known.get("launched") or known.get("failure_class") == "lost_contact":
        return False
    return not campaign.collected.has(str(known["place"].get("host", "")), known["run_id"], int(known["attempt"]))


def _changed(run: Run, repository: plan_repo.Repository) -> str:
    """Why a run is not what was planned any more; "" where it is, or where the plan does not say."""
    planned = run.get("content") or {}
    for part, path in (("scripts", str(run["command"]["directory"])), ("tools", plan_repo.COMMON)):
        if path and part in planned and repository.known_tree(path)[:LENGTH] != planned[part]:
            return "%s in %s was changed after the run was planned; run the play again, which plans it as it is now" % (path, repository.path)
    return ""


def _shown(found: Run) -> Run:
    """A record as the progress callback shows it."""
    metrics = found.get("metrics") or []
    metric = (
        "%s %s" % (metrics[0].get("text", ""), metrics[0].get("unit", ""))
        if len(metrics) == 1
        else ("%d results" % len(metrics) if metrics else "")
    )
    return {
        "run": found["run_id"],
        "model": found["model"],
        "status": found["status"],
        "failure_class": found["failure_class"],
        "metric": metric.strip(),
        "seconds": (found.get("timings") or {}).get("run"),
    }


def _registry_logins(runs: t.Iterable[Run], credentials: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The entries of the credential file that the images of these runs need, and no other."""
    found = {}
    for run in runs:
        image = run.get("image") or {}
        name = str(image.get("registry_image") or (image.get("name") if image.get("given") else "") or "")
        for key in (registry.host_of(name), name.rpartition("/")[0], registry.HUB_KEY) if name else ():
            if key in credentials and (key != registry.HUB_KEY or registry.host_of(name) == registry.HUB):
                found[key] = credentials[key]
    return found


def archive_checksum(path: str) -> str:
    """sha256 of an image archive, as it was written down when it was made; "" when it was not."""
    try:
        return str(files.read_json(path + ".json", "the archive's checksum").get("sha256") or "")
    except MadError:
        return ""


def printable(text: str) -> list[str]:
    """Lines that do nothing to a terminal: no colours, no control characters; of a progress bar only its last state."""
    lines = [line.rpartition("\r")[2] if "\r" in line.rstrip("\r") else line for line in text.split("\n")]
    cleaned = [_CONTROL.sub("", _COLOUR.sub("", line.rstrip("\r"))) for line in lines]
    return cleaned[:-1] if cleaned and not cleaned[-1] else cleaned
