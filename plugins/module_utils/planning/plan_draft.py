# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as far as model and context say it, before any host is known: command, files, environment, limits, and the parts of its id."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence

from ..base import quoting
from ..base.canonical import hash_value
from ..base.errors import InvalidInput, MadError
from ..base.merge import merge
from ..building import manifest
from ..containers import engine
from ..contexts import context as contexts
from ..contexts import launchers, presets
from ..results import perf
from . import plan_data, plan_env, plan_gpu, run_id, target_slurm, targets
from .plan_image import Variant
from .plan_options import DEFAULT_TIMEOUT
from .plan_repo import COMMON, Repository
from .unresolved import unresolved

SCHEMA = 1
_INTERPRETERS = {".sh": "bash", ".slurm": "bash", ".sbatch": "bash", ".py": "python3"}
_DIRECTORY_SCRIPT = "run.sh"
_OPERATORS = re.compile(r"[|&;<>()]+\Z|.*;\Z|\(")  # words that only a shell would understand
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
LONGEST_SHOWN = 4096  # characters of a text that is too long to be run, as it stands in the plan


class Sources(NamedTuple):
    """Where secrets and numbers of a plan come from, beside cards and contexts."""

    environ: Mapping[str, str]
    credentials: Mapping[str, Any]
    common: Callable[[str], bool]  # whether our own scripts/common has a file


class Draft(NamedTuple):
    """A run without host: `run` holds marks where the host decides, `parts` all of the id but place and repeat."""

    run: Dict[str, Any]
    parts: Dict[str, Any]
    variant: Variant
    secrets: Dict[str, str]


def outcome_of(error: MadError) -> Dict[str, str]:
    """The outcome of a run that an error keeps from running."""
    return {"status": "FAILURE", "failure_class": error.failure_class, "reason": error.message}


def skipped(reason: str) -> Dict[str, str]:
    """The outcome of a run that is not meant to run."""
    return {"status": "SKIPPED", "failure_class": "", "reason": reason}


# -- command ---------------------------------------------------------------------------------------------------------------------


