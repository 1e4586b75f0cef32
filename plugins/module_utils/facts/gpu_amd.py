# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AMD GPUs: the kernel's KFD topology says which there are, amd-smi (or rocm-smi) how they are numbered.

Source of the formats: the kernel's kfd_topology.c (nodes/N/properties, gpu_id), `amd-smi list -e --json` of ROCm 6.1 to 7,
`rocm-smi --json`, `rocminfo`.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ..containers.probe import NO_CODE, Answer, System, parse_json, together
from .gpu_common import clean, device, gpu_facts, pci_gpus

_NODES = "/sys/class/kfd/kfd/topology/nodes"
_PCI_VENDOR = "0x1002"
_TOOLS = ("amd-smi", "rocminfo", "rocm-smi")
# GPUs inside desktop and laptop processors. gfx1151 (Strix Halo) is not among them: ROCm supports it and people do benchmark it.
INTEGRATED = frozenset(
    ("gfx902", "gfx909", "gfx90c", "gfx1033", "gfx1035", "gfx1036", "gfx1037", "gfx1103", "gfx1150", "gfx1152", "gfx1153")
)
_AGENT_LINE = re.compile(r"^  (Name|Marketing Name|Uuid|Node|Device Type):\s*(.*?)\s*$", re.MULTILINE)
_AGENT = re.compile(r"^\*+\s*\nAgent [0-9]+\s*\n\*+\s*$", re.MULTILINE)


class Node(NamedTuple):
    """One GPU of the KFD topology (a partition of an MI300 is one too)."""

    number: int
    gpu_id: int
    unique_id: int
    minor: int
    architecture: str
    bus: str


def probe(system: System, timeout: float, rocm_path: str = "") -> Dict[str, Any]:
    """`gpu` facts; vendor NONE unless a GPU that is not part of a processor is in the topology or named by a tool."""
    root, problems = rocm_root(system, rocm_path)
    nodes, integrated = _topology(system)
    answers = together({name: functools.partial(_ask, system, root, name, timeout) for name in ("amd-smi", "rocminfo")})
    agents = _agents(answers["rocminfo"].out)
    rows, row_problems = _numbering(system, root, answers["amd-smi"], nodes, timeout)
    devices, device_problems = _reachable(system, _devices(system, rows, nodes, agents))
    problems += row_problems + device_problems
    if not devices:
        return _nothing(system, integrated, problems)
    architectures = sorted({entry["architecture"] for entry in devices if entry["architecture"]})
    if len(architectures) > 1:
        problems.append("the GPUs have several architectures (%s): choose some with docker_gpus" % ", ".join(architectures))
    return gpu_facts(
        "AMD", devices, problems,
        architecture=devices[0]["architecture"], driver=_driver(system), runtime_version=_rocm_version(system, root),
    )  # fmt: skip


def rocm_root(system: System, rocm_path: str = "") -> Tuple[str, List[str]]:
    """(folder of the ROCm installation as the machine names it, problems); /opt/rocm when nothing is found.

    Order: MAD_ROCM_PATH (given or in the environment), then unless MAD_AUTO_ROCM_PATH=0: /opt/rocm, the newest /opt/rocm-*, the pip
    package rocm-sdk, ROCM_PATH, ROCM_HOME, HIP_PATH, /usr/local/rocm, ~/rocm, ~/therock, where a tool on PATH lives; else ROCM_PATH, else
    /opt/rocm.
    """
    environ = system.environ
    chosen = rocm_path or environ.get("MAD_ROCM_PATH", "")
    if chosen:
        if _is_root(system, chosen):
            return chosen, []
        return chosen, ["MAD_ROCM_PATH is %s, but neither bin/%s nor .info/version is there" % (chosen, ", bin/".join(_TOOLS))]
    if environ.get("MAD_AUTO_ROCM_PATH", "1") != "0":
        for candidate in _candidates(system):
            if candidate and _is_root(system, candidate):
                return candidate, []
    return environ.get("ROCM_PATH") or "/opt/rocm", []


