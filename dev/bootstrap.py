# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the virtual environment and the collection tree once, then become the program that was asked for, inside them.

    python3 dev/bootstrap.py run|test|dev PROGRAM [ARGUMENT...]

`run` holds what the engine needs (dependencies in pyproject.toml), `test` also pytest, `dev` also the linters. An environment is keyed by
its requirements, the interpreter and its own place; it counts only once it carries its stamp, so an interrupted installation is done again.
A lock per environment makes two commands at once safe, and is held (shared) by whatever runs in it: an outdated one is removed only when
nobody uses it.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MAD_DEV_HOME") or ROOT)
LEAST = (3, 11)
TOOLS = {"run": (), "test": ("test",), "dev": ("test", "dev")}
KEPT = ("ANSIBLE_FORCE_COLOR", "ANSIBLE_NOCOLOR", "ANSIBLE_VERBOSITY")


def requirements(kind: str) -> list[str]:
    """Return the requirements of this kind, as pyproject.toml lists them; tests also get what users install by name (the other extras)."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    offered = [name for name in extras if kind != "run" and name not in TOOLS["dev"]]
    return [*project["dependencies"], *(line for name in (*offered, *TOOLS[kind]) for line in extras[name])]


class Environment:
    """A virtual environment: where it lies, what belongs in it, and who may make, use and remove it."""

    def __init__(self, name: str, interpreter: str, wanted: list[str]) -> None:
        version = subprocess.run([interpreter, "-VV"], stdout=subprocess.PIPE, text=True, check=True).stdout
        key = "\n".join([*wanted, version, os.path.realpath(interpreter), str(HOME)])
        self.family = "%s-py%s" % (name, ".".join(version.split()[1].split(".")[:2]))
        self.path = HOME / ".venv" / ("%s-%s" % (self.family, hashlib.sha256(key.encode()).hexdigest()[:12]))
        self.interpreter, self.wanted = interpreter, wanted
        self.python = str(self.path / "bin" / "python")

    def complete(self) -> bool:
        """Tell whether it was made to its end and its interpreter is still there."""
        return (self.path / ".complete").exists() and os.access(self.python, os.X_OK)

    def ensure(self) -> Environment:
        """Make it if need be, and share its lock until this process (or the program it becomes) ends."""
        while not self._hold():
            with self._locked():
                if not self.complete():
                    with patience("making the environment", say):
                        self._make()
                    self._remove_outdated()
        return self

    def _hold(self) -> bool:
        descriptor = os.open(str(self.path) + ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not self.complete():
            os.close(descriptor)
            return False
        os.set_inheritable(descriptor, True)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(str(self.path) + ".lock", "w", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("waiting for another command that makes %s" % self.path)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _make(self) -> None:
        """Make it at its final place (its scripts name that place), the stamp last."""
        started = time.monotonic()
        say("making %s (once; from the package index, %s)" % (self.path, "a minute or two" if len(self.wanted) < 10 else "some minutes"))
        shutil.rmtree(self.path, ignore_errors=True)
        run([self.interpreter, "-m", "venv", str(self.path)], "python3 -m venv failed")
        # Python compiles what is imported by itself; all of it, as pip does, takes as long as the rest.
        pip = [self.python, "-m", "pip", "install", "--no-compile", "--progress-bar=off", "--disable-pip-version-check"]
        run([*pip, *self.wanted], "pip could not install the requirements; is the package index reachable? (PIP_INDEX_URL names another one)")
        (self.path / ".complete").write_text("%.1f s\n" % (time.monotonic() - started), "utf-8")
        say("made in %.0f s" % (time.monotonic() - started))

    def _remove_outdated(self) -> None:
        """Remove environments of this family that other requirements asked for and nothing runs in."""
        for lock in self.path.parent.glob(self.family + "-*.lock"):
            path = Path(str(lock)[: -len(".lock")])
            if path == self.path or not path.exists():
                continue
            with open(lock, "w", encoding="utf-8") as handle, contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The lock file stays: another command may have it open already.
                shutil.rmtree(path, ignore_errors=True)


def say(text: str) -> None:
    """Tell the person what takes time, without mixing into a program's output."""
    print("dev: " + text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def patience(what: str, tell: Callable[[str], None], every: float = 20.0) -> Iterator[None]:
    """Tell a person from time to time that something still goes on."""
    ended, started = threading.Event(), time.monotonic()

    def remind() -> None:
        while not ended.wait(every):
            tell("still %s, %.0f s so far" % (what, time.monotonic() - started))

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run(argv: list[str], problem: str) -> None:
    """Run a command, or end with its last lines and a sentence that says what it was for."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if not re.match("WARNING: Retrying .Retry.total=[1-9]", line)]  # the last one says it
        print("\n".join(said[-20:]), file=sys.stderr)
        if "No space left on device" in done.stdout:
            problem = "no space is left on the disk below %s; MAD_DEV_HOME names another folder" % HOME
        sys.exit("dev: %s (command: %s)" % (problem, shlex.join(argv)))


def make_tree() -> Path:
    """Make the tree in which Ansible and Python find this checkout as mad.engine."""
    tree = HOME / ".dev" / "tree"
    link = tree / "ansible_collections" / "mad" / "engine"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.resolve() != ROOT:
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        with contextlib.suppress(FileExistsError):
            link.symlink_to(ROOT)
    (HOME / ".dev" / "ansible.cfg").write_text("# Empty on purpose: what runs here does not depend on anybody's own settings.\n", "utf-8")
    return tree


def check_home() -> None:
    """End with one clear sentence when nothing can be written beside the sources."""
    try:
        for folder in (HOME / ".dev", HOME / ".venv"):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "it belongs to somebody else", str(folder))
    except OSError as error:
        hint = "Name a folder of your own: MAD_DEV_HOME=$HOME/.cache/mad-engine dev/demo"
        sys.exit("dev: cannot write below %s: %s. %s" % (HOME, error.strerror, hint))


def set_environment(environment: Environment, tree: Path) -> None:
    """Put the environment and the tree in force for everything that follows; the user's own Ansible settings stay out.

    Compiled files are kept: tests start thousands of processes, each of which would compile the same sources anew.
    """
    for name in list(os.environ):
        if name in ("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE") or (name.startswith("ANSIBLE_") and name not in KEPT):
            del os.environ[name]
    os.environ.update(
        PATH="%s%s%s" % (environment.path / "bin", os.pathsep, os.environ.get("PATH", os.defpath)),
        VIRTUAL_ENV=str(environment.path),
        PYTHONPATH=str(tree),
        ANSIBLE_COLLECTIONS_PATH=str(tree),
        ANSIBLE_HOME=str(HOME / ".dev" / "ansible"),
        ANSIBLE_LOCALHOST_WARNING="0",
        ANSIBLE_INVENTORY_UNPARSED_WARNING="0",
        ANSIBLE_CONFIG=str(HOME / ".dev" / "ansible.cfg"),
        MAD_DEV_HOME=str(HOME),
    )
    charset = (os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "").lower()
    if not charset.endswith(("utf-8", "utf8")):
        os.environ["LC_ALL"] = "C.UTF-8"


def main(argv: list[str]) -> None:
    """Prepare, then become the program."""
    if sys.version_info < LEAST:
        found = sys.version.split()[0]
        sys.exit("dev: Python %d.%d or newer is needed, this is %s. Name another one: PYTHON=python3.11 dev/..." % (*LEAST, found))
    kind, program, *arguments = argv
    check_home()
    environment = Environment(kind, sys.executable, requirements(kind)).ensure()
    set_environment(environment, make_tree())
    os.execv(environment.python, [environment.python, program, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
