# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at idle nodes before jobs are sent there: leftover GPU processes, space, runtime, image. Nothing is cleaned, nothing is killed.

One job step looks at all idle nodes side by side. A node that is bad is excluded and reported; one that could not be looked at (it runs
somebody's job now) is neither good nor bad and stays eligible.

    report = slurm_node_check.check(slurm, options, slurm_node_check.needs_of(runs, archives, folder))
    problem = report.problem(nodes, options)      # "" or why jobs of so many nodes cannot start at all
    options = report.excluding(options)           # for the directives of what is submitted now
"""

from __future__ import annotations

import re
import secrets
import subprocess
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

from ..base.errors import MadError
from . import slurm_nodes, slurm_runtimes
from .slurm_client import Slurm
from .slurm_nodes import Node
from .slurm_options import Options, asked_gpus

SECONDS = 120  # for the whole step
FREE_BYTES = 1 << 30
_IMMEDIATE = 30  # seconds in which Slurm must give the nodes; they are idle
_MARK = "mad-check"
_LINE = re.compile(r"%s (\S+) ([a-z_]+) ?(.*)\Z" % _MARK)

Facts = Dict[str, List[Tuple[str, str]]]  # of each node, in the order in which it said them

# Says facts, decides nothing. Every tool that may hang has a limit of its own.
SCRIPT = r"""
node=${SLURMD_NODENAME:-$(hostname)}
say() { printf 'mad-check %s %s %s\n' "$node" "$1" "$2"; }
who() { ps -o user=,comm= -p "$1" 2>/dev/null | tr -s ' ' || :; }
say begin "$(uname -r)"
for pid in /sys/class/kfd/kfd/proc/[0-9]*; do
  [ -e "$pid" ] && say gpu_process "${pid##*/} $(who "${pid##*/}")"
done
if command -v nvidia-smi >/dev/null 2>&1; then
  if apps=$(timeout 20 nvidia-smi --query-compute-apps=pid --format=csv,noheader 2>&1); then
    for pid in $apps; do
      case $pid in *[!0-9]*) ;; *) say gpu_process "$pid $(who "$pid")" ;; esac
    done
  else
    say gpu_tool "nvidia-smi: $(printf %s "$apps" | tail -n 1)"
  fi
fi
runtime=host
for word in "$@"; do
  value=${word#*=}
  case $word in
    runtime=docker | runtime=podman)
      runtime=$value
      if ! command -v "$runtime" >/dev/null 2>&1; then
        say runtime "no program $runtime"
      elif ! words=$(timeout 60 "$runtime" info 2>&1 >/dev/null); then
        say runtime "$runtime info: $(printf %s "$words" | tail -n 1)"
      fi
      ;;
    runtime=apptainer)
      runtime=$value
      command -v apptainer >/dev/null 2>&1 || command -v singularity >/dev/null 2>&1 || say runtime "no program apptainer"
      ;;
    runtime=enroot)
      runtime=$value
      command -v enroot >/dev/null 2>&1 || say runtime "no program enroot"
      ;;
    image=*) timeout 60 "$runtime" image inspect "$value" >/dev/null 2>&1 || say no_image "$value" ;;
    folder=*) if [ -d "$value" ] && [ -w "$value" ]; then :; else say no_folder "$value"; fi ;;
    free=*) say free "$(df -Pk "$value" 2>/dev/null | awk 'NR == 2 { print $4 }') $value" ;;
  esac