def _is_root(system: System, folder: str) -> bool:
    return any(system.exists(folder + part) for part in ("/bin/amd-smi", "/bin/rocminfo", "/bin/rocm-smi", "/.info/version"))


def _candidates(system: System) -> Iterable[str]:
    environ, home = system.environ, system.environ.get("HOME", "")
    yield "/opt/rocm"
    versioned = [name for name in system.names("/opt") if name.startswith("rocm-")]
    for name in sorted(versioned, key=lambda name: [int(part) for part in re.findall(r"[0-9]+", name)], reverse=True):
        yield "/opt/" + name
    sdk = system.find_tool("rocm-sdk")
    yield system.run([sdk, "path", "--root"], 10.0).out.strip() if sdk else ""
    for variable in ("ROCM_PATH", "ROCM_HOME", "HIP_PATH"):
        yield environ.get(variable, "")
    yield "/usr/local/rocm"
    for name in ("rocm", "therock"):
        yield "%s/%s" % (home, name) if home else ""
    for name in _TOOLS:
        tool = system.find_tool(name)
        yield tool[: -len("/bin/" + name)] if tool.endswith("/bin/" + name) and not tool.startswith(("/bin/", "/usr/bin/")) else ""


def _ask(system: System, root: str, name: str, timeout: float) -> Answer:
    """Ask amd-smi, rocminfo or rocm-smi of this root; a tool that is nowhere gives an empty answer without a problem."""
    own = system.path(root + "/bin/" + name)
    tool = own if os.access(own, os.X_OK) else system.find_tool(name)
    if not tool:
        return Answer(NO_CODE, "", "", "")
    if name == "rocminfo":
        return system.run([tool], timeout)
    if name == "rocm-smi":
        return system.run([tool, "--showuniqueid", "--showbus", "--showproductname", "--showdriverversion", "--json"], timeout)
    answer = system.run([tool, "list", "-e", "--json"], timeout)
    if answer.code not in (0, NO_CODE) and parse_json(answer.out) is None:
        older = system.run([tool, "list", "--json"], timeout)  # before ROCm 6.4 there is no -e
        return older if older.code == 0 else answer
    return answer


def _topology(system: System) -> Tuple[List[Node], List[Node]]:
    """(GPUs, GPUs inside processors) that the kernel driver knows, in topology order. Nodes hidden by a cgroup cannot be read."""
    found: Tuple[List[Node], List[Node]] = ([], [])
    for name in sorted((name for name in system.names(_NODES) if name.isdecimal()), key=int):
        gpu_id = _number(system.read("%s/%s/gpu_id" % (_NODES, name)))
        lines = (line.split() for line in system.read("%s/%s/properties" % (_NODES, name)).splitlines())
        values = {line[0]: _number(line[1]) for line in lines if len(line) == 2}
        if gpu_id and values.get("simd_count"):
            node = _node(int(name), gpu_id, values)
            found[node.architecture in INTEGRATED].append(node)
    return found


def _node(number: int, gpu_id: int, values: Dict[str, int]) -> Node:
    place = values.get("location_id", 0)  # bus, device, function in the low 16 bits; an MI300 partition number above
    bus = "%04x:%02x:%02x.%d" % (values.get("domain", 0), (place >> 8) & 0xFF, (place >> 3) & 0x1F, place & 7)
    architecture = _gfx(values.get("gfx_target_version", 0))
    return Node(number, gpu_id, values.get("unique_id", 0), values.get("drm_render_minor", 0), architecture, bus)


