# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the GPU probes of all vendors share: the shape of their answer, and the PCI bus."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Sequence

from ..containers.probe import System

# Display controllers (VGA, 3D, other) and processing accelerators (the class of an MI300X).
_GPU_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")


class PciDevice(NamedTuple):
    """One function on the PCI bus: its address (0000:c1:00.0) and the name of the bound kernel driver, or ""."""

    address: str
    driver: str


def pci_gpus(system: System, vendor_id: str) -> List[PciDevice]:
    """Graphics and accelerator functions of one vendor ("0x10de") on the PCI bus."""
    found = []
    for address in system.names("/sys/bus/pci/devices"):
        folder = "/sys/bus/pci/devices/" + address
        if system.read(folder + "/vendor") == vendor_id and system.read(folder + "/class").startswith(_GPU_CLASSES):
            events = system.read(folder + "/uevent").splitlines()
            driver = next((line[7:] for line in events if line.startswith("DRIVER=")), "")
            found.append(PciDevice(address, driver))
    return found


def device(index: int, **known: str) -> Dict[str, Any]:
    """One GPU: `index` is the number its vendor's tool gives it; the others are texts, "" if unknown."""
    return {"index": index, "render_node": "", "uuid": "", "bus": "", "product": "", "architecture": "", **known}


def gpu_facts(vendor: str, devices: Sequence[Dict[str, Any]] = (), problems: Sequence[str] = (), **known: str) -> Dict[str, Any]:
    """The `gpu` part of the facts. `problems` are sentences; a product mix is one of them."""
    products = Counter(entry["product"] for entry in devices if entry["product"])
    notes = list(problems)
    if len(products) > 1:
        mix = ", ".join("%d x %s" % (count, name) for name, count in sorted(products.items()))
        notes.append("the GPUs are not all of one kind (%s): choose some with docker_gpus" % mix)
    facts = {"vendor": vendor, "count": len(devices), "architecture": "", "product": next(iter(products), "")}
    return {**facts, "driver": "", "runtime_version": "", **known, "devices": list(devices), "problems": notes}


def clean(value: Any) -> str:
    """A tool's text, with its ways of saying "unknown" made ""."""
    text = str(value if value is not None else "").strip()
    return "" if text.startswith("[") or text.upper() in ("N/A", "NONE", "ERR!", "UNKNOWN ERROR", "UNKNOWN") else text
