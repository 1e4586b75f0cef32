# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real parts that tests use: is it here, and what happens when it is not (a failure where CI=true, a loud skip elsewhere)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable

SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def which(name: str) -> str | None:
    """Find a program, also in the folders that only root has on its PATH."""
    return shutil.which(name, path=SYSTEM_PATH)


def strict() -> bool:
    """Tell whether a missing component is a failure."""
    return os.environ.get("CI", "").lower() == "true"


def may_install() -> bool:
    """Tell whether this machine may be changed for the tests: asked for, root, and Debian's apt."""
    asked = strict() or os.environ.get("MAD_TEST_INSTALL") == "1"
    return asked and os.geteuid() == 0 and shutil.which("apt-get") is not None


def answers(argv: list[str], seconds: float = 120) -> str:
    """Return "" if a command succeeds, else what it said last."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]


def _program(name: str) -> Callable[[], str]:
    return lambda: "" if which(name) else "no program %s" % name


def _programs(*names: str) -> Callable[[], str]:
    return lambda: "; ".join("no program %s" % name for name in names if not which(name))


def _engine(name: str) -> Callable[[], str]:
    def probe() -> str:
        return answers([name, "version", "--format", "{{.Server.Version}}"]) if which(name) else "no program %s" % name

    return probe


def _podman() -> str:
    return answers(["podman", "info", "--format", "{{.Host.Arch}}"]) if which("podman") else "no program podman"


def _namespaces() -> str:
    return answers(["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) if which("unshare") else "no program unshare"


def _postgresql() -> str:
    from .postgres import programs

    return "" if programs() else "no program /usr/lib/postgresql/*/bin/initdb"


def _root() -> str:
    return "" if os.geteuid() == 0 else "this user is not root"


# component -> (how to find out, Debian's packages that bring it)
COMPONENTS: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "bash-static": (_program("bash-static"), ("bash-static",)),
    "busybox": (_program("busybox"), ("busybox-static",)),
    "chromium": (_program("chromium"), ("chromium", "fonts-dejavu-core")),
    "debootstrap": (_program("debootstrap"), ("debootstrap",)),
    "docker": (_engine("docker"), ("docker.io", "iptables")),
    "podman": (_podman, ("podman", "runc")),
    "postgresql": (_postgresql, ("postgresql",)),
    "registry": (_program("docker-registry"), ("docker-registry",)),
    "root": (_root, ()),
    "slurm": (_programs("slurmctld", "slurmd", "sbatch", "munged"), ("slurm-wlm", "munge")),
    "slurmdbd": (_programs("slurmdbd", "sacct", "mariadbd", "mariadb-install-db"), ("slurmdbd", "mariadb-server")),
    "ssh": (_program("ssh"), ("openssh-client",)),
    "sshd": (_program("sshd"), ("openssh-server",)),
    "unshare": (_namespaces, ("util-linux",)),
}


@functools.lru_cache(maxsize=None)  # functools.cache is 3.9
def missing(name: str) -> str:
    """Return "" if the component is here, else the reason; asked once."""
    return COMPONENTS[name][0]()


def absent(what: str) -> None:
    """Fail (CI=true) or skip for want of something, aloud."""
    import pytest

    if strict():
        pytest.fail("ABSENT " + what, pytrace=False)
    pytest.skip("ABSENT " + what)


def require(*names: str) -> None:
    """Go on only with these components: otherwise fail (CI=true) or skip, naming what is absent and how it comes."""
    for name in names:
        reason = missing(name)
        if not reason:
            continue
        packages = COMPONENTS[name][1]
        hint = "; MAD_TEST_INSTALL=1 dev/test brings %s" % " ".join(packages) if packages else ""
        absent("%s: %s%s" % (name, reason, hint))
