# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one shell script of an attempt: prepares the run directory, runs pre scripts, model and post scripts, brings results out.

The same text works in a container (/myworkspace) and on the bare host (paths of the work folder); only POSIX sh, so that an image
needs no more than a shell and coreutils. It decides nothing. What happened stands in the file `phases`, one line per event:

    <seconds since boot> begin <phase> [<number>]      prepare, clone, pre, model, post, collect
    <seconds since boot> exit model <code>
    <seconds since boot> fail <phase> <code> [<detail>]
    <seconds since boot> commit <git commit>
    <seconds since boot> end

No name of a file or a script stands in it: those may hold newlines.
The model's own output goes to model.log alone, so that metrics and error patterns are read from nothing else.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ..base.errors import InvalidInput
from ..base.quoting import is_env_name, quote, quote_argv

COMMON = "scripts/common"  # of a staged tree: the repository's over our own, for every run
# What models leave behind that is brought home, from the run directory and the one above it.
ARTIFACTS = ("*_profiler_output.csv", "*_output.csv", "*_trace.csv", "library_trace.csv", "*_env.csv")
# The model can write into that file too: no "nan" is a moment, and no digit that int() does not take an exit status.
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z")
_STATUS = re.compile(r"[0-9]{1,9}\Z")

_HEAD = """\
#!/bin/sh
# mad.engine: run {run}, attempt {attempt}, model {model}
set -u
umask 022
base={base}
io={io}
dir={directory}

note() {{
  up=0
  {{ read -r up rest </proc/uptime; }} 2>/dev/null || up=$(date +%s) # a /proc that may not be read: any clock will do
  printf '%s %s\\n' "$up" "$*" >>"$io/phases"
}}
give_up() {{ # phase, exit status, detail
  note fail "$1" "$2" "${{3-}}"
  leave 0
}}
leave() {{
{leave}  exit "$1"
}}

note begin prepare
[ -r "$io/env.sh" ] || give_up prepare 1 "the environment cannot be read" # a failed `.` would end the shell
# shellcheck disable=SC1091
. "$io/env.sh"
rm -f "$io/env.sh"
cd "$base" || give_up prepare "$?" "the work folder cannot be entered"
"""

# Where neither people nor the image say it, as in madengine.
_ROCM = """\
: "${ROCM_PATH:=/opt/rocm}"
export ROCM_PATH
"""

_MAKE_DIRECTORY = """\
mkdir -p "$dir" "$io/artifacts" || give_up prepare "$?" "the run directory cannot be made"
"""

_CLONE = """\
note begin clone
mkdir -p "$io/artifacts"
{credentials}# shellcheck disable=SC2016
git {options}clone --recurse-submodules -- {url} "$dir" >>"$io/pre.log" 2>&1 </dev/null || give_up clone "$?"
commit=$(git -C "$dir" rev-parse HEAD 2>/dev/null) && note commit "$commit"
"""

_SCRIPT = """\
note begin {phase} {number}
cp -R "$base"/{path} "$dir"/ || {fail} {phase} "$?" {number}
(cd "$dir" && exec bash {command}) >>"$io/{phase}.log" 2>&1 </dev/null || {fail} {phase} "$?" {number}
"""

_COPY = """\
note begin prepare
cp -R "$base"/{source}/. "$dir"/ || give_up prepare "$?" "the scripts could not be copied into the run directory"
"""

_MODEL = """\
note begin model
(cd "$dir" && exec {argv}) >"$io/model.log" 2>&1 </dev/null
code=$?
note exit model "$code"
"""

_COLLECT = """\
bring() {{
  [ "$#" -eq 0 ] || cp -- "$@" "$io/artifacts/" || note fail collect "$?"
}}
collect() {{
  note begin collect
{bring}}}
"""
# What was measured is brought out all the same.
_COLLECT_AND_GIVE_UP = """\
collect_and_give_up() {
  collect
  give_up "$@"
}
"""

# Many at a time: a process for each of ten thousand files takes minutes.
_BRING = """\
  set --
  for file in {patterns}; do
    [ ! -f "$file" ] || set -- "$@" "$file"
    [ "$#" -lt 200 ] || {{ bring "$@"; set --; }}
  done
  bring "$@"
"""
_BRING_ONE = """\
  [ ! -f {file} ] || bring {file}
"""