def _gfx(version: int) -> str:
    """90402 -> gfx942, 90010 -> gfx90a, 110001 -> gfx1101."""
    return "gfx%d%x%x" % (version // 10000, version // 100 % 100, version % 100) if version else ""


def _number(value: Any) -> int:
    """A number in decimal or 0x form, 0 for anything else."""
    try:
        return int(str(value).strip(), 0)
    except ValueError:
        return 0


def _agents(text: str) -> Dict[int, Dict[str, str]]:
    """rocminfo's GPU agents by KFD node number: {"Name": "gfx942", "Marketing Name": "AMD Instinct MI300X", "Uuid": "GPU-..."}."""
    found = {}
    for part in _AGENT.split(text)[1:]:
        values: Dict[str, str] = {}
        for key, value in _AGENT_LINE.findall(part):
            values.setdefault(key, value)  # the ISA lists below an agent repeat "Name"
        if values.get("Device Type") == "GPU":
            found[_number(values.get("Node"))] = values
    return found


def _numbering(
    system: System, root: str, listed: Answer, nodes: Sequence[Node], timeout: float
) -> Tuple[List[Dict[str, Any]], List[str]]:
    """(rows {index, uuid, bus, node, gpu_id, unique_id, minor}, problems): from amd-smi, else rocm-smi, else the topology in bus order."""
    problems = [listed.problem] if listed.problem else []
    rows = _amd_smi_rows(parse_json(listed.out))
    if rows:
        return rows, problems
    if nodes and listed.problem and listed.code == NO_CODE:
        return _bus_order(nodes), problems  # it hung: rocm-smi would too
    if listed.code == 0 and nodes:
        problems.append("amd-smi lists no GPU although the driver knows %d" % len(nodes))
    answer = _ask(system, root, "rocm-smi", timeout)
    rows = _rocm_smi_rows(parse_json(answer.out))
    if rows:
        return rows, problems
    problems += [answer.problem] if answer.problem else []
    return _bus_order(nodes), problems


def _bus_order(nodes: Sequence[Node]) -> List[Dict[str, Any]]:
    """Rows numbered by bus address and partition, as amd-smi and rocm-smi do."""
    ordered = sorted(nodes, key=lambda node: (node.bus, node.number))
    return [{"index": index, "gpu_id": node.gpu_id, "bus": node.bus} for index, node in enumerate(ordered)]


def _amd_smi_rows(document: Any) -> List[Dict[str, Any]]:
    """Rows of `amd-smi list`: a list, or from version 26 on sometimes {"gpu_data": [...]}."""
    entries = document.get("gpu_data", []) if isinstance(document, dict) else document
    rows = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("gpu"), int):
            hip_uuid = clean(entry.get("hip_uuid"))
            rows.append({
                "index": entry["gpu"], "uuid": hip_uuid or clean(entry.get("uuid")), "bus": clean(entry.get("bdf")).lower(),
                "node": _number(entry.get("node_id")), "gpu_id": _number(entry.get("kfd_id")),
                "unique_id": _number("0x" + hip_uuid[4:]) if hip_uuid.startswith("GPU-") else 0,
                "minor": _number(clean(entry.get("render"))[len("renderD"):]),
            })  # fmt: skip
    return rows


def _rocm_smi_rows(document: Any) -> List[Dict[str, Any]]:
    """Rows of `rocm-smi --json`: {"card0": {"Unique ID": "0x...", "PCI Bus": ..., "Card Series": ..., "GUID": ...}, "system": ...}."""
    rows = []
    for name, values in sorted(document.items()) if isinstance(document, dict) else []:
        if re.match(r"card[0-9]+\Z", name) and isinstance(values, dict):
            known = {key.lower(): clean(value) for key, value in values.items()}
            rows.append({
                "index": int(name[4:]), "uuid": known.get("unique id", ""), "bus": known.get("pci bus", "").lower(),
                "gpu_id": _number(known.get("guid")), "node": _number(known.get("node id")), "unique_id": _number(known.get("unique id")),
                "product": known.get("card series", ""), "architecture": known.get("gfx version", ""),
            })  # fmt: skip
    return sorted(rows, key=lambda row: int(row["index"]))