def args_of(card: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Text of the arguments: model_args of the context replaces the card's."""
    return str(context.get("model_args", card.get("args", "")))


def _who(card: Mapping[str, Any]) -> str:
    """The card, as errors name it: with the file it stands in."""
    return "%smodel %s" % ("%s: " % card["source"] if card.get("source") else "", card["name"])


def _what(card: Mapping[str, Any], key: str) -> str:
    return "%s: %s" % (_who(card), key)


def _script(card: Mapping[str, Any], repository: Repository) -> Dict[str, Any]:
    """{"argv" without args, "scripts", "directory"} of the card's script."""
    path = repository.inside(str(card.get("scripts") or ""), _what(card, "scripts"))
    if repository.is_dir(path) and path != ".":
        if not repository.is_file(posixpath.join(path, _DIRECTORY_SCRIPT)):
            raise InvalidInput("%s: the directory %s has no %s" % (_what(card, "scripts"), path, _DIRECTORY_SCRIPT))
        return {"argv": ["bash", _DIRECTORY_SCRIPT], "scripts": path, "directory": path}
    directory, name = posixpath.split(path)
    interpreter = _INTERPRETERS.get(posixpath.splitext(name)[1])
    if not interpreter:
        hint = "; arguments belong into its key 'args'" if len(path.split()) > 1 else ""
        raise InvalidInput("%s: %r: expected a file .sh, .slurm, .sbatch or .py, or a directory with a run.sh%s" % (_what(card, "scripts"), path, hint))
    if not repository.is_file(path):
        problem = "is no regular file" if repository.exists(path) else "does not exist"
        raise InvalidInput("%s: %s %s in %s" % (_what(card, "scripts"), path, problem, repository.path))
    if not directory:
        raise InvalidInput(
            "%s: %s lies at the top of the repository, and the script's whole directory goes to the hosts; move it into a directory"
            % (_what(card, "scripts"), path)
        )
    return {"argv": [interpreter, name], "scripts": path, "directory": directory}


def _encapsulation(context: Mapping[str, Any]) -> List[str]:
    """Words before the command. No shell reads them: assignments go through env, operators are refused."""
    words = quoting.split_words(context.get("encapsulate_script", ""), "encapsulate_script")
    for word in words:
        if _OPERATORS.match(word):
            raise InvalidInput("encapsulate_script: %r needs a shell, and no shell reads it; put it into a script of the repository" % word)
    return ["env"] + words if words and _ASSIGNMENT.match(words[0]) else words


def command(card: Mapping[str, Any], context: Mapping[str, Any], repository: Repository) -> Dict[str, Any]:
    """The command of a run: words, none of them read by a shell."""
    script = _script(card, repository)
    what = "model_args in mad_context" if "model_args" in context else _what(card, "args")
    argv = _encapsulation(context) + script["argv"] + quoting.split_words(args_of(card, context), what)
    engine.check_words(argv, what)
    return dict(script, argv=argv)


def _side_scripts(context: Mapping[str, Any], key: str, repository: Repository, common: Callable[[str], bool]) -> List[Dict[str, Any]]:
    found = []
    for index, entry in enumerate(context.get(key, [])):
        what = "%s[%d]" % (key, index)
        path = repository.inside(entry["path"], what)
        if not repository.is_file(path) and not (path.startswith(COMMON + "/") and common(path[len(COMMON) + 1 :])):
            raise InvalidInput("%s: %s does not exist in %s" % (what, path, repository.path))
        found.append({"path": path, "args": quoting.split_words(entry.get("args", ""), what + ".args")})
    return found


# -- launcher, limits ------------------------------------------------------------------------------------------------------------


def launcher(card: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, Any]:
    """{"name", "nnodes", "nproc_per_node", "port"}: the card's `distributed` below the context's, the presets' below both."""
    layer = dict({"distributed": card.get("distributed") or {}}, **(target_slurm.card_nodes(card) if _on_slurm(context) else {}))
    own = contexts.normalise([layer], [_who(card)])["context"]
    settings = merge(presets.launch_defaults(context), own.get("distributed", {}), context.get("distributed", {}))
    nnodes = settings.get("nnodes", 1)
    several = targets.of(context).several_nodes
    if nnodes > 1 and not several:
        raise plan_gpu.node_count_error(nnodes, str(card["name"]))
    if several:
        launchers.check_nodes(settings.get("launcher", ""), nnodes)
    else:
        launchers.check_local(settings.get("launcher", ""))
    return {
        "name": settings.get("launcher", ""),
        "nnodes": nnodes,
        "nproc_per_node": settings.get("nproc_per_node") or unresolved("as many as GPUs"),
        "port": settings.get("port", launchers.DEFAULT_PORT),
        **(_of_several(settings) if several else {}),
    }


def _of_several(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """What only a run of several nodes needs: the split of sglang-disagg, Primus' own, and how the nodes' metrics become one."""
    split = settings.get("sglang_disagg") or {}
    found: Dict[str, Any] = {key: int(split[key]) for key in ("prefill_nodes", "decode_nodes") if split.get(key) is not None}
    for key in ("aggregation", "primus"):
        if settings.get(key):
            found[key] = settings[key]
    return found


def timeout(card: Mapping[str, Any], context: Mapping[str, Any], option: int) -> int:
    """Seconds, 0 for none: mad_timeout, else the context's, else the card's if it is above 0, else (on Slurm) its slurm.time, else 7200."""
    for value in (option, context.get("timeout", -1)):
        if value >= 0:
            return int(value)
    own = card.get("timeout", -1)
    if isinstance(own, int) and own > 0:
        return int(own)
    return (target_slurm.card_seconds(card) if _on_slurm(context) else 0) or DEFAULT_TIMEOUT


def notes(card: Mapping[str, Any], context: Mapping[str, Any]) -> List[str]:
    """What of a card has no effect under this context."""
    return target_slurm.card_notes(card, context) if _on_slurm(context) else []


def _on_slurm(context: Mapping[str, Any]) -> bool:
    return targets.name_of(context) == "slurm"


def _mounts(context: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """docker_mounts says container path -> host path; :ro behind the former makes it read-only."""
    found = []
    for target, source in sorted(context.get("docker_mounts", {}).items()):
        plain = re.sub(r":r[ow]\Z", "", target)
        found.append({"source": source, "target": plain, "read_only": target.endswith(":ro")})
    return found


# -- the draft -------------------------------------------------------------------------------------------------------------------


def _environment(run: Dict[str, Any], card: Mapping[str, Any], context: Mapping[str, Any], sources: Sources) -> Dict[str, str]:
    """Fill env and secret_env; returns the secret values."""
    given = plan_env.given_variables(card, context, sources.environ, sources.credentials)
    engine.check_environment(dict(given.plain, **given.secret))
    own: Dict[str, Any] = dict(presets.variable_defaults(context, run["launcher"]["nnodes"]))
    own.update(plan_env.own_variables(card, context, sources.environ))
    marks = {name: unresolved("known when the host answers") for name in plan_env.HOST_NAMES}
    marks.update({name: unresolved("known with the number of GPUs") for name in plan_env.launch_names(run["launcher"]["name"], run["launcher"]["nnodes"])})
    names = set(given.secret)
    run["env"] = {name: value for name, value in dict(marks, **dict(own, **given.plain)).items() if name not in names}
    run["secret_env"] = sorted(names)
    if targets.of(context).several_nodes:
        run["given_env"] = sorted(given.plain)  # a launcher on the nodes leaves these alone
    return given.secret


def _shortened(value: Any) -> Any:
    """A structure with texts that are too long for a process cut, for a run that will not run because of them."""
    if isinstance(value, str) and len(value) > LONGEST_SHOWN:
        return "%s... (%d characters)" % (value[:LONGEST_SHOWN], len(value))
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list) else value


def _blank(card: Mapping[str, Any], context: Mapping[str, Any], options: Mapping[str, Any]) -> Dict[str, Any]:
    """A run with everything that cannot fail; what can is put in by `make`."""
    return {
        "schema": SCHEMA,
        "id": "",
        "campaign": options["campaign"],
        "order": 0,
        "attempt": 1,
        "retries": options["retries"],
        "wanted": True,
        "model": card["name"],
        "card": manifest.without_secrets(card),
        "args": args_of(card, context),
        "repeat": 1,
        "place": {},
        "runtime": "",
        "image": None,
        "launcher": {"name": "", "nnodes": 1, "nproc_per_node": 1, "port": launchers.DEFAULT_PORT},
        "command": {"argv": [], "scripts": str(card.get("scripts") or ""), "directory": ""},
        "stage": [],
        "url": str(card.get("url") or ""),
        "cred": str(card.get("cred") or ""),
        "env": {},
        "secret_env": [],
        "mounts": _mounts(context),
        "gpus": {"vendor": context.get("gpu_vendor", ""), "count": 0, "pool": [], "devices": {}},
        "cpus": context.get("docker_cpus", ""),
        "options": [],
        "privileges": dict({"sys_admin": False, "seccomp_unconfined": False, "ipc_host": False}, **context.get("docker_privileges", {})),
        "pre_scripts": [],
        "post_scripts": [],
        "timeout": timeout(card, context, options["timeout"]),
        "multiple_results": str(card.get("multiple_results") or ""),
        "scan": {"enabled": True, "patterns": [], "benign": []},
        "keep": {"alive": options["keep_alive"], "model_dir": options["keep_model_dir"]},
        "skip_model_run": options["skip_model_run"],
        "skip_gpu_arch": [] if options["disable_skip_gpu_arch"] else list(card.get("skip_gpu_arch") or []),
        "content": {},
        "outcome": None,
    }


def _fill(
    run: Dict[str, Any], card: Mapping[str, Any], context: Mapping[str, Any], repository: Repository, sources: Sources, runtime: str
) -> Dict[str, str]:
    """Everything that may be wrong with a card or a context; the first thing that is raises MadError. Returns secret values."""
    run["launcher"] = launcher(card, context)
    run["command"] = command(card, context, repository)
    for key in ("pre_scripts", "post_scripts"):
        run[key] = _side_scripts(context, key, repository, sources.common)
    side = [entry["path"] for entry in run["pre_scripts"] + run["post_scripts"] if repository.is_file(entry["path"])]
    run["stage"] = sorted({run["command"]["directory"], *side} | ({COMMON} if repository.is_dir(COMMON) else set()))
    for path in (*run["stage"], run["command"]["scripts"]):
        repository.check_stage(path, _what(card, "scripts"))
    run["options"] = quoting.split_words(str(card.get("additional_docker_run_options") or ""), _what(card, "additional_docker_run_options"))
    engine.check_options(run["options"])
    run["scan"] = perf.make_scan(card, context)
    run["gpus"] = plan_gpu.wish(card, context)
    own = card if run["launcher"]["name"] != launchers.SELF_STARTED else plan_env.with_image_of_run(card, context, runtime)
    return _environment(run, own, context, sources)


def make(
    card: Mapping[str, Any],
    context: Mapping[str, Any],
    variant: Variant,
    options: Mapping[str, Any],
    repository: Repository,
    sources: Sources,
) -> Draft:
    """The draft of one variant of a model under one context. What is wrong becomes its outcome; nothing is raised for it."""
    run = _blank(card, context, options)
    secrets: Dict[str, str] = {}
    deprecated = card.get("deprecated") or card.get("is_deprecated")
    if deprecated and not options["ignore_deprecated"]:
        run["outcome"] = skipped("the model is deprecated (mad_ignore_deprecated runs it all the same)")
    try:
        if not options["build_only"]:  # an image needs no data
            plan_data.check(card, context, repository)
        secrets = _fill(run, card, context, repository, sources, str(options["runtime"]))
    except MadError as error:
        run["outcome"] = run["outcome"] or outcome_of(error)
    if run["outcome"]:
        run = dict(_shortened(run), env={})
    parts = _parts(card, context, variant, run, repository, sources, options)
    return Draft(dict(run, content=run_id.content(parts)), parts, variant, secrets)


def _parts(
    card: Mapping[str, Any],
    context: Mapping[str, Any],
    variant: Variant,
    run: Mapping[str, Any],
    repository: Repository,
    sources: Sources,
    options: Mapping[str, Any],
) -> Dict[str, Any]:
    """The parts of the id; a script that is absent counts as empty."""
    side = [[entry["path"], repository.known_tree(entry["path"])] for entry in run["pre_scripts"] + run["post_scripts"]]
    directory = str(run["command"]["directory"])
    runtime = str(options["runtime"])
    return {
        "card": run_id.card_part(card),
        "args": args_of(card, context),
        "hashes": {
            "scripts": repository.known_tree(directory) if directory else "",
            "pre_post": hash_value(side) if side else "",
            "docker": "" if runtime == "host" else variant.content,
            "tools": repository.known_tree(COMMON),
            "data": "",
        },
        "build_args": run_id.build_part({} if runtime == "host" else context.get("docker_build_arg", {})),
        "context": run_id.context_part(context, _outside_secrets(card, sources)),
        "place": {},
        "repeat": 1,
        "variant": variant.name,
        "runtime": runtime,
    }


def _outside_secrets(card: Mapping[str, Any], sources: Sources) -> Sequence[str]:
    """Names of secrets that neither card nor context holds."""
    fields = sources.credentials.get(str(card.get("cred") or ""))
    names = list(plan_env.environ_secrets(sources.environ))
    return names + ["%s_%s" % (card["cred"], str(key).upper()) for key in fields] if isinstance(fields, Mapping) else names
