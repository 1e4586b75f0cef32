# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as one command line of a container engine, and the few questions we ask an engine. Argument lists only, never a shell."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..base import quoting
from ..base.errors import InvalidInput, LaunchError, MadError

WORKSPACE = "/myworkspace"  # fixed by MAD repositories
CONTROL = "/.mad"  # io/ of the attempt
LABEL = "mad.engine"
_ARGV_VALUE, _ARGV_TOTAL = 1024, 32768  # larger environments go through the file: command lines are for people to read
_WORD_LIMIT, _ENV_LIMIT = 131071, 1500000  # what the kernel passes to a process: one string, all of them
_ANSWER_SECONDS = 120

# Options of `run` that take no value, in docker or podman. Every other one takes one: that is how a stray word is told from a value.
_FLAGS = frozenset(
    "--detach --disable-content-trust --env-host --help --http-proxy --init --interactive --no-healthcheck --no-hosts --no-hostname "
    "--oom-kill-disable --passwd --privileged --publish-all --quiet --read-only --read-only-tmpfs --replace --rm --rmi --rootfs "
    "--sig-proxy --tls-verify --tty --unsetenv-all --use-api-socket".split()
)
_SHORT_FLAGS = frozenset("ditPq")
_SHORT = {
    "d": "--detach",
    "e": "--env",
    "h": "--hostname",
    "i": "--interactive",
    "l": "--label",
    "m": "--memory",
    "p": "--publish",
    "q": "--quiet",
    "t": "--tty",
    "u": "--user",
    "v": "--volume",
    "w": "--workdir",
    "a": "--attach",
    "c": "--cpu-shares",
    "P": "--publish-all",
}
_ALIASES = {"--net": "--network"}
# What belongs to us: with any of these the run could not be found, timed, judged or removed.
_REFUSED = {
    "--name": "the name is how the run is found again",
    "--rm": "the container is removed by us, after its end was read",
    "--rmi": "the image is not the run's to remove",
    "--detach": "the run is waited for",
    "--entrypoint": "the entry point is set so that an image's own one does not break the run",
    "--restart": "an attempt runs exactly once",
    "--cidfile": "it is used for the record",
    "--pull": "the image was verified before; nothing may be pulled now",
    "--replace": "a container that exists is somebody's work",
    "--rootfs": "the image was verified before",
    "--workdir": "the work directory is the run directory",
    "--help": "it starts nothing",
    "--attach": "the output goes to files",
    "--detach-keys": "nobody is attached",
    "--sig-proxy": "signals are ours",
    "--pidfile": "it is not used",
    "--conmon-pidfile": "it is not used",
    "--pod": "a run is one container",
    "--pod-id-file": "a run is one container",
    "--label-file": "labels are how the run is found again",
}


class Launch(NamedTuple):
    """What the host adds to a run for one attempt."""

    name: str  # of the container
    labels: Mapping[str, str]
    work: str  # host path that becomes /myworkspace
    control: str  # host path that becomes /.mad
    cidfile: str
    gpus: Sequence[int]  # indexes on the host, out of the run's pool
    cpus: str  # "0-3,8" or ""
    env: Mapping[str, str]  # for the command line; the rest is in the env file
    shm_bytes: int
    selinux: bool


def container_name(campaign: str, run_id: str, attempt: int) -> str:
    """The arbiter's name: of two that start the same attempt, the engine lets one."""
    return "mad-%s-%s-%d" % (campaign, run_id, attempt)


def labels(run: Mapping[str, Any], attempt: int, folder: str) -> Dict[str, str]:
    """Labels of a container of ours; `mad.folder` tells which work folder of this machine made it."""
    return {
        LABEL: "1",
        "mad.campaign": str(run["campaign"]),
        "mad.run": str(run["id"]),
        "mad.attempt": str(attempt),
        "mad.host": str(run["place"].get("host", "")),
        "mad.folder": folder_label(folder),
    }


