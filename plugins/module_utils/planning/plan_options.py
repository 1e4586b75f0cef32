# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mad_* options a plan depends on: types, defaults, and those that this release refuses by name. Names here carry no prefix."""

from __future__ import annotations

import difflib
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from ..containers import registry
from ..facts import gpu
from ..results import monitor
from ..results.status import RERUNS

DEFAULT_TIMEOUT = 7200  # seconds, when neither the option nor the context nor the card says one
RUNTIMES = ("auto", "docker", "podman", "host")

Check = Callable[[Any, str], Any]


class Option(NamedTuple):
    """One option: how a given value is read, and what an unset one means."""

    read: Check
    default: Any


def _timeout(value: Any, key: str) -> int:
    return scalars.to_seconds(value, key, "seconds, 0 for no limit, or -1 for the card's own")


def _repeats(value: Any, key: str) -> int:
    return scalars.to_int(value, key, 1)


def _repeats_max(value: Any, key: str) -> int:
    expected = "a whole number from 4 (fewer runs decide nothing), or 0 for none"
    return 0 if str(value).strip() == "0" else scalars.to_int(value, key, 4, expected)


def _from_zero(value: Any, key: str) -> int:
    return scalars.to_int(value, key, 0)


def _from_one(value: Any, key: str) -> int:
    return scalars.to_int(value, key, 1)


def _max_failures(value: Any, key: str) -> str:
    text = scalars.to_text(value, key)
    monitor.failure_limit(text, 1)
    return text


def _word(*allowed: str) -> Check:
    def read(value: Any, key: str) -> str:
        text = scalars.to_text(value, key).strip().lower()
        if text not in allowed:
            raise scalars.wrong(key, "one of %s" % ", ".join(allowed), value)
        return text

    return read


def _text(value: Any, key: str) -> str:
    return scalars.to_text(value, key).strip()


def _architectures(value: Any, key: str) -> List[str]:
    """Names without aliases, each once, in order."""
    return list(dict.fromkeys(gpu.architecture(name) for name in scalars.to_list(value, key)))


OPTIONS: Dict[str, Option] = {
    "timeout": Option(_timeout, -1),
    "repeats": Option(_repeats, 1),
    "repeats_max": Option(_repeats_max, 0),
    "retries": Option(_from_zero, 0),
    "rerun": Option(_word(*RERUNS), "missing"),
    "runtime": Option(_word(*RUNTIMES), "auto"),
    "target": Option(_text, ""),
    "target_archs": Option(_architectures, []),
    "build_host": Option(_text, ""),
    "registry": Option(lambda value, key: registry.normalise(_text(value, key)), ""),
    "results": Option(_text, "results"),
    "campaign": Option(_text, ""),
    "credential_file": Option(_text, ""),
    "keep_alive": Option(scalars.to_bool, False),
    "keep_model_dir": Option(scalars.to_bool, False),
    "skip_model_run": Option(scalars.to_bool, False),
    "ignore_deprecated": Option(scalars.to_bool, False),
    "disable_skip_gpu_arch": Option(scalars.to_bool, False),
    "build_only": Option(scalars.to_bool, False),
}

# Read by later steps, but checked by the plan: a slip must not be found when runs have been started.
LATER: Dict[str, Check] = {
    "wait": scalars.to_bool,
    "report": scalars.to_bool,
    "report_history": _from_zero,
    "live_output": scalars.to_bool,
    "cancel_on_failure": scalars.to_bool,
    "clean_docker_cache": scalars.to_bool,
    "allow_secret_build_args": scalars.to_bool,
    "max_failures": _max_failures,
    "contact_timeout": _from_one,
    "transfer_timeout": _from_one,
    "host_parallel": _from_one,
    "stage_parallel": _from_one,
    "build_parallel": _from_one,
    "build_timeout": _from_zero,
    "discover_timeout": _from_one,
}
# Read by other steps; the plan only has to know that they are no slips.
ELSEWHERE: Tuple[str, ...] = tuple(
    """baseline batch_size better build_secrets candidate context context_file database_url drain drain_context drain_host
    drain_kubeconfig export fail_on host_lock hosts import keep_days manifest manifest_output mongo_collection mongo_database no_index no_upsert
    output perf_output pull quarantine references release replay repo report_format report_output report_source rules same_within
    skip summary_output tags unique_key upload work_dir""".split()
)

# What the hosts of one campaign may each have their own of; the contexts are read in play_inputs.
PER_HOST: Tuple[str, ...] = tuple("context context_file host_lock host_parallel live_output runtime skip target transfer_timeout work_dir".split())
# What the plan or another run-once step reads: one value for all hosts.
COMMON: Tuple[str, ...] = tuple(
    name
    for name in sorted({*OPTIONS, *LATER, *"manifest manifest_output perf_output replay repo summary_output tags".split()})
    if name not in PER_HOST
)

# Refused when set; false and empty are fine.
REFUSED: Dict[str, str] = {
    "data_config": "data providers come in a later release; mount what a model needs with docker_mounts in mad_context",
    "force_mirror_local": "data providers come in a later release; mount what a model needs with docker_mounts in mad_context",
    "tools_config": "profiling tools come in a later release",
    "sys_env_details": "the environment report comes in a later release",
    "batch_manifest": "batch manifests come in a later release; give tags, or a build manifest with mad_manifest",
    "use_image": "it comes in a later release; MAD_CONTAINER_IMAGE in mad_context names an image to run",
}


def parse(given: Mapping[str, Any]) -> Dict[str, Any]:
    """Every option of OPTIONS; unset ones (nothing, "", []) have their default. Refused and mistyped ones are InvalidInput."""
    for name, reason in REFUSED.items():
        value = given.get(name)
        if not scalars.is_unset(value) and str(value).strip().lower() not in ("false", "no", "0", "off"):
            raise InvalidInput("mad_%s is not supported by this release: %s" % (name, reason))
    for name, check in LATER.items():
        if not scalars.is_unset(given.get(name)):
            check(given[name], "mad_" + name)
    return {
        name: option.default if scalars.is_unset(given.get(name)) else option.read(given[name], "mad_" + name)
        for name, option in OPTIONS.items()
    }


def check_rounds(given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """What repeats until it is decided has something to compare with, and a play that waits for its results."""
    if not options["repeats_max"] or options["build_only"]:
        return
    if scalars.is_unset(given.get("baseline")):
        raise InvalidInput("mad_repeats_max repeats until a comparison is decided: say with what, mad_baseline=CAMPAIGN (or last)")
    if not scalars.is_unset(given.get("wait")) and not scalars.to_bool(given["wait"], "mad_wait"):
        raise InvalidInput("mad_repeats_max: a play with mad_wait=false does not wait for the results that decide; leave one of them out")
    if options["repeats"] > options["repeats_max"]:
        raise InvalidInput("mad_repeats %(repeats)d is more than mad_repeats_max %(repeats_max)d" % options)


def slips(names: List[str]) -> List[str]:
    """Warnings about mad_* variables (names without prefix) that resemble an option and are none."""
    known = sorted(set(OPTIONS) | set(LATER) | set(ELSEWHERE) | set(REFUSED))
    warnings = []
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near:
            warnings.append("mad_%s is not an option and has no effect; did you mean mad_%s?" % (name, near[0]))
    return warnings
