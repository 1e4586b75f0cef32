# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intel GPUs that are cards of their own: xpu-smi tells them, else the PCI bus. The unit inside a processor is not one.

Source of the formats: `xpu-smi discovery -j`, and the PCI rule that an Intel processor's own graphics is 0000:00:02.0.
"""

from __future__ import annotations

from typing import Any, Dict, List

from ..containers.probe import System, parse_json
from .gpu_common import clean, device, gpu_facts, pci_gpus

_PCI_VENDOR = "0x8086"
_PROCESSOR_BUS = "0000:00:"


def probe(system: System, timeout: float) -> Dict[str, Any]:
    """`gpu` facts; vendor NONE unless xpu-smi or the PCI bus show a card with a driver."""
    cards = [entry for entry in pci_gpus(system, _PCI_VENDOR) if not entry.address.startswith(_PROCESSOR_BUS)]
    tool = system.find_tool("xpu-smi", ("/opt/intel/xpum/bin",))
    problems: List[str] = []
    devices: List[Dict[str, Any]] = []
    if tool:
        answer = system.run([tool, "discovery", "-j"], timeout)
        devices = _discovered(parse_json(answer.out), system)
        problems = [answer.problem] if answer.problem else []
    if not devices:
        bound = [entry for entry in cards if entry.driver in ("i915", "xe")]
        devices = [device(index, bus=entry.address, render_node=_render_node(system, entry.address)) for index, entry in enumerate(bound)]
    if not devices:
        if cards:
            problems.append("%d Intel GPU(s) are on the PCI bus without a driver: load i915 or xe to use them" % len(cards))
        return gpu_facts("NONE", (), problems)
    driver = next((entry.driver for entry in cards if entry.driver), "")
    return gpu_facts("INTEL", devices, problems, architecture=devices[0]["product"], driver=driver)


def _discovered(document: Any, system: System) -> List[Dict[str, Any]]:
    """Physical cards of `xpu-smi discovery -j`; virtual functions and processor graphics are left out."""
    entries = document.get("device_list", []) if isinstance(document, dict) else []
    found: List[Dict[str, Any]] = []
    for entry in entries if isinstance(entries, list) else []:
        bus = clean(entry.get("pci_bdf_address")).lower() if isinstance(entry, dict) else _PROCESSOR_BUS
        if bus.startswith(_PROCESSOR_BUS) or entry.get("device_function_type", "physical") != "physical":
            continue
        name, uuid = clean(entry.get("device_name")), clean(entry.get("uuid"))
        number = entry.get("device_id") if isinstance(entry.get("device_id"), int) else len(found)
        found.append(device(number, uuid=uuid, product=name, bus=bus, render_node=_render_node(system, bus)))
    return found


def _render_node(system: System, bus: str) -> str:
    names = [name for name in system.names("/sys/bus/pci/devices/%s/drm" % bus) if name.startswith("renderD")]
    return "/dev/dri/" + names[0] if names else ""
