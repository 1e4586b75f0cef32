# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What executes a model on a node of a cluster: the shell lines that bring its image there, and those that start it.

docker and podman keep images themselves, one per node, loaded or pulled under a lock. Apptainer and Enroot run one file: it lies in the
campaign's folder on the shared file system (images/<hex>.sif or .sqsh), is made by whichever node comes first, and is named by the image's id.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..base.errors import ImageError, InvalidInput
from ..base.quoting import quote, quote_argv
from ..containers import engine
from ..contexts.launch_text import shell_text

ENGINES = ("docker", "podman")
SANDBOXES = ("apptainer", "enroot")  # a process of the user, with another root file system
ALL = (*ENGINES, *SANDBOXES, "host")
SHM_BYTES = 64 << 30  # a limit, not a reservation; the engines' own 64 MB stop data loaders
FILES = {"apptainer": ".sif", "enroot": ".sqsh"}
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
# What the commands themselves would read as more than a path.
_APART = {"apptainer": re.compile(r"[:,\0\n]"), "enroot": re.compile(r"[:\s\\$\0]")}
# Slurm may signal every process of a step. The driver keeps the books and stays; what it starts has no traps.
_UNDISTURBED = "trap '' TERM INT HUP USR1 USR2"  # what cleans up inherits it
_STAYING = 'trap : TERM INT HUP USR1 USR2; . "$0"'

Run = Mapping[str, Any]


class Where(NamedTuple):
    """The places of one node's part of an attempt."""

    name: str  # of the container on this node
    work: str
    io: str
    labels: Mapping[str, str]


class Shared(NamedTuple):
    """Folders on the shared file system."""

    images: str  # of the campaign: files of Apptainer and Enroot
    locks: str  # of the nodes, for all campaigns
    logins: str  # of the campaign: a configuration of docker's client, which podman reads too; absent where no login is known


class Source(NamedTuple):
    """Where an image comes from."""

    digest: str  # its id
    name: str
    archive: str  # on the shared file system, "" for none
    registry: str  # its name in a registry, "" for none
    pinned: str  # that name with the registry's digest, "" where it is not known

    def file(self, runtime: str) -> str:
        """The image itself where a file was given (MAD_CONTAINER_IMAGE: /shared/x.sif), else ""."""
        ending = FILES.get(runtime, "")
        return self.name if ending and self.name.startswith("/") and self.name.endswith(ending) else ""


def source(run: Run, archives: Mapping[str, str]) -> Source:
    """Where the image of a run comes from."""
    image = run.get("image") or {}
    digest, known = str(image.get("digest") or ""), str(image.get("name") or "")
    name = str(image.get("registry_image") or (known if image.get("given") and "@sha256:" in known else ""))
    pinned = name if "@sha256:" in name else ""
    if not pinned and name and image.get("registry_digest"):
        pinned = "%s@%s" % (_without_tag(name), image["registry_digest"])
    return Source(digest, known, archives.get(digest, ""), name, pinned)


