# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA GPUs, as nvidia-smi and the driver's /proc tree tell them.

Source of the formats: `nvidia-smi --help-query-gpu`, the nvidia-smi manual page (return values), and /proc/driver/nvidia of the open
kernel module.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Tuple

from ..containers.probe import Answer, System, together
from .gpu_common import clean, device, gpu_facts, pci_gpus

_FOLDERS = ("/usr/local/nvidia/bin", "/usr/local/cuda/bin", "/usr/lib/wsl/lib", "/run/nvidia/driver/usr/bin")
_FIELDS = ("index", "name", "uuid", "driver_version", "pci.bus_id")
_PCI_VENDOR = "0x10de"
_CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*([0-9]+(?:\.[0-9]+)*)")
_MIG_GPU = re.compile(r"GPU ([0-9]+):")
_MIG_SLICE = re.compile(r"\s+MIG (\S+)\s+Device\s+([0-9]+): \(UUID: ([^)]+)\)")
# Return values that the manual page documents, and what to do about them.
_ADVICE = {
    6: "it sees no GPU",
    8: "a GPU has no external power: check its cables",
    9: "the driver is not loaded: load the nvidia kernel module or install the driver again",
    10: "the kernel reports an interrupt problem with a GPU: see dmesg",
    12: "libnvidia-ml.so is missing: install the driver's libraries",
    13: "the libraries are older than this nvidia-smi: install the driver again",
    14: "a GPU's infoROM is corrupted",
    15: "a GPU has fallen off the bus: reboot, then check its seat and power (dmesg, Xid 79)",
    18: "driver and library have different versions: reboot, or reload the nvidia modules",
}


def probe(system: System, timeout: float) -> Dict[str, Any]:
    """`gpu` facts; vendor NONE unless nvidia-smi lists a GPU, or fails although the hardware and its driver are there."""
    known = _proc_gpus(system)
    tool = system.find_tool("nvidia-smi", _FOLDERS)
    if not tool:
        return gpu_facts("NONE", (), _without_tool(system, known))
    answers = together({"list": lambda: _query(system, tool, timeout), "header": lambda: system.run([tool], timeout)})
    listed: Answer = answers["list"]
    devices, driver, problems = _parse_list(listed.out if listed.code == 0 else "")
    if listed.problem:
        problems.insert(0, _explain(listed))
    if not devices:
        return _nothing_listed(system, known, problems)
    if len(known) > len(devices):
        text = "the driver knows %d GPUs but nvidia-smi lists %d: one may have fallen off the bus (see dmesg)"
        problems.append(text % (len(known), len(devices)))
    problems.extend(_add_slices(system, tool, devices, timeout))
    cuda = _CUDA.search(answers["header"].out)
    return gpu_facts(
        "NVIDIA", devices, problems, architecture=devices[0]["product"], driver=driver, runtime_version=cuda.group(1) if cuda else ""
    )


def _query(system: System, tool: str, timeout: float) -> Answer:
    """The list of GPUs as CSV; drivers before 450 do not know the field about MIG."""
    for fields in (_FIELDS + ("mig.mode.current",), _FIELDS):
        answer = system.run([tool, "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"], timeout)
        if "not a valid field" not in answer.out + answer.err:
            break
    return answer


def _parse_list(text: str) -> Tuple[List[Dict[str, Any]], str, List[str]]:
    """(devices, driver version, problems) from the CSV; a line that is no GPU is a problem, not a GPU."""
    devices, driver, problems = [], "", []
    for line in text.splitlines():
        row = [value.strip() for value in line.split(",")]  # it quotes nothing
        if len(row) < len(_FIELDS) or not row[0].isdecimal():
            problems.append("nvidia-smi printed a line that is not a GPU: %s" % ", ".join(row)[:200])
            continue
        index, name, uuid, version, bus = (clean(value) for value in row[: len(_FIELDS)])
        if not (name and uuid):
            problems.append("GPU %s does not answer (%s): it is left out" % (index, ", ".join(row[1:3])))
            continue
        driver = driver or version
        entry = device(int(index), uuid=uuid, product=name, bus=_bus(bus))
        entry["mig"] = len(row) > len(_FIELDS) and row[len(_FIELDS)] == "Enabled"
        devices.append(entry)
    return devices, driver, problems


def _bus(text: str) -> str:
    """00000000:07:00.0 as nvidia-smi writes it -> 0000:07:00.0 as the kernel does."""
    domain, _colon, rest = text.lower().partition(":")
    return "%s:%s" % (domain[-4:], rest) if rest else text.lower()


def _explain(answer: Answer) -> str:
    advice = _ADVICE.get(answer.code)
    return answer.problem + (" (%s)" % advice if advice else "")


def _proc_gpus(system: System) -> List[str]:
    """Product names of the GPUs that the loaded driver serves; inside a container only those passed to it."""
    names = []
    for address in system.names("/proc/driver/nvidia/gpus"):
        text = system.read("/proc/driver/nvidia/gpus/%s/information" % address)
        model = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
        names.append(model.group(1).strip() if model else "")
    return names


def _without_tool(system: System, known: List[str]) -> List[str]:
    hardware = len(known) or len(pci_gpus(system, _PCI_VENDOR))
    if not hardware:
        return []
    return ["%d NVIDIA GPU(s) are on the PCI bus but there is no nvidia-smi: install NVIDIA's driver to use them" % hardware]


def _nothing_listed(system: System, known: List[str], problems: List[str]) -> Dict[str, Any]:
    """A tool without GPUs: a GPU host that is broken if the hardware is there, otherwise a CPU host with a stray tool."""
    hardware = len(known) or len(pci_gpus(system, _PCI_VENDOR))
    if not hardware:
        return gpu_facts("NONE", (), problems)
    problems.append("%d NVIDIA GPU(s) are there but none can be used" % hardware)
    product = next((name for name in known if name), "")
    return gpu_facts("NVIDIA", (), problems, product=product, architecture=product)


def _add_slices(system: System, tool: str, devices: List[Dict[str, Any]], timeout: float) -> List[str]:
    """Write the MIG slices into their devices; returns the problems (a whole-GPU run would see one slice only)."""
    split = {entry["index"]: entry for entry in devices if entry.pop("mig")}
    if not split:
        return []
    answer = system.run([tool, "-L"], timeout)
    index = -1
    for entry in split.values():
        entry["slices"] = []
    for line in answer.out.splitlines():
        gpu, part = _MIG_GPU.match(line), _MIG_SLICE.match(line)
        index = int(gpu.group(1)) if gpu else index
        if part and index in split:
            split[index]["slices"].append({"index": int(part.group(2)), "profile": part.group(1), "uuid": part.group(3)})
    text = "GPU %d is split by MIG (%d slices): a run on it sees a slice; switch MIG off (nvidia-smi -i %d -mig 0) or leave it out"
    return [text % (number, len(entry["slices"]), number) for number, entry in sorted(split.items())]
