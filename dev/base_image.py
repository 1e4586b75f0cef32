# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a base image without a registry, and print its name.

    python3 dev/base_image.py [--engine docker] [--kind host|tiny|debian] [--repository NAME]

`host`    this machine's own Python, bash and coreutils with the libraries they load: seconds, any user, no download
`tiny`    busybox and bash alone (4 MB where Debian's static packages are installed): for tests that need no Python
`debian`  Debian by debootstrap with python3: root, and Debian's package server; kept under .dev/cache

The image's tag is the hash of its content: the same content is imported once, other content never hides behind an old name.
Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HOME = Path(os.environ.get("MAD_DEV_HOME") or Path(__file__).resolve().parent.parent)
LABEL = "mad.engine.base"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = (
    "sh bash env cat cp mv rm ls mkdir rmdir ln chmod chown touch head tail sort uniq wc cut tr sed grep awk find xargs date sleep timeout"
    " nproc uname id whoami hostname dirname basename readlink realpath mktemp tee"
    " seq stat df du kill ps tar gzip setsid true false test expr"
).split()
ENGINE_FAILED = (125, 126)  # docker's and podman's exit status for their own failure and their runtime's; 127: no such program
MERGED = ("bin", "sbin", "lib", "lib64")
NOT_NEEDED = re.compile(
    r"/(__pycache__|test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages|dist-packages|config-[^/]*)(/|$)"
)
SMALL_FILES = {
    "etc/group": b"root:x:0:\n",
    "etc/hosts": b"127.0.0.1 localhost\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
}


KINDS = {  # and what making one takes
    "tiny": "busybox and bash (seconds)",
    "host": "this machine's own Python and tools (once, under a minute)",
    "debian": "Debian with Python, by debootstrap (once, some minutes)",
}


class CannotMake(Exception):
    """This kind of image cannot be made here; the text says why."""


class CannotRun(CannotMake):
    """The engine starts no container of any image here."""


# ---------------------------------------------------------------------------------------------------------------- what goes in


def is_static(path: str) -> bool:
    """Tell whether an ELF file loads no libraries."""
    with open(path, "rb") as handle:
        return b"ld-linux" not in handle.read(4096)


def libraries(paths: Iterable[str]) -> set[str]:
    """Return the shared libraries, the loader included, that these ELF files load."""
    wanted = list(paths)
    if not shutil.which("ldd"):
        raise CannotMake("ldd, which names the libraries of a program, is not here")
    done = subprocess.run(["ldd", *wanted], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE))


def python_files() -> tuple[str, list[str]]:
    """Return this interpreter and the files of its standard library."""
    interpreter = os.path.realpath(sys.executable)
    found = []
    for base in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}):
        base = base.replace(sys.prefix, sys.base_prefix, 1)
        for folder, dummy, files in os.walk(base):
            found += [os.path.join(folder, name) for name in files if not NOT_NEEDED.search(os.path.join(folder, name)[len(base) :])]
    return interpreter, sorted(set(found))


def host_files() -> dict[str, str]:
    """Return image path -> host path for Python, the tools and all libraries."""
    if not sys.platform.startswith("linux"):
        raise CannotMake("this machine is no Linux")
    interpreter, library = python_files()
    files = {path: path for path in [interpreter, *library]}
    files["/usr/bin/python3"] = interpreter
    for tool in TOOLS:
        path = shutil.which(tool, path=PATH)
        if path:
            files["/usr/bin/" + tool] = os.path.realpath(path)
    binaries = [p for p in files.values() if p.endswith(".so") or ".so." in p or os.access(p, os.X_OK)]
    files.update({path: os.path.realpath(path) for path in libraries(p for p in binaries if is_elf(p))})
    return files


def is_elf(path: str) -> bool:
    """Tell whether a file is a program or a library."""
    with open(path, "rb") as handle:
        return handle.read(4) == b"\x7fELF"


def tiny_files() -> tuple[dict[str, str], dict[str, str]]:
    """Return the files and the links of an image with busybox and bash, static ones where they are installed."""
    busybox = shutil.which("busybox", path=PATH)
    bash = shutil.which("bash-static", path=PATH) or shutil.which("bash", path=PATH)
    if not busybox or not bash:
        raise CannotMake("busybox or bash is not here (Debian: apt-get install busybox-static bash-static)")
    files = {"/usr/bin/busybox": os.path.realpath(busybox), "/usr/bin/bash": os.path.realpath(bash)}
    dynamic = [path for path in files.values() if not is_static(path)]
    if dynamic:
        files.update({path: os.path.realpath(path) for path in libraries(dynamic)})
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return files, {"/usr/bin/" + name: "busybox" for name in applets if name not in ("busybox", "bash")}


# ------------------------------------------------------------------------------------------------------------ how it is packed


def merged(path: str) -> str:
    """Return the path below /usr for the folders that are links there in the image."""
    first = path.lstrip("/").split("/", 1)[0]
    return "/usr" + path if first in MERGED else path