def _without_tag(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def inside(runtime: str) -> bool:
    """Whether a model sees its own file system, with the attempt's folders at fixed places."""
    return runtime != "host"


def check(run: Run) -> None:
    """InvalidInput for what a runtime cannot do; nothing is left out in silence."""
    runtime, model = str(run["runtime"]), run.get("model")
    if runtime not in ALL:
        raise InvalidInput("model %s: runtime %s is not known on Slurm; use one of %s" % (model, runtime, ", ".join(ALL)))
    if runtime not in SANDBOXES:
        return
    if run.get("options"):
        raise InvalidInput(
            "model %s: additional_docker_run_options are Docker's, and runtime %s does not take them: %s"
            % (model, runtime, quote_argv(run["options"]))
        )
    if (run.get("privileges") or {}).get("sys_admin"):
        raise InvalidInput("model %s: docker_privileges.sys_admin cannot be given by runtime %s; use docker or podman" % (model, runtime))


# -- bringing the image ----------------------------------------------------------------------------------------------------------------

_ENGINE = """\
have() {{ {engine} image inspect {image} >/dev/null; }}
if have 2>/dev/null; then exit 0; fi
# On the shared file system: a job may have a /tmp of its own.
mkdir -p {locks}
exec 9>{locks}/"$(hostname)"
flock 9 || : # not every shared file system has locks; then two jobs may do the same work
if have 2>/dev/null; then exit 0; fi
{fetch}have
"""

# With the controller's login where there is one, else with what the user has on the node.
_PULL = """\
logins={logins}
if ! [ -r "$logins/config.json" ] || ! DOCKER_CONFIG=$logins REGISTRY_AUTH_FILE=$logins/config.json {pull}; then
  {pull}
fi
"""

_FILE = """\
file={file}
if [ -s "$file" ]; then exit 0; fi
mkdir -p "${{file%/*}}"
exec 9>"$file.lock"
flock 9 || : # not every shared file system has locks; then two nodes may do the same work
if [ -s "$file" ]; then exit 0; fi
new=$file.$(hostname).$$
trap 'rm -f "$new"' EXIT
{make}mv -f "$new" "$file"
"""

# An archive of docker or podman holds the image's own description under the image's id: its checksum is the proof.
_PROOF = """\
archive={archive} hex={hex}
proof=''
for entry in "blobs/sha256/$hex" "$hex.json"; do
  sum=$(tar -xOf "$archive" "$entry" 2>/dev/null | sha256sum)
  if [ "${{sum%% *}}" = "$hex" ]; then proof=$entry; fi
done
if [ -z "$proof" ]; then
  echo "$archive does not hold the image sha256:$hex"
  exit 1
fi
"""

_PROGRAM = """\
apptainer=$(command -v apptainer || command -v singularity) || {{
  echo 'there is neither apptainer nor singularity on this node'
  exit 127
}}
"""

_GIVEN = """\
file={file}
if [ ! -r "$file" ]; then
  echo "$file cannot be read on this node"
  exit 1
fi
"""

_GIVEN_SUM = """\
sum=$(sha256sum "$file")
if [ "${{sum%% *}}" != {hex} ]; then
  echo "$file is not the planned image {digest}"
  exit 1
fi
"""


def bring(run: Run, found: Source, shared: Shared) -> str:
    """The script that sees to the image on a node; it ends with 0 when exactly the planned one is there."""
    runtime = str(run["runtime"])
    head = "#!/usr/bin/env bash\n# mad.engine: the image of run %s; staging time, not run time\nset -u\n" % run["id"]
    if runtime == "host":
        return head + "exit 0\n"
    if runtime in ENGINES:
        return head + _engine_lines(runtime, _reference(run, found), found, shared)
    given = found.file(runtime)
    if given:
        match = _DIGEST.match(found.digest)
        text = _GIVEN.format(file=quote(given))
        return head + text + (_GIVEN_SUM.format(hex=match.group(1), digest=found.digest) if match else "")
    text = _FILE.format(file=quote(image_file(run, found, shared.images)), make=_make_lines(runtime, str(run.get("model")), found))
    return head + text


def image_file(run: Run, found: Source, images: str) -> str:
    """The one file that Apptainer or Enroot runs."""
    runtime = str(run["runtime"])
    match = _DIGEST.match(found.digest or found.pinned.rpartition("@")[2])
    if found.file(runtime):
        return found.file(runtime)
    if not match:
        raise ImageError("the image of run %s has no verified id: %r" % (run.get("id"), found.digest))
    return os.path.join(images, match.group(1) + FILES[runtime])


def _reference(run: Run, found: Source) -> str:
    """What an engine is asked for: the image by its id, or by its name where nobody knows an id before a node has it."""
    return engine.image_reference(run) if found.digest or not found.name else found.registry or found.name


def _engine_lines(runtime: str, image: str, found: Source, shared: Shared) -> str:
    fetch = ""
    if found.archive:
        fetch = quote_argv([runtime, "load", "--quiet", "--input", found.archive]) + "\n"
    elif found.registry or not found.digest:
        fetch = _PULL.format(logins=quote(shared.logins), pull=quote_argv([runtime, "pull", "--quiet", found.registry or found.name]))
    return _ENGINE.format(engine=runtime, image=quote(image), fetch=fetch, locks=quote(shared.locks))


def _make_lines(runtime: str, model: str, found: Source) -> str:
    """How the file is made: out of an archive whose content is proved, or out of a registry by its digest."""
    if runtime == "apptainer" and found.archive:
        if ":" in found.archive:
            raise InvalidInput("model %s: apptainer cannot read an archive whose path holds a colon: %s" % (model, found.archive))
        proof = _PROOF.format(archive=quote(found.archive), hex=found.digest.partition(":")[2])
        return proof + _PROGRAM.format() + '"$apptainer" build --force "$new" "docker-archive:$archive" || exit 1\n'
    if not found.pinned:
        ways = "an archive, or a registry" if runtime == "apptainer" else "a registry"
        raise ImageError(
            "model %s: runtime %s makes its image out of %s by its digest, and neither is known of image %s; set mad_registry and build again, "
            "or give it as name@sha256:... or as a file ending in %s" % (model, runtime, ways, found.name or found.registry, FILES[runtime])
        )
    if runtime == "apptainer":
        return _PROGRAM.format() + '"$apptainer" build --force "$new" %s || exit 1\n' % quote("docker://" + found.pinned)
    return 'enroot import --output "$new" -- %s || exit 1\n' % quote(_enroot_uri(found.pinned))


def _enroot_uri(pinned: str) -> str:
    """`docker://REGISTRY#IMAGE:sha256:<hex>`: Enroot takes a digest in the place of a tag."""
    name, dummy, digest = pinned.partition("@")
    host, slash, path = name.partition("/")
    named = bool(slash) and ("." in host or ":" in host or host == "localhost")
    return "docker://%s:%s" % ("%s#%s" % (host, path) if named else name, digest)


# -- starting the model ----------------------------------------------------------------------------------------------------------------


def start(run: Run, where: Where, image: str) -> List[str]:
    """Shell lines that run the driver on a node. `image` is the file of Apptainer and Enroot."""
    runtime = str(run["runtime"])
    if runtime == "host":
        return ["exec sh -c %s %s" % (quote(_STAYING), quote(os.path.join(where.io, "driver.sh")))]
    if runtime in ENGINES:
        return _start_engine(run, where)
    return _start_apptainer(run, where, image) if runtime == "apptainer" else _start_enroot(run, where, image)


_NAMED = """\
MAD_IMAGE=$({engine} image inspect --format '{{{{.Id}}}}' {image})
MAD_IMAGE=${{MAD_IMAGE#sha256:}}
echo "sha256:$MAD_IMAGE" >"$shared/io/image"
"""

# Root on a node is nobody on many shared file systems (root_squash), and root is who works in a container of docker's: then it works in a
# folder of the node's own, and what it writes there is brought out as it comes.
_ENGINE_START = """\
shared={shared}
{named}run_in() {{ # folder without its first slash: the container with the folders work and io in it
  MAD_PLACE=$1
  {engine} rm --force --volumes {name} >/dev/null 2>&1 || :
  rm -f "/$MAD_PLACE/io/container.id"
  {engine} run "${{gpus[@]}}" {words}
}}
bring_out() {{
  local name have
  for name in phases pre.log model.log post.log; do
    have=$(stat -c %s "$shared/io/$name" 2>/dev/null || echo 0)
    [ ! -f "$place/io/$name" ] || dd if="$place/io/$name" of="$shared/io/$name" iflag=nofollow,nonblock,skip_bytes \\
      oflag=append conv=notrunc skip="$have" bs=1M status=none 2>/dev/null || :
  done
}}
trap : TERM INT HUP USR1 USR2
code=0
run_in "${{shared#/}}" || code=$?
if [ ! -s "$shared/io/phases" ] && grep -qsi 'permission denied' "$shared/io/engine.log"; then
  echo "the engine may not use $shared; it works in a folder of this node, and what it writes is brought out"
  place=$(mktemp -d "${{TMPDIR:-/tmp}}/mad-node-XXXXXX")
  cp -R "$shared/work" "$shared/io" "$place"
  rm -f "$shared/io/env.sh" "$place/io/engine.log"
  while sleep 2; do bring_out; done &
  follower=$!
  code=0
  run_in "${{place#/}}" || code=$?
  kill "$follower" && wait "$follower" || :
  cp -RP "$place/io/." "$shared/io" || :
{keep}  rm -rf "$place"
fi
exit "$code"
"""


def _start_engine(run: Run, where: Where) -> List[str]:
    place, named, found = "/${MAD_PLACE}", "", source(run, {})
    if not found.digest:  # the node's engine says what the name stands for, and that very image is what runs
        named = _NAMED.format(engine=quote(str(run["runtime"])), image=quote(_reference(run, found)))
        run = dict(run, image=dict(run["image"], digest="sha256:${MAD_IMAGE}"))
    launch = engine.Launch(
        name=where.name,
        labels=dict(where.labels),
        work=place + "/work",
        control=place + "/io",
        cidfile=place + "/io/container.id",
        gpus=[],
        cpus="",
        env={},
        shm_bytes=SHM_BYTES,
        selinux=False,
    )
    argv = engine.container_argv(dict(run, gpus=dict(run.get("gpus") or {}, count=0, pool=[])), launch)
    keep = '  cp -RP "$place/work/." "$shared/work" || :\n' if (run.get("keep") or {}).get("model_dir") else ""
    text = _ENGINE_START.format(
        shared=quote(os.path.dirname(where.io)),
        engine=quote(argv[0]),
        name=quote(where.name),
        named=named,
        words=" ".join(shell_text(word, ("MAD_PLACE", "MAD_IMAGE")) for word in argv[2:]),
        keep=keep,
    )
    return [*_engine_gpus(run), *text.splitlines()]


def _engine_gpus(run: Run) -> List[str]:
    """The engine's words for the GPUs that Slurm gave the job; the numbers are known on the node only."""
    gpus = run.get("gpus") or {}
    vendor, lines = gpus.get("vendor"), ["gpus=()"]
    if not int(gpus.get("count") or 0):
        return lines
    if vendor == "NVIDIA" and run["runtime"] == "podman":
        lines += ['IFS=, read -r -a numbers <<<"${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-all}}"', "gpus=(--cap-add SYS_PTRACE)"]
        lines.append('for number in "${numbers[@]}"; do gpus+=(--device "nvidia.com/gpu=$number"); done')
    elif vendor == "NVIDIA":
        lines.append('gpus=(--cap-add SYS_PTRACE --gpus "\\"device=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-all}}\\"")')
    elif vendor == "AMD":
        # All render nodes; ROCR_VISIBLE_DEVICES, which Slurm sets, chooses among them.
        lines.append("gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/kfd --device /dev/dri)")
    elif vendor == "INTEL":
        lines.append("gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/dri)")
    return lines


def _vendor(run: Run) -> str:
    gpus = run.get("gpus") or {}
    return str(gpus.get("vendor") or "") if int(gpus.get("count") or 0) else ""


def _mounts(run: Run, where: Where) -> List[Tuple[str, str, bool]]:
    """(source, target, read only) of every folder that the model sees, ours first; InvalidInput for a path that the command would split."""
    runtime = str(run["runtime"])
    found = [(where.work, engine.WORKSPACE, False), (where.io, engine.CONTROL, False)]
    for entry in run.get("mounts") or []:
        source_path, target = str(entry["source"]), str(entry["target"])
        engine.mount(source_path, target)  # the rules that hold for every runtime
        if target.rstrip("/") in (engine.WORKSPACE, engine.CONTROL):
            raise InvalidInput("docker_mounts: %s is where the run lives; mount at another path" % target)
        found.append((source_path, target, bool(entry.get("read_only"))))
    for one, other, dummy in found:
        if _APART[runtime].search(one + other):
            raise InvalidInput(
                "%s cannot mount %r at %r: one of these paths holds a character that it reads as an end" % (runtime, one, other)
            )
    return found


def _start_apptainer(run: Run, where: Where, image: str) -> List[str]:
    words: List[str] = []
    for one, other, read_only in _mounts(run, where):
        words += ["--bind", "%s:%s%s" % (one, other, ":ro" if read_only else "")]
    words += {"NVIDIA": ["--nv"], "AMD": ["--rocm"]}.get(_vendor(run), [])  # Intel's devices are there: /dev is the node's own
    # A home of its own, as in a container: the user's start files and packages stay outside.
    return [
        *_PROGRAM.format().splitlines(),
        'home=$(mktemp -d "${TMPDIR:-/tmp}/mad-home-XXXXXX")',
        "trap : TERM INT HUP USR1 USR2",
        '"$apptainer" exec --cleanenv --home "$home:/root" --writable-tmpfs --pwd %s %s \\' % (engine.WORKSPACE, quote_argv(words)),
        "  %s sh -c %s %s || :" % (quote(image), quote(_STAYING), quote(engine.CONTROL + "/driver.sh")),
        _UNDISTURBED,
        'rm -rf "$home"',
    ]


def _start_enroot(run: Run, where: Where, image: str) -> List[str]:
    words: List[str] = []
    for one, other, read_only in _mounts(run, where):
        words += ["--mount", "%s:%s:none:x-create=auto,rbind,%s" % (one, other, "ro" if read_only else "rw")]
    # All GPUs that Slurm lets the job see; CUDA_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES, which it sets, choose among them.
    words += ["--env", "NVIDIA_VISIBLE_DEVICES=all" if _vendor(run) == "NVIDIA" else "NVIDIA_VISIBLE_DEVICES=void"]
    name, script = quote(where.name), quote(os.path.join(where.io, "rc"))
    return [
        "trap : TERM INT HUP USR1 USR2",
        # In place of the image's entry point.
        "printf '%%s\\n' %s %s >%s" % (quote("trap : TERM INT HUP USR1 USR2"), quote(". %s/driver.sh" % engine.CONTROL), script),
        "enroot remove --force %s >/dev/null 2>&1 || :" % name,
        "enroot create --name %s %s" % (name, quote(image)),
        "enroot start --root --rw --rc %s %s %s || :" % (script, quote_argv(words), name),
        _UNDISTURBED,
        "enroot remove --force %s" % name,
    ]


def forgotten(run: Run) -> Sequence[str]:
    """Variables of Slurm that would be wrong inside: an engine that is given some of NVIDIA's GPUs numbers them anew."""
    gpus: Dict[str, Any] = dict(run.get("gpus") or {})
    return ("CUDA_VISIBLE_DEVICES",) if gpus.get("vendor") == "NVIDIA" and run.get("runtime") in ENGINES else ()
