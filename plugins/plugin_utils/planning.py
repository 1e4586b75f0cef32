# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a play says to a plan in a campaign folder: the controller's step between discovery and builds."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.canonical import IGNORED_NAMES, hash_value
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.plugins.module_utils.containers import registry
from ansible_collections.mad.engine.plugins.module_utils.models import discovery
from ansible_collections.mad.engine.plugins.module_utils.models.discovery_cache import fingerprint
from ansible_collections.mad.engine.plugins.module_utils.planning import (
    plan,
    plan_continue,
    plan_hosts,
    plan_manifest,
    plan_options,
    run_id,
)
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, open_campaign

from . import stage
from .history import replay
from .history.past import Past
from .play_inputs import load_context_file

_BEGIN = ".begin.lock"  # of a results folder: held while a campaign of a given name is begun
_SOURCES = ("models.json", "data.json", "scripts", "docker")  # of a repository; what else lies there untracked (results, say) reaches no run
CREDENTIAL_FILE = "credential.json"  # of the model repository, as madengine has it
_GIT_SECONDS = 30


class Request(t.NamedTuple):
    """What is to be planned; plain values, already templated."""

    repo: str
    tags: t.Any
    manifest: str
    hosts: t.Mapping[str, t.Mapping[str, t.Any]]
    options: t.Mapping[str, t.Any]  # parsed by plan_options
    environ: t.Mapping[str, str]
    command: t.Sequence[str]
    version: str
    cache_dir: str = ""
    check: bool = False
    replay: str = ""  # a run of the past, instead of tags and manifest; then `repo` may be "" for the one of then
    database_url: str = ""
    baseline: t.Sequence[str] = ()  # what mad_repeats_max compares with
    further: t.Sequence[t.Mapping[str, t.Any]] = ()  # judge/sequential.further
    discover_timeout: float = discovery.TIMEOUT


class Planned(t.NamedTuple):
    """A plan in its campaign, and what the campaign knew before."""

    campaign: Campaign
    plan: dict[str, t.Any]
    changed: bool
    records: dict[str, dict[str, t.Any]]
    launched: dict[str, int]
    before: str  # the flight plan of what is done


class DiscoveryFailed(Exception):
    """Discovery refused tags or repository; madengine's exit code for that is 1, not 4."""


def make(request: Request) -> Planned:
    """Discover, plan, continue the campaign, choose build hosts, write plan.json (not in check mode)."""
    if not request.hosts:
        raise InvalidInput("there is no host to plan for: the play's hosts all have mad_skip, or its pattern matches none")
    then = replay.find(request.options["results"], request.database_url, request.replay) if request.replay else None
    if then:
        request = _as_then(request, then)
    found, known = ({"models": [then.run["card"]], "warnings": []}, None) if then and not request.manifest else _models(request)
    layer = (request.manifest, plan_manifest.context_layer(known)) if known else None
    hosts, warnings = plan_hosts.make_hosts(request.hosts, load_context_file, layer)
    if then:
        replay.settle(then, hosts)
        warnings = warnings + replay.changes(then, hosts)
    campaign = open_campaign(request.options["results"], request.options["campaign"], make=False)
    with _alone(campaign, request), _scratch(request) as scratch:
        old = campaign.plan() if campaign.exists() else None
        plan_continue.remember_facts(hosts, old)
        options = dict(request.options, campaign=campaign.name, credential_file=credential_file(request.options, request.repo))
        options.update(further=list(request.further), against=_against(request, campaign.name, old))
        credentials = registry.load_credentials(options["credential_file"], request.environ)

        def make_plan(repo: str) -> dict[str, t.Any]:
            broken: t.Any = found.get("broken")
            return plan.make_plan(found["models"], hosts, options, repo, known, request.environ, credentials, has_common, broken)

        made = replay.plan_again(then, make_plan, request.repo, scratch) if then else make_plan(request.repo)
        _about(made, request, options, old)
        made["warnings"] = found["warnings"] + warnings + made["warnings"]
        return _continued(campaign, made, old, request)


