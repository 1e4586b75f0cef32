# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: models x hosts x repeats become runs, decided before anything executes. Pure, but for reading and hashing the repository.

`make_plan` decides, `resolve` fills what only host or build could say, `flight_plan` shows it to a person. Files of this part:
plan_options (mad_* options), plan_draft (a run without host), plan_data, plan_image, plan_gpu, plan_env, plan_fill (what the host decides),
plan_manifest (runs out of a manifest), plan_continue (a campaign that is continued), plan_text (the table), targets (what each target
has of its own).
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..base.canonical import canonical_json, hash_value
from ..base.errors import ImageError, InvalidInput, MadError
from ..building.manifest import without_secrets
from ..contexts.context import EXAMPLE
from . import plan_data, plan_draft, plan_env, plan_fill, plan_image, plan_options, targets
from .plan_continue import needed_builds
from .plan_draft import Draft, Sources
from .plan_fill import resolve
from .plan_image import Builds, Images, Variant
from .plan_manifest import entries, notes
from .plan_repo import Repository
from .plan_text import flight_plan
from .run_id import run_id
from .unresolved import unresolved

__all__ = ["flight_plan", "make_plan", "resolve"]

SCHEMA = 1

Run = Dict[str, Any]


class Entry(NamedTuple):
    """One model to plan: its card, and for a run from a manifest the image that was built for it."""

    card: Mapping[str, Any]
    image: Optional[Variant]
    problem: Optional[MadError]


class _Host(NamedTuple):
    """One host, with what is shared by all hosts that are alike."""

    name: str
    context: Mapping[str, Any]
    context_key: str
    facts: Optional[Mapping[str, Any]]
    facts_key: str
    options: Mapping[str, Any]
    reachable: bool
    reason: str


def _no_common(_name: str) -> bool:
    return False


def make_plan(
    models: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Any],
    repo: str,
    manifest: Optional[Mapping[str, Any]] = None,
    environ: Optional[Mapping[str, str]] = None,
    credentials: Optional[Mapping[str, Any]] = None,
    common: Callable[[str], bool] = _no_common,
    broken: Optional[Mapping[int, MadError]] = None,
) -> Dict[str, Any]:
    """The plan of these models (or, with `manifest` from manifest.read(), of its images) on these hosts.

    `hosts` is {name: {"context" (normalised), "facts" or None, "runtime", "reachable", "reason"}}, `options` the mad_* options without
    prefix, `environ` the controller's environment, `credentials` its credential file; `common` says whether our own scripts/common has a
    file; `broken` is what is wrong with the cards of some models, by their place. One bad model never stops the others: it becomes a run
    with an `outcome`. InvalidInput is raised for what concerns all of them.
    """
    settings = dict(plan_options.parse(options), further=list(options.get("further") or []))
    sources = Sources(environ or {}, credentials or {}, common)
    known = (
        entries(manifest, settings["registry"], sources.credentials)
        if manifest is not None
        else [(card, None, (broken or {}).get(index)) for index, card in enumerate(models)]
    )
    planner = _Planner(settings, Repository(repo), sources, [Entry(*entry) for entry in known])
    planned = [_host(name, hosts[name], settings) for name in hosts]
    if settings["build_only"] and planned and not any(_is_decided(host) for host in planned):
        raise InvalidInput(
            "host %s: a build alone needs gpu_vendor and guest_os in mad_context where nothing was detected. An example: mad_context=%s"
            % (planned[0].name, EXAMPLE)
        )
    if manifest is not None:
        planner.warn(*notes(manifest, [host.context for host in planned]))
    for host in planned:
        planner.add(host)
    return planner.plan(repo, hosts)


def _host(name: str, given: Mapping[str, Any], settings: Mapping[str, Any]) -> _Host:
    context = given["context"]
    targets.check(name, context, settings)
    facts = given.get("facts") or None
    runtime = given.get("runtime") or settings["runtime"]
    runtime = targets.of(context).runtime(context) or runtime if runtime == "auto" else runtime
    known = plan_options.RUNTIMES + targets.of(context).more_runtimes
    if runtime not in known:
        raise InvalidInput("host %s: mad_runtime %r: expected one of %s" % (name, runtime, ", ".join(known)))
    return _Host(
        name,
        context,
        hash_value(context),
        facts,
        _facts_key(facts),
        dict(settings, runtime=runtime),
        bool(given.get("reachable", True)),
        str(given.get("reason") or ""),
    )


def _is_decided(host: _Host) -> bool:
    """Whether it is known for which vendor and system this host's images are built."""
    return host.facts is not None or bool(host.context.get("gpu_vendor") and host.context.get("guest_os"))


