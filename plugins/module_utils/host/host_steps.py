# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `container_run` does on a host, one function per state. Each takes a job (a plain dict from the controller) and returns a plain dict.

A job names the folder (`campaign`, `host`, `work_dir`) and what is wanted: `runs`, a dict of run id to attempt number. Check mode
(`check`) says what would change and changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ..base import files, work_folder
from ..base.canonical import hash_file
from ..base.errors import MadError
from ..base.files import is_regular
from ..base.secret_names import mask
from ..containers import archives
from ..results import record
from . import driver, host_images, host_state, predecessors, processes
from .arguments import CANCEL_SECONDS, Answer, Job
from .host_state import HostFolder, folder_of, work_dir

RESULTS_LIMIT = 2 << 20  # bytes of results in one answer, before they are packed
RECORD_LIMIT = 256 << 10  # of one record; a larger one goes as a file
LIVE_LIMIT = 64 << 10  # bytes of live output in one answer
_ACKNOWLEDGE = 20.0  # seconds for a supervisor to say that it has read the list
_LOCK_PATIENCE = 2.0  # seconds without the machine lock until it is worth a word
_GLANCE = 0.05  # seconds between two looks whether the supervisor still lives
_CRASHES = 3  # supervisors that ended by an error of their own, before a person must look


# -- staged ----------------------------------------------------------------------------------------------------------------------


def images_here(job: Job, credentials: Mapping[str, Any]) -> host_images.Images:
    """The images of a staging on this machine's own engines."""
    return host_images.Images(host_images.private_folder(work_dir(job)), credentials, job.get("images") or {})


def staged(job: Job, make_images: Callable[[Job, Mapping[str, Any]], host_images.Images] = images_here) -> Answer:
    """Unpack the controller's archive, see to the images, hand the runs over (they start with `started`)."""
    folder = folder_of(job)
    if job.get("check"):
        return {"changed": not folder.exists() or not set(job["runs"]) <= set(folder.run_ids()), "folder": folder.path}
    begun = time.time()
    document = read_stage(str(job["archive"]))
    replaced, new = predecessors.take_over(folder, str(job["campaign"]), str(job["host"]))
    with files.locked(folder.file("stage.lock")):
        changed = _unpack_stage(folder, document, str(job["archive"])) or new
        images = make_images(job, document.get("credentials") or {})
        images.ensure([run for run in document["runs"] if not _begun(folder, run)])
        if images.missing and not job.get("last"):
            missing = sorted(set(images.missing))
            return {"changed": changed, "folder": folder.path, "missing": missing, "images": [], "results": [], "replaced": replaced}
        lost = [run_id for run_id in job.get("acknowledged") or [] if not folder.run(run_id)]
        document["runs"] = [run for run in document["runs"] if run["id"] not in lost]  # what was begun once is not begun again
        results, handed_over = _hand_over(folder, document, images, begun)
    how = sorted(images.answers.values(), key=lambda answer: str(answer["name"]))
    changed = changed or handed_over or any(answer.get("how") in ("pulled", "loaded") for answer in how)
    told = {"folder": folder.path, "missing": [], "images": how, "results": results, "unknown": lost, "replaced": replaced}
    return dict(told, changed=changed)


def _begun(folder: HostFolder, run: Mapping[str, Any]) -> bool:
    """Whether this host has the run already, in the attempt that is wanted."""
    return int(folder.run(run["id"]).get("attempt") or 0) >= int(run.get("attempt", 1))


def read_stage(path: str) -> Dict[str, Any]:
    """stage.json out of the archive, into memory: it holds secrets."""
    with open(path, "rb") as stream:
        document: Dict[str, Any] = json.loads(archives.read_first(stream, "stage.json"))
    return document


