# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of an attempt that ran in a Slurm job: what each node left, on that node's clock, as one record."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Dict, List, Mapping, Optional

from ..base import files
from ..containers.image_engine import normal_id
from ..host import ending
from ..host.driver import Progress, read_phases
from ..host.ending import Ending
from ..host.host_state import Attempt, HostFolder, read_text
from ..results import aggregate
from . import slurm_attempt
from .slurm_folder import NodeFolder
from .slurm_submit import read_marker

Run = Mapping[str, Any]


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def gpu_indexes(text: str) -> List[int]:
    """Slurm's list of GPUs of a job on a node (0,1 or 0-3), [] for none or what is no such list."""
    found: List[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdigit() and (last.isdigit() if dash else True):
            found += range(int(first), int(last if dash else first) + 1)
    return found[:1024]


class NodeEnding(Ending):
    """One node's logs and artifacts, and what its part of the model printed."""

    def __init__(self, folder: HostFolder, run: Run, node: NodeFolder) -> None:
        files.look_again(node.file("io"))  # `running` looked there before the node had written anything
        super().__init__(folder, run, node, {"notes": []})
        self.rank = node.rank
        self.about = node.marker("node")
        self.end = node.marker("end")
        self.failed = node.marker("failed")
        self.timed_out = bool(read_text(node.file("io", "timed_out")).strip())
        self.image = normal_id(read_text(node.file("io", "image")).strip())
        self.oom = bool(read_text(node.file("io", "oom")).strip())

    def wall_clock(self, seconds_since_boot: float) -> float:
        """On the node's own clock: `io/node` says what both showed at one time."""
        clock, uptime = _float(self.about.get("clock", "")), _float(self.about.get("uptime", ""))
        return clock - uptime + seconds_since_boot if clock else time.time()

    def name(self) -> str:
        """The node as Slurm calls it."""
        return self.about.get("node", "")

    def gpu(self) -> Dict[str, Any]:
        """What the node's own tools said of its GPUs."""
        product, dummy, driver = self.about.get("nvidia", "").rpartition(", ")
        vendor = "NVIDIA" if product else "AMD" if self.about.get("amd") else ""
        return {"vendor": vendor, "architecture": product or self.about.get("amd", ""), "product": product, "driver": driver}

    def host_facts(self) -> Dict[str, Any]:
        """Facts of the node, in the form of gpu_info's."""
        gpu = self.gpu()
        cpus = self.about.get("cpus", "")
        return {
            "hostname": self.name() or self.about.get("hostname", ""),
            "kernel": self.about.get("kernel", ""),
            "cpu": {"count": int(cpus)} if cpus.isdigit() else {},
            "gpu": dict(gpu, count=len(gpu_indexes(self.about.get("gpus", "")))),
        }


class JobEnding(NodeEnding):
    """The whole attempt: rank 0's part of it, with the others' results added."""

    def __init__(self, folder: HostFolder, run: Run, attempt: Attempt, verdict: Mapping[str, Any], job: Mapping[str, Any]) -> None:
        super().__init__(folder, run, NodeFolder(attempt, 0))
        self.attempt = attempt
        self.begin = read_marker(attempt.file("begin"))
        self.job = dict(job)
        self.others = [NodeEnding(folder, run, NodeFolder(attempt, rank)) for rank in range(1, slurm_attempt.parts_of(run))]
        self.outcome.update(
            launched=bool(self.progress.began), exit_code=self._exit_code(), signal=0, timed_out=False, oom=False, cancelled=False, preempted=False
        )
        self.outcome["error"] = None
        self.outcome.update(verdict)
        if not verdict:
            self._explain()

    def _nodes(self) -> List[NodeEnding]:
        return [self, *self.others]

    def _exit_code(self) -> Optional[int]:
        """The worst of the nodes' statuses, as the job itself ended; None where no node's model came to an end."""
        codes = [node.progress.exit_code for node in self._nodes()]
        known = [code for code in codes if code is not None]
        word = read_marker(self.attempt.file("end")).get("code", "")
        if any(code is None for code in codes):
            return next((code for code in known if code), None)
        return int(word) if word.isdigit() else max(known)

    def _explain(self) -> None:
        """Why it ended, when Slurm did nothing to it: asked of every node, the first that knows a reason answers."""
        self.outcome["timed_out"] = any(node.timed_out for node in self._nodes())
        self.outcome["oom"] = any(node.oom for node in self._nodes())
        if self.outcome["timed_out"] or self.outcome["oom"]:
            return
        for node in self._nodes():
            reason = _problem(node, self.run)
            if reason:
                where = "node %s: " % (node.name() or node.rank) if self.others else ""
                self.outcome["error"] = dict(reason, reason=where + reason["reason"])
                return

    # -- the record --------------------------------------------------------------------------------------------------------------

    def _times(self) -> None:
        """Staging is what the controller took and what the node took before the model's script began; all else until then was waiting."""
        super()._times()
        times, clock = self.outcome["times"], _float(self.begin.get("clock", ""))
        node = max(0.0, times["started"] - clock) if clock and "started" in times else 0.0
        times["staged"] = times["staged"] + node
        end = _float(read_marker(self.attempt.file("end")).get("clock", ""))
        if not self.progress.ended and end:
            times["finished"] = end

    def move_out(self) -> None:
        """Logs and artifacts of every node."""
        super().move_out()
        for node in self.others:
            if os.path.isdir(node.attempt.path):
                node.move_out()
                self.outcome["notes"] += ["node %s: %s" % (node.name() or node.rank, note) for note in node.outcome["notes"]]

    def facts(self) -> Dict[str, Any]:
        """Of the first node; the plan's where it never began."""
        return self.host_facts() if self.about else self.folder.facts()

    def _record(self) -> Dict[str, Any]:
        if self.image and self.run.get("image"):
            self.run["image"] = dict(self.run["image"], digest=self.run["image"].get("digest") or self.image)
        if len({node.image for node in self._nodes() if node.image}) > 1:
            self.outcome["notes"].append("the nodes have different images under the name %s" % (self.run.get("image") or {}).get("name"))
        document = super()._record()
        nodes = [name for name in (node.name() for node in self._nodes()) if name]
        restarts = self.begin.get("restarts", "")
        target: Dict[str, Any] = dict(self.job, nodes=nodes or [name for name in [self.begin.get("nodes", "")] if name])
        target["restarts"] = int(restarts) if restarts.isdigit() else 0
        document["target"].update(target)
        count = document["gpus"]["count"]
        if isinstance(count, int):
            document["gpus"]["count"] = count * slurm_attempt.nodes_of(self.run)
        found = self.gpu()
        document["gpus"].update({key: found[key] for key in ("vendor", "architecture") if found[key]})
        document["gpus"]["indexes"] = gpu_indexes(self.about.get("gpus", ""))
        document["files"]["nodes"] = len(self._nodes())
        return document

    def parsed(self) -> Optional[Dict[str, Any]]:
        """What all nodes printed: metrics by the declared rule, errors of all, the words of the first node that has any."""
        own = super().parsed()
        found = [own] + [node.parsed() for node in self.others]
        known = [parsed for parsed in found if parsed]
        if len(found) == 1 or not known:
            return own
        metrics, notes = aggregate.combine([parsed["metrics"] for parsed in known], (self.run.get("launcher") or {}).get("aggregation") or {})
        self.outcome["notes"] += notes
        whole = dict(own or known[0], metrics=metrics, errors=[error for parsed in known for error in parsed["errors"]])
        if metrics and not any(parsed.get("problem") is None for parsed in known):
            return whole
        if any(parsed.get("problem") is None and parsed["metrics"] for parsed in known):
            whole["problem"] = None
        return whole


def _problem(node: NodeEnding, run: Run) -> Optional[Dict[str, str]]:
    """What kept one node's part from coming to an end, None when it came to one."""
    progress: Progress = node.progress
    if node.failed:
        return {"class": node.failed.get("class", "infra"), "reason": node.failed.get("reason", "it could not be prepared") + "; see engine.log"}
    if progress.failure:
        return ending.phase_failure(run, progress.failure)
    if not progress.began:
        words = read_text(node.attempt.file("io", "engine.log"), 1 << 16).strip().splitlines()
        return {"class": "launch", "reason": "it did not start: %s" % (words[-1][:500] if words else "nothing was said; see slurm.log")}
    if not progress.ended and not progress.exit_code:
        return {"class": "infra", "reason": "it ended in phase %s from outside: removed, or killed by somebody" % progress.phase}
    return None


def write(
    folder: HostFolder, run: Run, attempt: Attempt, verdict: Mapping[str, Any], job: Mapping[str, Any], batch: files.Batch
) -> None:
    """Make the record of an attempt that has ended, and write it with others."""
    slurm_attempt.forget_secrets(attempt)
    _bring_job_log(folder, attempt, job)
    JobEnding(folder, run, attempt, verdict, job).write(batch)


def tidy(run: Run, attempt: Attempt) -> None:
    """Remove what nobody needs any more when the record is on disk."""
    if not (run.get("keep") or {}).get("model_dir"):
        slurm_attempt.remove_work(attempt, run)
    for rank in range(slurm_attempt.parts_of(run)):
        shutil.rmtree(slurm_attempt.node_file(attempt, rank, "io"), ignore_errors=True)


def _bring_job_log(folder: HostFolder, attempt: Attempt, job: Mapping[str, Any]) -> None:
    """What the job's own script said goes to the end of engine.log: it is the only word where the script failed."""
    shown, name = str(job.get("job") or ""), str(job.get("submission") or "")
    text = read_text(folder.file("submissions", name, "slurm-%s.log" % shown), 1 << 20) if shown and name else ""
    if text.strip():
        os.makedirs(attempt.file("io"), mode=0o700, exist_ok=True)
        with open(attempt.file("io", "engine.log"), "a", encoding="utf-8", errors="replace") as stream:
            stream.write("-- the job's own output --\n" + text)


def phases_of(attempt: Attempt) -> Progress:
    """What rank 0's driver noted so far."""
    return read_phases(attempt.file("io", "phases"))
