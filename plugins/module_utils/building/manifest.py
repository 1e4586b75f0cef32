# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""build_manifest.json: composed from a plan and what became of its builds, written atomically; madengine's own manifests are read too."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ..base import files
from ..base.errors import InvalidInput
from ..base.secret_names import is_secret_name
from ..containers.registry import check_reference

SCHEMA = 1
MASTER_PORT = 29500  # torch's own default
BUILD_FAILED = 2  # exit_code of a campaign with a failed build or push
_CONTEXT_DICTS = ("docker_env_vars", "docker_mounts", "docker_build_arg")
_CONTEXT_TEXTS = ("gpu_vendor", "guest_os", "docker_gpus")
_CONTEXT_OPTIONAL = ("tools", "pre_scripts", "post_scripts", "encapsulate_script")
_DEPLOYMENT_KEYS = ("slurm", "k8s", "distributed", "vllm", "env_vars", "debug")
_NOT_FOR_OTHERS = ("MIOPEN_USER_DB_PATH",)  # a path of one machine
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


# -- writing ---------------------------------------------------------------------------------------------------------------------


def compose(
    plan: Mapping[str, Any],
    outcomes: Mapping[str, Mapping[str, Any]],
    registry: str = "",
    context: Optional[Mapping[str, Any]] = None,
    reasons: Optional[Mapping[str, str]] = None,
) -> Dict[str, Any]:
    """The manifest of a plan.

    `outcomes` are builder outcomes by image name (a `push` key: {"name", "digest", "error"}); a planned build without one counts as failed,
    with `reasons[build host]` as its error. `context` is the normalised context that the builds had. Values with secret names never get in.
    """
    context = context or {}
    builds = list(plan.get("builds", ()))
    records = {
        build["image"]: _record(build, outcomes[build["image"]], registry) for build in builds if _is_built(outcomes.get(build["image"]))
    }
    cards = _cards(plan)
    executions = _executions(plan, context)
    for name, record in records.items():
        record["execution"] = executions.get(name) or _execution({}, context)
    document = {
        "schema": SCHEMA,
        "campaign": plan.get("campaign", ""),
        "built_images": records,
        "built_models": {name: _model(cards.get(name) or {"name": records[name]["model"]}, records[name]) for name in records},
        "context": _context(context),
        "credentials_required": sorted({build["cred"] for build in builds if build.get("cred")}),
        "registry": registry,
        "deployment": _deployment(plan, context),
        "push_failures": _push_failures(records),
        "summary": _summary(builds, outcomes, records, reasons or {}),
        "secrets_required": sorted(_secret_names(plan)),
    }
    document["deployment_config"] = deployment_config(document["deployment"])
    return document


def write(path: str, document: Mapping[str, Any]) -> bool:
    """Replace the manifest in one step; returns whether it changed."""
    try:
        if files.read_json(path, "the build manifest") == document:
            return False
    except InvalidInput:
        pass  # absent or broken: replaced
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"  # not sorted: images stand in the order of the plan
    files.write_atomic(path, text.encode("utf-8", "surrogateescape"))
    return True


def exit_code(document: Mapping[str, Any]) -> int:
    """2 when a build or a push failed, else 0."""
    summary = document.get("summary", {})
    return BUILD_FAILED if summary.get("failed_builds") or summary.get("failed_pushes") else 0


def _is_built(outcome: Optional[Mapping[str, Any]]) -> bool:
    return bool(outcome and outcome.get("record"))


def _record(build: Mapping[str, Any], outcome: Mapping[str, Any], registry: str) -> Dict[str, Any]:
    """The image record: what the builder said, and what became of the push."""
    record = dict(outcome["record"])
    push = outcome.get("push") or {}
    if push.get("error"):
        record["push_error"] = push["error"]
    elif push.get("name"):
        record.update(registry=registry, registry_image=push["name"], registry_digest=push.get("digest", ""))
    return record


def _cards(plan: Mapping[str, Any]) -> Dict[str, Mapping[str, Any]]:
    """The card behind each image name: of the first run that uses it."""
    cards: Dict[str, Mapping[str, Any]] = {}
    for run in plan.get("runs", ()):
        name = (run.get("image") or {}).get("name")
        if name and name not in cards:
            cards[name] = run.get("card") or {"name": run.get("model", "")}
    return cards


def _model(card: Mapping[str, Any], record: Mapping[str, Any]) -> Dict[str, Any]:
    """The card as madengine's manifest has it: whole; a pushed image's name also stands in its env_vars. Secret values stay out."""
    model = {key: value for key, value in without_secrets(card).items() if key != "source"}  # where it was found means nothing elsewhere
    if isinstance(model.get("skip_gpu_arch"), list):
        model["skip_gpu_arch"] = ",".join(model["skip_gpu_arch"])
    if record.get("registry_image"):
        model["env_vars"] = dict(model.get("env_vars") or {}, DOCKER_IMAGE_NAME=record["registry_image"])
    return model