def _unpack_stage(folder: HostFolder, document: Mapping[str, Any], path: str) -> bool:
    """lib and tree into their places, both by rename: whoever comes second finds them done."""
    for name in os.listdir(folder.path):
        if name.startswith(".unpack-"):  # of a staging that was killed; we hold the lock
            shutil.rmtree(folder.file(name), ignore_errors=True)
    pyz, tree = _core_path(folder, document["core"]), folder.file("tree", document["tree"])
    work_folder.own_folder(os.path.dirname(pyz), 0o755)
    if os.path.exists(tree) and _use_core(pyz, document["core"]):
        return False
    scratch = tempfile.mkdtemp(prefix=".unpack-", dir=folder.path)
    try:
        with open(path, "rb") as stream:
            archives.unpack(stream, scratch, links=True, wanted=lambda name: name != "stage.json")
        _install_core(os.path.join(scratch, "core.pyz"), pyz, document["core"])
        os.makedirs(os.path.join(scratch, "tree"), exist_ok=True)
        if not os.path.exists(tree):
            os.rename(os.path.join(scratch, "tree"), tree)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _core_path(folder: HostFolder, core: str) -> str:
    return os.path.join(os.path.dirname(os.path.dirname(folder.path)), "lib", core + ".pyz")


def _use_core(pyz: str, wanted: str) -> bool:
    """Whether a core is there and whole; then its time says that it is in use, for those who clean up by age."""
    if not os.path.exists(pyz) or hash_file(pyz) != wanted:
        return False
    os.utime(pyz)
    return True


def _install_core(source: str, target: str, wanted: str) -> None:
    found = hash_file(source)
    if found != wanted:
        raise MadError("the core arrived damaged: sha256 %s instead of %s" % (found, wanted))
    os.replace(source, target)


def _hand_over(folder: HostFolder, document: Mapping[str, Any], images: host_images.Images, begun: float) -> Tuple[List[Answer], bool]:
    """Write run.json of every run whose image is verified; the others get a record that says why not."""
    results: List[Answer] = []
    changed = False
    if document.get("facts") and folder.facts() != document["facts"]:
        files.write_json(folder.file("facts.json"), document["facts"], 0o600)
    if document.get("secrets"):
        folder.save_secrets(document["secrets"])
    with files.Batch() as batch:
        for run in document["runs"]:
            if _begun(folder, run):
                continue
            known = (document.get("secrets") or {}).get(run["id"]) or {}
            absent = [name for name in run.get("secret_env") or [] if name not in known]
            run = dict(run, tree=document["tree"], core=document["core"], queued=begun, secrets_absent=absent)
            answer = images.answers.get(host_images.key(host_images.wish(run))) if run["runtime"] != "host" else {}
            if answer is None or answer.get("error"):
                told = answer or {"error": "the image was not looked for"}
                unrun = record.make_unrun_record(run, str(told.get("failure_class") or "image"), str(told["error"]))
                results.append(dict(unrun, host=folder.facts()))
                continue
            if answer:
                run["image"] = dict(run["image"], digest=answer["digest"])
            changed = folder.save_run(run, batch) or changed
    return results, changed


# -- started ---------------------------------------------------------------------------------------------------------------------


def started(job: Job, machine: bool = True) -> Answer:
    """See that a supervisor has the list. `acknowledged` are the runs it knows; only then has the launch been accepted.

    `machine` false: the runs do not run on this machine, so its lock is nobody's, and the settings are the target's own.
    """
    folder = folder_of(job)
    if not folder.exists():
        if job.get("check"):
            return dict(nothing(), changed=True, queued=len(job["runs"]), acknowledged={})
        raise MadError("nothing is staged for campaign %s in %s" % (job["campaign"], folder.path))
    wanted = {run_id: int(attempt) for run_id, attempt in job["runs"].items()}
    pending = [run_id for run_id in wanted if _standing(folder, run_id, wanted[run_id])[0] in ("pending", "open")]
    if job.get("check"):
        return dict(_answer(folder, job), changed=bool(pending) and not folder.supervised(), acknowledged={})
    spawned = False
    if pending:
        settings = _settings(job) if machine else dict(job.get("settings") or {})
        if machine:  # what is wrong with the lock is said now
            os.close(host_state.open_machine_lock(str(settings.get("lock") or host_state.DEFAULT_LOCK)))
        _forget_orders(folder)
        version = folder.save_settings(settings)
        spawned = _ensure_supervisor(folder, str(job["core"]), version)
    launches = {run_id: _launch_document(folder, run_id) for run_id in wanted if folder.run(run_id)}
    return dict(_answer(folder, job), changed=spawned, acknowledged=launches)