def folder_label(folder: str) -> str:
    """The value of `mad.folder`: two users of one engine may have a campaign, a host and runs of the same names."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]


# -- environment ---------------------------------------------------------------------------------------------------------------


def split_environment(plain: Mapping[str, str], secret: Mapping[str, str]) -> Tuple[Dict[str, str], Dict[str, str]]:
    """(for the command line, for the file with mode 0600): secrets and everything long go into the file. Names are checked, sizes too."""
    check_environment(dict(plain, **secret))
    short, long = {}, dict(secret)
    total = 0
    for name in sorted(plain):
        size = len(os.fsencode(plain[name]))
        total += size
        if name in secret:
            continue
        if size > _ARGV_VALUE or total > _ARGV_TOTAL:
            long[name] = plain[name]
        else:
            short[name] = plain[name]
    return short, long


def check_environment(variables: Mapping[str, str]) -> None:
    """InvalidInput for what no process can be given: a bad name, a NUL byte, more bytes than the kernel takes."""
    total = 0
    for name, value in variables.items():
        if not quoting.is_env_name(name):
            raise InvalidInput("%r is not a name for an environment variable (letters, digits and _, no leading digit)" % name[:80])
        if "\0" in value:
            raise InvalidInput("the environment variable %s holds a NUL byte" % name)
        size = len(name) + len(os.fsencode(value)) + 2
        total += size
        if size > _WORD_LIMIT:
            raise InvalidInput(
                "the environment variable %s has %d bytes; the kernel passes at most %d: put it into a file" % (name, size, _WORD_LIMIT)
            )
    if total > _ENV_LIMIT:
        raise InvalidInput("the environment has %d bytes; at most %d reach a process: put large values into files" % (total, _ENV_LIMIT))


def check_words(words: Iterable[str], what: str) -> None:
    """InvalidInput for words that no process can be given."""
    total = 0
    for word in words:
        size = len(os.fsencode(word)) + 1
        total += size
        if "\0" in word:
            raise InvalidInput("%s holds a NUL byte" % what)
        if size > _WORD_LIMIT:
            raise InvalidInput("%s holds a word of %d bytes; the kernel passes at most %d" % (what, size, _WORD_LIMIT))
    if total > _ENV_LIMIT:
        raise InvalidInput("%s has %d bytes; at most %d reach a process" % (what, total, _ENV_LIMIT))


# -- raw options of cards --------------------------------------------------------------------------------------------------------


def check_options(words: Sequence[str]) -> Dict[str, List[str]]:
    """{long option: values} of raw option words (flags have the value ""). InvalidInput names what would break the contract of a run."""
    found: Dict[str, List[str]] = {}
    index = 0
    while index < len(words):
        options = _options_at(words, index)
        for name, value, _words in options:
            name = _ALIASES.get(name, name)
            _check_option(name, value)
            found.setdefault(name, []).append(value)
        index += options[-1][2]
    return found


def _options_at(words: Sequence[str], index: int) -> List[Tuple[str, str, int]]:
    """The option (several for `-it`) that begins at a word: name, value, number of words."""
    word = words[index]
    if word.startswith("--") and len(word) > 2:
        name, equals, value = word.partition("=")
        if equals:
            return [(name, value, 1)]
        return [(name, "", 1)] if name in _FLAGS else [(name, _value_after(words, index), 2)]
    if word.startswith("-") and len(word) > 1 and word != "--":
        return _short_options(words, index)
    raise InvalidInput("additional_docker_run_options: %r is not an option; an image or a command cannot stand there" % word[:200])


def _short_options(words: Sequence[str], index: int) -> List[Tuple[str, str, int]]:
    word, found = words[index], []
    for position in range(1, len(word)):
        letter = word[position]
        if letter not in _SHORT:
            raise InvalidInput("additional_docker_run_options: unknown option -%s in %r" % (letter, word[:200]))
        if letter in _SHORT_FLAGS:
            found.append((_SHORT[letter], "", 1))
            continue
        rest = word[position + 1 :].lstrip("=")
        return found + [(_SHORT[letter], rest, 1) if rest else (_SHORT[letter], _value_after(words, index), 2)]
    return found


def _value_after(words: Sequence[str], index: int) -> str:
    if index + 1 >= len(words):
        raise InvalidInput("additional_docker_run_options: %s has no value" % words[index])
    return words[index + 1]


def _check_option(name: str, value: str) -> None:
    if name in _REFUSED:
        raise InvalidInput("additional_docker_run_options: %s is refused: %s" % (name, _REFUSED[name]))
    if name == "--label" and value.partition("=")[0].startswith("mad."):
        raise InvalidInput("additional_docker_run_options: the label %s is ours" % value)
    if name in ("--volume", "--mount", "--tmpfs"):
        for path in (WORKSPACE, CONTROL):
            if any(part.rstrip("/") == path for part in value.replace(",", ":").replace("=", ":").split(":")):
                raise InvalidInput("additional_docker_run_options: %s %s hides %s, where the run lives" % (name, value, path))


# -- the command line ----------------------------------------------------------------------------------------------------------


def _csv(*fields: str) -> str:
    """Fields for an option that engines read as one CSV line: commas and quotes in a path stay what they are."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(fields)
    return stream.getvalue()


