# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of made-up machines and of the real one; a broken probe costs only itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.containers import engines
from ansible_collections.mad.engine.plugins.module_utils.facts import gpu, host_facts
from ansible_collections.mad.engine.tests.fixtures.gpu_tools import machines

CONTRACT = {
    "hostname", "machine_id", "boot_id", "kernel", "init", "os", "cpu", "memory_bytes", "memory_limit_bytes", "numa_balancing", "python",
    "user", "uid", "free_bytes", "numa", "firmware", "gpu", "engines", "problems", "seconds",
}  # fmt: skip


def test_a_gpu_host(tmp_path: Path) -> None:
    machines.base(tmp_path)
    machines.mi300x(tmp_path)
    facts = host_facts.collect("/var/tmp/mad-1000", system=machines.machine(tmp_path, "mi300x"))
    assert set(facts) == CONTRACT and facts["problems"] == []
    assert (facts["hostname"], facts["kernel"], facts["numa_balancing"], facts["init"]) == ("n1", "6.8.0-45-generic", "1", "systemd")
    assert facts["numa"] == ["0-31", "32-63"]
    assert facts["firmware"] == {
        "bios": "American Megatrends 1.4a", "microcode": "0xa10113e", "gpu": "113-M3000100-102,113-M3000100-103",
    }  # fmt: skip
    assert facts["os"] == {"id": "ubuntu", "version": "22.04", "like": ["debian"], "name": "Ubuntu 22.04.4 LTS"}
    assert facts["cpu"]["model"] == "AMD EPYC 9654 96-Core Processor"
    assert (facts["cpu"]["count"], facts["cpu"]["usable"], facts["cpu"]["governor"]) == (64, 64, "performance")
    assert facts["memory_bytes"] == 263921288 * 1024
    assert facts["gpu"]["count"] == 8
    assert facts["engines"]["docker"]["problem"] == "there is no docker command"


def test_firmware_of_nvidia_gpus(tmp_path: Path) -> None:
    machines.write(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t X\nVideo BIOS: \t 96.00.5e\n")
    assert host_facts.collect(system=machines.machine(tmp_path))["firmware"]["gpu"] == "96.00.5e"


def test_the_real_machine() -> None:
    facts = host_facts.collect("/nonexistent/of/mad/engine")
    state = os.statvfs("/")
    assert set(facts) == CONTRACT
    assert facts["cpu"]["count"] >= facts["cpu"]["usable"] >= 1 and facts["cpu"]["usable"] <= len(os.sched_getaffinity(0))
    assert facts["memory_bytes"] > 1 << 28 and facts["uid"] == os.geteuid()
    assert abs(facts["free_bytes"] - state.f_bavail * state.f_frsize) < 1 << 32
    assert facts["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_an_empty_machine(tmp_path: Path) -> None:
    facts = host_facts.collect(system=machines.machine(tmp_path))
    assert facts["numa"] == [] and facts["firmware"] == {"bios": "", "microcode": "", "gpu": ""}
    assert facts["problems"] == [] and facts["machine_id"] == "" and facts["memory_bytes"] == 0
    assert facts["cpu"]["count"] >= 1 and facts["gpu"]["vendor"] == "NONE" and facts["os"]["id"] == ""


def test_parts() -> None:
    facts = host_facts.collect(what=["host"])
    assert "gpu" not in facts and "engines" not in facts and facts["hostname"]
    with pytest.raises(InvalidInput, match="unknown part of the facts: gpus"):
        host_facts.collect(what=["gpus"])


def test_one_broken_probe_costs_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> None:
        raise RuntimeError("odd machine")

    monkeypatch.setitem(host_facts._PROBES, "cpu", broken)  # type: ignore[index]
    monkeypatch.setattr(gpu, "detect", broken)
    machines.base(tmp_path)
    facts = host_facts.collect(system=machines.machine(tmp_path))
    assert facts["hostname"] == "n1" and facts["cpu"]["count"] == 1 and "gpu" not in facts
    assert sorted(problem.split(" could")[0] for problem in facts["problems"]) == ["cpu", "the gpu facts"]


@pytest.mark.parametrize(
    ("groups", "files", "cpus", "memory"),
    [
        ("0::/\n", {}, 0, 0),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2, 0),
        ("0::/a/b\n", {"a/b/memory.max": "1073741824", "a/memory.max": "max"}, 0, 1 << 30),
        ("0::/a\n", {"a/cpu.max": "50000 100000", "cpu.max": "800000 100000"}, 1, 0),
        ("3:cpu,cpuacct:/d\n0::/\n", {"cpu/d/cpu.cfs_quota_us": "400000"}, 4, 0),
        ("2:memory:/d\n", {"memory/d/memory.limit_in_bytes": "9223372036854771712"}, 0, 0),
        ("2:memory:/d\n1:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "4096"}, 0, 4096),
        ("nonsense\n\n:::\n", {"cpu.max": "x y"}, 0, 0),
    ],
)
def test_cgroup_limits(tmp_path: Path, groups: str, files: Dict[str, str], cpus: int, memory: int) -> None:
    machines.write(tmp_path, "proc/self/cgroup", groups)
    for path, text in files.items():
        machines.write(tmp_path, "sys/fs/cgroup/" + path, text + "\n")
    system = machines.machine(tmp_path)
    assert (host_facts.cpu_limit(system), host_facts.memory_limit(system)) == (cpus, memory)


def test_an_arm_machine_and_mixed_governors(tmp_path: Path) -> None:
    machines.write(tmp_path, "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n")
    machines.write(tmp_path, "sys/devices/system/cpu/online", "0-3,8-11\n")
    for number, governor in enumerate(("powersave", "performance", "powersave")):
        machines.write(tmp_path, "sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor" % number, governor)
    cpu = host_facts.collect(what=["host"], system=machines.machine(tmp_path))["cpu"]
    assert (cpu["model"], cpu["count"], cpu["governor"]) == ("implementer 0x41 part 0xd4f", 8, "performance,powersave")


def test_slow_probes_run_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other one: in turn, the barrier would break."""
    both = threading.Barrier(2, timeout=60)

    def slow(*_arguments: Any) -> Dict[str, Any]:
        both.wait()
        return {"vendor": "NONE"}

    monkeypatch.setattr(gpu, "detect", slow)
    monkeypatch.setattr(engines, "probe_engines", lambda _system, which: slow() and {})
    host_facts.collect(system=machines.machine(tmp_path))
    assert not both.broken
