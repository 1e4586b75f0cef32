# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes cluster stand-in on this machine: API server, controllers, kubelets, and the faults that tests need.

As a program, for people: `k8s-cluster start` prints a kubeconfig's path and runs until it is interrupted.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from .k8s_api import Api
from .k8s_asked import Fault, User
from .k8s_controller import Controllers, set_condition
from .k8s_kubelet import Kubelet, PodLogs, PodRunner
from .k8s_store import Object, Problem, Store

__all__ = ["Api", "Cluster", "Fault", "Problem", "Store", "User"]
_TICK = 0.05


class Cluster:
    """Two nodes, ready at once. `with Cluster() as cluster:`; `cluster.kubeconfig` is a file."""

    def __init__(self, nodes: int = 2, resources: Optional[Mapping[str, str]] = None, run_controllers: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mad-k8s-"))
        self.api = Api()
        self.store = self.api.store
        self.controllers = Controllers(self.store)
        self.kubelet = Kubelet(self.store, self.folder)
        self.api.logs = PodLogs(self.kubelet)
        self.stopped = False
        self.errors: List[str] = []
        for number in range(1, nodes + 1):
            self._add_node(
                "node-%d" % number, dict({"cpu": "64", "memory": "256Gi", "pods": "110", "amd.com/gpu": "8"}, **(resources or {}))
            )
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(self.api.kubeconfig(), "utf-8")
        self._thread = threading.Thread(target=self._loop, daemon=True)
        if run_controllers:
            self._thread.start()

    def _add_node(self, name: str, resources: Dict[str, str]) -> None:
        info = {"kernelVersion": "6.1.0", "kubeletVersion": "v1.36.0", "osImage": "Debian GNU/Linux 12 (bookworm)", "architecture": "amd64"}
        labels = {"kubernetes.io/hostname": name, "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}
        node: Object = {"metadata": {"name": name, "labels": labels}, "spec": {}}
        node["status"] = {"nodeInfo": info, "allocatable": resources, "capacity": resources}
        set_condition(node, "Ready", "KubeletReady")
        self.store.put("nodes", node)

    def _loop(self) -> None:
        while not self.stopped:
            try:
                self.controllers.step()
                self.kubelet.step()
            except Exception:  # noqa: BLE001 a defect of the stand-in must show in the test that meets it, not end the cluster
                self.errors.append(traceback.format_exc())
                sys.stderr.write(self.errors[-1])
            time.sleep(_TICK)

    def user(self, name: str, rules: List[Tuple[str, str]]) -> Path:
        """A kubeconfig of somebody with these rights only."""
        self.api.users[name] = User("system:serviceaccount:default:" + name, rules)
        path = self.folder / ("kubeconfig-" + name)
        path.write_text(self.api.kubeconfig(name), "utf-8")
        return path

    # -- what happens to pods --------------------------------------------------------------------------------------------------------

    def wait(self, test: Callable[[], Any], what: str = "it", seconds: float = 300) -> Any:
        """Until a test says something; its answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = test()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError("%s did not happen within %d s; errors: %s" % (what, seconds, self.errors))

    def pods(self, phase: str = "") -> List[Object]:
        """Pods, those of one phase."""
        return [pod for pod in self.store.list("pods") if not phase or pod["status"].get("phase") == phase]

    def runner(self, pod: Object) -> PodRunner:
        """What runs a pod."""
        return self.kubelet.runners[pod["metadata"]["uid"]]

    def evict(self, pod: Object, reason: str = "EvictionByEvictionAPI") -> None:
        """As `kubectl drain` and preemption do it: SIGTERM, grace, gone."""

        def change(value: Object) -> None:
            value["metadata"].setdefault("annotations", {})["stand-in/disruption"] = reason
            value["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=2)

        self.store.update("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], change)

    def out_of_memory(self, pod: Object) -> None:
        """The kernel kills its container."""
        self.runner(pod).run_out_of_memory()

    def lose_node(self, pod: Object) -> None:
        """The node of a pod is gone without a word: its processes, its logs; the control plane marks the pod."""
        runner = self.runner(pod)
        self.kubelet.unreadable.add(pod["metadata"]["uid"])
        runner.silent = True
        runner.kill()

        def change(value: Object) -> None:
            value["status"].update(
                phase="Failed", reason="NodeLost", message="Node %s which was running pod is unresponsive" % pod["spec"]["nodeName"]
            )
            set_condition(value, "DisruptionTarget", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")

        self.store.update("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], change, status=True)

    # -- the end ---------------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Nothing is left."""
        self.stopped = True
        if self._thread.is_alive():
            self._thread.join(timeout=20)
        self.kubelet.stop()
        self.api.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *dummy: Any) -> None:
        self.stop()


def main(argv: List[str]) -> int:
    """For people."""
    if argv != ["start"]:
        sys.stderr.write(
            "usage: k8s-cluster start    (runs until it is interrupted; needs root: containers are namespaces of this machine)\n"
        )
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # However early somebody interrupts, what was started ends.
    with contextlib.suppress(KeyboardInterrupt), Cluster() as cluster:
        sys.stdout.write(
            "export KUBECONFIG=%s\n# two nodes with 8 amd.com/gpu each at %s; Ctrl-C ends it\n" % (cluster.kubeconfig, cluster.api.url)
        )
        sys.stdout.flush()
        while True:
            time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