def mount(source: str, target: str, read_only: bool = False) -> List[str]:
    """--mount words of a bind mount."""
    if not source.startswith("/") or not target.startswith("/"):
        raise InvalidInput("docker_mounts: %r to %r: both must be absolute paths" % (source, target))
    if any(character in source + target for character in "\0\r\n"):  # engines read the option as a line of CSV
        raise InvalidInput("docker_mounts: %r to %r: a path with a line break or a NUL byte cannot be mounted" % (source, target))
    return ["--mount", _csv("type=bind", "source=" + source, "target=" + target, *(["readonly"] if read_only else []))]


def gpu_words(run: Mapping[str, Any], gpus: Sequence[int], program: str) -> List[str]:
    """Options that give exactly these GPUs; [] for none."""
    if not gpus:
        return []
    vendor = run["gpus"].get("vendor", "")
    if vendor == "NVIDIA":
        words = ["--cap-add", "SYS_PTRACE", "--cap-add", "SYS_NICE"]
        if program == "podman":
            return words + [word for index in gpus for word in ("--device", "nvidia.com/gpu=%d" % index)]
        return words + ["--gpus", '"device=%s"' % ",".join(str(index) for index in gpus)]
    if vendor not in ("AMD", "INTEL"):
        raise LaunchError("GPUs of vendor %r are not supported; supported are AMD, NVIDIA and INTEL" % vendor)
    devices = run["gpus"].get("devices") or {}
    nodes = []
    for index in gpus:
        if not devices.get(str(index)):
            raise LaunchError("GPU %d has no known render node; gpu_renderDs in the context can name it" % index)
        nodes.append(str(devices[str(index)]))
    words = ["--group-add", "video", "--cap-add", "SYS_PTRACE"]
    return words + [word for node in (["/dev/kfd"] if vendor == "AMD" else []) + nodes for word in ("--device", node)]


def _privilege_words(run: Mapping[str, Any]) -> List[str]:
    """What weakens the isolation, only where the context asks for it."""
    asked = run.get("privileges") or {}
    words: List[str] = []
    if asked.get("sys_admin"):
        words += ["--cap-add", "SYS_ADMIN", "--device", "/dev/fuse"]
    if asked.get("seccomp_unconfined"):
        words += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    if asked.get("ipc_host"):
        words += ["--ipc", "host"]
    return words


def _default_words(run: Mapping[str, Any], launch: Launch, given: Mapping[str, List[str]]) -> List[str]:
    """Our choices where the card's own options make none."""
    words: List[str] = []
    if "--network" not in given:
        words += ["--network", "host"]
    if "--user" not in given:
        words += ["--user", "0:0"]  # by number: an image need not have /etc/passwd
    if launch.shm_bytes and not {"--shm-size", "--ipc"} & set(given) and not (run.get("privileges") or {}).get("ipc_host"):
        words += ["--shm-size", "%d" % launch.shm_bytes]
    if launch.cpus:
        if "--cpuset-cpus" in given:
            raise InvalidInput("additional_docker_run_options: --cpuset-cpus contradicts the CPUs %s that this run has" % launch.cpus)
        words += ["--cpuset-cpus", launch.cpus]
    if launch.selinux:
        words += ["--security-opt", "label=disable"]
    return words


