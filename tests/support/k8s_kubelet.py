# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet of the cluster stand-in: each container of a pod is a real process in namespaces of its own, with its volumes where the pod wants them.

A container's root is this machine's, laid under a layer of its own (overlayfs): programs are there, what it writes is not kept. ConfigMaps, Secrets and
emptyDirs are folders. The first process is PID 1 of its own namespace, with all that this means for signals.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .k8s_asked import Logs
from .k8s_controller import event, set_condition
from .k8s_store import Object, Problem, Store, now

_SETUP = """\
set -e
mount -t tmpfs tmpfs {base}
mkdir {base}/upper {base}/work {base}/root
mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root
mount --rbind /dev {base}/root/dev
mount -t proc proc {base}/root/proc
mount -t tmpfs tmpfs {base}/root/tmp
"""


class Killed(Exception):
    """The pod is to end."""


class PodLogs(Logs):
    """Logs out of the kubelet's files, one line each: time, blank, text."""

    def __init__(self, kubelet: Kubelet) -> None:
        self.kubelet = kubelet

    def read(self, pod: Object, container: str, previous: bool) -> Tuple[List[Tuple[str, bytes]], bool]:
        uid = pod["metadata"]["uid"]
        if uid in self.kubelet.unreadable:
            raise Problem(500, "InternalError", "Get https://node:10250/containerLogs: dial tcp: connect: no route to host")
        runner = self.kubelet.runners.get(uid)
        if runner is None or container not in runner.lines:
            state = "is waiting to start" if pod["status"].get("phase") == "Pending" else "not found"
            raise Problem(400, "BadRequest", 'container "%s" in pod "%s" %s' % (container, pod["metadata"]["name"], state))
        complete = container in runner.closed
        return list(runner.lines[container]), complete


