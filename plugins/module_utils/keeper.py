# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: one process per attempt. It starts the run, times it, ends it with everything it started, and writes the record.

It is forked by the supervisor, lives in its own session and survives it. A keeper that finds an attempt under way (`attach`) goes on
where the dead one stopped: the container or the driver has not noticed. Nothing is started before launch.json is on disk; the
container's name and, on the bare host, a mark in the environment tell what belongs to the attempt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import traceback
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set

from . import driver, engine, ending, files, processes
from .errors import ImageError, LaunchError, MadError
from .host_state import LOGS, Attempt, HostFolder
from .quoting import quote_env

MARK = "MAD_ATTEMPT"
TICK = 1.0  # seconds between looks at a running attempt; its end itself wakes us at once
LAUNCH_LIMIT = 600.0  # seconds for the engine to start the driver
PHASE_LIMITS = {"prepare": 600.0, "clone": 3600.0, "pre": 600.0, "post": 600.0, "collect": 600.0}
_ENGINE_PATIENCE = 120.0  # seconds of trying to get a container removed


class Seat(NamedTuple):
    """What an attempt has for itself, and beside whom it runs."""

    gpus: List[int]
    cpus: str
    parallel: int


class Keeper:
    """One attempt. `new()` starts it, `attach()` takes over after a dead keeper; both return when result.json is written."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat) -> None:
        self.folder, self.run, self.attempt, self.seat = folder, run, attempt, seat
        self.settings = folder.settings()
        self.boot_id = processes.boot_id(self.settings["boot_id_file"] or processes.BOOT_ID_FILE)
        self.on_host = run["runtime"] == "host"
        self.name = "" if self.on_host else engine.container_name(run["campaign"], run["id"], attempt.number)
        self.engine = engine.Engine(str(run["runtime"]))
        self.mark = "%s=%s/%s/%d" % (MARK, os.path.basename(folder.path), run["id"], attempt.number)
        self.cgroup = processes.Cgroup("mad-%s-%s-%d" % (os.path.basename(folder.path), run["id"], attempt.number)) if self.on_host else None
        self.client: Optional[subprocess.Popen[bytes]] = None
        self.ended_children: Dict[int, int] = {}
        self.told_to_stop = False
        self.staged = time.time()
        self.outcome: Dict[str, Any] = {"launched": False, "exit_code": None, "signal": 0, "timed_out": False, "oom": False, "cancelled": False,
                                        "preempted": False, "error": None, "notes": [], "times": {}}

    # -- the two ways in ---------------------------------------------------------------------------------------------------------

    def new(self) -> None:
        """Prepare, start, watch, finish."""
        self._guarded(self._start_and_watch)

    def attach(self) -> None:
        """Go on with what a dead keeper left."""
        self._guarded(self._take_over)

    def _guarded(self, work: Any) -> None:
        """Whatever happens, there is a record and nothing is left running."""
        try:
            work()
        except (MadError, OSError) as error:
            self._fail(error)
        except Exception as error:  # a defect of ours must not leave a run without an end: it becomes the reason
            self._log("".join(traceback.format_exc()))
            self._fail(MadError("internal error of the keeper: %r" % error))
        ending.Ending(self.folder, self.run, self.attempt, self.outcome, self.staged).write()
        self._clean_up()

    def _fail(self, error: Exception) -> None:
        message = error.message if isinstance(error, MadError) else str(error)
        kind = error.failure_class if isinstance(error, MadError) else "infra"
        self.outcome["error"] = self.outcome["error"] or {"class": kind, "reason": message}
        with contextlib.suppress(MadError, OSError):
            self._kill()

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), open(self.attempt.file("engine.log"), "a", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text.rstrip("\n") + "\n")

    # -- starting ----------------------------------------------------------------------------------------------------------------

    def _start_and_watch(self) -> None:
        signal.signal(signal.SIGTERM, self._on_term)
        if self.on_host:
            processes.become_subreaper()
        self._write_launch()
        argv, environment = self._prepare()
        self._launch(argv, environment)
        self._watch()

    def _on_term(self, dummy_number: int, dummy_frame: Any) -> None:
        self.told_to_stop = True

    def _write_launch(self) -> None:
        me = os.getpid()
        self.attempt.save_launch({
            "schema": 1, "run": self.run["id"], "attempt": self.attempt.number, "runtime": self.run["runtime"], "container": self.name,
            "labels": engine.labels(self.run, self.attempt.number), "keeper": {"pid": me, "ticks": processes.start_ticks(me)},
            "boot_id": self.boot_id, "created": self.staged, "gpus": list(self.seat.gpus), "cpus": self.seat.cpus, "parallel": self.seat.parallel,
            "oom_kills": processes.oom_kills(),
        })

    def _prepare(self) -> Any:
        """Fill work/ and io/; (argv, environment or None) of what is to be started."""
        shared = self._is_shared()
        work, control = self.attempt.file("work"), self.attempt.file("io")
        for path in (work, control):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o777 if shared else 0o700)  # the campaign's folder above is 0700 in any case
        self._copy_tree(work)
        plain, secret = self._environment()
        short, long = engine.split_environment(plain, secret)
        place = driver.Place(work if self.on_host else engine.WORKSPACE, control if self.on_host else engine.CONTROL,
                             share=not self.on_host and os.geteuid() != 0, keep_alive=self._keep_alive())
        if self.on_host:
            engine.check_words(self.run["command"]["argv"], "the command of the model")
        self._write(os.path.join(control, "driver.sh"), driver.render(self.run, self.attempt.number, place), 0o755)
        self._write(os.path.join(control, "env.sh"), quote_env(long), 0o644 if shared else 0o600)
        if self.on_host:
            return ["sh", os.path.join(control, "driver.sh")], dict(self._base_environment(), **short)
        return engine.container_argv(self.run, self._engine_launch(short, work, control)), None

    def _is_shared(self) -> bool:
        """Whether another user than root works in the container: then the folders must be open to it."""
        return not self.on_host and "--user" in engine.check_options([str(word) for word in self.run.get("options") or []])

    def _keep_alive(self) -> bool:
        return bool((self.run.get("keep") or {}).get("alive")) and not self.on_host

    @staticmethod
    def _write(path: str, text: str, mode: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text.encode("utf-8", "surrogateescape"))

    def _copy_tree(self, work: str) -> None:
        """The staged paths of this run, writable for the model, as a copy of its own."""
        tree = self.folder.file("tree", str(self.run.get("tree", "")))
        for path in self.run.get("stage") or []:
            short = driver.relative(str(path), "stage")
            source, target = os.path.join(tree, short), os.path.join(work, short)
            if os.path.isdir(source):
                shutil.copytree(source, target, symlinks=True, copy_function=_copy_file, dirs_exist_ok=True)
            elif os.path.lexists(source):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                _copy_file(source, target)
            else:
                raise MadError("%s was not staged on this host" % short)

    def _environment(self) -> Any:
        plain = {str(name): str(value) for name, value in (self.run.get("env") or {}).items()}
        known = self.folder.secrets()
        wanted = [str(name) for name in self.run.get("secret_env") or []]
        for name in wanted:
            if name not in known:
                self.outcome["notes"].append("the secret %s has no value and was not passed" % name)
        if self.on_host:
            plain.update(_visible_gpus(self.run, self.seat.gpus))
            plain[MARK] = self.mark.partition("=")[2]
        return plain, {name: known[name] for name in wanted if name in known}

    @staticmethod
    def _base_environment() -> Dict[str, str]:
        """What the host runtime gets from the login, without Ansible's and the connection's own."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "SSH_", "SUDO_", "MAD_", "_"))}

    def _engine_launch(self, env: Mapping[str, str], work: str, control: str) -> engine.Launch:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cidfile = self.attempt.file("container.id")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(cidfile)
        selinux = os.path.exists("/sys/fs/selinux/enforce")
        return engine.Launch(self.name, engine.labels(self.run, self.attempt.number), work, control, cidfile, self.seat.gpus, self.seat.cpus,
                             env, memory // 2, selinux)

    def _launch(self, argv: List[str], environment: Optional[Dict[str, str]]) -> None:
        self._log("$ " + " ".join(argv[:2]) + " ..." if not self.on_host else "$ sh driver.sh")
        try:
            with open(self.attempt.file("engine.log"), "ab") as log:
                self.client = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                    cwd=self.attempt.file("work") if self.on_host else "/", preexec_fn=self._in_child,
                )
        except OSError as error:
            raise LaunchError("%s cannot be started: %s" % (argv[0], error.strerror or error)) from error
        except ValueError as error:
            raise LaunchError("%s cannot be started: %s" % (argv[0], error)) from error

    def _in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if not self.on_host:
            processes.die_with_parent()  # the client alone: the container is the engine's
            return
        if self.cgroup:
            self.cgroup.enter()
        if self.seat.cpus:
            os.sched_setaffinity(0, cpu_set(self.seat.cpus))

    # -- watching ----------------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the client (container) or the driver (host) ends, or we end it."""
        with Wakeups() as wakeups:
            while not self._client_ended():
                if self._must_end() or self._may_leave():
                    break
                wakeups.wait(TICK)
        self._read_end()

    def _client_ended(self) -> bool:
        self.ended_children.update(processes.reap())
        return self.client is not None and self.client.pid in self.ended_children

    def _may_leave(self) -> bool:
        """keep_alive: all is done and the container stays; only our client goes."""
        if not self._keep_alive() or not self._progress().ended:
            return False
        if self.client:
            processes.send([self.client.pid], signal.SIGKILL)
        return True

    def _must_end(self) -> bool:
        """End the run if somebody asked for it or its time is over; True when it was ended."""
        cancel = self.folder.reason("cancel")
        if cancel is not None:
            self.outcome["cancelled"] = True
            self.outcome["error"] = {"class": "cancelled", "reason": cancel}
        elif self.told_to_stop:
            self.outcome["preempted"] = True
            self.outcome["error"] = {"class": "preempted", "reason": "the host told the run to stop (SIGTERM)"}
        elif not self._time_is_over():
            return False
        self._kill()
        return True

    def _progress(self) -> driver.Progress:
        return driver.read_phases(self.attempt.file("io", "phases"))

    def _time_is_over(self) -> bool:
        progress = self._progress()
        now = processes.uptime()
        if not progress.began:
            if time.time() - self.staged <= LAUNCH_LIMIT:
                return False
            self.outcome["error"] = {"class": "launch", "reason": "the engine did not start it within %d s" % LAUNCH_LIMIT}
            return True
        if progress.ended:
            return False
        if progress.phase == "model" and progress.exit_code is None:
            limit = float(self.run.get("timeout") or 0)
            if not limit or now - progress.phase_began <= limit:
                return False
            self.outcome["timed_out"] = True
            return True
        limit = PHASE_LIMITS.get(progress.phase, 600.0)
        if progress.phase == "model" or now - progress.phase_began <= limit:
            return False
        self.outcome["error"] = {"class": "timeout", "reason": "%s ran longer than %d s" % (ending.phase_name(self.run, progress.phase, progress.detail), limit)}
        return True

    # -- the end -----------------------------------------------------------------------------------------------------------------

    def _read_end(self) -> None:
        """Fill the outcome from what driver and engine say."""
        client_code = 0
        if self.client and self.client.pid in self.ended_children:
            client_code = processes.exit_code(self.ended_children[self.client.pid])[0]
        progress = self._progress()
        self.outcome["launched"] = bool(progress.began)
        self.outcome["exit_code"] = progress.exit_code
        if self.outcome["error"] or self.outcome["timed_out"] or (progress.ended and not progress.failure and not progress.exit_code):
            return
        if self.on_host:
            self._explain(client_code, progress, {})
            return
        document = self.engine.inspect(self.name) or {}
        state = document.get("State") or {}
        if client_code >= 125 and state.get("Running"):
            self._wait_for_container()
            return
        self._explain(client_code, progress, state)

    def _explain(self, code: int, progress: driver.Progress, state: Mapping[str, Any]) -> None:
        """Why it ended without a success."""
        killed = progress.exit_code == 137 or (progress.exit_code is None and code == 137)
        grew = processes.oom_kills() > int(self.attempt.launch().get("oom_kills") or 0)
        if state.get("OOMKilled") or (killed and grew):
            self.outcome["oom"] = True
            self.outcome["exit_code"] = progress.exit_code if progress.exit_code is not None else code
        elif not progress.began:
            self.outcome["error"] = {"class": "launch", "reason": "it did not start: %s" % (self._engine_words(state) or "exit status %d" % code)}
        elif progress.failure:
            self.outcome["error"] = ending.phase_failure(self.run, progress.failure)
        elif progress.exit_code is None:
            self.outcome["signal"] = code - 128 if code > 128 else 0
            if not self.outcome["signal"]:
                self.outcome["error"] = {"class": "infra", "reason": "the driver ended in phase %s without saying how the model ended (exit status %d)" % (progress.phase, code)}

    def _engine_words(self, state: Mapping[str, Any]) -> str:
        with contextlib.suppress(OSError), open(self.attempt.file("engine.log"), "rb") as stream:
            stream.seek(max(0, os.path.getsize(self.attempt.file("engine.log")) - 4096))
            lines = [line for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip() and not line.startswith("$ ")]
            useful = [line for line in lines if not line.startswith(("See '", "Run '"))]
            if useful:
                return useful[-1][:1000]
        return str(state.get("Error") or "")

    def _kill(self) -> None:
        """End everything that this attempt started."""
        if self.on_host:
            met, left = processes.kill_all(self._find_processes, float(self.settings["grace"]), self.ended_children)
            if left:
                self.outcome["notes"].append("%d processes could not be killed: %s" % (len(left), sorted(left)[:20]))
            return
        problem = self._remove_container()
        if self.client and not self._client_ended():
            processes.send([self.client.pid], signal.SIGKILL)
        if problem:
            self.outcome["notes"].append("the container %s could not be removed: %s" % (self.name, problem))

    def _remove_container(self) -> str:
        started = time.monotonic()
        while True:
            try:
                problem = self.engine.remove(self.name)
            except MadError as error:
                problem = error.message
            if not problem or time.monotonic() - started > _ENGINE_PATIENCE:
                return problem
            time.sleep(1.0)

    def _find_processes(self) -> Set[int]:
        found = processes.descendants([os.getpid()]) | processes.with_marker(self.mark)
        if self.cgroup:
            found |= self.cgroup.pids()
            if found:
                self.cgroup.kill()
        return found

    def _clean_up(self) -> None:
        """Nothing of the attempt stays on the machine but its logs, its artifacts and its record (and what was asked to stay)."""
        keep = self.run.get("keep") or {}
        if self.on_host:
            self._kill_leftovers()
        elif not keep.get("alive"):
            self._remove_container()
        if not keep.get("alive") and not keep.get("model_dir"):
            ending.remove_folder(self.attempt.file("work"), self._remove_inside)
        ending.remove_folder(self.attempt.file("io"), self._remove_inside)

    def _kill_leftovers(self) -> None:
        """What the model left in the background (its driver has ended)."""
        if processes.has_children() or processes.with_marker(self.mark):
            self._kill()
        if self.cgroup:
            self.cgroup.remove()

    def _remove_inside(self, path: str) -> None:
        """Remove what root in the container left and we may not delete: with the same image, as root again."""
        if self.on_host:
            return
        words = engine.mount(path, "/rm") + ["--entrypoint", "sh", engine.image_reference(self.run), "-c", "rm -rf /rm/* /rm/.[!.]* /rm/..?*"]
        with contextlib.suppress(MadError):
            self.engine.call("run", "--rm", "--pull", "never", "--network", "none", "--user", "root", *words, timeout=600)

    # -- after a dead keeper -----------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        signal.signal(signal.SIGTERM, self._on_term)
        launch = self.attempt.launch()
        self.staged = float(launch.get("created") or self.staged)
        self.outcome["notes"].append("a keeper died; another one took over")
        if launch.get("boot_id") != self.boot_id:
            self._after_reboot()
        elif self.on_host:
            processes.become_subreaper()
            self._take_over_host()
        else:
            self._take_over_container()

    def _after_reboot(self) -> None:
        self.outcome["launched"] = bool(self._progress().began)
        self.outcome["error"] = {"class": "infra", "reason": "the host rebooted while it ran"}
        if not self.on_host:
            self._remove_container()

    def _take_over_host(self) -> None:
        """Watch the driver from outside: it writes its exit code down itself."""
        while self._driver_lives():
            if self._must_end():
                break
            time.sleep(TICK)
        self._kill_leftovers()
        self._read_end_after_takeover({})

    def _driver_lives(self) -> bool:
        """Whether something of this attempt still runs and the driver has not said that it is done."""
        return bool(processes.with_marker(self.mark)) and not self._progress().ended

    def _take_over_container(self) -> None:
        document = self.engine.inspect(self.name)
        state = (document or {}).get("State") or {}
        if document is None or state.get("Status") in ("created", "configured", "initialized"):
            if self.engine.remove(self.name, force=False):
                return self._take_over_container()  # it was started after all, this moment
            if self._progress().began or os.path.exists(self.attempt.file("model.log")):
                self._read_end_after_takeover({})
                return None
            return self._start_and_watch()  # nothing ever ran: the same attempt begins
        self._wait_for_container()
        return None

    def _wait_for_container(self) -> None:
        """Wait for a container without a client of ours, then read how it ended."""
        while True:
            document = self.engine.inspect(self.name) or {}
            state = document.get("State") or {}
            if not (state.get("Running") or state.get("Restarting") or state.get("Paused")):
                break
            if self._must_end() or (self._keep_alive() and self._progress().ended):
                break
            time.sleep(TICK)
        self._read_end_after_takeover(state)

    def _read_end_after_takeover(self, state: Mapping[str, Any]) -> None:
        progress = self._progress()
        self.outcome["launched"] = bool(progress.began)
        self.outcome["exit_code"] = progress.exit_code
        if self.outcome["error"] or self.outcome["timed_out"] or (progress.ended and not progress.failure and not progress.exit_code):
            return
        if progress.exit_code is None and not progress.failure and not state:
            self.outcome["error"] = {"class": "infra", "reason": "its keeper died and what was left of it has ended without saying how"}
            return
        self._explain(int(state.get("ExitCode") or 0), progress, state)


