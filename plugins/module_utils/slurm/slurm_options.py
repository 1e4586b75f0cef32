# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `slurm` of a context: every option with its type, and the directives that it becomes. No site's names as defaults."""

from __future__ import annotations

import difflib
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from ..base.quoting import quote
from . import slurm_time

STAGING_MARGIN = 900  # seconds that a job may need beside its model, where no --time is given
RUNTIMES = ("docker", "podman", "host", "apptainer", "enroot")
_EXTRA = re.compile(r"--([a-z][a-z0-9-]*)(?:[= ].*)?\Z")
_SIGNAL = re.compile(r"(?:[BR]{1,2}:)?(?:SIG)?[A-Z0-9+]+(?:@[0-9]+)?\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:,=^-]{1,200}\Z")

# Set by us: with another value jobs could not be found, followed or read.
_OURS = frozenset(
    "job-name output error array nodes ntasks ntasks-per-node time wait parsable wrap test-only chdir export export-file quiet "
    "requeue no-requeue open-mode signal input kill-on-invalid-dep clusters hold deadline begin".split()
)
_FREE_LATER = "set it as an option of its own (slurm.%s)"

Check = Callable[[Any, str], Any]


class Options(NamedTuple):
    """The section, checked. Empty text, zero, None and () mean that the cluster's own default holds."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    nodelist: str = ""
    exclude: str = ""
    gpus_per_node: int = 0
    skip_gpus_directive: bool = False  # for clusters that know no GPUs and refuse jobs that ask for some
    gres: str = ""
    mem: str = ""
    cpus_per_task: int = 0
    exclusive: bool = True
    time: Optional[int] = None  # seconds, 0 unlimited, None: from the model's timeout
    signal: str = ""
    requeue: bool = False
    dependency: str = ""
    mail: str = ""
    mail_type: str = ""
    comment: str = ""
    extra: Tuple[str, ...] = ()
    modules: Tuple[str, ...] = ()
    network_interface: str = ""
    login_node: str = ""
    work_dir: str = ""
    shared_workspace: str = ""
    output_dir: str = ""
    runtime: str = ""
    max_jobs: int = 0
    node_check: bool = False


def _line(value: Any, key: str) -> str:
    """Text of one line: it becomes a directive."""
    text = scalars.to_text(value, key).strip()
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise scalars.wrong(key, "text of one line", value)
    return text


def _nodes(value: Any, key: str) -> str:
    """A list of nodes, also as text: blanks between names do not count (`n1, n2`)."""
    items = value if isinstance(value, (list, tuple)) else [value]
    text = ",".join(re.sub(r"\s+", "", _line(item, key)) for item in items)
    if not re.match(r"[A-Za-z0-9_.,\[\]-]*\Z", text):
        raise scalars.wrong(key, "names of nodes such as n1,n[3-7]", value)
    return text


def _words(value: Any, key: str) -> Tuple[str, ...]:
    return tuple(_line(word, key) for word in scalars.to_list(value, key))


def _extra(value: Any, key: str) -> Tuple[str, ...]:
    """Raw directives without the #SBATCH in front; what is ours to set is refused by name."""
    lines = [value] if isinstance(value, str) else value
    if not isinstance(lines, (list, tuple)):
        raise scalars.wrong(key, "a list of options such as --licenses=foo:2", value)
    found = []
    for index, item in enumerate(lines):
        line = _line(item, "%s[%d]" % (key, index))
        line = line[len("#SBATCH") :].strip() if line.startswith("#SBATCH") else line
        match = _EXTRA.match(line)
        if not match:
            raise scalars.wrong("%s[%d]" % (key, index), "a long option such as --licenses=foo:2", item)
        if match.group(1) in _OURS:
            own = match.group(1).replace("-", "_")
            hint = _FREE_LATER % own if own in Options._fields else "mad.engine sets it"
            raise InvalidInput("%s[%d]: --%s cannot stand there: %s" % (key, index, match.group(1), hint))
        found.append(line)
    return tuple(found)


def _path(value: Any, key: str) -> str:
    text = _line(value, key)
    if text and not text.startswith(("/", "~")):
        raise scalars.wrong(key, "an absolute path on a file system that login node and compute nodes share (~ is the home there)", value)
    return text


def _signal(value: Any, key: str) -> str:
    text = _line(value, key)
    if text and not _SIGNAL.match(text):
        raise scalars.wrong(key, "a signal as sbatch takes it, such as B:USR1@120", value)
    return text


def _runtime(value: Any, key: str) -> str:
    text = _line(value, key).lower()
    text = {"pyxis": "enroot", "singularity": "apptainer"}.get(text, text)
    if text and text not in RUNTIMES:
        raise scalars.wrong(key, "one of %s" % ", ".join(RUNTIMES), value)
    return text


def _interface(value: Any, key: str) -> str:
    text = _line(value, key)
    if text and not _INTERFACE.match(text):
        raise scalars.wrong(key, "the name of a network interface", value)
    return "" if text == "auto" else text


def _count(value: Any, key: str) -> int:
    return scalars.to_int(value, key, 0)


