# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of the machine this runs on: enough to plan a run, and to explain a result months later. Reads only."""

from __future__ import annotations

import functools
import os
import platform
import pwd
import re
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from ..base.errors import InvalidInput
from ..containers import engines
from ..containers.probe import System, first_words, together
from . import gpu

PARTS = ("host", "gpu", "engines")


def collect(
    work_dir: str = "",
    what: Iterable[str] = PARTS,
    system: Optional[System] = None,
    gpu_vendor: str = "",
    rocm_path: str = "",
    engine: str = engines.ALL,
) -> Dict[str, Any]:
    """The facts dict of docs/contracts.md. No machine makes it fail: what cannot be read is "" or 0, and `problems` says why.

    `what` limits it to some of PARTS (the other keys are absent); an unknown part raises InvalidInput. Slow probes run side by side.
    """
    system, wanted = system or System(), set(what)
    if not wanted <= set(PARTS):
        raise InvalidInput("unknown part of the facts: %s (there are %s)" % (", ".join(sorted(wanted - set(PARTS))), ", ".join(PARTS)))
    start = time.monotonic()
    jobs: Dict[str, Callable[[], Any]] = {
        "host": functools.partial(_host, system, work_dir),
        "gpu": functools.partial(gpu.detect, system, gpu_vendor, rocm_path),
        "engines": functools.partial(engines.probe_engines, system, which=engine),
    }
    found = together({name: job for name, job in jobs.items() if name in wanted})
    facts: Dict[str, Any] = {"problems": []}
    for name, value in found.items():
        if isinstance(value, BaseException):
            facts["problems"].append("the %s facts could not be read: %s" % (name, first_words(repr(value))))
        elif name == "host":
            facts["problems"].extend(value.pop("problems"))
            facts.update(value)
        else:
            facts[name] = value
    if "engines" in facts:
        engines.add_notes(facts["engines"], system, facts.get("hostname", ""), facts.get("gpu", {}).get("vendor", ""))
    facts["seconds"] = round(time.monotonic() - start, 3)
    return facts


def _host(system: System, work_dir: str) -> Dict[str, Any]:
    """Everything that is only read; each probe by itself, so that a broken one costs its own key."""
    facts: Dict[str, Any] = {"problems": []}
    probes: Dict[str, Callable[[], Any]] = {**{name: functools.partial(probe, system) for name, probe in _PROBES.items()}}
    probes["free_bytes"] = functools.partial(engines.free_bytes, system, work_dir or "/var/tmp")
    for name, probe in probes.items():
        try:
            facts[name] = probe()
        except Exception as error:  # pylint: disable=broad-except  # noqa: BLE001  # odd machines must not cost the other facts
            facts[name] = _EMPTY.get(name, "")
            facts["problems"].append("%s could not be read: %s" % (name, first_words(repr(error))))
    return facts


def _os(system: System) -> Dict[str, Any]:
    """{"id": "ubuntu", "version": "22.04", "like": ["debian"], "name": "Ubuntu 22.04.4 LTS"} from os-release."""
    text = system.read("/etc/os-release") or system.read("/usr/lib/os-release")
    values = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip()] = value.strip().strip("\"'")
    like = values.get("ID_LIKE", "").split()
    return {"id": values.get("ID", ""), "version": values.get("VERSION_ID", ""), "like": like, "name": values.get("PRETTY_NAME", "")}


def _cpu(system: System) -> Dict[str, Any]:
    """`count` is what the machine has, `usable` what affinity and cgroup limits leave to a process of ours."""
    text = system.read("/proc/cpuinfo")
    online = system.read("/sys/devices/system/cpu/online")
    count = len(gpu.expand_indexes(online, "online")) if online else text.count("processor\t:") or os.cpu_count() or 1
    usable = min(count, len(os.sched_getaffinity(0))) if system.root == "/" else count
    quota = cpu_limit(system)
    return {
        "model": _cpu_model(text), "count": count, "usable": min(usable, quota) if quota else usable, "governor": _governor(system),
        "architecture": platform.machine(),
    }  # fmt: skip


def _cpu_model(text: str) -> str:
    """The name in /proc/cpuinfo; ARM machines have only numbers there."""
    name = re.search(r"^(?:model name|Model|cpu)\s*:\s*(.+)$", text, re.MULTILINE)
    if name:
        return " ".join(name.group(1).split())
    numbers = dict(re.findall(r"^CPU (implementer|part)\s*:\s*(\S+)$", text, re.MULTILINE))
    return "implementer %s part %s" % (numbers["implementer"], numbers.get("part", "?")) if "implementer" in numbers else ""