_CLEAN_ENV = """\
# git of any version that knows it trusts this folder, without a file of the user being touched
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
"""


class Place(NamedTuple):
    """Where the script works: paths as the script itself sees them."""

    base: str  # /myworkspace, or attempt-N/work
    io: str  # /.mad, or attempt-N/io
    share: bool  # make everything writable at the end: the owner of the folder is not the user in the container
    keep_alive: bool  # stay when all is done


def render(run: Mapping[str, Any], attempt: int, place: Place) -> str:
    """The script of one attempt."""
    directory = place.base + "/" + run_directory(run)
    model = repr(str(run.get("model", "")))  # in a comment: repr keeps it on one line
    parts = [
        _HEAD.format(
            run=run["id"],
            attempt=attempt,
            model=model,
            base=quote(place.base),
            io=quote(place.io),
            directory=quote(directory),
            leave=_leave_lines(place),
        ),
        _CLEAN_ENV,
    ]
    if run.get("runtime") != "host" and (run.get("gpus") or {}).get("vendor") == "AMD":
        parts.append(_ROCM)
    parts.append(_clone(run) if run.get("url") else _MAKE_DIRECTORY)
    parts += [_script("pre", number, entry) for number, entry in enumerate(run.get("pre_scripts") or [])]
    source = relative(str(run["command"].get("directory") or ""), "command.directory")
    if source:
        parts.append(_COPY.format(source=quote(source)))
    if not run.get("skip_model_run"):
        parts.append(_MODEL.format(argv=quote_argv(run["command"]["argv"])))
        posts = list(run.get("post_scripts") or [])
        parts += [_collect(run)] + ([_COLLECT_AND_GIVE_UP] if posts else [])
        parts += [_script("post", number, entry) for number, entry in enumerate(posts)]
        parts.append("collect\n")
    parts.append("note end\nleave 0\n")
    return "\n".join(parts)


def relative(path: str, what: str) -> str:
    """A path of the repository in its shortest form; InvalidInput when it is absolute or leaves the repository."""
    short = posixpath.normpath(path) if path else ""
    if short.startswith(("/", "../")) or short == ".." or "\0" in short:
        raise InvalidInput("%s %r leaves the model repository; a relative path inside it was expected" % (what, path[:200]))
    return short


def staged(tree: str, run: Mapping[str, Any]) -> List[str]:
    """What a run has of a staged tree: the paths that it names, and scripts/common where there is one."""
    paths = {relative(str(path), "stage") for path in run.get("stage") or []}
    return sorted(paths | ({COMMON} if os.path.isdir(os.path.join(tree, COMMON)) else set()))


def run_directory(run: Mapping[str, Any]) -> str:
    """Name of the run directory: `run_directory`, or the repository that `url` names."""
    url = str(run.get("url") or "")
    if not url:
        return "run_directory"
    name = posixpath.basename(url.rstrip("/"))
    name = name[:-4] if name.endswith(".git") else name
    if name in ("", ".", "..") or "\0" in name:
        raise InvalidInput("model %s: url %r names no repository" % (run.get("model"), url[:200]))
    return name


def _leave_lines(place: Place) -> str:
    lines = '  chmod -R a+rwX "$base" "$io" 2>/dev/null\n' if place.share else ""
    if place.keep_alive:
        lines += "  while :; do sleep 3600; done\n"
    return lines


def _script(phase: str, number: int, entry: Mapping[str, Any]) -> str:
    """A pre or post script: copied into the run directory and run there by its own name."""
    path = relative(str(entry.get("path") or ""), "%s_scripts" % phase)
    if not path:
        raise InvalidInput("%s_scripts: an entry has no path: %r" % (phase, dict(entry)))
    command = quote_argv(["./" + posixpath.basename(path), *(entry.get("args") or [])])
    fail = "give_up" if phase == "pre" else "collect_and_give_up"
    return _SCRIPT.format(phase=phase, number=number, path=quote(path), command=command, fail=fail)