def _executions(plan: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """How each image is run: of the first run that uses it."""
    found: Dict[str, Dict[str, Any]] = {}
    for run in plan.get("runs", ()):
        name = (run.get("image") or {}).get("name")
        if name and name not in found:
            found[name] = _execution(run.get("launcher") or {}, context)
    return found


def _execution(launcher: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, Any]:
    """{launcher, nnodes, nproc_per_node, master_addr, master_port}; null where only the host can say."""
    distributed = context.get("distributed") or {}
    processes = launcher.get("nproc_per_node", distributed.get("nproc_per_node", 1))
    return {
        "launcher": launcher.get("name") or distributed.get("launcher") or "python",
        "nnodes": launcher.get("nnodes", distributed.get("nnodes", 1)),
        "nproc_per_node": processes if isinstance(processes, int) else None,
        "master_addr": "auto",
        "master_port": launcher.get("port") or distributed.get("port") or MASTER_PORT,
    }


def _context(context: Mapping[str, Any]) -> Dict[str, Any]:
    """The build's context as old readers know it, every key there, secrets out."""
    found: Dict[str, Any] = {name: without_secrets(context.get(name) or {}) for name in _CONTEXT_DICTS}
    found.update({name: context.get(name) or "" for name in _CONTEXT_TEXTS})
    found.update({name: without_secrets(context[name]) for name in _CONTEXT_OPTIONAL if context.get(name)})
    return found


def _deployment(plan: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, Any]:
    """{target, config}; with several targets in one plan the first host's, and `hosts` says them all."""
    targets = {name: host.get("target") or "local" for name, host in plan.get("hosts", {}).items()}
    target = next(iter(targets.values()), context.get("deploy") or "local")
    config = {key: without_secrets(context[key]) for key in _DEPLOYMENT_KEYS if context.get(key)}
    deployment: Dict[str, Any] = {"target": target, "config": config}
    if len(set(targets.values())) > 1:
        deployment["hosts"] = targets
    return deployment


def deployment_config(deployment: Mapping[str, Any]) -> Dict[str, Any]:
    """The same for readers of madengine's format: one flat dict with target, env_vars and debug always there."""
    config = dict(deployment["config"])
    if "k8s" in config:
        config["kubernetes"] = config["k8s"]
    variables = {name: value for name, value in (config.pop("env_vars", None) or {}).items() if name not in _NOT_FOR_OTHERS}
    return dict(config, target=deployment["target"], env_vars=variables, debug=bool(config.get("debug", False)))


def _push_failures(records: Mapping[str, Mapping[str, Any]]) -> List[Dict[str, str]]:
    return [
        {"image": name, "model": record["model"], "error": record["push_error"]}
        for name, record in records.items()
        if record.get("push_error")
    ]


def _summary(
    builds: Sequence[Mapping[str, Any]],
    outcomes: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, str],
) -> Dict[str, Any]:
    """madengine's summary; its lists say all that was planned: each build is in exactly one of the first two."""
    return {
        "successful_builds": list(records.values()),
        "failed_builds": [_failed(build, outcomes.get(build["image"]), reasons) for build in builds if build["image"] not in records],
        "total_build_time": round(sum(record.get("build_duration") or 0.0 for record in records.values()), 3),
        "successful_pushes": [
            {"image": name, "registry_image": record["registry_image"]} for name, record in records.items() if record.get("registry_image")
        ],
        "failed_pushes": _push_failures(records),
    }


def _failed(build: Mapping[str, Any], outcome: Optional[Mapping[str, Any]], reasons: Mapping[str, str]) -> Dict[str, str]:
    """{model, [architecture], error} as madengine writes it, with the image's name and the failure class."""
    host = build.get("build_host", "")
    nothing = reasons.get(host) or "it was planned on build host %r, which gave no result" % host
    failed = {
        "model": build["model"],
        "image": build["image"],
        "dockerfile": build.get("dockerfile", ""),
        "error": (outcome or {}).get("reason") or "image %s of model %s was not built: %s" % (build["image"], build["model"], nothing),
        "failure_class": (outcome or {}).get("failure_class") or "image",
    }
    if build.get("gpu_architecture"):
        failed["architecture"] = build["gpu_architecture"]
    return failed


def _secret_names(plan: Mapping[str, Any]) -> Iterable[str]:
    """Names of everything secret that runs or builds need: whoever runs from this manifest must bring the values."""
    for run in plan.get("runs", ()):
        yield from run.get("secret_env", ())
    for build in plan.get("builds", ()):
        yield from build.get("secret_build", ())


def without_secrets(value: Any) -> Any:
    """A copy without the entries whose name is secret. Names of Kubernetes Secrets (`..._name`, `..._names`) and nested dicts stay."""
    if isinstance(value, Mapping):
        return {key: without_secrets(entry) for key, entry in value.items() if not _is_secret_entry(str(key), entry)}
    if isinstance(value, (list, tuple)):
        return [without_secrets(entry) for entry in value]
    return value


def _is_secret_entry(key: str, value: Any) -> bool:
    return is_secret_name(key) and not isinstance(value, (Mapping, bool)) and not key.lower().endswith(("_name", "_names"))


# -- reading ---------------------------------------------------------------------------------------------------------------------


