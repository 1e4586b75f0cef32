# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the commands `apptainer` and `enroot`, which cannot run here: the same words, and this machine's own root as the image.

A container is a chroot in a mount namespace with the folders that were asked for bound into it; processes, signals and exit statuses are
real. Needs root. The image files hold a line of text; every call is noted in $SANDBOX_CALLS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SYSTEM = ("bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr", "var")
ENTER = """\
root=$1 work=$2
shift 2
while [ "$1" != -- ]; do
  mount --rbind "${1%%:*}" "$root${1#*:}"
  shift
done
shift
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$work" "$@"
"""


def install(folder: Path) -> Path:
    """Put both commands into a folder for PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("apptainer", "enroot"):
        script = '#!/bin/sh\nexec %s %s %s "$@"\n' % (sys.executable, __file__, name)
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def enter(pairs: Sequence[tuple[str, str]], work: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become this command inside."""
    root = Path(tempfile.mkdtemp(prefix="mad-sandbox-"))
    bound = [("/" + name, "/" + name) for name in SYSTEM if Path("/", name).exists()]
    for source, target in [*bound, *pairs]:
        place = root / target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True) if Path(source).is_dir() else place.touch()
    (root / "tmp").mkdir(exist_ok=True)
    words = ["%s:%s" % pair for pair in [*bound, *pairs]]
    argv = ["unshare", "--mount", "bash", "-c", ENTER, "enter", str(root), work, *words, "--", *command]
    os.execvpe(argv[0], argv, {"PATH": os.environ["PATH"], "HOME": "/root", **environment})


def options(words: Sequence[str], flags: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """({option: values}, the words behind them); an option that is not known here is an error, as it is for the command."""
    found: dict[str, list[str]] = {}
    rest = list(words)
    known = ("--bind", "--home", "--pwd", "--mount", "--env", "--rc", "--name", "--output")
    while rest and rest[0].startswith("--"):
        word = rest.pop(0)
        if word == "--":
            break
        if word not in (*known, *flags):
            raise SystemExit("unknown option %s" % word)
        found.setdefault(word, []).append("" if word in flags else rest.pop(0))
    return found, rest


def _pairs(values: Sequence[str]) -> list[tuple[str, str]]:
    """[(here, there)] of `here:there[:options]`."""
    return [(words[0], words[1]) for words in (value.split(":") for value in values)]


def image(path: str) -> None:
    """Refuse what is no image."""
    if not Path(path).read_text().startswith("image of "):
        raise SystemExit("%s is no image" % path)


def apptainer(words: list[str]) -> None:
    """`build` and `exec`."""
    found, rest = options(words[1:], ("--force", "--cleanenv", "--writable-tmpfs", "--nv", "--rocm"))
    if words[0] == "build":
        Path(rest[0]).write_text("image of %s\n" % rest[1])
        return
    image(rest[0])
    enter(_pairs([*found.get("--home", []), *found.get("--bind", [])]), found["--pwd"][0], rest[1:], {})


def enroot(words: list[str]) -> None:
    """`import`, `create`, `start` and `remove`."""
    data = Path(os.environ["SANDBOX_CALLS"]).parent / "enroot"
    data.mkdir(exist_ok=True)
    found, rest = options(words[1:], ("--root", "--rw", "--force"))
    if words[0] == "import":
        Path(found["--output"][0]).write_text("image of %s\n" % rest[0])
    elif words[0] == "create":
        image(rest[0])
        with open(data / found["--name"][0], "x") as stream:  # Enroot refuses a name that is taken
            stream.write(rest[0])
    elif words[0] == "remove":
        (data / rest[0]).unlink()
    else:
        if not (data / rest[0]).exists():
            raise SystemExit("no container %s" % rest[0])
        pairs = [*_pairs(found["--mount"]), (found["--rc"][0], "/.rc")]
        enter(pairs, "/", ["/bin/sh", "/.rc"], dict(value.split("=", 1) for value in found.get("--env", [])))


def main() -> None:
    """`sandbox_tool.py apptainer|enroot WORDS...`."""
    with open(os.environ["SANDBOX_CALLS"], "a") as log:
        log.write(" ".join(sys.argv[1:3]) + "\n")
    {"apptainer": apptainer, "enroot": enroot}[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.SubprocessError) as error:
        raise SystemExit(str(error)) from error