def staged_and_started(job: Job) -> Answer:
    """`staged`, then `started` with what is there now; while images are missing nothing is started. What staging answers stands under `staged`.

    Why the start failed stands under `problem`: what staging said must reach the controller all the same.
    """
    first = staged(job)
    answer = dict(nothing(), staged=first, acknowledged={}, problem={})
    if first["missing"] and not job.get("last"):
        return answer
    over = {*first["unknown"], *(found["run_id"] for found in first["results"])}
    try:
        answer.update(started(dict(job, runs={name: number for name, number in job["runs"].items() if name not in over})))
    except MadError as error:
        answer["problem"] = {"msg": error.message, "failure_class": error.failure_class}
    return answer


def _settings(job: Job) -> Dict[str, Any]:
    given = job.get("settings") or {}
    return {name: given[name] for name in host_state.DEFAULT_SETTINGS if given.get(name) not in (None, "")}


def _forget_orders(folder: HostFolder) -> None:
    """A start takes back an earlier stop or cancel; one that is still being obeyed is waited for."""
    deadline = time.monotonic() + _ACKNOWLEDGE * 3
    while folder.reason("cancel") is not None and folder.supervised():
        if time.monotonic() > deadline:
            raise MadError("%s is still being cancelled; try again when that has ended" % folder.path)
        time.sleep(0.2)
    for name in ("cancel", "stop", "crashes"):
        folder.unsay(name)


def _launch_document(folder: HostFolder, run_id: str) -> Answer:
    """What the controller writes down about an accepted launch."""
    run = folder.run(run_id)
    return {
        "attempt": int(run.get("attempt", 1)),
        "folder": folder.path,
        "boot_id": folder.state().get("boot_id", ""),
        "queued": run.get("queued"),
    }


def _ensure_supervisor(folder: HostFolder, core: str, version: int) -> bool:
    """Return when a supervisor has read settings of this version or a later one, after starting one where none lives. True when one was started."""
    deadline = time.monotonic() + _ACKNOWLEDGE
    spawned = False
    while not _has_read(folder, version, spawned):
        if time.monotonic() > deadline:
            words = folder.crashes() or host_state.read_text(folder.file("supervisor.log")).strip().splitlines()
            raise MadError("the supervisor in %s does not answer: %s" % (folder.path, words[-1] if words else "its log is empty"))
        if folder.supervised():
            _wake(folder.state())
        else:
            _spawn(folder, core)
            spawned = True
        for _round in range(50):
            if _has_read(folder, version, spawned):
                break
            time.sleep(0.02)
    return spawned


def _has_read(folder: HostFolder, version: int, spawned: bool) -> bool:
    """Whether the list has reached a supervisor; one that we started may have been so quick that it has ended already."""
    if version:
        return int(folder.state().get("version") or 0) >= version
    return spawned or folder.supervised()


def _wake(state: Mapping[str, Any]) -> None:
    """Tell a living supervisor to look at once."""
    pid, ticks = int(state.get("pid") or 0), int(state.get("started") or 0)
    if pid and processes.is_alive(pid, ticks):
        processes.send([pid], signal.SIGUSR1)


def _spawn(folder: HostFolder, core: str) -> None:
    """python3 lib/<hash>.pyz supervise <folder>; it detaches itself, so the child that we wait for ends at once."""
    pyz = _core_path(folder, core)
    if not core or not _use_core(pyz, core):
        raise MadError("the core %s is not what it should be; stage again" % pyz)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("ANSIBLE_")}
    with open(folder.file("supervisor.log"), "ab") as log:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # the core has no AnsibleModule
            [sys.executable, "-I", "-B", pyz, "supervise", folder.path],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            timeout=60,
            check=False,
        )
    if done.returncode:
        raise MadError("the supervisor cannot be started: %s" % host_state.read_text(folder.file("supervisor.log")).strip()[-500:])