def _match(row: Dict[str, Any], nodes: Sequence[Node]) -> Optional[Node]:
    """The topology node of a tool's row: by gpu_id, node number, unique id or bus address, whichever the tool's version tells first."""
    for key, attribute in (("gpu_id", "gpu_id"), ("node", "number"), ("unique_id", "unique_id"), ("bus", "bus")):
        if row.get(key):
            hits = [node for node in nodes if getattr(node, attribute) == row[key]]
            if len(hits) == 1:
                return hits[0]
    return None


def _devices(
    system: System, rows: Sequence[Dict[str, Any]], nodes: Sequence[Node], agents: Dict[int, Dict[str, str]]
) -> List[Dict[str, Any]]:
    """The devices; with a topology, rows that are not in it (processor graphics) are left out, and the others keep their numbers."""
    found = []
    for row in rows:
        node = _match(row, nodes)
        if nodes and node is None:
            continue
        number, minor = (node.number, node.minor) if node else (row.get("node", -1), row.get("minor", 0))
        agent = agents.get(number, {})
        architecture = (node.architecture if node else "") or row.get("architecture") or agent.get("Name", "")
        if architecture in INTEGRATED:
            continue
        sysfs = system.read("/sys/class/drm/renderD%d/device/product_name" % minor)
        entry = device(
            row["index"], render_node="/dev/dri/renderD%d" % minor if minor else "", uuid=row.get("uuid") or agent.get("Uuid", ""),
            bus=row.get("bus") or (node.bus if node else ""), product=agent.get("Marketing Name") or row.get("product") or sysfs,
            architecture=architecture,
        )  # fmt: skip
        found.append(entry)
    return found


def _nothing(system: System, integrated: Sequence[Node], problems: List[str]) -> Dict[str, Any]:
    """No usable GPU. With the driver bound to discrete hardware that is a broken AMD host, without it a CPU host."""
    hardware = pci_gpus(system, _PCI_VENDOR)
    bound = [entry for entry in hardware if entry.driver == "amdgpu"]
    if integrated:
        names = ", ".join(sorted({node.architecture for node in integrated}))
        return gpu_facts("NONE", (), ["the graphics unit inside the processor (%s) is not used" % names])
    if bound and not problems and system.names(_NODES):
        return gpu_facts("NONE", (), problems + ["amdgpu is loaded for %s but the KFD topology shows no GPU" % bound[0].address])
    accelerators = [entry for entry in hardware if not entry.driver]
    if accelerators:
        problems.append("%d AMD GPU(s) are on the PCI bus without a driver: load or install amdgpu to use them" % len(accelerators))
    return gpu_facts("NONE", (), problems)


def _reachable(system: System, devices: List[Dict[str, Any]]) -> Tuple[List[Dict[str, Any]], List[str]]:
    """(devices whose device files are here, problems). Inside a container the kernel shows every GPU but /dev only those passed to it."""
    if devices and not system.exists("/dev/kfd"):
        text = "the kernel shows %d AMD GPU(s) but /dev/kfd is not here (a container needs --device=/dev/kfd and its render nodes)"
        return [], [text % len(devices)]
    here = [entry for entry in devices if not entry["render_node"] or system.exists(entry["render_node"])]
    problems = ["GPU %d is left out: %s is not here" % (entry["index"], entry["render_node"]) for entry in devices if entry not in here]
    unmapped = [str(entry["index"]) for entry in here if not entry["render_node"]]
    if unmapped:
        problems.append("the render node of GPU %s is unknown: it cannot be given to a container alone" % ", ".join(unmapped))
    return here, problems


def _driver(system: System) -> str:
    """Version of amdgpu (its DKMS package tells one), else the kernel it came with."""
    kernel = system.read("/proc/sys/kernel/osrelease")
    return system.read("/sys/module/amdgpu/version") or ("kernel " + kernel if kernel else "")


def _rocm_version(system: System, root: str) -> str:
    """6.4.1-83 in .info/version -> 6.4.1."""
    return system.read(root + "/.info/version").split("-")[0]