def _facts_key(facts: Optional[Mapping[str, Any]]) -> str:
    """Equal for hosts on which every run is filled alike."""
    if facts is None:
        return ""
    gpu = dict(facts.get("gpu") or {})
    gpu["devices"] = [[device.get("index"), device.get("render_node")] for device in gpu.get("devices") or []]
    engines = {name: [engine.get("available"), engine.get("problem")] for name, engine in (facts.get("engines") or {}).items()}
    return canonical_json([gpu, engines, (facts.get("cpu") or {}).get("count"), facts.get("os")])


class _Planner:
    """Collects the runs; a class because drafts, builds and warnings are shared by all hosts."""

    def __init__(self, settings: Mapping[str, Any], repository: Repository, sources: Sources, models: Sequence[Entry]) -> None:
        self.settings, self.repository, self.sources, self.models = settings, repository, sources, models
        self.images = Images(repository, plan_env.environ_secrets(sources.environ))
        self.builds = Builds(ignore_architecture=settings["build_only"])
        self.runs: List[Run] = []
        self.warnings: Dict[str, None] = {}  # each once, in their order
        self.engineless: Dict[str, List[str]] = {}  # hosts by why the engine there is none
        self._further = {tuple(str(more[name]) for name in ("model", "args", "host")): int(more["repeats"]) for more in settings["further"]}
        self._drafts: Dict[Tuple[int, str, str], List[Draft]] = {}
        self._filled: Dict[Tuple[int, int, str], Run] = {}

    # -- one host ----------------------------------------------------------------------------------------------------------------

    def add(self, host: _Host) -> None:
        """Plan every model on one host; repeats stand behind each other as whole rounds, so that drift meets all models alike."""
        possible = [self._of_model(index, host) for index in range(len(self.models))]
        if self.settings["build_only"] and _is_decided(host):
            self._register([draft for drafts in possible for draft in drafts if not draft.run["outcome"]], host)
        drafts = [draft for drafts in possible for draft in self._fitting(drafts, host)]
        seen: Set[str] = set()
        secrets: Dict[str, str] = {}
        repeats = [self._repeats(draft.run, host) for draft in drafts]
        for repeat in range(1, max(repeats, default=0) + 1):
            for draft in (draft for draft, most in zip(drafts, repeats) if repeat <= most):
                run = self._run(draft, host, repeat, len(seen))
                if run["id"] in seen:
                    self.warn("model %s is selected twice with the same card and args; it is planned once" % run["model"])
                    continue
                seen.add(run["id"])
                self._check_secrets(run, draft, secrets)
                self.runs.append(run)
        if drafts and self._falls_to_host(host):
            self.engineless.setdefault(plan_fill.silent_engine(host.facts or {}), []).append(host.name)

    def _repeats(self, run: Run, host: _Host) -> int:
        """How often a model runs on a host: mad_repeats, and more where a comparison is not decided yet."""
        more = self._further.get((str(run["model"]), " ".join(str(run["args"]).split()), host.name), 0)
        return max(int(self.settings["repeats"]), more)

    def _of_model(self, index: int, host: _Host) -> List[Draft]:
        key = (index, host.context_key, str(host.options["runtime"]))
        if key not in self._drafts:
            self._drafts[key] = self._make_drafts(self.models[index], host)
        return self._drafts[key]

    def _make_drafts(self, entry: Entry, host: _Host) -> List[Draft]:
        variants, problem = self._variants(entry, host)
        self.warn(*plan_draft.notes(entry.card, host.context))
        drafts = [
            plan_draft.make(entry.card, host.context, variant, host.options, self.repository, self.sources)
            for variant in variants or [Variant("", [], "")]
        ]
        for draft in drafts:
            self._open(draft, host)
            if problem and (problem is entry.problem or not draft.run["outcome"]):
                draft.run["outcome"] = plan_draft.outcome_of(problem)
        return drafts

    def _variants(self, entry: Entry, host: _Host) -> Tuple[List[Variant], Optional[MadError]]:
        """Images a model can have under this context, or why there is none."""
        given, runtime = str(host.context.get("MAD_CONTAINER_IMAGE") or ""), host.options["runtime"]
        if entry.image:
            return [entry.image], entry.problem
        if entry.problem:
            return [], entry.problem
        if given:
            return [plan_image.given_image(given)], None
        if runtime == "host":
            return [], None
        try:
            return self.images.variants(entry.card, host.context, self.settings["target_archs"]), None
        except ImageError as error:
            # Without an engine a run needs no image, and what auto means is not known before the host answers.
            return ([plan_image.no_image(error.message)], None) if runtime == "auto" else ([], error)
        except MadError as error:
            return [], error

    @staticmethod
    def _open(draft: Draft, host: _Host) -> None:
        """Put runtime and image into a draft: as asked, or as marks."""
        runtime, choices = host.options["runtime"], draft.variant.choices
        draft.run["runtime"] = unresolved("auto: docker, else podman, else host") if runtime == "auto" else runtime
        draft.run["image"] = plan_fill.open_image(choices) if choices and runtime != "host" else None

    def _register(self, drafts: Sequence[Draft], host: _Host) -> None:
        """For a build alone: every image that this host's vendor admits, whatever its architecture."""
        for draft in drafts:
            for choice in plan_image.fitting(draft.variant.choices, host.context, host.facts):
                if not choice.problem:
                    self.builds.image(choice, "")

    @staticmethod
    def _falls_to_host(host: _Host) -> bool:
        return host.facts is not None and host.options["runtime"] == "auto" and plan_fill.automatic(host.facts) == "host"

    def _fitting(self, drafts: List[Draft], host: _Host) -> List[Draft]:
        """Of several Dockerfiles of a model those that this host's hardware admits; without an engine one run is enough."""
        if len(drafts) < 2 or host.facts is None:
            return drafts
        if self._falls_to_host(host):
            return drafts[:1]
        found = [draft for draft in drafts if plan_image.fitting(draft.variant.choices, host.context, host.facts)]
        if found:
            return found
        every = [choice for draft in drafts for choice in draft.variant.choices]
        return [drafts[0]._replace(variant=drafts[0].variant._replace(choices=every))]

    def _run(self, draft: Draft, host: _Host, repeat: int, order: int) -> Run:
        filled = self._on(draft, host)
        place = dict(targets.of(host.context).place(host.context), target=targets.name_of(host.context), host=host.name)
        outcome = filled["outcome"]
        if not host.reachable and not outcome:
            why = "host %s is unreachable%s" % (host.name, ": " + host.reason if host.reason else "")
            outcome = plan_draft.outcome_of(MadError(why, "infra"))
        number = run_id(dict(draft.parts, place=place, repeat=repeat))
        return dict(filled, id=number, place=place, repeat=repeat, order=order, outcome=outcome)

    def _on(self, draft: Draft, host: _Host) -> Run:
        """The draft on hosts like this one: filled once for all of them."""
        if host.facts is None:
            return draft.run
        key = (id(draft.run), len(draft.variant.choices), host.facts_key)
        if key not in self._filled:
            self._filled[key] = plan_fill.fill_host(draft.run, draft.variant.choices, host.context, host.facts, self.builds)
        return self._filled[key]

    # -- what concerns several runs ----------------------------------------------------------------------------------------------

    def warn(self, *texts: str) -> None:
        """Say each text once."""
        self.warnings.update(dict.fromkeys(texts))

    @staticmethod
    def _check_secrets(run: Run, draft: Draft, known: Dict[str, str]) -> None:
        """A host gets each secret once: two models with different values under one name cannot both have theirs."""
        for name, value in draft.secrets.items():
            if known.setdefault(name, value) != value and not run["outcome"]:
                reason = "model %s: the secret %s has another value than for another model of this host; use different names"
                run["outcome"] = plan_draft.outcome_of(InvalidInput(reason % (run["model"], name)))

    # -- the whole ---------------------------------------------------------------------------------------------------------------

    def plan(self, repo: str, hosts: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
        """plan.json, but for what the caller knows: creation, command line, commit."""
        self.builds.name_all()
        for problem, names in self.engineless.items():
            why = " (%s)" % problem if problem else ""
            self.warn("no engine answers on %s: runs there use the runtime host, without an image%s" % (", ".join(names[:20]), why))
        plan: Dict[str, Any] = {
            "schema": SCHEMA,
            "campaign": self.settings["campaign"],
            "created": 0.0,
            "version": "",
            "command": [],
            "repo": {"path": os.path.abspath(repo), "commit": "", "dirty": False, "diff": ""},
            "options": dict(self.settings),
            "hosts": {name: _host_part(hosts[name]) for name in hosts},
            "builds": [],
            "runs": self.runs,
            "warnings": [*self.warnings, *self.images.warnings] + plan_data.notes([entry.card for entry in self.models], self.repository),
        }
        plan["builds"] = needed_builds(plan, self.builds.requests())
        return plan


def _host_part(host: Mapping[str, Any]) -> Dict[str, Any]:
    return {
        "target": targets.name_of(host["context"]),
        "reachable": bool(host.get("reachable", True)),
        "reason": str(host.get("reason") or ""),
        "facts": host.get("facts"),
        **({"machine": host["machine"]} if host.get("machine", host.get("facts")) != host.get("facts") else {}),
        "context": without_secrets(host["context"]),
    }
