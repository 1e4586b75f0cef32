# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything an attempt needs on disk before it starts: a copy of its scripts, the driver, the environment, the command line."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import Any, Dict, List, Mapping, NamedTuple, Set

from ..base import secret_names
from ..base.errors import MadError
from ..base.quoting import quote_env
from ..containers import engine
from . import driver
from .host_state import Attempt, HostFolder

MARK = "MAD_ATTEMPT"  # environment variable by which processes of the host runtime are found again
_NOT_INHERITED = ("ANSIBLE_", "SSH_", "SUDO_", "MAD_", "_")


class Seat(NamedTuple):
    """What an attempt has for itself, and how many may run beside it."""

    gpus: List[int]
    cpus: str
    parallel: int


class Prepared(NamedTuple):
    """What is to be started."""

    argv: List[str]
    environment: Dict[str, str]  # of the process on the bare host; the engine's client has our own
    notes: List[str]


class Preparation:
    """Fills work/ and io/ of one attempt. A half filled one of a dead keeper is thrown away first: nothing ran in it."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat) -> None:
        self.folder, self.run, self.attempt, self.seat = folder, run, attempt, seat
        self.on_host = run["runtime"] == "host"
        self.work, self.control = attempt.file("work"), attempt.file("io")
        self.shared = not self.on_host and "--user" in engine.check_options([str(word) for word in run.get("options") or []])

    def make(self) -> Prepared:
        """Do it; MadError (invalid input, not staged) or OSError (disk) when it cannot be done."""
        for path in (self.work, self.control):
            shutil.rmtree(path, ignore_errors=True)
            os.mkdir(path)
            os.chmod(
                path, 0o777 if self.shared else 0o700
            )  # shared: another user than root works in the container; the folder above is 0700
        self._copy_tree()
        if self.shared:
            _open_to_all(self.work)
        plain, secret = self._environment()
        short, long = engine.split_environment(plain, secret)
        self._write("driver.sh", driver.render(self.run, self.attempt.number, self._place()), 0o755)
        self._write("env.sh", quote_env(long), 0o644 if self.shared else 0o600)
        if self.on_host:
            engine.check_words([str(word) for word in self.run["command"]["argv"]], "the command of the model")
            return Prepared(["sh", os.path.join(self.control, "driver.sh")], dict(base_environment(), **short), self._notes())
        return Prepared(engine.container_argv(self.run, self._launch(short)), {}, self._notes())

    def _place(self) -> driver.Place:
        keep_alive = bool((self.run.get("keep") or {}).get("alive"))
        if self.on_host:
            return driver.Place(self.work, self.control, share=False, keep_alive=False)
        return driver.Place(engine.WORKSPACE, engine.CONTROL, share=os.geteuid() != 0, keep_alive=keep_alive)

    def _write(self, name: str, text: str, mode: int) -> None:
        descriptor = os.open(os.path.join(self.control, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text.encode("utf-8", "surrogateescape"))

    def _copy_tree(self) -> None:
        """The staged paths of this run, as a copy of its own that the model may change."""
        tree = self.folder.file("tree", str(self.run.get("tree", "")))
        for short in driver.staged(tree, self.run):
            source, target = os.path.join(tree, short), os.path.join(self.work, short)
            if os.path.isdir(source) and not os.path.islink(source):
                shutil.copytree(source, target, symlinks=True, copy_function=_copy_file, dirs_exist_ok=True)
            elif os.path.lexists(source):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                _copy_file(source, target)
            else:
                raise MadError("%s was not staged on this host" % short)

    def _environment(self) -> tuple[Dict[str, str], Dict[str, str]]:
        plain = {str(name): str(value) for name, value in (self.run.get("env") or {}).items()}
        known = self.folder.secrets(self.run["id"])
        absent = set(self._absent_secrets())
        wanted = [str(name) for name in self.run.get("secret_env") or [] if name not in absent]
        gone = [name for name in wanted if name not in known]
        if gone:
            raise MadError("the values of %s are no longer on this host; stage and start the campaign again" % ", ".join(gone))
        if self.on_host:
            plain.update(_visible_gpus(self.run, self.seat.gpus))
            plain[MARK] = mark(self.folder, self.attempt).partition("=")[2]
        return plain, {name: known[name] for name in wanted}

    def _absent_secrets(self) -> List[str]:
        """Secrets that had no value on the controller when the run was staged."""
        return [str(name) for name in self.run.get("secrets_absent") or []]

    def _notes(self) -> List[str]:
        return ["the secret %s has no value on the controller and was not passed" % name for name in self._absent_secrets()]

    def _launch(self, env: Mapping[str, str]) -> engine.Launch:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cidfile = self.attempt.file("container.id")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(cidfile)  # of an earlier start that came to nothing; the engine wants to make it
        return engine.Launch(
            name=engine.container_name(self.run["campaign"], self.run["id"], self.attempt.number),
            labels=engine.labels(self.run, self.attempt.number, self.folder.path),
            work=self.work,
            control=self.control,
            cidfile=cidfile,
            gpus=self.seat.gpus,
            cpus=self.seat.cpus,
            env=env,
            shm_bytes=memory // 2,  # as the kernel gives a host's own /dev/shm; the engines' 64 MB stop data loaders
            selinux=os.path.exists("/sys/fs/selinux/enforce"),
        )


def mark(folder: HostFolder, attempt: Attempt) -> str:
    """NAME=value that every process of an attempt on the bare host carries in its environment; what is started has that of launch.json.

    The whole path stands in it: a campaign of this name may have another work folder on this machine.
    """
    return str(attempt.launch().get("mark") or "%s=%s/%s/%d" % (MARK, folder.path, attempt.run_id, attempt.number))


def base_environment() -> Dict[str, str]:
    """What the host runtime inherits of the login: neither Ansible's and the connection's own variables nor anything secret."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED) and not secret_names.is_secret_name(name)
    }


def _copy_file(source: str, target: str) -> str:
    """Copy a file with its mode, a link as a link."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return target
    return str(shutil.copy(source, target, follow_symlinks=False))


def _open_to_all(folder: str) -> None:
    """Let every user read and change what is in a folder, as `chmod -R a+rwX` does; links are left alone."""
    for base, folders, names in os.walk(folder):
        for path in [os.path.join(base, name) for name in folders + names]:
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(path, stat.S_IMODE(mode) | (0o777 if stat.S_ISDIR(mode) or mode & 0o111 else 0o666))


def _visible_gpus(run: Mapping[str, Any], gpus: List[int]) -> Dict[str, str]:
    """On the bare host GPUs are chosen by environment variables."""
    text = ",".join(str(index) for index in gpus)
    names = {"AMD": ("HIP_VISIBLE_DEVICES",), "NVIDIA": ("CUDA_VISIBLE_DEVICES",), "INTEL": ("ZE_AFFINITY_MASK",)}
    return dict.fromkeys(names.get((run.get("gpus") or {}).get("vendor", ""), ()), text) if gpus else {}


def cpu_set(text: str) -> Set[int]:
    """{0, 1, 2, 8} of "0-2,8"; MadError of class placement for anything else."""
    found: Set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found.update(range(int(first), int(last if dash else first) + 1))
    except ValueError as error:
        raise MadError("docker_cpus %r: a list such as 0-3,8 was expected" % text, "placement") from error
    if not found:
        raise MadError("docker_cpus %r names no CPU" % text, "placement")
    return found
