# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand a campaign's runs to a target, follow them and bring their results home: what the action plugins of all targets share.

A target's action is a subclass that names its module (`MODULE`), its target (`TARGET`) and its arguments (`ARGUMENTS`), and says in
`_words` what its module's states need beside the list of runs. docs/contracts.md tells what the module answers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import typing as t

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.base.packed import unpack
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_hosts, plan_manifest
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import homecoming, host_runs, progress_command, progress_state, stage, zipapp
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import PlayInputs, load_context_file
from ansible_collections.mad.engine.plugins.plugin_utils.saying import failures_said, say
from ansible_collections.mad.engine.plugins.plugin_utils.transfer import TransferAction
from ansible_collections.mad.engine.plugins.plugin_utils.turns import turn

Result = t.Dict[str, t.Any]


class Failed(Exception):
    """A module run that failed; carries its result."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.get("msg", ""))
        self.result = result


class TargetAction(TransferAction):
    """One method per state; what is decided stands in plugin_utils/host_runs.py."""

    TRANSFERS_FILES = False  # true would make a folder on the host before anything is known to be needed
    _supports_check_mode = True

    TARGET = ""  # as in the plan's `place`
    MODULE = ""  # whose states do the work on the host
    ARGUMENTS: t.Mapping[str, t.Any] = {}  # COMMON of module_utils/host/arguments.py and the target's own
    PROGRAM = zipapp.SUPERVISOR  # of the core: what a detached process on the host runs

    # -- what a target may say -------------------------------------------------------------------------------------------------------

    def _words(self, state: str) -> dict[str, t.Any]:
        """What the module needs in this state beside runs, folder and check mode."""
        return {}

    def _work_dir(self) -> str:
        """The work folder on the host, "" for the module's own default."""
        return str(self._options["work_dir"])

    def _start(self, runs: list[host_runs.Run]) -> Result:
        """Have the module start these runs; its answer."""
        return self._on_host(self._mine.wanted(runs), live=self._live(), **self._words("started"))

    def _poll(self, runs: list[host_runs.Run]) -> Result:
        """Ask the module how far these runs are; its answer."""
        return self._on_host(self._mine.wanted(runs), live=self._live(), stop=self._options["stop"], **self._words("polled"))

    def _document(self, runs: list[host_runs.Run], secrets: host_runs.Secrets) -> tuple[dict[str, t.Any], list[host_runs.Run]]:
        """(what goes to the host beside files, records of runs that turn out not to be possible)."""
        return self._mine.stage_document(runs, secrets), []

    def _stage_paths(self) -> t.Collection[str]:
        """Paths of the repository that go to the host."""
        return self._mine.stage_paths()

    def _keep_rendered(self, output_dir: str, name: str, text: str) -> None:
        """Keep what was rendered in the folder that a person named, one below it for each campaign."""
        if output_dir:
            folder = os.path.join(os.path.expanduser(output_dir), self._mine.campaign.name)
            os.makedirs(folder, exist_ok=True)
            files.write_atomic(os.path.join(folder, name), text.encode("utf-8", "surrogateescape"))

    # -- the task --------------------------------------------------------------------------------------------------------------------

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        """Run one state for the play's host."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        dummy, self._options = self.validate_argument_spec(dict(self.ARGUMENTS))
        try:
            with failures_said("on the controller, not on the host: "):  # the host's own errors are results of the module
                return self._of_campaign(Campaign(self._options["campaign_dir"])) if self._options["campaign_dir"] else self._of_all()
        except Failed as error:
            return error.result

    def _of_all(self) -> Result:
        """What is done without a campaign: remove what all of them left."""
        if self._options["state"] != "absent" or self._options["keep_days"] is None:
            raise MadError("campaign_dir is missing; only state=absent with keep_days goes without it")
        return self._on_host({}, keep_days=self._options["keep_days"], **self._words("absent"))

    def _of_campaign(self, campaign: Campaign) -> Result:
        self._mine = host_runs.HostRuns(campaign, str(self._vars["inventory_hostname"]), self.TARGET)
        result: Result = getattr(self, "_" + self._options["state"])()
        return dict(result, campaign=campaign.name, campaign_dir=campaign.folder)

    # -- talking to the host -----------------------------------------------------------------------------------------------------

    def _on_host(self, runs: t.Mapping[str, int], **job: t.Any) -> Result:
        """One run of the module on the host; Failed when it fails there."""
        if self._options["campaign_dir"]:
            job.update(campaign=self._mine.campaign.name, identity=self._mine.campaign.identity(), host=self._mine.host)
        job.update(runs=dict(runs), work_dir=self._work_dir(), check=bool(self._task.check_mode))
        arguments = {"state": self._options["state"], "job": job}
        result: Result = self._execute_module(module_name=self.MODULE, module_args=arguments, task_vars=self._vars)
        if result.get("failed") or result.get("unreachable"):
            raise Failed(result)
        result.pop("invocation", None)
        if result.get("packed"):
            result["results"] = unpack(str(result.pop("packed")))
        return result

    # -- states ------------------------------------------------------------------------------------------------------------------

    def _staged(self) -> Result:
        runs = self._mine.open_runs()
        if not runs:
            return self._brought(0)
        if self._task.check_mode:
            runs, dummy = self._mine.resolve(runs)
            answer = self._on_host(self._mine.wanted(runs), **self._words("staged"))
            return self._brought(len(runs), changed=answer["changed"])
        runs, finished = self._resolved(runs)
        if not runs:
            return self._brought(0, ended=finished, changed=bool(finished))
        answer = self._stage(runs)[0]
        finished += self._take_staged(answer)
        changed = bool(answer["changed"] or finished)
        told = {key: answer[key] for key in ("folder", "images", "replaced")}
        return self._brought(len(runs), ended=finished, changed=changed, **told)

    def _brought(self, runs: int, **told: t.Any) -> Result:
        """What staging so many runs returns."""
        return {"changed": False, "images": [], "folder": "", "replaced": "", "ended": [], **told, "runs": runs, "counts": self._mine.counts()}

    def _resolved(self, runs: list[host_runs.Run]) -> tuple[list[host_runs.Run], list[host_runs.Run]]:
        """(runs with everything decided, what became of those that turn out not to be possible)."""
        resolved, records = self._mine.resolve(runs)
        good, changed = self._mine.unchanged(resolved)
        return good, self._mine.save(records + changed)

    def _take_staged(self, answer: Result) -> list[host_runs.Run]:
        """Keep the records of runs that staging ended; returns them as the progress callback shows them."""
        if answer["replaced"]:
            text = "%s: another campaign named %s, of another results folder, was here before; what it left is now in %s until mad.engine.clean"
            Display().warning(text % (self._mine.host, self._mine.campaign.name, answer["replaced"]))
        return self._mine.save(answer["results"]) + self._mine.give_up(answer["unknown"])

    def _stage(self, runs: list[host_runs.Run], **more: t.Any) -> tuple[Result, Result]:
        """Bring everything, at so many hosts at a time; (what staging answered, the module's whole answer, which `more` may have made larger)."""
        with turn(self._mine.campaign.path("turns"), "stage", self._options["stage_parallel"]):
            return self._bring(runs, more)

    def _bring(self, runs: list[host_runs.Run], more: t.Mapping[str, t.Any]) -> tuple[Result, Result]:
        """A second time with the archives of images that the host lacks."""
        options = self._options
        file = options["credential_file"] or str((self._mine.plan.get("options") or {}).get("credential_file") or "")
        context = functools.partial(self._context, self._mine.host)
        secrets = host_runs.Secrets(options["secrets"], file, self._mine.repo, context, self._mine.manifest)
        document, records = self._document(runs, secrets)
        made = stage.prepare(self._mine.repo, self._stage_paths(), document, self.PROGRAM)
        with tempfile.TemporaryDirectory(prefix="mad-stage-") as scratch:
            stage.write(made, os.path.join(scratch, "stage.tar.gz"))
            remote = self._put(os.path.join(scratch, "stage.tar.gz"), "stage.tar.gz")
        wanted = self._mine.wanted(runs)
        words = dict(self._words("staged"), archive=remote, acknowledged=self._mine.acknowledged(runs), **more)
        answer = self._on_host(wanted, **words)
        told = answer.get("staged", answer)
        if told["missing"]:
            images = self._put_images(told["missing"])
            answer = self._on_host(wanted, images=images, last=True, **words)
            told = dict(answer.get("staged", answer), changed=True, replaced=told["replaced"])
        return dict(told, results=[*told["results"], *records]), answer

    def _context(self, host: str) -> t.Mapping[str, t.Any]:
        """A host's normalised context, as campaign_plan makes it."""
        entries = PlayInputs(self._vars, self._templar).by_host([host], "")
        known = self._mine.manifest if self._options["campaign_dir"] else None  # cleaning up by age is no campaign's
        layer = (known["path"], plan_manifest.context_layer(known)) if known else None
        return dict(plan_hosts.make_hosts(entries, load_context_file, layer)[0][host]["context"])

    def _put_images(self, digests: list[str]) -> dict[str, t.Any]:
        """Archives of images that this host lacks, as far as this campaign or the one that built them has them."""
        found: dict[str, t.Any] = {}
        for digest in digests:
            path = self._mine.archive(digest)
            if path:
                found[digest] = {"path": self._put(path, os.path.basename(path)), "sha256": host_runs.archive_checksum(path)}
        return found

    def _started(self) -> Result:
        runs = self._mine.open_runs()
        if not runs:
            return self._standing()
        answer = self._start(runs)
        if not self._task.check_mode:
            self._mine.acknowledge(answer["acknowledged"])
        return self._followed(answer)

    def _polled(self) -> Result:
        runs = self._mine.open_runs()
        if not runs:
            return self._standing()
        return self._followed(self._poll(runs))

    def _live(self) -> dict[str, t.Any] | None:
        """From where on the output of running models is wanted; None when it is not."""
        return self._mine.live_offsets() if self._options["live"] else None

    def _followed(self, answer: Result) -> Result:
        """Keep what an answer brought and say where the host stands. Check mode keeps nothing."""
        running, queued = answer["running"], answer["queued"]
        if self._task.check_mode:
            return self._standing(running, queued, changed=bool(answer["changed"] or answer["results"]))
        for entry in answer["live"]:
            self._show(entry)
        finished = self._mine.save(answer["results"]) + self._mine.give_up(answer["unknown"])
        finished += self._mine.save(self._fetch_large(answer["large"]))  # last: what does not come keeps none of the others away
        with contextlib.suppress(MadError, AnsibleError, OSError):  # the step that collects tries again and says what is wrong
            self._receive(answer.get("home") or {"unknown": []})
        if answer.get("waits_for") and not progress_command.callback_enabled():  # the callback says it in its own way
            say("%s: %s" % (self._mine.host, progress_state.waiting(answer["waits_for"])))
        return self._standing(
            running,
            queued,
            changed=bool(answer["changed"] or finished),
            ended=finished,
            more=answer["more"],
            patient=bool(answer.get("patient")),
            never_started=self._mine.never_started(answer["unknown"]),
            **{name: answer[name] for name in ("warnings", "waits_for") if answer.get(name)},
        )

    def _standing(self, running: t.Sequence[Result] = (), queued: int = 0, **news: t.Any) -> Result:
        """What every state that follows runs returns: where the host stands, and what is new."""
        quiet = {"changed": False, "ended": [], "more": False, "patient": False, "never_started": []}
        return {**quiet, **news, "running": list(running), "counts": self._mine.counts(len(running), queued)}

    def _fetch_large(self, entries: list[Result]) -> list[Result]:
        """Records that do not fit into an answer."""
        if not entries:
            return []
        wanted = {entry["run"]: entry["attempt"] for entry in entries}
        return list(self._collect(wanted, only_results=True).values())

    def _show(self, entry: Result) -> None:
        """New output of a running model, line by line, with host and model in front."""
        self._mine.remember_live(entry)
        prefix = "%s %s | " % (self._mine.host, " ".join(host_runs.printable(str(entry["model"]))))
        if entry["skipped"]:
            say("%s... %d bytes are not shown; the whole log comes home at the end" % (prefix, entry["skipped"]))
        for line in host_runs.printable(entry["text"]):
            say(prefix + line)

    def _collected(self) -> Result:
        wanted = self._mine.uncollected()
        if not wanted:
            return {"changed": False, "runs": [], "bytes": 0}
        if self._task.check_mode:
            answer = self._on_host(wanted, **self._words("collected"))
            return {"changed": answer["changed"], "runs": answer["runs"], "bytes": answer.get("content_bytes", 0)}
        self._bytes = 0
        found = self._collect(wanted)
        return {"changed": bool(found), "runs": sorted(found), "bytes": self._bytes}

    def _collect(self, wanted: t.Mapping[str, int], only_results: bool = False) -> dict[str, t.Any]:
        """Have an archive made and receive it; {run id: record or True}."""
        return self._receive(self._on_host(wanted, only_results=only_results, collect=True, **self._words("collected")), only_results)

    def _receive(self, answer: Result, only_results: bool = False) -> dict[str, t.Any]:
        """Fetch the archive that an answer names, and keep what it holds; {run id: record or True}."""
        self._mine.forget_files([] if only_results else answer["unknown"])
        if not answer.get("archive"):
            return {}
        folder = self._mine.campaign.folder
        scratch = tempfile.mkdtemp(prefix=".collect-", dir=folder)
        try:
            homecoming.check_space(folder, answer["content_bytes"] + answer["bytes"], self._mine.host)
            archive = os.path.join(scratch, "archive.tar.gz")
            self._fetch(answer["archive"], archive)
            self._bytes = answer["bytes"]
            return homecoming.receive(self._mine, archive, scratch, answer["runs"], only_results)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _cancelled(self) -> Result:
        runs = self._mine.open_runs()
        if not runs:
            return self._standing()
        words = self._words("cancelled")
        return self._followed(self._on_host(self._mine.wanted(runs), reason=self._options["stop"], wait=self._options["wait"], **words))

    def _absent(self) -> Result:
        return self._on_host(self._mine.wanted(self._mine.open_runs()), keep_days=self._options["keep_days"], **self._words("absent"))