def entry(name: str, kind: bytes, mode: int, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """Return a member without anything that differs from one time to the next."""
    info = tarfile.TarInfo(name.lstrip("/"))
    info.type, info.mode, info.linkname, info.size, info.mtime = kind, mode, link, size, 0
    return info


def skeleton() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the folders and small files that programs expect."""
    for folder in ("etc", "usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "root", "var", "proc", "sys", "dev"):
        yield entry(folder, tarfile.DIRTYPE, 0o755), b""
    for folder in ("tmp", "var/tmp"):
        yield entry(folder, tarfile.DIRTYPE, 0o1777), b""
    for name in MERGED:
        yield entry(name, tarfile.SYMTYPE, 0o777, "usr/" + name), b""
    for name, text in SMALL_FILES.items():
        yield entry(name, tarfile.REGTYPE, 0o644, size=len(text)), text


def write_tar(out: Path, files: dict[str, str], links: dict[str, str]) -> None:
    """Write the file system: the same content gives the same bytes."""
    folders: set[str] = set()
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in skeleton():
            tar.addfile(info, io.BytesIO(data))
            folders.add(info.name)
        for name, source in sorted({merged(name): source for name, source in files.items()}.items()):
            add_folders(tar, os.path.dirname(name).lstrip("/"), folders)
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            with open(source, "rb") as handle:
                tar.addfile(entry(name, tarfile.REGTYPE, mode, size=os.fstat(handle.fileno()).st_size), handle)
        for name, target in sorted(links.items()):
            tar.addfile(entry(name, tarfile.SYMTYPE, 0o777, target))


def add_folders(tar: tarfile.TarFile, folder: str, known: set[str]) -> None:
    """Add the folders above a file, open to every user, each once."""
    parts = folder.split("/")
    for depth in range(1, len(parts) + 1):
        name = "/".join(parts[:depth])
        if name and name not in known:
            known.add(name)
            tar.addfile(entry(name, tarfile.DIRTYPE, 0o755))


def debian_tar() -> Path:
    """Return the archive of a small Debian with python3, made once."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise CannotMake("debootstrap is not here, or this user is not root (Debian: apt-get install debootstrap)")
    cached = HOME / ".dev" / "cache" / "bookworm-python3.tar"
    if cached.exists():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        root, part = os.path.join(folder, "root"), os.path.join(folder, "part.tar")
        argv = ["debootstrap", "--variant=minbase", "--include=python3,git,ca-certificates,procps", "bookworm", root]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise CannotMake("debootstrap failed: " + " / ".join(done.stdout.splitlines()[-3:]))
        exclude = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*"]
        subprocess.run(["tar", "-C", root, *exclude, "--sort=name", "-cf", part, "."], check=True)
        os.replace(part, cached)
    return cached


# ------------------------------------------------------------------------------------------------------------- into the engine


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    state = hashlib.sha256()
    with open(path, "rb") as handle:
        for chunk in iter(lambda: handle.read(1 << 20), b""):
            state.update(chunk)
    return state.hexdigest()


def engine(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the engine's command line."""
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)


def load(client: str, archive: Path, name: str, kind: str) -> None:
    """Import the archive and try the image; an image that cannot run is taken away again."""
    changes = ["ENV PATH=" + PATH, 'CMD ["/bin/bash"]', "LABEL %s=%s" % (LABEL, kind)]
    argv = [client, "import"] + [part for change in changes for part in ("--change", change)]
    done = engine([*argv, str(archive), name])
    if done.returncode:
        raise CannotMake("%s import failed: %s" % (client, done.stderr.strip()))
    test = ["bash", "-c", "ls / >/dev/null"] if kind == "tiny" else ["python3", "-c", "import csv, hashlib, json, multiprocessing, zlib"]
    done = engine([client, "run", "--rm", "--network=none", "--label", LABEL + "=probe", name, *test])
    if done.returncode:
        engine([client, "rmi", name])
        words = (done.stderr.strip().splitlines() or ["exit status %d" % done.returncode])[-1][-400:]
        if done.returncode in ENGINE_FAILED:
            raise CannotRun("it cannot start containers on this machine: %s" % words)
        raise CannotMake("the image does not run: %s" % words)


def make(client: str, kind: str, repository: str) -> str:
    """Return the name of the image of this kind, made if the engine does not have it."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "base.tar"
        if kind == "debian":
            archive = debian_tar()
        else:
            write_tar(archive, *(tiny_files() if kind == "tiny" else (host_files(), {})))
        name = "%s:%s-%s" % (repository, kind, digest(archive)[:12])
        if engine([client, "image", "inspect", name]).returncode:
            load(client, archive, name, kind)
        return name


def make_any(client: str, kinds: Iterable[str], repository: str, tell: Callable[[str], None] = lambda text: None) -> str:
    """Return the first kind that can be made here, or raise with every reason; `tell` hears what is made before it is."""
    reasons = []
    for kind in kinds:
        tell("making a base image of " + KINDS[kind])
        try:
            return make(client, kind, repository)
        except CannotRun:
            raise
        except CannotMake as error:
            reasons.append("%s: %s" % (kind, error))
    raise CannotMake("; ".join(reasons))


def main() -> None:
    """Make and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="docker", help="docker or podman")
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="tried in this order; default host, debian")
    parser.add_argument("--repository", default="mad-demo-base")
    args = parser.parse_args()
    try:
        print(make_any(args.engine, args.kind or ["host", "debian"], args.repository))
    except CannotMake as error:
        sys.exit("base image: %s" % error)


if __name__ == "__main__":
    main()
