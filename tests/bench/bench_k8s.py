# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a thousand Jobs cost: requests to the API server for each, watches, and CPU seconds: of the runner that makes and follows them (a process of its
own, its start included) and of the controller that packs their scripts and renders their objects. The sum is judged.

The cluster is the stand-in without kubelets: pods end at once. MAD_JOBS says another number of Jobs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = str(Path(os.environ.get("MAD_DEV_HOME") or Path(__file__).resolve().parents[2]) / ".dev" / "tree")
sys.path.insert(0, TREE)

from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster  # noqa: E402 the path comes first
from ansible_collections.mad.engine.tests.support.k8s_ghosts import Ghosts  # noqa: E402
from ansible_collections.mad.engine.tests.support.k8s_host import ClusterHost  # noqa: E402

JOBS = int(os.environ.get("MAD_JOBS") or 1000)
REQUESTS, MILLISECONDS = 6.0, 20.0
RUN = """
import resource, sys
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_runner import Runner
before = resource.getrusage(resource.RUSAGE_SELF)
Runner(HostFolder(sys.argv[1])).main()
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
sys.stdout.flush()
import os
os._exit(0)
"""


def main() -> int:
    """Run them all; the exit status says whether the targets were met."""
    with tempfile.TemporaryDirectory() as folder, Cluster(run_controllers=False) as cluster:
        ghosts = Ghosts(cluster.api)
        ghosts.start()
        host = ClusterHost(Path(folder), cluster, campaign="c%08x" % 1)
        for _number in range(JOBS):
            host.run("true\n")
        began = time.thread_time()
        for run in host.planned.values():
            host.objects(run, {"TOKEN": "secret-of-the-bench"})
        rendered = time.thread_time() - began
        host.stage({"TOKEN": "secret-of-the-bench"})
        host.folder.save_settings(host.k8s_settings)
        before = len(cluster.api.requests)
        argv = [sys.executable, "-c", RUN, host.folder.path]
        spent = float(subprocess.run(argv, env=dict(os.environ, PYTHONPATH=TREE), stdout=subprocess.PIPE, text=True, check=True).stdout)
        asked = cluster.api.requests[before:]
        ghosts.done = True
        good = sum((host.result(run) or {}).get("status") == "SUCCESS" for run in host.planned)
        host.close()
    watches = sum("watch=" in one.query for one in asked)
    each, runner, controller = len(asked) / JOBS, spent / JOBS * 1000, rendered / JOBS * 1000
    cpu = runner + controller
    print("%d Jobs, %d of them SUCCESS: %.2f requests each (target %.0f), %d watches in all" % (JOBS, good, each, REQUESTS, watches))
    text = "%.1f CPU milliseconds for each Job (target %.0f): %.1f to pack and render it, %.1f of the runner"
    print(text % (cpu, MILLISECONDS, controller, runner))
    return 0 if good == JOBS and each <= REQUESTS + 0.05 and cpu <= MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