class Kubelet:
    """All nodes' kubelets at once."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.runners: Dict[str, PodRunner] = {}
        self.unreadable: set[str] = set()  # pods whose logs nobody can read any more
        self.absent_images: List[str] = []  # a pull of such an image fails
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n", "utf-8")
        self.addresses = 1
        self.lock = threading.Lock()

    def step(self) -> None:
        """Begin new pods, end those that are to go."""
        for pod in self.store.list("pods"):
            uid = pod["metadata"]["uid"]
            if pod["spec"].get("nodeName") and uid not in self.runners and pod["status"].get("phase") == "Pending":
                self.runners[uid] = PodRunner(self, pod)
                self.runners[uid].start()
            elif "deletionTimestamp" in pod["metadata"] and uid in self.runners:
                self.runners[uid].tell(pod)
        for uid, runner in list(self.runners.items()):
            if not runner.gone and not self._exists(runner.pod, uid):
                runner.kill()

    def _exists(self, pod: Object, uid: str) -> bool:
        try:
            return bool(self.store.get("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])["metadata"]["uid"] == uid)
        except Problem:
            return False

    def address(self, pod: Object) -> str:
        """A loopback address of its own for a pod, known by name to all pods."""
        with self.lock:
            self.addresses += 1
            address = "127.88.%d.%d" % divmod(self.addresses, 250)
            spec, namespace = pod["spec"], pod["metadata"]["namespace"]
            names = [str(spec.get("hostname") or pod["metadata"]["name"])]
            if spec.get("subdomain"):
                full = "%s.%s.%s.svc.cluster.local" % (names[0], spec["subdomain"], namespace)
                names += [full, full[: -len(".cluster.local")], "%s.%s" % (names[0], spec["subdomain"])]
            lines = self.hosts.read_text("utf-8").splitlines()
            kept = [line for line in lines if names[0] not in line.split()[1:]]
            with open(self.hosts, "r+", encoding="utf-8") as stream:  # in place: it is mounted in pods
                stream.write("\n".join([*kept, "%s %s" % (address, " ".join(names))]) + "\n")
                stream.truncate()
            return address

    def stop(self) -> None:
        """Kill everything."""
        for runner in list(self.runners.values()):
            runner.kill()
        for runner in list(self.runners.values()):
            runner.join(timeout=20)


class PodRunner(threading.Thread):
    """One pod on its node."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        super().__init__(daemon=True)
        self.kubelet, self.pod, self.store = kubelet, pod, kubelet.store
        self.folder = kubelet.folder / "pods" / pod["metadata"]["uid"]
        self.lines: Dict[str, List[Tuple[str, bytes]]] = {}
        self.closed: set[str] = set()
        self.states: Dict[str, Object] = {}
        self.before: Dict[str, Object] = {}  # how a container ended before it was started again
        self.restarts = 0
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.oom = self.gone = self.ending = self.silent = False
        self.deadline = 0.0  # when the grace period is over
        self.disruption = ""

    def run(self) -> None:
        """From the volumes to the end."""
        try:
            address = self.kubelet.address(self.pod)
            self._save(lambda value: value["status"].update(podIP=address, podIPs=[{"ip": address}], hostIP="127.0.0.1", startTime=now()))
            self.pod = self.store.get("pods", self.pod["metadata"]["namespace"], self.pod["metadata"]["name"])
            phase = self._containers()
        except (Killed, Problem):
            phase = "Failed"
        finally:
            self.gone = True
            self.closed.update(self.lines)
        self._finish(phase)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finish(self, phase: str) -> None:
        def change(value: Object) -> None:
            value["status"]["phase"] = phase
            if self.disruption:
                set_condition(value, "DisruptionTarget", self.disruption)
            value["status"].update(self._statuses())

        if not self.silent:
            self._save(change)

    def _save(self, change: Any) -> None:
        try:
            self.store.update("pods", self.pod["metadata"]["namespace"], self.pod["metadata"]["name"], change, status=True)
        except Problem as problem:
            if problem.code != 404:
                raise

    def _statuses(self) -> Object:
        spec = self.pod["spec"]
        found = {}
        for key, kind in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
            names = [entry["name"] for entry in spec.get(kind) or []]
            waiting = {"waiting": {"reason": "PodInitializing"}}
            found[key] = [{"name": name, "restartCount": 0, "state": self.states.get(name, waiting)} for name in names]
            for entry, container in zip(found[key], spec.get(kind) or []):
                if entry["name"] in self.before:
                    entry.update(restartCount=self.restarts, lastState=self.before[entry["name"]])
                entry.update(image=container["image"], imageID="sha256:stand-in", ready="running" in entry["state"])
        return found

    # -- containers ------------------------------------------------------------------------------------------------------------------

    def _containers(self) -> str:
        spec = self.pod["spec"]
        self._pull()
        volumes = {volume["name"]: self._volume(volume) for volume in spec.get("volumes") or []}
        for container in spec.get("initContainers") or []:
            if self._run(container, volumes) != 0:
                return "Failed"
        code = self._run(spec["containers"][0], volumes)
        while not self.ending and _is_restarted(spec["containers"][0], code):
            self._start_again(spec["containers"][0]["name"])
            code = self._run(spec["containers"][0], volumes)
        return "Succeeded" if code == 0 else "Failed"

    def _start_again(self, name: str) -> None:
        """Between two starts: the pod stays, and so do its volumes; the log is another one."""
        self.before[name], self.states[name] = self.states[name], {"waiting": {"reason": "CrashLoopBackOff"}}
        self._save(lambda value: value["status"].update(self._statuses()))
        self._sleep(0.5)
        self.restarts += 1
        self.closed.discard(name)

    def _pull(self) -> None:
        """An image that cannot be pulled keeps the pod waiting until somebody removes it."""
        spec, told = self.pod["spec"], 0
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            while container["image"] in self.kubelet.absent_images:
                reason = "ErrImagePull" if told % 2 == 0 else "ImagePullBackOff"
                text = 'failed to pull image "%s": not found' % container["image"]
                self.states[container["name"]] = {"waiting": {"reason": reason, "message": text}}
                self._save(lambda value: value["status"].update(self._statuses()))
                if told < 4:
                    event(self.store, self.pod, "Warning", "Failed", "Failed to pull image: " + text)
                told += 1
                self._sleep(0.5)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ending:
                raise Killed
            time.sleep(0.05)

    def _volume(self, volume: Mapping[str, Any]) -> Path:
        """The folder that a volume is."""
        path = self.folder / "volumes" / volume["name"]
        if "persistentVolumeClaim" in volume:
            path = self.kubelet.folder / "claims" / self.pod["metadata"]["namespace"] / volume["persistentVolumeClaim"]["claimName"]
        elif "hostPath" in volume:
            path = Path(volume["hostPath"]["path"])
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        sources = [volume, *(volume.get("projected") or {}).get("sources", [])]
        for source in sources:
            self._fill(path, source)
        return path

    def _fill(self, path: Path, source: Mapping[str, Any]) -> None:
        namespace = self.pod["metadata"]["namespace"]
        for plural, key, name_key in (("configmaps", "configMap", "name"), ("secrets", "secret", "secretName")):
            wanted = source.get(key)
            if wanted is None:
                continue
            name = wanted.get(name_key) or wanted.get("name")
            while True:
                try:
                    found = self.store.get(plural, namespace, name)
                    break
                except Problem:
                    if wanted.get("optional"):
                        return
                    self._sleep(0.2)  # the real one waits too, with an event FailedMount
            data = {entry: text.encode() for entry, text in (found.get("data") or {}).items()} if plural == "configmaps" else {}
            packed = found.get("binaryData") if plural == "configmaps" else found.get("data")
            data.update({entry: base64.b64decode(text) for entry, text in (packed or {}).items()})
            chosen = {item["key"]: item["path"] for item in wanted.get("items") or []} or {entry: entry for entry in data}
            for entry, place in chosen.items():
                (path / place).parent.mkdir(parents=True, exist_ok=True)
                (path / place).write_bytes(data[entry])
                (path / place).chmod(int(wanted.get("defaultMode") or 0o644))

    def _environment(self, container: Mapping[str, Any]) -> Dict[str, str]:
        namespace = self.pod["metadata"]["namespace"]
        found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "KUBERNETES_SERVICE_HOST": "127.0.0.1"}
        found["HOSTNAME"] = str(self.pod["spec"].get("hostname") or self.pod["metadata"]["name"])
        for source in container.get("envFrom") or []:
            plural, key = ("secrets", "secretRef") if "secretRef" in source else ("configmaps", "configMapRef")
            data = self.store.get(plural, namespace, source[key]["name"]).get("data") or {}
            for name, text in data.items():
                found[source.get("prefix", "") + name] = base64.b64decode(text).decode() if plural == "secrets" else text
        for entry in container.get("env") or []:
            found[entry["name"]] = self._value(entry, namespace, found)
        return found

    def _value(self, entry: Mapping[str, Any], namespace: str, known: Mapping[str, str]) -> str:
        source = entry.get("valueFrom") or {}
        if "secretKeyRef" in source:
            data = self.store.get("secrets", namespace, source["secretKeyRef"]["name"])["data"]
            return base64.b64decode(data[source["secretKeyRef"]["key"]]).decode()
        if "fieldRef" in source:
            path = source["fieldRef"]["fieldPath"]
            if "['" in path:
                kind, dummy, key = path.partition("['")
                return str((self.pod["metadata"].get(kind.rpartition(".")[2]) or {}).get(key.rstrip("']"), ""))
            value: Any = self.pod
            for part in path.split("."):
                value = (value or {}).get(part)
            return str(value or "")
        text = str(entry.get("value") or "")
        for name, value in known.items():
            text = text.replace("$(%s)" % name, value)
        return text

    def _run(self, container: Mapping[str, Any], volumes: Mapping[str, Path]) -> int:
        """One container to its end; its exit code."""
        name = str(container["name"])
        base = self.folder / "root" / ("%s-%d" % (name, self.restarts))
        base.mkdir(parents=True)
        self.lines[name] = []
        argv = [*(container.get("command") or []), *(container.get("args") or [])]
        began = now()
        if self.ending:
            raise Killed
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", self._script(container, volumes, base, argv)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(container),
            start_new_session=True,
        )
        self.states[name] = {"running": {"startedAt": began}}
        self._save(self._running)
        reader = threading.Thread(target=self._read, args=(name, self.process.stdout), daemon=True)
        reader.start()
        code = self._wait(self.process)
        reader.join(timeout=10)
        if not self.silent:
            self.closed.add(name)
        reason = "OOMKilled" if self.oom and code else "Completed" if code == 0 else "Error"
        self.states[name] = {"terminated": {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}}
        return code

    def _running(self, value: Object) -> None:
        main = self.pod["spec"]["containers"][0]["name"]
        value["status"]["phase"] = "Running" if main in self.states else "Pending"
        value["status"].update(self._statuses())

    def _script(self, container: Mapping[str, Any], volumes: Mapping[str, Path], base: Path, argv: List[str]) -> str:
        lines = [_SETUP.format(base=shlex.quote(str(base)))]
        root = base / "root"
        lines.append("mount --bind %s %s" % (shlex.quote(str(self.kubelet.hosts)), shlex.quote(str(root / "etc/hosts"))))
        for mount in sorted(container.get("volumeMounts") or [], key=lambda entry: str(entry["mountPath"])):
            source, target = volumes[mount["name"]], shlex.quote(str(root) + mount["mountPath"])
            if mount.get("subPath"):
                source = source / mount["subPath"]
            if source.is_file():
                lines.append("mkdir -p $(dirname %s) && touch %s" % (target, target))
            else:
                source.mkdir(parents=True, exist_ok=True)
                lines.append("mkdir -p %s" % target)
            lines.append("mount --bind %s %s" % (shlex.quote(str(source)), target))
            if mount.get("readOnly"):
                lines.append("mount -o remount,bind,ro %s" % target)
        inside = "cd %s && exec %s" % (shlex.quote(container.get("workingDir") or "/"), " ".join(shlex.quote(word) for word in argv))
        user = (container.get("securityContext") or {}).get("runAsUser", (self.pod["spec"].get("securityContext") or {}).get("runAsUser"))
        who = ["--userspec=%d:%d" % (user, user)] if user else []
        lines.append("exec chroot %s" % " ".join(shlex.quote(word) for word in [*who, str(root), "/bin/sh", "-c", inside]))
        return "\n".join(lines)

    def _read(self, name: str, stream: Any) -> None:
        for line in iter(stream.readline, b""):
            at = time.time()
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + ".%09d" % int(at % 1 * 1e9)
            self.lines[name].append((when, line))

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            try:
                code = process.wait(0.05)
                return 128 - code if code < 0 else code
            except subprocess.TimeoutExpired:
                if self.ending and time.monotonic() > self.deadline:
                    self._signal(signal.SIGKILL)

    # -- the end ---------------------------------------------------------------------------------------------------------------------

    def tell(self, pod: Object) -> None:
        """The pod is being deleted: SIGTERM, and SIGKILL when the grace period is over."""
        if self.ending:
            return
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        self.disruption = self.disruption or str((pod["metadata"].get("annotations") or {}).get("stand-in/disruption", ""))
        self.deadline = time.monotonic() + grace
        self.ending = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """At once."""
        self.ending, self.deadline = True, 0.0
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """To PID 1 of the container: the one child of unshare."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        try:
            children = Path("/proc/%d/task/%d/children" % (process.pid, process.pid)).read_text("ascii").split()
            for pid in children:
                os.kill(int(pid), number)
        except (OSError, ValueError):
            pass

    def run_out_of_memory(self) -> None:
        """As the kernel does it."""
        self.oom = True
        self._signal(signal.SIGKILL)


def _is_restarted(container: Mapping[str, Any], code: int) -> bool:
    """Whether one of its rules says so."""
    rules = [rule["exitCodes"] for rule in container.get("restartPolicyRules") or [] if rule["action"] == "Restart"]
    return any((code in rule["values"]) == (rule["operator"] == "In") for rule in rules)


def writable(path: Path) -> None:
    """Let the test remove what a container made."""
    for place in path.rglob("*"):
        if not place.is_symlink():
            place.chmod(place.stat().st_mode | stat.S_IWUSR)
