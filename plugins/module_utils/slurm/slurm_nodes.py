# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes and partitions of a cluster, as `scontrol --oneliner show` prints them."""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

# --all: also what hidden partitions have; --details: also GresUsed, which sites know that do not account for GPUs.
NODES = ("scontrol", "--all", "--oneliner", "--details", "show", "node")
PARTITIONS = ("scontrol", "--all", "--oneliner", "show", "partition")

_KEY = re.compile(r"(?:\A| )([A-Za-z][A-Za-z_]*)=")
_FREE = ("Reason", "Comment", "Extra")  # written by people: whatever looks like a key in them is none
_SIGNED = re.compile(r" ?\[([^\]\s]*@[0-9][0-9T:.-]*)\]")  # how Slurm ends a reason: who and when
_GPU = re.compile(r"gpu(?::(?!no_consume)([^:,()]+))?(?::no_consume)?:([0-9]+)(?=[,(]|\Z)", re.IGNORECASE)
_NOTHING = ("", "(null)", "N/A", "n/a", "None", "none")
_BAD = frozenset("DOWN DRAIN DRAINED DRAINING FAIL FAILING ERROR INVAL INVALID_REG MAINT FUTURE UNKNOWN NOT_RESPONDING REBOOT".split())


class Node(NamedTuple):
    """One node. Numbers are 0 where Slurm does not say them."""

    name: str
    address: str
    hostname: str
    state: str  # idle, mixed, allocated, down, ... in small letters
    flags: Tuple[str, ...]  # what stands beside it: drain, not_responding, maint, powered_down, ...
    reason: str  # why an administrator or Slurm took it out
    partitions: Tuple[str, ...]
    features: Tuple[str, ...]
    gpus: int
    gpus_used: int
    gpu_type: str  # as the site calls it; several are joined by a comma
    cpus: int
    cpus_used: int
    memory_mb: int
    gres: str
    architecture: str
    version: str

    def usable(self) -> bool:
        """Whether Slurm may start jobs there now or later."""
        return not ({self.state.upper()} | {flag.upper() for flag in self.flags}) & _BAD

    def idle(self) -> bool:
        """Whether nothing runs there and something could."""
        return self.state == "idle" and self.usable()


class Partition(NamedTuple):
    """One partition."""

    name: str
    default: bool
    state: str
    nodes: int
    max_time: str
    hidden: bool


def fields(line: str) -> Dict[str, str]:
    """{key: value} of one line. Values may hold blanks (OS=Linux 6.1 #1 SMP), so a value ends where the next key begins."""
    found: Dict[str, str] = {}
    mark = _KEY.search(line)
    while mark:
        following = _KEY.search(line, mark.end())
        end = following.start() if following else len(line)
        if mark.group(1) in _FREE:
            signed = _SIGNED.search(line, mark.end())
            end = signed.end() if signed else len(line)
            following = _KEY.search(line, end)
        found.setdefault(mark.group(1), line[mark.end() : end].strip())
        mark = following
    return found


def _value(text: str) -> str:
    return "" if text in _NOTHING else text


def _list(text: str) -> Tuple[str, ...]:
    return tuple(word for word in _value(text).split(",") if word)


def _number(text: str) -> int:
    match = re.match(r"[0-9]+", text)
    return int(match.group()) if match else 0


def gpus(gres: str) -> Tuple[int, str]:
    """(how many, their types) of Gres or GresUsed: `gpu:8`, `gpu:mi300x:8(S:0-1)`, `gpu:a100:4,gpu:v100:2,shard:16`, `gpu:a100:2(IDX:0,3)`."""
    count = 0
    types: List[str] = []
    for match in _GPU.finditer(gres):
        if match.start() and gres[match.start() - 1] != ",":
            continue  # the end of another word
        count += int(match.group(2))
        if match.group(1) and match.group(1) not in types:
            types.append(match.group(1))
    return count, ",".join(types)


