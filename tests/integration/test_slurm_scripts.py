# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The job scripts at work: real jobs of one and several nodes, arrays, signals, time limits, doubles."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.tests.support.slurm import Cluster
from ansible_collections.mad.engine.tests.support.slurm_runs import Bench

SHOW = 'echo "$NNODES $NODE_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $MAD_COLLECT_METRICS"\necho "$MAD_MULTI_NODE_RUNNER"\n'


@pytest.fixture()
def bench(slurm: Cluster, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(slurm, tmp_path / "shared folder's")
    slurm.clear()  # a test that failed must not fail those after it


def test_an_array_runs_each_task_once_and_keeps_its_exit_status(bench: Bench) -> None:
    for number in range(4):
        bench.add(number, 'echo "performance: %d x"; exit %d\n' % (number, number % 2))
    (submission,) = bench.submit()
    assert submission.array
    bench.cluster.wait_for_jobs()
    for number in range(4):
        assert bench.log(number) == "performance: %d x\n" % number
        assert bench.progress(number).exit_code == number % 2 and bench.progress(number).ended
        marker = bench.marker(number)
        assert marker["code"] == str(number % 2) and marker["signal"] == ""


def test_several_nodes_know_each_other(bench: Bench) -> None:
    bench.add(1, SHOW, nodes=3, processes=2)
    bench.submit()
    bench.wait(1)
    lines = [bench.log(1, rank).splitlines() for rank in range(3)]
    words = [line[0].split() for line in lines]
    assert [word[:3] for word in words] == [["3", str(rank), "6"] for rank in range(3)]
    assert {word[3] for word in words} == {"127.0.0.1"}, "n1 does not resolve: the address that Slurm uses"
    assert len({word[4] for word in words}) == 1 and 10000 <= int(words[0][4]) < 30100
    assert [word[5] for word in words] == ["true", "false", "false"]
    port = words[0][4]
    for rank in range(3):
        assert lines[rank][1] == (
            "torchrun --nnodes=3 --nproc_per_node=2 --node_rank=%d --master_addr=127.0.0.1 --master_port=%s" % (rank, port)
        )
    assert bench.marker(1)["code"] == "0"


def test_ports_of_jobs_on_one_node_differ(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.add(number, SHOW + "sleep 1\n")
    bench.submit(Options(exclusive=False, nodelist="n2"))
    bench.cluster.wait_for_jobs()
    assert len({bench.log(number).split()[4] for number in (1, 2, 3)}) == 3


def test_the_worst_node_decides(bench: Bench) -> None:
    bench.add(1, "exit $((NODE_RANK * 3))\n", nodes=3)
    bench.submit()
    bench.wait(1)
    assert bench.marker(1)["code"] == "6"
    assert bench.marker(1, "node-1", "io", "end")["code"] == "3"


HOSTILE = {"A": "a\nb", "B": '$(touch hacked) `id` "q" it\'s', "C": "", "MASTER_ADDR": "mine"}


def test_hostile_values_arrive_as_they_are(bench: Bench) -> None:
    bench.add(1, 'printf "%s|" "$A" "$B" "$C" "$MASTER_ADDR"\n', env=HOSTILE, given_env=["MASTER_ADDR"])
    bench.submit(Options(exclusive=False, comment='it\'s "$(touch hacked)"; x'))
    name = bench.cluster.call("squeue", "-h", "-o", "%k")
    bench.cluster.wait_for_jobs()
    assert bench.log(1) == "|".join(HOSTILE.values()) + "|"
    assert not list(Path(bench.folder.path).rglob("hacked"))
    assert name in ('it\'s "$(touch hacked)"; x', ""), "the job may have ended before the question"


def test_a_time_limit_ends_the_model_and_the_script_notes_it(bench: Bench) -> None:
    bench.add(1, "trap 'echo told; exit 9' TERM\nwhile :; do sleep 0.2; done\n", timeout=1)
    bench.submit()
    began = time.monotonic()
    bench.cluster.wait_for_jobs()
    assert time.monotonic() - began < 30
    assert bench.marker(1, "io", "timed_out") == {"1": ""} and bench.log(1).splitlines()[-1] == "told"
    assert bench.progress(1).exit_code == 9


def test_cancelling_reaches_the_model_and_leaves_a_word(bench: Bench) -> None:
    bench.add(1, "trap 'echo told; exit 9' TERM\necho ready\nwhile :; do sleep 0.2; done\n")
    (submission,) = bench.submit()
    bench.cluster.wait_for(lambda: "ready" in bench.log(1), "running model")
    bench.cluster.call("scancel", "--name", submission.name)
    bench.cluster.wait_for_jobs()
    assert bench.log(1).splitlines()[-1] == "told" and bench.marker(1)["signal"] == "TERM"


def test_usr1_of_the_batch_shell_reaches_every_node(bench: Bench) -> None:
    script = "trap 'echo usr1; exit 0' USR1\necho ready\nwhile :; do sleep 0.2; done\n"
    bench.add(1, script, nodes=2)
    (submission,) = bench.submit()
    bench.cluster.wait_for(lambda: all("ready" in bench.log(1, rank) for rank in (0, 1)), "models")
    job = bench.cluster.call("squeue", "-h", "-o", "%A", "--name", submission.name)
    bench.cluster.call("scancel", "--batch", "--signal=USR1", job)
    bench.wait(1)
    # As when Slurm signals a step itself, each process of the model gets it: bash may report its `sleep` as well.
    assert [bench.log(1, rank).splitlines()[-1] for rank in (0, 1)] == ["usr1"] * 2
    assert bench.marker(1)["code"] == "0" and bench.marker(1)["signal"] == "USR1"


def test_a_resumable_model_is_requeued_and_another_one_is_not(bench: Bench) -> None:
    again = 'count="$HOME_OF_TEST/$NAME"\necho x >>"$count"\n[ "$(wc -l <"$count")" -lt 2 ] && exit 75\necho done\n'
    for number, resumable in ((1, True), (2, False)):
        variables = {"HOME_OF_TEST": bench.folder.path, "NAME": "count%d" % number}
        bench.add(number, again, env=variables, card={"resumable": resumable})
    bench.submit()
    # Slurm lets a requeued job wait (cred_expire); a person does not have to.
    counts = [Path(bench.folder.file("count%d" % number)) for number in (1, 2)]
    bench.cluster.wait_for(lambda: bench.marker(2) != {} and counts[0].exists() and len(bench.cluster.queue("PENDING")) == 1, "requeued job")
    assert bench.marker(2)["code"] == "75" and bench.marker(1) == {}
    (job,) = bench.cluster.queue("PENDING")
    assert "Restarts=1" in bench.cluster.call("scontrol", "show", "job", job)
    bench.cluster.call("scancel", job)
    bench.cluster.wait_for_jobs()


def test_the_log_of_a_start_before_the_job_was_requeued_is_kept(bench: Bench) -> None:
    bench.add(1, "echo new\n")
    (made,) = bench.group()
    bench.submissions.write(made, bench.script(made), bench.runs, {})
    Path(bench.attempt(1).file("io", "model.log")).write_text("old\n")
    bench.submissions.submit([made])
    bench.wait(1)
    assert bench.log(1) == "new\n" and Path(bench.attempt(1).file("io", "artifacts", "model.before-0.log")).read_text() == "old\n"


def test_of_two_jobs_with_one_run_only_one_runs_it(bench: Bench) -> None:
    bench.add(1, "echo x\nsleep 2\n")
    (submission,) = bench.submit()
    script = bench.folder.file("submissions", submission.name, "job.sh")
    bench.cluster.call("sbatch", "--parsable", script)
    bench.cluster.wait_for_jobs()
    assert bench.log(1) == "x\n" and bench.marker(1)["code"] == "0"
    logs = [path.read_text() for path in Path(script).parent.glob("slurm-*.log")]
    assert sorted("is run by job" in text for text in logs) == [False, True]


def test_a_container_gets_signals_and_leaves_nothing(bench: Bench, tiny_image: str, docker_host: str) -> None:
    digest = bench.cluster.call("docker", "image", "inspect", "--format", "{{.Id}}", tiny_image)
    image = {"name": tiny_image, "digest": digest, "given": True}
    script = "trap 'echo told; exit 9' TERM\necho \"$MAD_DEPLOYMENT_TYPE $NODE_RANK\"\nwhile :; do sleep 0.2; done\n"
    bench.add(1, script, runtime="docker", image=image, gpus=0)
    (submission,) = bench.submit()
    bench.cluster.wait_for(lambda: bench.log(1) != "", "running model")
    bench.cluster.call("scancel", "--name", submission.name)
    bench.cluster.wait_for_jobs()
    assert bench.log(1).splitlines()[:: len(bench.log(1).splitlines()) - 1] == ["slurm 0", "told"] and bench.progress(1).exit_code == 9
    assert bench.cluster.call("docker", "ps", "-aq", "--filter", "label=mad.run=%s" % bench.runs["%016x" % 1]["id"]) == ""


SQUASHED = """\
#!/bin/sh
case "$*" in
  "run "*"source=$SHARED"*) echo "docker: error while creating mount source path: mkdir $SHARED: permission denied." >&2; exit 126 ;;
esac
exec %s "$@"
"""


def test_an_engine_that_may_not_use_the_shared_folder_works_in_one_of_the_node(bench: Bench, tiny_image: str, docker_host: str, tmp_path: Path) -> None:
    """As on NFS with root_squash, where the engine's root is nobody."""
    digest = bench.cluster.call("docker", "image", "inspect", "--format", "{{.Id}}", tiny_image)
    for name in ("bin", "node"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "docker").write_text(SQUASHED % shutil.which("docker"))
    (tmp_path / "bin" / "docker").chmod(0o755)
    bench.cluster_path(tmp_path / "bin", SHARED=bench.folder.path, TMPDIR=str(tmp_path / "node"))
    script = "echo begun; echo a,b >my_output.csv; until [ -e ../go ]; do sleep 0.2; done; echo performance: 3 x; exit 4\n"
    bench.add(1, script, runtime="docker", image={"name": tiny_image, "digest": digest, "given": True}, gpus=0)
    bench.submit()
    bench.cluster.wait_for(lambda: bench.log(1) == "begun\n", "what the model says, while it runs", 300)
    (place,) = (tmp_path / "node").iterdir()
    (place / "work" / "go").touch()
    bench.wait(1)
    assert bench.log(1) == "begun\nperformance: 3 x\n" and bench.progress(1).exit_code == 4 and bench.marker(1)["code"] == "4"
    assert Path(bench.attempt(1).file("io", "artifacts", "my_output.csv")).read_text() == "a,b\n"
    assert list((tmp_path / "node").iterdir()) == [] and not list(Path(bench.folder.path).rglob("env.sh"))[1:]


def test_modules_that_cannot_be_loaded_fail_the_run_by_name(bench: Bench, tmp_path: Path) -> None:
    """`module` is the site's, and not written for `set -u`; it is a function that the login shell exports."""
    function = '() { [ "$NEVER_SET" = "" ] && [ "$2" != absent/1 ] && export LOADED="${LOADED-}$2 "; }'
    bench.cluster_path(tmp_path, **{"BASH_FUNC_module%%": function})
    bench.add(1, 'echo "$LOADED"\n')
    bench.submit(Options(exclusive=False, modules=("rocm/6", "python/3")))
    bench.cluster.wait_for_jobs()
    assert bench.log(1) == "rocm/6 python/3 \n"
    bench.runs.clear()
    bench.add(2, "echo x\n")
    bench.submit(Options(exclusive=False, modules=("rocm/6", "absent/1")))
    bench.cluster.wait_for_jobs()
    assert bench.marker(2, "io", "failed") == {"class": "launch", "reason": "module load absent/1 failed on this node"}
    assert bench.log(2) == "" and bench.marker(2)["code"] == "70"


def test_an_image_that_is_nowhere_is_said(bench: Bench, docker_host: str) -> None:
    image = {"name": "x", "digest": "sha256:" + "0" * 64, "given": False}
    bench.add(1, "echo x\n", runtime="docker", image=image, gpus=0)
    bench.submit()
    bench.cluster.wait_for_jobs()
    assert bench.marker(1, "io", "failed")["class"] == "image" and bench.marker(1)["code"] == "70"
