# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware class: the text by which hosts and rows count as comparable.

It says what a machine is sold as (GPUs and CPUs by product and number), never how it does: a host with a slow disk, a DIMM less or an
older driver stays in its class, or nobody could find it there.
"""

from __future__ import annotations

from typing import Any, Mapping

_NO_GPU = ("", "NONE")


def hardware_class(facts: Mapping[str, Any]) -> str:
    """`8x MI300X (gfx942), 192x AMD EPYC 9654` from the facts of a host; "" where nobody knows them."""
    gpu, cpu = facts.get("gpu") or {}, facts.get("cpu") or {}
    parts = []
    if str(gpu.get("vendor") or "") not in _NO_GPU:
        name, architecture = str(gpu.get("product") or ""), str(gpu.get("architecture") or "")
        known = "%s (%s)" % (name, architecture) if name and architecture and architecture not in name else name or architecture
        parts.append(_counted(gpu.get("count"), known or "%s GPU" % gpu["vendor"]))
    if cpu.get("model"):
        parts.append(_counted(cpu.get("count"), str(cpu["model"])))
    return ", ".join(" ".join(part.split()) for part in parts)


def of_cells(row: Mapping[str, str]) -> str:
    """The class as far as a row of perf.csv tells it: its own column, else the GPU's product or architecture."""
    told = (row.get(name) or "" for name in ("hardware", "gpu_product", "gpu_architecture"))
    return next((text for text in told if text and text != "N/A"), "")


def _counted(count: Any, name: str) -> str:
    return "%dx %s" % (count, name) if isinstance(count, int) and not isinstance(count, bool) else name