done
say end ''
"""


class Needs(NamedTuple):
    """What jobs will ask of a node."""

    gpus: int = 0
    runtime: str = "host"
    images: Tuple[str, ...] = ()  # ids that must be there already: neither a registry nor an archive has them
    folder: str = ""  # the shared folder of the campaign
    temporary: str = "/tmp"  # where a node must have room
    free_bytes: int = FREE_BYTES


class Report(NamedTuple):
    """What was found. Each node stands in exactly one of the four."""

    good: Tuple[str, ...]
    bad: Mapping[str, Tuple[str, ...]]  # looked at, and why it is no place for a benchmark
    unseen: Mapping[str, str]  # not looked at, and why: it may be fine
    out: Mapping[str, str]  # Slurm itself starts nothing there, and why

    def excluding(self, options: Options) -> Options:
        """The options with the bad nodes excluded as well."""
        names = dict.fromkeys([*slurm_nodes.names(options.exclude), *sorted(self.bad)])
        return options._replace(exclude=",".join(names)) if self.bad else options

    def problem(self, nodes: int, options: Options) -> str:
        """Why a job of so many nodes cannot start, or ""."""
        named = [name for name in slurm_nodes.names(options.nodelist) if name in self.bad]
        if named:
            return "slurm.nodelist names %s, and the node check found: %s" % (named[0], "; ".join(self.bad[named[0]]))
        left = len(self.good) + len(self.unseen)
        if left >= nodes:
            return ""
        return "%d nodes are needed and %d are left after the node check: %s" % (nodes, left, self.text() or "there are no others")

    def text(self) -> str:
        """The nodes that are not good, with their reasons, for people."""
        found = {name: "; ".join(reasons) for name, reasons in self.bad.items()}
        found.update(self.out)
        return ", ".join("%s (%s)" % (name, found[name]) for name in sorted(found))

    def document(self) -> Dict[str, Any]:
        """The report as plain JSON."""
        return {
            "good": list(self.good),
            "bad": {name: list(self.bad[name]) for name in sorted(self.bad)},
            "unseen": dict(self.unseen),
            "out": dict(self.out),
        }


def needs_of(runs: Iterable[Mapping[str, Any]], archives: Mapping[str, str], folder: str) -> Needs:
    """What these resolved runs ask of a node."""
    gpus, runtime, images = 0, "host", []
    for run in runs:
        gpus = max(gpus, int((run.get("gpus") or {}).get("count") or 0))
        image, own = run.get("image") or {}, str(run["runtime"])
        runtime = own if own != "host" else runtime
        digest = str(image.get("digest") or "")
        if own in slurm_runtimes.ENGINES and digest and digest not in archives and not image.get("registry_image"):
            images.append(digest)
    return Needs(gpus, runtime, tuple(dict.fromkeys(images)), folder)


# -- looking -------------------------------------------------------------------------------------------------------------------------


def check(slurm: Slurm, options: Options, needs: Needs, seconds: float = SECONDS) -> Report:
    """Ask the controller which nodes there are, look at the idle ones in one step, and judge. It never raises for what a node is like."""
    for last in (False, False, True):
        found = _candidates(slurm, options)
        idle = [
            node.name for node in found if node.idle() and "powered_down" not in node.flags and node.gpus - node.gpus_used >= needs.gpus
        ]
        facts, words = ask(slurm, options, needs, idle, seconds) if idle else ({}, "")
        if facts or not idle or last:
            break  # else one of them was taken in between: those that are idle now
    return judge(found, idle, facts, needs, words)


def _candidates(slurm: Slurm, options: Options) -> List[Node]:
    answers = [slurm.call(*command) for command in (slurm_nodes.NODES, slurm_nodes.PARTITIONS)]
    for answer in answers:
        if answer.code:
            raise MadError("the nodes cannot be listed: scontrol: %s" % answer.words())
    default = ",".join(partition.name for partition in slurm_nodes.partitions(answers[1].output) if partition.default)
    return slurm_nodes.chosen(slurm_nodes.nodes(answers[0].output), options.partition, options.nodelist, options.exclude, default)


def step_argv(options: Options, needs: Needs, idle: Sequence[str], name: str, seconds: float) -> List[str]:
    """srun's command line: one task on each of the idle nodes, all at once or not at all, gone by itself in any case."""
    pairs: List[Tuple[str, Any]] = [
        ("job-name", name),
        ("nodes", len(idle)),
        ("ntasks-per-node", 1),
        ("immediate", _IMMEDIATE),
        ("time", "%d" % (-(-int(seconds) // 60) + 1)),
        ("kill-on-bad-exit", 0),
        ("partition", options.partition),
        ("account", options.account),
        ("qos", options.qos),
        ("constraint", options.constraint),
        ("reservation", options.reservation),
        ("nodelist", ",".join(idle)),
        ("gres", options.gres),
        ("gpus-per-node", asked_gpus(options, needs.gpus)),
        ("mem", options.mem),
    ]
    words = ["--%s=%s" % (key, value) for key, value in pairs if value or key == "kill-on-bad-exit"]
    arguments = ["runtime=" + needs.runtime, *("image=" + image for image in needs.images)]
    arguments += ["folder=" + needs.folder] if needs.folder else []
    arguments.append("free=" + needs.temporary)
    return ["srun", *words, *(["--exclusive"] if options.exclusive else []), "bash", "-c", SCRIPT, _MARK, *arguments]


def ask(slurm: Slurm, options: Options, needs: Needs, idle: Sequence[str], seconds: float) -> Tuple[Facts, str]:
    """({node: facts in their order}, srun's last words). What a node said before the time was over counts."""
    name = "%s-%s" % (_MARK, secrets.token_hex(4))
    argv = step_argv(options, needs, idle, name, seconds)
    slurm.calls += 1
    try:
        step = subprocess.Popen(  # pylint: disable=ansible-bad-function  # the core has no AnsibleModule; ended below in every case
            argv, env=slurm.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise MadError("srun cannot be started: %s; is this a login node of the cluster?" % error.strerror) from error
    late = ""
    try:
        output, errors = step.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = "not done after %d s; " % seconds
        slurm.cancel([name])  # srun ends with its job
        try:
            output, errors = step.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            step.kill()
            output, errors = step.communicate()
    words = late + " ".join(errors.decode("utf-8", "replace").strip().splitlines()[-2:])
    return read(output.decode("utf-8", "replace")), words


def read(text: str) -> Facts:
    """{node: [(fact, value)]} out of what the script said; other lines (of a site's prolog, say) are passed over."""
    found: Facts = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            found.setdefault(match.group(1), []).append((match.group(2), match.group(3).strip()))
    return found


# -- judging -------------------------------------------------------------------------------------------------------------------------


def judge(
    nodes: Sequence[Node], idle: Sequence[str], facts: Mapping[str, Sequence[Tuple[str, str]]], needs: Needs, words: str = ""
) -> Report:
    """The report: pure, so that every case can be tested."""
    good, bad, unseen, out = [], {}, {}, {}
    for node in nodes:
        if not node.usable():
            marks = "+".join([node.state, *node.flags])
            out[node.name] = "%s: %s" % (marks, node.reason) if node.reason else marks
        elif node.gpus < needs.gpus:
            out[node.name] = "it has %d GPUs, %d are needed" % (node.gpus, needs.gpus)
        elif node.name not in idle:
            out_of = "+".join([node.state, *node.flags])
            unseen[node.name] = "not idle (%s)" % out_of
        elif node.name not in facts:
            unseen[node.name] = "the check got no place there" + (": " + words if words else "")
        else:
            reasons = reasons_of(facts[node.name], needs)
            if reasons:
                bad[node.name] = tuple(reasons)
            else:
                good.append(node.name)
    return Report(tuple(good), bad, unseen, out)


def reasons_of(facts: Sequence[Tuple[str, str]], needs: Needs) -> List[str]:
    """Why a node is no place for a benchmark; [] for a good one."""
    reasons = []
    processes = [value for key, value in facts if key == "gpu_process"]
    if processes:
        more = " and %d more" % (len(processes) - 3) if len(processes) > 3 else ""
        reasons.append("GPUs are in use by process %s%s" % (", ".join(processes[:3]), more))
    for key, value in facts:
        if key == "gpu_tool" and needs.gpus:
            reasons.append("the GPUs do not answer: %s" % value)
        elif key == "runtime":
            reasons.append(value)
        elif key == "no_image":
            reasons.append("the image %s is not there, and neither a registry nor an archive has it" % value)
        elif key == "no_folder":
            reasons.append("the folder %s is not there or cannot be written to; it must lie on a shared file system" % value)
        elif key == "free":
            size, dummy, path = value.partition(" ")
            if not size.isdigit():
                reasons.append("the free space of %s cannot be read" % (path or value))
            elif int(size) * 1024 < needs.free_bytes:
                reasons.append("%s has %d MB free, %d are needed" % (path, int(size) >> 10, needs.free_bytes >> 20))
    if "end" not in [key for key, dummy in facts]:
        reasons.append("the check did not come to its end there")
    return reasons
