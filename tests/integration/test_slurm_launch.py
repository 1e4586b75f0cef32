# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What models find on their nodes: real jobs of every launcher that print their variables; scripts that start themselves; sandboxes; signals."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.contexts import launchers
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.tests.support import components, sandbox_tool
from ansible_collections.mad.engine.tests.support.slurm import Cluster
from ansible_collections.mad.engine.tests.support.slurm_runs import Bench

NAMES = (
    "NNODES NODE_RANK WORLD_SIZE NPROC_PER_NODE MASTER_ADDR MASTER_PORT MAD_MULTI_NODE_RUNNER MAD_LAUNCHER_TYPE MAD_COLLECT_METRICS "
    "SGLANG_DISAGG_PREFILL_NODES SGLANG_DISAGG_DECODE_NODES SGLANG_NODE_IPS SGLANG_NODE_RANK SGLANG_TP_SIZE NCCL_INIT_ADDR "
    "VLLM_TENSOR_PARALLEL_SIZE TORCHTITAN_PIPELINE_PARALLEL_SIZE PIPELINE_MODEL_PARALLEL_SIZE PRIMUS_CONFIG_PATH BACKEND GPUS_PER_NODE "
    "NCCL_SOCKET_IFNAME ROCR_VISIBLE_DEVICES"
).split()
SHOW = 'for name in %s; do [ -z "${!name+x}" ] || echo "$name=${!name}"; done\n' % " ".join(NAMES)
SEVERAL = [name for name in launchers.NAMES if name != "slurm_multi"]


