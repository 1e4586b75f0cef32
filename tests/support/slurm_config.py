# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration of the test cluster: files of Slurm, of its accounting and of munge, all of them below one folder."""

from __future__ import annotations

import dataclasses
import getpass
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from .ports import listens

CPUS, MEMORY, GPUS = 8, 4000, 8  # what each node claims to have
DATABASE = "slurm_acct"

_SLURM = """\
ClusterName=madtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
{settings}
{accounting}
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
{partitions}
"""
_SETTINGS = {
    "SchedulerParameters": "batch_sched_delay=0,sched_interval=1",
    "KillWait": "5",
    "SlurmdTimeout": "10",
    "SlurmctldTimeout": "10",
    "MessageTimeout": "10",
    "UnkillableStepTimeout": "60",
    "MaxArraySize": "1001",
    "MaxJobCount": "10000",
}
_PARTITIONS = "PartitionName=main Nodes=ALL Default=YES MaxTime=2-00:00:00 State=UP"
_DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage}
StorageUser=slurm
StoragePass={password}
StorageLoc={database}
"""


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where the daemons listen; the nodes' ports follow one another."""

    controller: int
    accounting: int
    database: int
    first: int


def free_ports(nodes: int) -> Ports:
    """Ports in a row that nothing listens on, below the range that outgoing connections use."""
    for dummy in range(200):
        start = 17000 + secrets.randbelow(12000)
        if not any(listens("127.0.0.1", start + offset) for offset in range(nodes + 3)):
            return Ports(start, start + 1, start + 2, start + 3)
    raise RuntimeError("no %d free ports in a row between 17000 and 29000" % (nodes + 3))


def write(folder: Path, nodes: int, ports: Ports, accounting: bool, settings: Mapping[str, str], partitions: str, password: str) -> None:
    """Write slurm.conf, gres.conf and, with accounting, slurmdbd.conf."""
    user = getpass.getuser()
    values = {
        "host": socket.gethostname().partition(".")[0],
        "user": user,
        "folder": folder,
        "nodes": nodes,
        "controller": ports.controller,
        "first": ports.first,
        "last": ports.first + nodes - 1,
        "cpus": CPUS,
        "memory": MEMORY,
        "gpus": GPUS,
        "settings": "\n".join("%s=%s" % pair for pair in {**_SETTINGS, **settings}.items()),
        "accounting": _accounting(folder, ports) if accounting else "AccountingStorageType=accounting_storage/none",
        "partitions": partitions or _PARTITIONS,
    }
    (folder / "slurm.conf").write_text(_SLURM.format(**values), "utf-8")
    # Without File a node whose GPUs cannot be found comes up as invalid.
    (folder / "gres.conf").write_text("NodeName=n[1-%d] Name=gpu File=/dev/tty[0-%d]\n" % (nodes, GPUS - 1), "utf-8")
    if accounting:
        text = _DATABASE.format(
            folder=folder, port=ports.accounting, storage=ports.database, user=user, password=password, database=DATABASE
        )
        _write_private(folder / "slurmdbd.conf", text.encode())
    _write_private(folder / "munge.key", secrets.token_bytes(128))


def _accounting(folder: Path, ports: Ports) -> str:
    pairs = {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": ports.accounting,
        "AccountingStoragePass": folder / "munge.socket",  # the socket of munge, whatever the name says
    }
    return "\n".join("%s=%s" % pair for pair in pairs.items())


def _write_private(path: Path, data: bytes) -> None:
    """A file that its readers demand to be mode 0600."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
