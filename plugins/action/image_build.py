# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have a build host build a campaign's images and write the manifest: the controller's half of `image_build`."""

from __future__ import annotations

import os
import tempfile
import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_file
from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, MadError
from ansible_collections.mad.engine.plugins.module_utils.building import build_host, build_source, manifest
from ansible_collections.mad.engine.plugins.module_utils.building.arguments import ARGUMENTS
from ansible_collections.mad.engine.plugins.module_utils.containers import image_archive
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_hosts
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import host_builds
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import PlayInputs, load_context_file
from ansible_collections.mad.engine.plugins.plugin_utils.saying import failures_said, say
from ansible_collections.mad.engine.plugins.plugin_utils.transfer import TransferAction

Result = t.Dict[str, t.Any]
_NOT_BROUGHT = (MadError, AnsibleError, OSError)  # how a transfer fails: by its content, on its way, on the controller's disk


class ActionModule(TransferAction):
    """Carries files and answers; what is decided stands in plugin_utils/host_builds.py."""

    TRANSFERS_FILES = False  # true would open a connection before anything is known to be needed
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        """Build what the plan wants of this host, or only write the manifest."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        dummy, self._options = self.validate_argument_spec(ARGUMENTS)
        try:
            with failures_said():
                return self._of(Campaign(self._options["campaign_dir"]))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _of(self, campaign: Campaign) -> Result:
        """The state's work for a campaign."""
        named = {"campaign": campaign.name, "campaign_dir": campaign.folder}
        if self._task.check_mode and not campaign.exists():  # planned in check mode: the flight plan has said what would be built
            return dict(host_builds.shown([]), changed=False, **named)
        host = self._options["build_host"] or str(self._vars["inventory_hostname"])
        self._mine = host_builds.HostBuilds(campaign, host, self._options, self._build_arguments)
        return dict(self._built() if self._options["state"] == "built" else self._manifest(self._options["unreachable"]), **named)

    def _build_arguments(self, hosts: t.Sequence[str]) -> dict[str, t.Any]:
        """docker_build_arg of these hosts' contexts, secrets included; the first host's value wins."""
        inputs = PlayInputs(self._vars, self._templar)
        made, dummy = plan_hosts.make_hosts(inputs.by_host(hosts, ""), load_context_file)
        arguments: dict[str, t.Any] = {}
        for name in reversed(list(made)):
            arguments.update(made[name]["context"].get("docker_build_arg") or {})
        return arguments

    # -- states ------------------------------------------------------------------------------------------------------------------

    def _manifest(self, reasons: t.Mapping[str, str]) -> Result:
        """Write the manifest of what all build hosts have said."""
        if self._task.check_mode:
            return {"changed": False, "manifest": self._mine.campaign.manifest_path}
        changed, document = self._mine.write_manifest(reasons)
        return {
            "changed": changed,
            "manifest": self._mine.campaign.manifest_path,
            "exit_code": manifest.exit_code(document),
            "failed_builds": host_builds.in_brief(document["summary"].get("failed_builds", ())),
            "failed_pushes": host_builds.in_brief(document["summary"].get("failed_pushes", ())),
        }

    def _built(self) -> Result:
        """Build, bring logs and archives home, write the manifest. Failed builds are results: only a host that cannot be asked fails."""
        if self._task.check_mode and not self._mine.requests:
            return dict(host_builds.shown([]), changed=False)
        requests, secrets = self._mine.prepare()
        if self._task.check_mode:
            answer = self._on_host(requests, secrets) if requests else {}
            outcomes = self._mine.failed + answer.get("outcomes", [])
            return dict(host_builds.shown(outcomes), changed=any(outcome["status"] == "SUCCESS" for outcome in outcomes))
        try:
            outcomes, notes = self._ask(requests, secrets)
        except AnsibleConnectionFailure as error:
            self._give_up(requests, "the build host %s cannot be reached: %s" % (self._mine.host, error))
            raise
        except MadError as error:
            self._give_up(requests, error.message)
            raise
        return self._told(self._mine.failed + outcomes, notes)

    def _give_up(self, requests: list[host_builds.Request], reason: str) -> None:
        self._told(self._mine.failed + host_builds.all_failed(requests, reason), [])

    def _told(self, outcomes: list[host_builds.Outcome], notes: list[str]) -> Result:
        """Keep outcomes, write the manifest, say each image in one line."""
        outcomes = self._mine.in_order(outcomes)
        self._mine.keep(outcomes)
        answer = self._manifest({})
        for outcome in outcomes:
            say("%s | %s" % (self._mine.host, host_builds.line(outcome)))
        for note in notes + [
            str(outcome["record"]["archive_error"]) for outcome in outcomes if (outcome.get("record") or {}).get("archive_error")
        ]:
            Display().warning(note)
        sent = any(outcome["status"] == "SUCCESS" or (outcome.get("push") or {}).get("sent") for outcome in outcomes)
        return dict(host_builds.shown(outcomes), **dict(answer, changed=bool(sent or answer["changed"])))

    # -- talking to the host -----------------------------------------------------------------------------------------------------

    def _ask(self, requests: list[host_builds.Request], secrets: build_host.Secrets) -> tuple[list[host_builds.Outcome], list[str]]:
        """One or, when the sources must be sent, two runs of the module on the host."""
        if not requests:
            return [], []
        answer = self._on_host(requests, secrets)
        if answer.get("missing_source"):
            with tempfile.TemporaryDirectory(prefix="mad-build-") as scratch:
                archive = os.path.join(scratch, "sources.tar.gz")
                build_source.pack([request["source"] for request in requests], self._mine.repo, archive)
                sent = {"archive": self._put(archive, "sources.tar.gz"), "archive_sha256": hash_file(archive)}
            answer = self._on_host(requests, secrets, **sent)
        notes = answer["notes"] + (self._fetch_logs(answer["logs"]) if answer.get("logs") else [])
        for outcome in answer["outcomes"]:
            self._take_archive(outcome)
        return answer["outcomes"], notes

    def _on_host(self, requests: list[host_builds.Request], secrets: build_host.Secrets, **more: t.Any) -> Result:
        """One run of the module on the host."""
        arguments = {
            "campaign_dir": self._mine.campaign.folder,
            "job": dict(self._mine.job(requests), **more),
            "job_secrets": host_builds.sealed(secrets),
        }
        result: Result = self._execute_module(module_name="mad.engine.image_build", module_args=arguments, task_vars=self._vars)
        if result.get("unreachable"):
            raise AnsibleConnectionFailure(result.get("msg", "unreachable"))
        if result.get("failed"):
            said = result.get("msg") or "the module failed"
            raise ImageError("build host %s: %s %s" % (self._mine.host, said, str(result.get("module_stderr") or "")[-2000:]))
        return result

    def _fetch_logs(self, logs: Result) -> list[str]:
        """Bring build logs home; why they did not come, if they did not: what was built is built all the same."""
        os.makedirs(self._mine.logs_dir, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._mine.logs_dir) as scratch:
                local = os.path.join(scratch, "logs.tar.gz")
                self._fetch(logs["path"], local)
                if hash_file(local) != logs["sha256"]:
                    raise ImageError("they were damaged on their way")
                build_host.unpack_logs(local, self._mine.logs_dir)
        except _NOT_BROUGHT as error:
            return ["the build logs of %s did not come home: %s" % (self._mine.host, error)]
        return []

    def _take_archive(self, outcome: host_builds.Outcome) -> None:
        """Bring an image's archive home; when that fails the build itself is a failure for the hosts that wait for it."""
        record, archive = outcome.get("record"), outcome.pop("archive", None)
        if not record or self._mine.registry or record["docker_image"] not in self._mine.wanted_elsewhere():
            return
        path = os.path.join(self._mine.campaign.images_dir, image_archive.file_name(record["digest"]))
        if os.path.exists(path) or image_archive.reuse(path, self._mine.campaign.results_dir):
            return
        try:
            if not archive:
                raise ImageError("the build host made no archive of image %s" % record["docker_image"])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            image_archive.check_space(os.path.dirname(path), archive["bytes"], "the archive of image %s" % record["docker_image"])
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=os.path.dirname(path)) as scratch:
                local = os.path.join(scratch, "image.tar")
                self._fetch(archive["path"], local)
                image_archive.accept(local, path, archive)
        except _NOT_BROUGHT as error:
            words = "the archive of image %s did not come home: %s" % (record["docker_image"], error)
            record["archive_error"] = error.message if isinstance(error, MadError) else words