_CHECKS: Dict[str, Check] = {
    "nodelist": _nodes,
    "exclude": _nodes,
    "gpus_per_node": _count,
    "cpus_per_task": _count,
    "max_jobs": _count,
    "exclusive": scalars.to_bool,
    "skip_gpus_directive": scalars.to_bool,
    "requeue": scalars.to_bool,
    "node_check": scalars.to_bool,
    "time": slurm_time.parse,
    "signal": _signal,
    "extra": _extra,
    "modules": _words,
    "network_interface": _interface,
    "work_dir": _path,
    "shared_workspace": _path,
    "runtime": _runtime,
}
SPELLINGS = {"time_limit": "time", "enable_node_check": "node_check", "slurm_max_jobs": "max_jobs", "memory": "mem", "mail_user": "mail"}
# Keys that stand elsewhere by the time a context is normalised, or that change nothing.
_ELSEWHERE = {
    "nodes": "write distributed.nnodes",
    "n_gpus": "write gpus_per_node",
    **scalars.AT_THE_TOP,
    "env": "write env_vars at the top of the context",
    "results_dir": "results come home by themselves",
    "auto_cleanup_nodes": "processes of other people are never killed; exclude such nodes with slurm.exclude",
    "verbose_node_check": "the node check always says what it found",
    "allow_submit_without_clean_nodes": "write node_check: false",
}
_UNSET_ONLY = ("auto_cleanup_nodes", "verbose_node_check", "allow_submit_without_clean_nodes")


def parse(section: Mapping[str, Any], what: str = "slurm") -> Options:
    """The options of a normalised context's section; InvalidInput names the key, what was expected, and what a misspelt key may mean."""
    found: Dict[str, Any] = {}
    for given, value in section.items():
        name = SPELLINGS.get(given, given)
        key = "%s.%s" % (what, given)
        if given in _ELSEWHERE and not (given in _UNSET_ONLY and not value):
            raise InvalidInput("%s is not an option of this release: %s" % (key, _ELSEWHERE[given]))
        if scalars.is_unset(value) or given in _ELSEWHERE:
            continue
        if name not in Options._fields:
            raise InvalidInput("%s is not known%s" % (key, _hint(given)))
        check: Check = _CHECKS.get(name, _line)
        checked = check(value, key)
        if name in found and found[name] != checked:
            raise InvalidInput("%s says %s, and another spelling of it says %s; keep one" % (key, checked, found[name]))
        found[name] = checked
    return _whole_nodes(_one_folder(Options()._replace(**found), what), what)


def _whole_nodes(options: Options, what: str) -> Options:
    """A job that asks for no GPUs takes all of its nodes: without the nodes for itself it would share them, and measure that."""
    if options.skip_gpus_directive and not options.exclusive:
        raise InvalidInput("%s.skip_gpus_directive needs %s.exclusive: Slurm would give the same GPUs to several jobs" % (what, what))
    return options


def _one_folder(options: Options, what: str) -> Options:
    """madengine's shared_workspace is where runs work on the shared file system: the same folder as work_dir, which is what is read."""
    if options.shared_workspace and options.work_dir not in ("", options.shared_workspace):
        words = (what, options.work_dir, what, options.shared_workspace)
        raise InvalidInput("%s.work_dir says %s and %s.shared_workspace says %s; both name the one shared folder, keep one" % words)
    return options._replace(work_dir=options.work_dir or options.shared_workspace)


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, [*Options._fields, *SPELLINGS], n=1)
    return "; did you mean %s?" % near[0] if near else "; known are %s" % ", ".join(sorted(Options._fields))


class Shape(NamedTuple):
    """What a job asks the scheduler for: runs of one shape can share an array."""

    nodes: int
    gpus: int  # of each node
    seconds: int  # 0: no limit
    requeue: int = 0  # 1: Slurm may start the same job again


def asked_gpus(options: Options, gpus: int) -> int:
    """What --gpus-per-node says; 0 where it is left out."""
    return 0 if options.gres or options.skip_gpus_directive else gpus


def directives(options: Options, shape: Shape) -> List[str]:
    """The #SBATCH lines of a job, without the #SBATCH, in a fixed order; values are quoted."""
    pairs: List[Tuple[str, Any]] = [
        ("nodes", shape.nodes),
        ("ntasks-per-node", 1),
        ("gpus-per-node", asked_gpus(options, shape.gpus)),
        ("gres", options.gres),
        ("time", slurm_time.show(shape.seconds) if shape.seconds or options.time is not None else ""),
        ("partition", options.partition),
        ("account", options.account),
        ("qos", options.qos),
        ("constraint", options.constraint),
        ("reservation", options.reservation),
        ("nodelist", options.nodelist),
        ("exclude", options.exclude),
        ("mem", options.mem),
        ("cpus-per-task", options.cpus_per_task),
        ("dependency", options.dependency),
        ("signal", options.signal),
        ("mail-user", options.mail),
        ("mail-type", options.mail_type),
        ("comment", options.comment),
    ]
    lines = ["--%s=%s" % (name, quote(value)) for name, value in pairs if value]
    lines += ["--exclusive"] if options.exclusive else []
    lines += ["--requeue" if shape.requeue else "--no-requeue", "--open-mode=append"]
    return lines + list(options.extra)
