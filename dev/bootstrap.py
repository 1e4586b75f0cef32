# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the virtual environment and the collection tree once, then become the program that was asked for, inside them.

    python3 dev/bootstrap.py run|dev PROGRAM [ARGUMENT...]

`run` holds what the engine needs (dependencies in pyproject.toml), `dev` also what its tests need. An environment is keyed by its requirements,
the interpreter and its own place; it counts only once it carries its stamp, so an interrupted installation is done again. A lock per
environment makes two commands at once safe, and is held (shared) by whatever runs in it: an outdated one is removed only when nobody uses it.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MAD_DEV_HOME") or ROOT)
LEAST = (3, 11)
KEPT = ("ANSIBLE_FORCE_COLOR", "ANSIBLE_NOCOLOR", "ANSIBLE_VERBOSITY")


def requirements(kind: str) -> list[str]:
    """Return the requirements of this kind, as pyproject.toml lists them."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["dev"] if kind == "dev" else []
    return [*project["dependencies"], *extra]


def environment_path(kind: str) -> Path:
    """Return where the environment of this kind lies; another key is another folder."""
    key = "\n".join([*requirements(kind), sys.version, os.path.realpath(sys.executable), str(HOME)])
    return HOME / ".venv" / ("%s-%s" % (kind, hashlib.sha256(key.encode()).hexdigest()[:12]))


@contextlib.contextmanager
def locked(path: Path):
    """Hold the environment's lock exclusively while it is made."""
    with open(str(path) + ".lock", "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another command that makes or uses %s" % path)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def hold(path: Path) -> bool:
    """Share the lock from now on, if the environment is complete: the descriptor passes through exec and lives as long as the program."""
    descriptor = os.open(str(path) + ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not complete(path):
        os.close(descriptor)
        return False
    os.set_inheritable(descriptor, True)
    return True


def say(text: str) -> None:
    """Tell the person what takes time, without mixing into a program's output."""
    print("dev: " + text, file=sys.stderr, flush=True)


def complete(path: Path) -> bool:
    """Tell whether the environment was made to its end and its interpreter is still there."""
    return (path / ".complete").exists() and os.access(path / "bin" / "python", os.X_OK)


def make(kind: str, path: Path) -> None:
    """Make the environment at its final place (its scripts name that place), the stamp last."""
    started = time.monotonic()
    say("making %s (once; from the package index)" % path)
    shutil.rmtree(path, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(path)], "python3 -m venv failed")
    pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check"]
    run([*pip, *requirements(kind)], "pip could not install the requirements: is the package index reachable?")
    (path / ".complete").write_text("%.1f s\n" % (time.monotonic() - started), "utf-8")
    say("made in %.0f s" % (time.monotonic() - started))


def run(argv: list[str], problem: str) -> None:
    """Run a command, or end with its last lines and a sentence that says what it was for."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode:
        print("\n".join(done.stdout.splitlines()[-20:]), file=sys.stderr)
        sys.exit("dev: %s (command: %s)" % (problem, " ".join(argv)))


def remove_outdated(kind: str, current: Path) -> None:
    """Remove environments of this kind that other requirements asked for and nothing runs in."""
    for lock in current.parent.glob(kind + "-*.lock"):
        path = Path(str(lock)[: -len(".lock")])
        if path == current or not path.exists():
            continue
        with open(lock, "w", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            # The lock file stays: another command may have it open already.
            shutil.rmtree(path, ignore_errors=True)


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
    probe = HOME / ".dev"
    try:
        probe.mkdir(parents=True, exist_ok=True)
        (HOME / ".venv").mkdir(exist_ok=True)
    except OSError as error:
        sys.exit("dev: cannot write to %s (%s). Name a folder of your own: MAD_DEV_HOME=$HOME/.cache/mad-engine %s" % (HOME, error.strerror, "dev/..."))
    if not os.access(probe, os.W_OK) or not os.access(HOME / ".venv", os.W_OK):
        sys.exit("dev: %s belongs to somebody else. Name a folder of your own: MAD_DEV_HOME=$HOME/.cache/mad-engine dev/..." % HOME)


def set_environment(path: Path, tree: Path) -> None:
    """Put the environment and the tree in force for everything that follows; the user's own Ansible settings stay out."""
    for name in list(os.environ):
        if name in ("PYTHONHOME", "PYTHONPATH") or (name.startswith("ANSIBLE_") and name not in KEPT):
            del os.environ[name]
    os.environ.update(
        PATH="%s%s%s" % (path / "bin", os.pathsep, os.environ.get("PATH", os.defpath)),
        VIRTUAL_ENV=str(path),
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
        sys.exit("dev: Python %d.%d or newer is needed, this is %s. Name another one: PYTHON=python3.11 dev/..." % (*LEAST, sys.version.split()[0]))
    kind, program, *arguments = argv
    check_home()
    path = environment_path(kind)
    hold_after_making(kind, path)
    set_environment(path, make_tree())
    os.execv(path / "bin" / "python", [str(path / "bin" / "python"), program, *arguments])


def hold_after_making(kind: str, path: Path) -> None:
    """Take the shared lock on a complete environment, making it first if need be."""
    while not hold(path):
        with locked(path):
            if not complete(path):
                make(kind, path)
                remove_outdated(kind, path)


if __name__ == "__main__":
    main(sys.argv[1:])
