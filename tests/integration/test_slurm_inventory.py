# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin `slurm` through ansible-inventory: a real cluster, here and over SSH, recorded output, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.play import ROOT, environment, play
from ansible_collections.mad.engine.tests.support.slurm import Cluster
from ansible_collections.mad.engine.tests.support.sshd import Fleet

PARTITIONS = "PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP\nPartitionName=night-run Nodes=n[2-3] State=UP Hidden=YES"
FIXTURES = ROOT / "tests" / "fixtures" / "slurm"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    components.require("slurm")
    with Cluster(nodes=3, partitions=PARTITIONS) as made:
        made.call("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=fan Gres=gpu:99")
        yield made


def ask(folder: Path, settings: Mapping[str, Any], env: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """(the whole inventory, what was said beside it)."""
    source = folder / "cluster.slurm.yml"
    source.write_text(json.dumps({"plugin": "mad.engine.slurm", **settings}))
    argv = [sys.executable, "-m", "ansible", "inventory", "-i", str(source), "--list"]
    done = subprocess.run(argv, cwd=folder, env=environment(folder, **env), capture_output=True, text=True, timeout=120, check=False)
    return dict(plain(json.loads(done.stdout or "{}"))), done.stderr


def plain(value: Any) -> Any:
    """Without the marks of ansible-inventory for text that is no template: all that a cluster says is such text."""
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def variables(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(found["_meta"]["hostvars"])


def test_nodes_partitions_states_and_gpus(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("#!/bin/bash\nsleep 60\n", "--gpus-per-node=2", "--nodelist=n2")
    cluster.wait_for(lambda: cluster.call("squeue", "-h", "-o", "%T") == "RUNNING", "running job")
    constructed = {
        "groups": {"with_free_gpus": "slurm_usable and slurm_gpus > slurm_gpus_used"},
        "compose": {"free": "slurm_gpus - slurm_gpus_used"},
    }
    found, errors = ask(tmp_path, constructed, cluster.env)
    cluster.call("scancel", job)
    hosts = variables(found)
    assert set(hosts) == {"n1", "n2", "n3"}, errors
    said = [(host["mad_skip"], host["slurm_gpus"], host["slurm_address"]) for host in hosts.values()]
    assert said == [(True, 8, "127.0.0.1")] * 3
    assert [hosts[name]["slurm_gpus_used"] for name in ("n1", "n2", "n3")] == [0, 2, 0]
    assert found["slurm_partition_main"]["hosts"] == ["n1", "n2"] and found["slurm_partition_night_run"]["hosts"] == ["n2", "n3"]
    assert found["slurm_state_idle"]["hosts"] == ["n1", "n3"] and found["slurm_state_mixed"]["hosts"] == ["n2"]
    assert found["slurm_flag_drain"]["hosts"] == ["n3"] and hosts["n3"]["slurm_reason"].startswith("fan Gres=gpu:99 [")
    assert hosts["n1"]["slurm_partition_gpus"] == 16 and hosts["n1"]["slurm_partition_default"] is True
    assert found["with_free_gpus"]["hosts"] == ["n1", "n2"] and hosts["n2"]["free"] == 6


def test_only_some_of_them(cluster: Cluster, tmp_path: Path) -> None:
    found, dummy_errors = ask(tmp_path, {"partitions": ["night-run"], "usable_only": True}, cluster.env)
    assert set(variables(found)) == {"n2"} and "slurm_partition_main" in found, "n2 is in both"
    found, dummy_errors = ask(tmp_path, {"states": ["DOWN"]}, cluster.env)
    assert "slurm_nodes" not in found or not found["slurm_nodes"].get("hosts")


def test_over_ssh(cluster: Cluster, tmp_path: Path, fleet: Fleet) -> None:
    host = fleet.add("login", cluster.env)
    fleet.inventory()  # writes known_hosts
    words = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(fleet.key),
        "-o",
        "UserKnownHostsFile=%s" % (fleet.folder / "known_hosts"),
        "-o",
        "BatchMode=yes",
    ]
    found, errors = ask(tmp_path, {"command_prefix": [*words, "-p", str(host.port), host.address]}, {})
    assert set(variables(found)) == {"n1", "n2", "n3"}, errors


def test_a_play_skips_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "cluster.slurm.yml").write_text("plugin: mad.engine.slurm\n")
    inventory = tmp_path / "cluster.slurm.yml"
    chosen = {"mad_repo": str(ROOT / "demo"), "mad_tags": "hash_sha256", "mad_runtime": "host", "mad_results": str(tmp_path / "results")}
    played = play("mad.engine.run", tmp_path, inventory=inventory, variables=chosen, arguments=["--check"], env=cluster.env)
    assert "mad_skip" in played.output and "UNREACHABLE" not in played.output, played.output


@pytest.mark.parametrize("release", ["22.05", "24.05"])
def test_recorded_output(tmp_path: Path, release: str) -> None:
    script = tmp_path / "asked"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *partition*) cat %s/partitions-22.05.txt ;; *) cat %s/nodes-%s.txt ;; esac\n'
        % (FIXTURES, FIXTURES, release)
    )
    script.chmod(0o755)
    found, errors = ask(tmp_path, {"command_prefix": str(script)}, {})
    assert len(variables(found)) == 4, errors
    if release == "24.05":
        assert found["slurm_gpu_mi300x"]["hosts"] == ["gpu-1", "gpu-3"] and found["slurm_gpu_1g_10gb"]["hosts"] == ["mig-1"]


@pytest.mark.parametrize(
    "settings,words",
    [
        ({"command_prefix": "no-such-program --x"}, "no-such-program cannot be started"),
        ({"command_prefix": ["false"]}, "exit status 1 of: false scontrol"),
        ({"command_prefix": ["true"]}, "named no node"),
        ({"command_prefix": "ssh 'x"}, "command_prefix cannot be split"),
        ({"command_prefix": {"a": 1}}, "text or a list of words"),
        ({"command_prefix": ["sh", "-c", "sleep 30"], "timeout": 1}, "no answer in 1 s"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    found, errors = ask(tmp_path, settings, {})
    assert words in " ".join(errors.split()), errors
    assert "slurm_nodes" not in found


def test_an_unknown_partition_is_named(cluster: Cluster, tmp_path: Path) -> None:
    dummy_found, errors = ask(tmp_path, {"partitions": ["gpus"]}, cluster.env)
    assert "the cluster has no partition gpus; it has main, night-run" in " ".join(errors.split()), errors