def _against(request: Request, campaign: str, old: t.Mapping[str, t.Any] | None) -> list[str]:
    """What all looks of the campaign compare with: the newest of now, and of then when it is taken up again."""
    known = (old or {}).get("options") or {}
    if not request.baseline or request.options["build_only"]:
        return []
    if known.get("against") and known.get("baseline") == list(request.baseline):
        return list(known["against"])
    from .judge import libraries, sources  # numpy and scipy take a moment to load, and most plans compare with nothing

    libraries.need()
    return sources.pinned(sources.Place(request.options["results"], request.database_url), request.baseline, campaign)


def _as_then(request: Request, then: Past) -> Request:
    """The request with repository, manifest and options of a run that is planned again."""
    if request.tags or request.manifest:
        raise InvalidInput("mad_replay names one run; mad_tags and mad_manifest cannot be given beside it")
    if request.options["campaign"] == then.campaign:
        raise InvalidInput("mad_replay: %s is the campaign of the run itself; give the replay another mad_campaign" % then.campaign)
    repo = request.repo or str((then.plan.get("repo") or {}).get("path") or "")
    if not os.path.isdir(repo):
        raise InvalidInput("mad_replay: the model repository %s is not there; name it with mad_repo" % repo)
    manifest_path = str(then.plan.get("options", {}).get("manifest") or "")
    return request._replace(repo=repo, manifest=manifest_path, options=replay.options(then, request.options))


@contextlib.contextmanager
def _scratch(request: Request) -> t.Iterator[str]:
    """Where a repository of the past is laid out: a place that lasts as long as its campaign, in check mode only while it is planned."""
    if request.replay and request.check:
        with tempfile.TemporaryDirectory(prefix="mad-replay-") as folder:
            yield folder
    else:
        yield os.path.join(request.options["results"], replay.FOLDER)


@contextlib.contextmanager
def _alone(campaign: Campaign, request: Request) -> t.Iterator[None]:
    """Of two controllers that begin or continue one campaign, the second plans when the first has written its plan."""
    with contextlib.ExitStack() as held:
        if request.options["campaign"] and not request.check and not campaign.exists():  # a name: others may begin it at this moment
            os.makedirs(campaign.results_dir, exist_ok=True)
            held.enter_context(files.locked(os.path.join(campaign.results_dir, _BEGIN)))
        if not request.check and campaign.exists():
            held.enter_context(campaign.lock())
        yield


def _taken(campaign: Campaign, made: dict[str, t.Any], request: Request) -> Campaign:
    """The campaign with its folder made; another controller may have taken the name of this second in the meantime."""
    taken = open_campaign(request.options["results"], request.options["campaign"] and campaign.name)
    if taken.name != campaign.name:
        made["campaign"] = made["options"]["campaign"] = taken.name
        for run in made["runs"]:
            run["campaign"] = taken.name
    return taken


def _continued(campaign: Campaign, made: dict[str, t.Any], old: dict[str, t.Any] | None, request: Request) -> Planned:
    """Bring ledger and plan together, find who builds, write the plan down."""
    records, problems = campaign.results()
    ids = {run["id"] for part in (made, old or {"runs": []}) for run in part["runs"]}
    launched = {run_id: number for run_id in ids for number in [campaign.next_attempt(run_id) - 1] if number}
    whole = plan_continue.continue_plan(made, old, records, launched, request.options["rerun"])
    whole["warnings"] += ["the result of run %s cannot be read: %s" % item for item in sorted(problems.items())]
    plan_continue.build_hosts(whole, request.options["build_host"], bool(whole["builds"]) and controller_engine())
    changed = plan_continue.what_runs(whole) != plan_continue.what_runs(old)
    if old and not changed:
        whole["command"] = old.get("command") or whole["command"]  # what planned the runs is what takes them up again
    if not request.check:
        campaign = _taken(campaign, whole, request)
        campaign.save_plan(whole)
    return Planned(campaign, whole, changed, records, launched, plan.flight_plan(whole, records, only_done=True))