class Wakeups:
    """Sleep that ends as soon as a child ends or a signal comes."""

    def __enter__(self) -> "Wakeups":
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        return self

    def wait(self, seconds: float) -> None:
        """At most so long."""
        import select

        select.select([self.reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)

    def __exit__(self, *dummy: Any) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self.before)
        os.close(self.reader)
        os.close(self.writer)


def _copy_file(source: str, target: str) -> str:
    """Copy a regular file with its mode; a link as a link; anything else is no part of a repository."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return target
    return str(shutil.copy(source, target, follow_symlinks=False))


def _visible_gpus(run: Mapping[str, Any], gpus: List[int]) -> Dict[str, str]:
    """On the bare host GPUs are chosen by environment variables."""
    text = ",".join(str(index) for index in gpus)
    names = {"AMD": ("HIP_VISIBLE_DEVICES",), "NVIDIA": ("CUDA_VISIBLE_DEVICES",), "INTEL": ("ZE_AFFINITY_MASK",)}
    return {name: text for name in names.get((run.get("gpus") or {}).get("vendor", ""), ())} if gpus else {}


def cpu_set(text: str) -> Set[int]:
    """{0, 1, 2, 8} of "0-2,8"; MadError of class placement for anything else."""
    found: Set[int] = set()
    try:
        for part in text.split(","):
            first, dummy, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise MadError("docker_cpus %r: a list such as 0-3,8 was expected" % text, "placement") from error
    return found