def container_argv(run: Mapping[str, Any], launch: Launch) -> List[str]:
    """The command line that runs one attempt in the foreground: `<engine> run ... <image id> /.mad/driver.sh`."""
    program = str(run["runtime"])
    options = [str(word) for word in run.get("options") or []]
    given = check_options(options)
    argv = [program, "run", "--name", launch.name, "--pull", "never", "--cidfile", launch.cidfile]
    for name in sorted(launch.labels):
        argv += ["--label", "%s=%s" % (name, launch.labels[name])]
    argv += _default_words(run, launch, given) + gpu_words(run, launch.gpus, program) + _privilege_words(run)
    for name in sorted(launch.env):
        argv += ["--env", "%s=%s" % (name, launch.env[name])]
    for entry in run.get("mounts") or []:
        if str(entry["target"]).rstrip("/") in (WORKSPACE, CONTROL):
            raise InvalidInput("docker_mounts: %s is where the run lives; mount at another path" % entry["target"])
        argv += mount(str(entry["source"]), str(entry["target"]), bool(entry.get("read_only")))
    argv += mount(launch.work, WORKSPACE) + mount(launch.control, CONTROL)
    argv += options
    argv += ["--workdir", WORKSPACE, "--entrypoint", "sh", image_reference(run), CONTROL + "/driver.sh"]
    check_words(argv, "the command line of the container")
    return argv


def image_reference(run: Mapping[str, Any]) -> str:
    """The image by its id: what was verified is what runs, whatever the name points to by now."""
    digest = (run.get("image") or {}).get("digest")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        raise LaunchError("the image of run %s has no verified id: %r" % (run.get("id"), digest))
    return digest


# -- questions and orders --------------------------------------------------------------------------------------------------------


class Engine:
    """The command line of docker or podman on this host."""

    def __init__(self, program: str, environment: Optional[Mapping[str, str]] = None) -> None:
        self.program = program
        self.environment = dict(os.environ if environment is None else environment, LC_ALL="C")

    def call(
        self, *words: str, stdin: str = "", timeout: Optional[float] = _ANSWER_SECONDS, environment: Optional[Mapping[str, str]] = None
    ) -> Tuple[int, str, str]:
        """(exit status, stdout, stderr), with `environment` over the engine's own. An engine that hangs or is gone is a MadError of class infra."""
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function  # the core has no AnsibleModule
                [self.program, *words],
                env=dict(self.environment, **(environment or {})),
                input=stdin.encode("utf-8", "surrogateescape"),
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MadError("%s %s did not answer in %s s: is the engine healthy?" % (self.program, words[0], timeout)) from error
        except OSError as error:
            raise MadError("%s cannot be started: %s" % (self.program, error.strerror)) from error
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def inspect(self, name: str) -> Optional[Dict[str, Any]]:
        """What the engine knows of a container; None when there is none of that name."""
        code, output, errors = self.call("container", "inspect", name)
        if code == 0:
            return first_object(output)
        if "no such container" in errors.lower() or "no container with name" in errors.lower():
            return None
        raise MadError("%s cannot say how container %s is: %s" % (self.program, name, errors.strip()[:500]))

    def remove(self, name: str, force: bool = True) -> str:
        """Remove a container with its anonymous volumes (force: also a running one); "" or what went wrong. Absent is fine."""
        at_once = ["--time=0"] if os.path.basename(self.program) == "podman" else []  # it would ask a hung model and wait 10 s; docker kills
        code, _output, errors = self.call("rm", "--volumes", *(["--force", *at_once] if force else []), name)
        if code == 0 or "no such container" in errors.lower() or "no container with" in errors.lower():
            return ""
        return errors.strip()[:500] or "exit status %d" % code

    def containers_of(self, folder: str) -> List[str]:
        """Names of all containers, running or not, that this campaign folder made."""
        wanted = (LABEL + "=1", "mad.folder=" + folder_label(folder))
        words = [word for label in wanted for word in ("--filter", "label=" + label)]
        code, output, errors = self.call("ps", "--all", "--format", "{{.Names}}", *words)
        if code != 0:
            raise MadError("%s cannot list containers: %s" % (self.program, errors.strip()[:500]))
        return output.split()


def first_object(output: str) -> Dict[str, Any]:
    """The only entry of an inspect list."""
    try:
        return dict(json.loads(output)[0])
    except (ValueError, IndexError, TypeError) as error:
        raise MadError("the engine answered with something that is not its JSON: %s" % output[:200]) from error