def _state(text: str) -> Tuple[str, Tuple[str, ...]]:
    """(state, flags) of `IDLE+DRAIN`, `DOWN*`, `MIXED+CLOUD*`: the marks behind a state are flags of their own."""
    words = text.lower().split("+")
    marks = {"*": "not_responding", "~": "powered_down", "#": "powering_up", "%": "powering_down", "$": "maint", "@": "reboot_requested"}
    found: List[str] = []
    for index, word in enumerate(words):
        bare = word.rstrip("*~#%$@!^-")
        found += [bare] if index and bare else []
        found += [marks[mark] for mark in word[len(bare) :] if mark in marks]
        words[index] = bare
    return words[0] or "unknown", tuple(dict.fromkeys(found))


def nodes(text: str) -> List[Node]:
    """Nodes out of the answer to NODES; lines that are none are passed over."""
    return [_node(found) for found in map(fields, text.splitlines()) if found.get("NodeName")]


def _node(found: Dict[str, str]) -> Node:
    state, flags = _state(found.get("State", ""))
    count, kind = gpus(found.get("Gres", ""))
    used = gpus(found.get("GresUsed", ""))[0] or _number(_traceable(found.get("AllocTRES", "")))
    return Node(
        name=found["NodeName"],
        address=_value(found.get("NodeAddr", "")),
        hostname=_value(found.get("NodeHostName", "")),
        state=state,
        flags=flags,
        reason=_value(found.get("Reason", "")),
        partitions=_list(found.get("Partitions", "")),
        features=_list(found.get("ActiveFeatures", "") or found.get("AvailableFeatures", "")),
        gpus=count,
        gpus_used=used,
        gpu_type=kind,
        cpus=_number(found.get("CPUTot", "")),
        cpus_used=_number(found.get("CPUAlloc", "")),
        memory_mb=_number(found.get("RealMemory", "")),
        gres=_value(found.get("Gres", "")),
        architecture=_value(found.get("Arch", "")),
        version=_value(found.get("Version", "")),
    )


def _traceable(text: str) -> str:
    """The number of GPUs of AllocTRES, which a site has that accounts for them."""
    match = re.search(r"(?:\A|,)gres/gpu=([0-9]+)", text)
    return match.group(1) if match else ""


def partitions(text: str) -> List[Partition]:
    """Partitions out of the answer to PARTITIONS."""
    return [
        Partition(
            name=found["PartitionName"],
            default=found.get("Default", "").upper() == "YES",
            state=found.get("State", "").lower(),
            nodes=_number(found.get("TotalNodes", "")),
            max_time=_value(found.get("MaxTime", "")),
            hidden=found.get("Hidden", "").upper() == "YES",
        )
        for found in map(fields, text.splitlines())
        if found.get("PartitionName")
    ]


def names(hostlist: str) -> List[str]:
    """Names of `n1,n[3-5,08],m`: as many as are written; one level of brackets, as Slurm writes its own lists."""
    found: List[str] = []
    for word in _split(hostlist):
        match = re.match(r"([^\[\]]*)\[([0-9,-]+)\]([^\[\]]*)\Z", word)
        if not match:
            found.append(word)
            continue
        for part in match.group(2).split(","):
            first, dash, last = part.partition("-")
            low, high = int(first or 0), int(last if dash and last else first or 0)
            found += [
                "%s%0*d%s" % (match.group(1), len(first), number, match.group(3)) for number in range(low, min(high, low + 65535) + 1)
            ]
    return found


def _split(hostlist: str) -> List[str]:
    """The list at its commas, not those inside brackets."""
    words, depth, current = [], 0, ""
    for character in hostlist:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            words.append(current)
            current = ""
        else:
            current += character
    return [word for word in [*words, current] if word]


def chosen(found: Sequence[Node], partition: str, nodelist: str, exclude: str, default: str = "") -> List[Node]:
    """The nodes that a job with these options may get."""
    wanted: FrozenSet[str] = frozenset(names(nodelist))
    out: FrozenSet[str] = frozenset(names(exclude))
    within = {name for name in (partition or default).split(",") if name}
    return [
        node
        for node in found
        if node.name not in out and (not wanted or node.name in wanted) and (not within or within & set(node.partitions))
    ]
