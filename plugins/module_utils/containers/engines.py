# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which container engines answer on this machine, and why not: a command that is there is not yet an engine."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Optional

from .probe import Answer, System, first_words, parse_json, together

ENGINE_TIMEOUT = 10.0  # seconds; an idle server answers in 0.1
ALL, AUTO = "all", "auto"
_NVIDIA_HOOKS = ("nvidia-ctk", "nvidia-container-cli", "nvidia-container-runtime-hook")


def probe_engines(system: Optional[System] = None, timeout: float = ENGINE_TIMEOUT, which: str = ALL) -> Dict[str, Dict[str, Any]]:
    """{"docker": engine, "podman": engine}, asked side by side; shape of an engine: docs/contracts.md. Never raises.

    `which`: one of them alone, or AUTO, the first that answers: podman, which takes its time, is asked only where docker does not answer.
    """
    system = system or System()
    if which != AUTO:
        return _ask(system, timeout, list(READERS) if which == ALL else [which])
    found: Dict[str, Dict[str, Any]] = {}
    for name in READERS:
        if not any(engine["available"] for engine in found.values()):
            found.update(_ask(system, timeout, [name]))
    return found


def _ask(system: System, timeout: float, names: List[str]) -> Dict[str, Dict[str, Any]]:
    answers = together({name: _asker(system, name, timeout) for name in names})
    broken = {name: _engine(problem=first_words(repr(found))) for name, found in answers.items() if isinstance(found, BaseException)}
    return {**answers, **broken}


def _asker(system: System, name: str, timeout: float) -> Callable[[], Dict[str, Any]]:
    return lambda: probe_engine(system, name, timeout)


def probe_engine(system: System, name: str, timeout: float = ENGINE_TIMEOUT) -> Dict[str, Any]:
    """One engine, "docker" or "podman"."""
    command = system.find_tool(name)
    if not command:
        return _engine(problem="there is no %s command" % name)
    answer = system.run([command, "info", "--format", "{{json .}}" if name == "docker" else "json"], timeout)
    document = parse_json(answer.out)
    engine = READERS[name](answer, document if isinstance(document, dict) else {})
    engine["command"] = command
    if engine["root"]:
        engine["free_bytes"] = free_bytes(system, engine["root"])
    return engine


def _engine(**known: Any) -> Dict[str, Any]:
    """An engine, by default one that does not answer."""
    return {
        "available": False, "version": "", "problem": "", "command": "", "rootless": False, "storage": "", "cgroup": "", "root": "",
        "free_bytes": 0, "runtimes": [], "host": "", "notes": [], **known,
    }  # fmt: skip


def _read_docker(answer: Answer, info: Dict[str, Any]) -> Dict[str, Any]:
    """From `docker info`. Without a server it still prints the document, with an empty ServerVersion."""
    if "host" in info and "store" in info:
        return _engine(problem="the docker command is podman under another name (package podman-docker): use the runtime podman")
    if not info.get("ServerVersion"):
        errors = info.get("ServerErrors")
        said = "; ".join(str(error) for error in errors) if isinstance(errors, list) and errors else answer.err
        return _engine(problem=_explain("docker", answer, said))
    rootless = any("rootless" in str(option) for option in info.get("SecurityOptions") or ())
    return _engine(
        available=True, version=str(info["ServerVersion"]), rootless=rootless, storage=str(info.get("Driver") or ""),
        cgroup=str(info.get("CgroupVersion") or ""), root=str(info.get("DockerRootDir") or ""), host=str(info.get("Name") or ""),
        runtimes=sorted(info.get("Runtimes") or ()), notes=_notes(str(info.get("Driver") or ""), info.get("Warnings")),
    )  # fmt: skip


def _read_podman(answer: Answer, info: Dict[str, Any]) -> Dict[str, Any]:
    """From `podman info`; podman has no server, so an answer means that it can work with its storage."""
    host, store = info.get("host") or {}, info.get("store") or {}
    version = (info.get("version") or {}).get("Version")
    if answer.code != 0 or not version:
        return _engine(problem=_explain("podman", answer, answer.err))
    storage = str(store.get("graphDriverName") or "")
    return _engine(
        available=True, version=str(version), rootless=bool((host.get("security") or {}).get("rootless")), storage=storage,
        cgroup=str(host.get("cgroupVersion") or "").lstrip("v"), root=str(store.get("graphRoot") or ""),
        host=str(host.get("hostname") or ""), runtimes=[str((host.get("ociRuntime") or {}).get("name") or "")], notes=_notes(storage, None),
    )  # fmt: skip


READERS = {"docker": _read_docker, "podman": _read_podman}  # in the order in which `auto` takes them


def _explain(name: str, answer: Answer, said: str) -> str:
    """Why there is no engine, with what to do."""
    words = first_words(said, answer.problem)
    lowered = words.lower()
    if "permission denied" in lowered and "sock" in lowered:
        return "%s runs but this user may not use it: add the user to the group %s, or use become (%s)" % (name, name, words)
    if "did not end within" in answer.problem:
        return "%s hangs (%s): restart it" % (name, answer.problem)
    if "cannot connect" in lowered or "is the docker daemon running" in lowered:
        return "the %s command is there but no server answers: start it, or run mad.engine.prepare_host (%s)" % (name, words)
    return "%s does not answer: %s" % (name, words)


def _notes(storage: str, warnings: Any) -> List[str]:
    notes = [first_words(str(warning)) for warning in warnings or () if str(warning).strip()]
    if storage in ("vfs", "devicemapper", "aufs"):
        notes.insert(0, "the storage driver %s copies whole layers or is no longer supported: containers start slowly" % storage)
    return notes


def free_bytes(system: System, path: str) -> int:
    """Bytes that this user may still write in the file system that holds `path`, which need not exist yet; 0 if unknown."""
    place = system.path(path)
    while not os.path.exists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    try:
        state = os.statvfs(place)
    except OSError:
        return 0
    return state.f_bavail * state.f_frsize


def add_notes(engines: Dict[str, Dict[str, Any]], system: System, hostname: str, gpu_vendor: str) -> None:
    """Notes that need the other facts: an engine on another machine, and GPUs that its containers would not get."""
    for name, engine in engines.items():
        if not engine["available"]:
            continue
        if engine["host"] and hostname and engine["host"].split(".")[0] != hostname.split(".")[0]:
            text = "%s answers from elsewhere (%s): paths here are not its paths; unset DOCKER_HOST or its context"
            engine["notes"].append(text % (name, engine["host"]))
        hooked = "nvidia" in engine["runtimes"] or any(system.find_tool(hook) for hook in _NVIDIA_HOOKS)
        if gpu_vendor == "NVIDIA" and not hooked:
            engine["notes"].append("its containers will not get the GPUs: install nvidia-container-toolkit")