def _clone(run: Mapping[str, Any]) -> str:
    """git clone; credentials come out of the environment, never out of a command line."""
    cred = str(run.get("cred") or "")
    options: List[str] = []
    lines = ""
    if cred:
        names = credential_names(cred)
        helper = '!f() { printf "username=%%s\\npassword=%%s\\n" "${%s-}" "${%s-}"; }; f' % (names["username"], names["password"])
        # Only for the server that the url names: a submodule elsewhere must not be handed the password.
        server = "/".join(str(run["url"]).split("/", 3)[:3])
        options = ["-c", "credential.helper=", "-c", "credential.%s.helper=%s" % (server, helper)]
        lines = 'if [ -n "${%(key)s-}" ]; then\n' % names
        lines += '  (umask 077 && printf "%%s\\n" "$%(key)s" >"$io/git_key")\n' % names
        lines += '  export GIT_SSH_COMMAND="ssh -i $io/git_key -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new"\nfi\n'
    text = "export GIT_TERMINAL_PROMPT=0\n" + _CLONE.format(
        credentials=lines, options=quote_argv(options) + (" " if options else ""), url=quote(run["url"])
    )
    return text + ('rm -f "$io/git_key"\nunset GIT_SSH_COMMAND\n' if cred else "")


def credential_names(cred: str) -> Dict[str, str]:
    """Environment variables that carry the fields of a credential: <cred>_<FIELD>, as for the model itself."""
    names = {"username": cred + "_USERNAME", "password": cred + "_PASSWORD", "key": cred + "_SSH_KEY"}
    if not is_env_name(names["username"]):
        raise InvalidInput("cred %r: its fields become environment variables, so only letters, digits and _ can stand in it" % cred[:80])
    return names


def _collect(run: Mapping[str, Any]) -> str:
    """Bring out what matches: globs outside the quotes, everything else inside. No name stands twice in one call of cp, which refuses that."""
    text = ""
    results = relative(str(run.get("multiple_results") or ""), "multiple_results")
    for folder in ('"$base"', '"$dir"'):  # of two files of one name, the one in the run directory wins
        text += _BRING.format(patterns=" ".join("%s/%s" % (folder, pattern) for pattern in ARTIFACTS))
        if results:
            text += _BRING_ONE.format(file="%s/%s" % (folder, quote(results)))
    return _COLLECT.format(bring=text)


# -- what the script wrote -----------------------------------------------------------------------------------------------------


class Progress(NamedTuple):
    """What `phases` says. Times are seconds since boot."""

    began: float  # first line, 0 while there is none
    phase: str  # the newest one
    phase_began: float
    detail: str
    exit_code: Optional[int]  # of the model
    model_began: float
    model_ended: float
    failure: Optional[Dict[str, Any]]  # {"phase", "code", "detail"} of the one that ended the script
    notes: List[str]
    commit: str
    ended: float  # 0 while the script runs


def read_phases(path: str) -> Progress:
    """Read the file; a last line without its newline is not there yet. Lines that make no sense are passed over."""
    began = phase_began = model_began = model_ended = ended = 0.0
    phase = detail = commit = ""
    code: Optional[int] = None
    failure: Optional[Dict[str, Any]] = None
    notes: List[str] = []
    for when, event, rest in _events(path):
        began = began or when
        words = rest.split(" ", 2)
        if event == "begin":
            phase, phase_began, detail = words[0], when, " ".join(words[1:])
            model_began = when if phase == "model" else model_began
        elif event == "exit" and len(words) > 1 and _STATUS.match(words[1]):
            code, model_ended = int(words[1]), when
        elif event == "fail" and len(words) > 1 and _STATUS.match(words[1]):
            what = {"phase": words[0], "code": int(words[1]), "detail": words[2].strip() if len(words) > 2 else ""}
            if words[0] == "collect":
                notes.append("a result file could not be brought out (cp: exit status %d); engine.log says which" % what["code"])
            elif words[0] == "post" and code:  # the model's own exit status is the cause
                notes.append("a post script ended with exit status %d, too; see post.log" % what["code"])
                ended = when
            else:
                failure, ended = what, when
        elif event == "commit":
            commit = rest.strip()
        elif event == "end":
            ended = when
    return Progress(began, phase, phase_began, detail, code, model_began, model_ended, failure, notes, commit, ended)


def _events(path: str) -> List[Any]:
    """[(seconds, event, rest)] of the whole lines."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as stream:
        text = stream.read(1 << 20).decode("utf-8", "replace")
    found = []
    for line in text.split("\n")[:-1]:
        words = line.split(" ", 2)
        if len(words) > 1 and _SECONDS.match(words[0]):
            found.append((float(words[0]), words[1], words[2] if len(words) > 2 else ""))
    return found