# -- polled ----------------------------------------------------------------------------------------------------------------------


def polled(job: Job) -> Answer:
    """New results, what runs, new output; a supervisor is started where one is needed and none lives, if one was ever asked for."""
    folder = folder_of(job)
    if not folder.exists() or not folder.settings().get("version"):  # without settings nobody knows which lock the machine has
        return dict(nothing(), unknown=sorted(job["runs"]))
    if job.get("check"):
        return _answer(folder, job)
    said = bool(job.get("stop")) and folder.say("stop", str(job["stop"]))
    if said:
        _wake(folder.state())
    _wait_for_the_end(folder, float(job.get("patience") or 0))
    answer = _answer(folder, job)
    if (answer["queued"] or answer["running"]) and not folder.supervised():
        crashes = folder.crashes()
        if len(crashes) >= _CRASHES:
            raise MadError("the supervisor in %s ended %d times by an error: %s" % (folder.path, len(crashes), crashes[-1]))
        _ensure_supervisor(folder, str(job["core"]), 0)
    return dict(answer, changed=bool(answer["results"] or said))


def _wait_for_the_end(folder: HostFolder, patience: float) -> None:
    """Return when the supervisor has ended, because nothing is left to do, or after so many seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and folder.supervised():
        time.sleep(_GLANCE)


def nothing() -> Answer:
    """An answer of started, polled and cancelled with nothing in it."""
    return {"changed": False, "results": [], "more": False, "large": [], "running": [], "queued": 0, "unknown": [], "live": [], "waits_for": {}}


def _standing(folder: HostFolder, run_id: str, attempt: int) -> Tuple[str, Optional[host_state.Standing]]:
    run = folder.run(run_id)
    if not run or int(run.get("attempt", 1)) < attempt:
        return "unknown", None
    standing = folder.standing(run)
    return standing.state, standing


def _answer(folder: HostFolder, job: Job) -> Answer:
    """Where the wanted runs stand."""
    watched = isinstance(job.get("live"), dict)
    answer = dict(nothing(), patient=not watched)  # somebody who watches wants to see the output soon
    room = RESULTS_LIMIT
    hidden = folder.secret_values()
    for run_id, attempt in sorted(job["runs"].items()):
        state, standing = _standing(folder, run_id, int(attempt))
        if state == "unknown":
            answer["unknown"].append(run_id)
        elif state == "done" and standing and standing.record:
            room = add_result(folder, answer, standing.record, room)
        elif state == "open" and standing and folder.attempt(run_id, standing.attempt).launch():
            answer["running"].append(running(folder, run_id, standing.attempt))
        else:
            answer["queued"] += 1
    if watched:
        answer["live"] = list(live_output(folder, job["live"], answer, hidden))
    if answer["queued"] and not answer["running"]:
        answer["waits_for"] = _lock_waited_for(folder)
    return answer


def _lock_waited_for(folder: HostFolder) -> Answer:
    """{"lock", "seconds", "pid", "campaign"} while the supervisor waits for the machine lock, else {}; pid 0 and campaign "": not known."""
    state = folder.state()
    pid, ticks = int(state.get("pid") or 0), int(state.get("started") or 0)
    if state.get("machine_lock") is not False or not processes.is_alive(pid, ticks) or processes.age(ticks) < _LOCK_PATIENCE:
        return {}
    lock = str(folder.settings()["lock"])
    holder = processes.flock_holder(lock)
    command = processes.command_of(holder) if holder else []
    place = os.path.basename(command[-1]) if command[-2:-1] == ["supervise"] else ""
    told = {"pid": holder if command else 0, "campaign": place.rpartition(".")[0]}
    return dict(told, lock=lock, seconds=round(processes.age(ticks), 1))


def add_result(folder: HostFolder, answer: Answer, document: Mapping[str, Any], room: int) -> int:
    """Put a record into an answer, or say that it waits or comes as a file; the bytes that are left."""
    size = len(json.dumps(document))
    if size > RECORD_LIMIT:
        path = folder.attempt(document["run_id"], document["attempt"]).file("result.json")
        answer["large"].append({"run": document["run_id"], "attempt": document["attempt"], "path": path, "bytes": os.path.getsize(path)})
        return room
    if size > room:
        answer["more"] = True
        return room
    answer["results"].append(document)
    return room - size


def running(folder: HostFolder, run_id: str, number: int) -> Answer:
    """What an answer says of an attempt that is under way."""
    attempt = folder.attempt(run_id, number)
    progress = driver.read_phases(attempt.file("io", "phases"))
    began = attempt.wall_clock(progress.began) if progress.began else float(attempt.launch().get("created") or time.time())
    return {
        "run": run_id,
        "attempt": number,
        "model": folder.run(run_id).get("model", ""),
        "phase": progress.phase or "launch",
        "seconds": round(max(0.0, time.time() - began), 1),
    }


def live_output(folder: HostFolder, offsets: Mapping[str, Any], answer: Answer, hidden: List[str]) -> Iterator[Answer]:
    """New whole lines of model.log: of what runs now, of what has just ended, and the rest of what the controller was following."""
    room = LIVE_LIMIT
    running = {entry["run"] for entry in answer["running"]}
    ended_now = [document["run_id"] for document in answer["results"] if document.get("launched")]
    for run_id in dict.fromkeys([*sorted(running), *ended_now, *sorted(offsets)]):
        numbers = folder.attempts(run_id)
        if not numbers or room <= 0:
            continue
        known = offsets.get(run_id) or {}
        offset = int(known.get("offset") or 0) if known.get("attempt") == numbers[-1] else 0
        path = folder.attempt(run_id, numbers[-1]).log("model.log")
        ended = run_id not in running
        text, start, end = _new_text(path, offset, room, ended)
        room -= end - start
        if end > offset or ended:
            yield {
                "run": run_id,
                "attempt": numbers[-1],
                "model": folder.run(run_id).get("model", ""),
                "offset": end,
                "skipped": start - offset,
                "text": mask(text, hidden),
                "ended": ended,
            }


def _new_text(path: str, offset: int, room: int, ended: bool) -> Tuple[str, int, int]:
    """(text, where it begins, where it ends): whole lines since offset, at most the last `room` bytes."""
    if not is_regular(path):
        return "", offset, offset
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        size = os.fstat(descriptor).st_size
        start = max(offset, size - room) if size > offset else offset
        stream.seek(start)
        data = stream.read(room)
    if start > offset:
        cut = data.find(b"\n") + 1
        data, start = data[cut:], start + cut
    if not ended:
        data = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
    return data.decode("utf-8", "replace"), start, start + len(data)


# -- cancelled -------------------------------------------------------------------------------------------------------------------


def cancelled(job: Job) -> Answer:
    """Stop and end exactly this campaign's runs on this host; wait until each has its record."""
    folder = folder_of(job)
    if not folder.exists():
        return dict(nothing(), unknown=sorted(job["runs"]))
    answer = _answer(folder, dict(job, live=None))
    alive = bool(answer["running"] or answer["queued"])
    if job.get("check") or not alive:
        return dict(answer, changed=alive)
    folder.say("cancel", str(job.get("reason") or "cancelled by a person"))
    deadline = time.monotonic() + float(CANCEL_SECONDS if job.get("wait") is None else job["wait"])
    version = folder.save_settings({})
    _wake(folder.state())
    while time.monotonic() < deadline:
        if not folder.supervised():
            _ensure_supervisor(folder, str(job["core"]), version)
        answer = _answer(folder, dict(job, live=None))
        if not answer["running"] and not answer["queued"]:
            return dict(answer, changed=True)
        time.sleep(0.2)
    raise MadError(
        "%d runs of campaign %s still run after being cancelled; see %s" % (len(answer["running"]), job["campaign"], folder.path)
    )