@pytest.fixture()
def bench(slurm: Cluster, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(slurm, tmp_path / "shared")
    slurm.clear()


def seen(bench: Bench, number: int, rank: int = 0) -> dict[str, str]:
    """The variables that a model printed on a node."""
    pairs = (line.partition("=") for line in bench.log(number, rank).splitlines())
    return {name: value for name, dummy, value in pairs}


def test_every_launcher_on_several_nodes(bench: Bench) -> None:
    for number, name in enumerate(SEVERAL):
        nodes = 4 if name == "sglang-disagg" else 2
        more = 'cat "$(sed -n "s/.*--hostfile=\\([^ ]*\\).*/\\1/p" <<<"$MAD_MULTI_NODE_RUNNER")"\n' if name == "deepspeed" else ""
        bench.add(number, SHOW + more, launcher=name, nodes=nodes, processes=2, model="primus_pretrain/torchtitan_x")
    bench.submit()
    bench.wait(*range(len(SEVERAL)))
    found = {
        name: [seen(bench, number, rank) for rank in range(4 if name == "sglang-disagg" else 2)] for number, name in enumerate(SEVERAL)
    }
    for name, ranks in found.items():
        assert bench.marker(SEVERAL.index(name))["code"] == "0", name
        for rank, values in enumerate(ranks):
            expected = {"NNODES": str(len(ranks)), "NODE_RANK": str(rank), "WORLD_SIZE": str(2 * len(ranks)), "MAD_LAUNCHER_TYPE": name}
            expected.update(MASTER_ADDR="127.0.0.1", MAD_COLLECT_METRICS="true" if rank == 0 else "false")
            assert expected.items() <= values.items(), (name, rank, values)
            assert len(values["ROCR_VISIBLE_DEVICES"].split(",")) == 2, "those that Slurm gave"
            assert values["MASTER_PORT"] == ranks[0]["MASTER_PORT"], name
            if name in ("torchrun", "megatron-lm", "torchtitan", "deepspeed"):
                assert "--node_rank=%d " % rank in values["MAD_MULTI_NODE_RUNNER"]
    assert len({ranks[0]["MASTER_PORT"] for ranks in found.values()}) == len(found), "each job has a port of its own"
    disagg = found["sglang-disagg"][3]
    assert (disagg["SGLANG_DISAGG_PREFILL_NODES"], disagg["SGLANG_DISAGG_DECODE_NODES"], disagg["SGLANG_NODE_RANK"]) == ("1", "2", "3")
    assert disagg["SGLANG_NODE_IPS"] == ",".join(["127.0.0.1"] * 4) and disagg["SGLANG_TP_SIZE"] == "2"
    assert found["primus"][1]["BACKEND"] == "torchtitan" and found["primus"][0]["PRIMUS_CONFIG_PATH"] == "exp_pretrain.yaml"
    assert found["sglang"][1]["NCCL_INIT_ADDR"] == "127.0.0.1:" + found["sglang"][1]["MASTER_PORT"]
    assert bench.log(SEVERAL.index("deepspeed"), 1).splitlines()[-2:] == ["127.0.0.1 slots=2"] * 2, "every node can read the hostfile"


def test_a_split_that_people_chose(bench: Bench) -> None:
    run = bench.add(1, SHOW, launcher="sglang-disagg", nodes=4)
    run["launcher"].update(prefill_nodes=2)
    bench.submit()
    bench.wait(1)
    assert [seen(bench, 1, 3)["SGLANG_DISAGG_%s_NODES" % kind] for kind in ("PREFILL", "DECODE")] == ["2", "1"]


STEPS = """\
echo "$SLURM_JOB_NUM_NODES $xP $yD $DOCKER_IMAGE_NAME $NNODES $(hostname)"
srun --ntasks-per-node=1 bash -c 'echo "on $SLURMD_NODENAME as $SLURM_PROCID"' | sort
echo 'performance: 7 x'
exit 3
"""


def test_a_script_that_starts_its_own_steps_runs_once(bench: Bench) -> None:
    run = bench.add(1, STEPS, launcher="slurm_multi", nodes=3, env={"xP": "9"}, given_env=["xP"])
    run["launcher"].update(prefill_nodes=1, decode_nodes=1)
    bench.submit(Options(exclusive=False, nodelist="n[2-4]"))
    bench.wait(1)
    lines = bench.log(1).splitlines()
    assert lines[0].split()[:4] == ["3", "9", "1", "3"], "a variable that people gave stays"
    assert lines[1:] == ["on n2 as 0", "on n3 as 1", "on n4 as 2", "performance: 7 x"] and bench.log(1, 1) == ""
    assert bench.marker(1)["code"] == "3"


def test_a_script_that_starts_its_own_steps_is_told_to_end(bench: Bench) -> None:
    script = "trap 'echo told; exit 9' TERM\nsrun --ntasks-per-node=1 sleep 300 &\necho ready\nwait\n"
    bench.add(1, script, launcher="slurm_multi", nodes=2)
    (submission,) = bench.submit()
    bench.cluster.wait_for(lambda: "ready" in bench.log(1), "running model")
    bench.cluster.call("scancel", "--batch", "--signal=TERM", bench.cluster.queue("RUNNING")[0])
    bench.wait(1)
    assert "told" in bench.log(1).splitlines() and bench.marker(1)["signal"] == "TERM" and bench.progress(1).exit_code == 9


def test_images_of_such_a_script_reach_every_node_or_it_fails(bench: Bench, docker_host: str, tiny_image: str) -> None:
    digest = bench.cluster.call("docker", "image", "inspect", "--format", "{{.Id}}", tiny_image)
    image = {"name": tiny_image, "digest": digest, "registry_image": "", "given": True}
    bench.add(1, 'docker run --rm "$DOCKER_IMAGE_NAME" echo inside\n', launcher="slurm_multi", nodes=2, runtime="docker", image=image)
    bench.add(2, "echo never\n", launcher="slurm_multi", nodes=2, runtime="docker", image=dict(image, digest="sha256:" + "0" * 64))
    bench.submit()
    bench.wait(1, 2)
    assert bench.log(1).splitlines()[-1] == "inside" and bench.marker(1)["code"] == "0"
    assert bench.log(2) == "" and bench.marker(2, "io", "failed")["class"] == "image"


# -- sandboxes: stand-ins for apptainer and enroot, everything else real -----------------------------------------------------------------

INSIDE = 'pwd\nls /.mad/phases\necho "$WHO $NODE_RANK ${LEAKED-clean} $ROCR_VISIBLE_DEVICES"\necho made >/.mad/made\n'


def sandbox(bench: Bench, runtime: str, folder: Path) -> dict[str, Any]:
    """An image for a runtime, and its stand-in on the PATH of the jobs."""
    components.require("root")
    bench.cluster_path(sandbox_tool.install(folder / "bin"), SANDBOX_CALLS=str(folder / "calls"), LEAKED="yes")
    hex_digits = hashlib.sha256(b"{}").hexdigest()
    if runtime == "apptainer":
        with tarfile.open(folder / "image.tar", "w") as tar:
            member = tarfile.TarInfo(hex_digits + ".json")
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
        bench.archives["sha256:" + hex_digits] = str(folder / "image.tar")
    pinned = "" if runtime == "apptainer" else "reg.example.com/x@sha256:" + "f" * 64
    return {"name": "ci-x", "digest": "sha256:" + hex_digits, "registry_image": pinned}


@pytest.mark.parametrize("runtime", ["apptainer", "enroot"])
def test_a_sandbox_runs_the_model_on_every_node(bench: Bench, tmp_path: Path, runtime: str) -> None:
    image = sandbox(bench, runtime, tmp_path)
    bench.add(1, INSIDE + "exit $((4 + NODE_RANK))\n", runtime=runtime, image=image, nodes=2, env={"WHO": "it's $(id)"})
    bench.submit()
    bench.wait(1)
    for rank in (0, 1):
        assert bench.log(1, rank).splitlines() == ["/myworkspace/run_directory", "/.mad/phases", "it's $(id) %d clean 0,1" % rank]
        where = ["io"] if rank == 0 else ["node-1", "io"]
        assert Path(bench.attempt(1).file(*where, "made")).read_text() == "made\n"
    assert bench.marker(1)["code"] == "5", "the exit status of the model, through the sandbox"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.count("%s %s" % (runtime, "build" if runtime == "apptainer" else "import")) == 1, "one file for all nodes"
    assert not list((tmp_path / "enroot").glob("*")), "no container is left"


@pytest.mark.parametrize("runtime", ["apptainer", "enroot"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_signals_reach_a_model_in_a_sandbox(bench: Bench, tmp_path: Path, runtime: str, nodes: int) -> None:
    image = sandbox(bench, runtime, tmp_path)
    script = "trap 'echo usr1' USR1\ntrap 'echo told; exit 9' TERM\necho ready\nwhile :; do sleep 0.2; done\n"
    bench.add(1, script, runtime=runtime, image=image, nodes=nodes)
    bench.submit()
    bench.cluster.wait_for(lambda: all("ready" in bench.log(1, rank) for rank in range(nodes)), "running model")
    (job,) = bench.cluster.queue("RUNNING")
    bench.cluster.call("scancel", "--batch", "--signal=USR1", job)
    bench.cluster.wait_for(lambda: all("usr1" in bench.log(1, rank) for rank in range(nodes)), "first signal")
    bench.cluster.call("scancel", job)
    bench.wait(1)
    for rank in range(nodes):
        assert bench.log(1, rank).splitlines()[-1] == "told"
    assert bench.marker(1)["code"] == "9" and bench.marker(1)["signal"] == "TERM"
    assert not list((tmp_path / "enroot").glob("*")), "no container is left"


# -- directives that concern signals -------------------------------------------------------------------------------------------------------


def test_the_signal_before_the_time_limit_reaches_the_model(bench: Bench) -> None:
    script = "trap 'echo saved; exit 0' USR1\necho ready\nwhile :; do sleep 0.2; done\n"
    bench.add(1, script, timeout=600)
    # Slurm looks at limits every minute and rounds them up: the signal comes with the job's first look.
    bench.submit(Options(exclusive=False, signal="B:USR1@60", time=60))
    bench.wait(1)
    assert bench.log(1).splitlines()[-1] == "saved" and bench.marker(1)["signal"] == "USR1" and bench.marker(1)["code"] == "0"


def test_a_requeued_job_appends_to_its_log_and_runs_again(bench: Bench) -> None:
    count = shlex.quote(bench.folder.path + "/count")
    bench.add(1, "echo x >>%s\necho ready\nsleep 300\n" % count)
    (submission,) = bench.submit(Options(exclusive=False, requeue=True))
    bench.cluster.wait_for(lambda: "ready" in bench.log(1), "running model")
    (job,) = bench.cluster.queue("RUNNING")
    words = bench.cluster.call("scontrol", "show", "job", job)
    assert "Requeue=1" in words and "StdOut=" in words
    bench.cluster.call("scontrol", "requeue", job)
    bench.cluster.wait_for(lambda: "Restarts=1" in bench.cluster.call("scontrol", "show", "job", job), "requeued job")
    bench.cluster.wait_for(lambda: bench.cluster.queue("PENDING") == [job], "same job, waiting")
    log = Path(bench.folder.file("submissions", submission.name, "slurm-%s.log" % job))
    before = log.read_text()
    # Slurm lets it wait (cred_expire); a person does not have to.
    bench.cluster.call("scancel", job)
    assert log.read_text().startswith(before) and Path(bench.folder.path, "count").read_text() == "x\n"