def _governor(system: System) -> str:
    """The frequency governor; "performance,powersave" if the CPUs differ, "" where there is none (most virtual machines)."""
    folder = "/sys/devices/system/cpu"
    cpus = [name for name in system.names(folder) if re.match(r"cpu[0-9]+\Z", name)]
    return ",".join(sorted({system.read("%s/%s/cpufreq/scaling_governor" % (folder, name)) for name in cpus} - {""}))


def _cgroup_values(system: System, controller: str, v2_file: str, v1_file: str) -> List[str]:
    """Contents of a limit file in our own cgroup and every group above it (a limit above binds too)."""
    found = []
    for line in system.read("/proc/self/cgroup").splitlines():
        _number, _colon, rest = line.partition(":")
        names, _colon, path = rest.partition(":")
        base, name = ("/sys/fs/cgroup", v2_file) if names == "" else ("/sys/fs/cgroup/" + controller, v1_file)
        if names and controller not in names.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts), -1, -1):
            found.append(system.read("/".join([base, *parts[:length], name])))
    return [value for value in found if value]


def cpu_limit(system: System) -> int:
    """CPUs that cgroup quotas allow, at least 1; 0 without a limit."""
    limits = []
    for text in _cgroup_values(system, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        words = text.split()
        period = words[1] if len(words) > 1 else "100000"  # the v1 default; Docker and Kubernetes keep it
        if words[0].isdecimal() and period.isdecimal() and int(period):
            limits.append(max(1, int(words[0]) // int(period)))
    return min(limits, default=0)


def memory_limit(system: System) -> int:
    """Bytes that cgroups allow; 0 without a limit."""
    texts = _cgroup_values(system, "memory", "memory.max", "memory.limit_in_bytes")
    limits = [int(text) for text in texts if text.isdecimal() and int(text) < 1 << 60]  # v1 writes 2^63 - 4096 for "none"
    return min(limits, default=0)


def _numa(system: System) -> List[str]:
    """The CPUs of each NUMA node, as `0-31,64-95`, in the order of the nodes; [] where the kernel knows none."""
    folder = "/sys/devices/system/node"
    nodes = sorted(int(name[4:]) for name in system.names(folder) if re.match(r"node[0-9]+\Z", name))
    return [system.read("%s/node%d/cpulist" % (folder, node)) for node in nodes]


def _firmware(system: System) -> Dict[str, str]:
    """Versions of BIOS, CPU microcode and GPU firmware, as far as files tell them to everybody."""
    bios = [system.read("/sys/class/dmi/id/bios_" + name) for name in ("vendor", "version", "date")]
    microcode = re.search(r"^microcode\s*:\s*(\S+)$", system.read("/proc/cpuinfo"), re.MULTILINE)
    cards, folder = "/sys/class/drm", "/proc/driver/nvidia/gpus"
    found = {system.read("%s/%s/device/vbios_version" % (cards, name)) for name in system.names(cards) if re.match(r"card[0-9]+\Z", name)}
    for name in system.names(folder):
        found.update(re.findall(r"^Video BIOS:\s*(\S+)$", system.read("%s/%s/information" % (folder, name)), re.MULTILINE))
    gpus = ",".join(sorted(found - {""}))
    return {"bios": " ".join(part for part in bios if part), "microcode": microcode.group(1) if microcode else "", "gpu": gpus}


def _memory(system: System) -> int:
    match = re.search(r"^MemTotal:\s+([0-9]+) kB", system.read("/proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def _user(_system: System) -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


_PROBES: Mapping[str, Callable[[System], Any]] = {
    "hostname": lambda system: system.read("/proc/sys/kernel/hostname") or platform.node(),
    "machine_id": lambda system: system.read("/etc/machine-id") or system.read("/var/lib/dbus/machine-id"),
    "boot_id": lambda system: system.read("/proc/sys/kernel/random/boot_id"),
    "kernel": lambda system: system.read("/proc/sys/kernel/osrelease") or platform.release(),
    "os": _os,
    "init": lambda system: "systemd" if system.exists("/run/systemd/system") else "",
    "cpu": _cpu,
    "memory_bytes": _memory,
    "memory_limit_bytes": memory_limit,
    "numa_balancing": lambda system: system.read("/proc/sys/kernel/numa_balancing"),
    "numa": _numa,
    "firmware": _firmware,
    "python": lambda _system: platform.python_version(),
    "user": _user,
    "uid": lambda _system: os.geteuid(),
}
_EMPTY: Mapping[str, Any] = {
    "os": {"id": "", "version": "", "like": [], "name": ""},
    "cpu": {"model": "", "count": 1, "usable": 1, "governor": "", "architecture": ""},
    "memory_bytes": 0, "memory_limit_bytes": 0, "uid": -1, "free_bytes": 0,
    "numa": [], "firmware": {"bios": "", "microcode": "", "gpu": ""},
}  # fmt: skip