def read(path: str) -> Dict[str, Any]:
    """A manifest of ours or of madengine in one form; the file is only read.

    {"path", "images": [record with "name", "docker_image", "registry_image", "digest", "dockerfile", "base_docker", "docker_sha",
    "build_duration", "gpu_vendor", "gpu_architecture", "given" (it was not built but named), "execution", ... all texts, "" unknown],
    "models": {image name: card}, "context", "registry", "deployment": {"target", "config"}, "credentials_required", "secrets_required",
    "summary"}.
    Errors (InvalidInput) name the file and the key.
    """
    document = _mapping(files.read_json(path, "the build manifest"), path, "the document (a list is a batch manifest, which comes in a later release)")
    images = _mapping(document.get("built_images"), path, "built_images")
    models = _mapping(document.get("built_models"), path, "built_models")
    for name in images:
        if not isinstance(models.get(name), Mapping) or not isinstance(models[name].get("name"), str):
            raise InvalidInput(
                "the build manifest %s: built_models has no card with a name for the image %r of built_images" % (path, name)
            )
    records = [_read_record(name, _mapping(record, path, "built_images[%r]" % name), path) for name, record in images.items()]
    registry = document.get("registry") or next((record["registry"] for record in records if record.get("registry")), "")
    return {
        "path": path,
        "images": records,
        "models": {name: dict(card) for name, card in models.items() if name in images},
        "context": _optional(document, "context", path),
        "registry": registry,
        "deployment": _read_deployment(document, path),
        "credentials_required": _names(document, "credentials_required", path),
        "secrets_required": _names(document, "secrets_required", path),
        "summary": _optional(document, "summary", path),
    }


def failures(document: Mapping[str, Any]) -> Dict[str, str]:
    """{image name, or model where a madengine names no image: error} of the builds that failed (the raw document or what read() returns)."""
    failed = _failed_builds(document.get("summary"))
    return {str(entry.get("image") or entry.get("model")): str(entry.get("error") or "") for entry in failed}


def _failed_builds(summary: Any) -> List[Mapping[str, Any]]:
    entries = summary.get("failed_builds") if isinstance(summary, Mapping) else None
    found = entries if isinstance(entries, list) else []
    return [entry for entry in found if isinstance(entry, Mapping) and (entry.get("image") or entry.get("model"))]


def _mapping(value: Any, path: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        kind = "nothing" if value is None else type(value).__name__
        raise InvalidInput("the build manifest %s: %s must be an object, not %s" % (path, what, kind))
    return value


def _optional(document: Mapping[str, Any], key: str, path: str) -> Dict[str, Any]:
    """An object that may be absent or null."""
    value = document.get(key)
    return {} if value is None else dict(_mapping(value, path, key))


def _names(document: Mapping[str, Any], key: str, path: str) -> List[str]:
    """A list of names that may be absent or null."""
    value = document.get(key)
    if value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise InvalidInput("the build manifest %s: %s must be a list of names" % (path, key))
    return list(value or ())


def _read_record(name: str, record: Mapping[str, Any], path: str) -> Dict[str, Any]:
    """One image record with every text there; what an older version wrote wrongly (an error text as docker_sha) counts as unknown."""
    found = dict(record, name=name)
    for key in (
        "model",
        "registry",
        "registry_image",
        "dockerfile",
        "base_docker",
        "docker_sha",
        "gpu_vendor",
        "gpu_architecture",
        "digest",
        "log_file",
    ):
        value = record.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidInput("the build manifest %s: built_images[%r]: %s must be text, not %s" % (path, name, key, type(value).__name__))
        found[key] = value or ""
    found["docker_image"] = record.get("docker_image") or record.get("image_name") or name
    for key in ("docker_image", "registry_image"):
        if found[key]:
            check_reference(found[key], "the build manifest %s: built_images[%r]: %s" % (path, name, key))
    found["docker_sha"] = found["docker_sha"] if _DIGEST.match(found["docker_sha"]) else ""
    if found["digest"] and not _DIGEST.match(found["digest"]):
        raise InvalidInput(
            "the build manifest %s: built_images[%r]: digest %r is not sha256:<64 hex digits>" % (path, name, found["digest"][:100])
        )
    duration = record.get("build_duration", record.get("build_time"))
    found["build_duration"] = float(duration) if isinstance(duration, (int, float)) and not isinstance(duration, bool) else None
    found["given"] = bool(record.get("local_image") or record.get("prebuilt") or record.get("given"))
    found["execution"] = dict(_mapping(record.get("execution") or {}, path, "built_images[%r]: execution" % name))
    return found


def _read_deployment(document: Mapping[str, Any], path: str) -> Dict[str, Any]:
    """{target, config} out of `deployment`, else out of madengine's `deployment_config`."""
    deployment = document.get("deployment")
    if deployment is not None:
        given = _mapping(deployment, path, "deployment")
        return dict(
            given, target=given.get("target") or "local", config=dict(_mapping(given.get("config") or {}, path, "deployment.config"))
        )
    flat = _optional(document, "deployment_config", path)
    target = flat.pop("target", "") or "local"
    return {"target": {"docker": "local", "kubernetes": "k8s"}.get(target, target), "config": flat}