def _models(request: Request) -> tuple[dict[str, t.Any], dict[str, t.Any] | None]:
    """({"models", "warnings", "broken"} of discovery, the manifest if one is given)."""
    if request.manifest:
        if not os.path.exists(request.manifest):
            raise InvalidInput("mad_manifest %s does not exist" % request.manifest)
        known = manifest.read(request.manifest)
        plan_manifest.check(known)
        unused = ["mad_tags has no effect beside mad_manifest: every image of %s is run" % request.manifest] if request.tags else []
        return {"models": [], "warnings": unused}, known
    if not request.tags:
        raise InvalidInput("neither mad_tags nor mad_manifest is set: name models by tag (mad.engine.discover lists them), or a manifest")
    # A build has no rows in which a bad card could be told, so there it ends the play.
    broken: dict[int, InvalidInput] | None = None if request.options["build_only"] else {}
    try:
        found = discovery.discover(request.repo, request.tags, request.cache_dir, request.discover_timeout, frozen=request.check, broken=broken)
    except MadError as error:
        raise DiscoveryFailed(error.message) from error
    if broken and len(broken) == len(found["models"]):
        raise DiscoveryFailed(broken[0].message) from broken[0]
    return dict(found, broken=broken), None


def _about(made: dict[str, t.Any], request: Request, options: t.Mapping[str, t.Any], old: t.Mapping[str, t.Any] | None) -> None:
    """What only the controller knows of a plan."""
    commit, dirty = git_state(request.repo)
    diff = git_diff(request.repo) if dirty else ""
    if request.repo and not commit and os.path.exists(os.path.join(request.repo, ".git")):
        made["warnings"].append("%s is under git, but git names no commit of it: its results cannot be traced to one" % request.repo)
    if made["repo"]["commit"]:  # a replay from a commit of the past
        commit, dirty, diff = made["repo"]["commit"], False, ""
    made.update(created=(old or {}).get("created") or round(time.time(), 3), version=request.version, command=list(request.command))
    made["repo"].update(commit=commit, dirty=dirty, diff=diff)
    made["options"] = dict(options, tags=request.tags, manifest=request.manifest, baseline=list(request.baseline))


def credential_file(options: t.Mapping[str, t.Any], repo: str) -> str:
    """mad_credential_file, else credential.json of the repository if it has one, else ""."""
    given = str(options["credential_file"])
    if given:
        return os.path.abspath(os.path.expanduser(given))
    usual = os.path.join(repo, CREDENTIAL_FILE)
    return usual if os.path.exists(usual) else ""


def has_common(name: str) -> bool:
    """Whether our own scripts/common, which lies below the repository's, has a file."""
    return os.path.isfile(os.path.join(stage.common_files(), name))


def controller_engine() -> bool:
    """Whether a Docker or Podman engine answers on the controller."""
    for program in ("docker", "podman"):
        if shutil.which(program) and _output([program, "info", "--format", "{{.ID}}" if program == "docker" else "{{.Host.Arch}}"])[0]:
            return True
    return False


def git_state(repo: str) -> tuple[str, bool]:
    """(commit, whether the files that runs are made of differ from it); ("", False) for a folder that is not under git."""
    known, commit = _git(repo, "rev-parse", "HEAD")
    if not known:
        return "", False
    clean, status = _git(repo, "status", "--porcelain", "--untracked-files=no")
    return commit, bool(status) or not clean or bool(_untracked(repo))


def _untracked(repo: str) -> list[str]:
    """Sources that git does not know: no commit has them. Of ignored ones only models.json counts, without which the repository is none."""
    given = ("ls-files", "-z", "--others")
    found = [_git(repo, *given, "--exclude-standard", "--", *_SOURCES), _git(repo, *given, "--", _SOURCES[0])]
    names = {name for known, text in found if known for name in text.split("\0") if name}
    return sorted(name for name in names if not IGNORED_NAMES.intersection(name.split("/")))


def git_diff(repo: str) -> str:
    """16 hex digits for what git_state's differences are; "" when git does not say."""
    known, text = _git(repo, "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")
    new = [[name, fingerprint(os.path.join(repo, name))] for name in _untracked(repo)]
    return hash_value([text, new] if new else text)[: run_id.LENGTH] if known else ""


def _git(repo: str, *arguments: str) -> tuple[bool, str]:
    """Ask git about a repository: whether it answered, and what."""
    return _output([*replay.GIT, "-C", repo, *arguments], replay.git_environment())


def _output(argv: list[str], environment: t.Mapping[str, str] | None = None) -> tuple[bool, str]:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_GIT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False, ""
    return done.returncode == 0, done.stdout.strip()


def parse_options(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """plan_options.parse, with the results folder made absolute."""
    options = plan_options.parse(given)
    plan_options.check_rounds(given, options)
    return dict(options, results=os.path.abspath(os.path.expanduser(options["results"])))
