# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Job scripts: golden files for each launcher, readable by bash and shellcheck, every value quoted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import launchers
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_attempt, slurm_jobs, slurm_launch
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.plugins.plugin_utils import slurm_scripts
from ansible_collections.mad.engine.tests.support import golden
from ansible_collections.mad.engine.tests.support.slurm_runs import CAMPAIGN, make_run

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden" / "slurm"
FOLDER = "/shared/mad/campaigns/20261124T101500Z.0123456789ab"
SITE = Options(partition="gpu", account="ml", modules=("rocm/6.4", "python/3.12"), exclude="n7")


def rendered(runs: List[Dict[str, Any]], options: Options = SITE, folder: str = FOLDER) -> str:
    (submission,) = slurm_jobs.group(runs, options, CAMPAIGN, "login")
    return slurm_scripts.render(submission, {run["id"]: run for run in runs}, options, folder, CAMPAIGN)


def nodes_for(name: str) -> int:
    return 4 if name == "sglang-disagg" else 2


CASES = {"several-%s" % name: [make_run(1, name, nodes_for(name), 8, 8)] for name in launchers.NAMES}
CASES.update({"single-%s" % name: [make_run(1, name, 1, 8, 8)] for name in launchers.NAMES if name != "sglang-disagg"})
CASES["array"] = [make_run(1), make_run(2)]
CASES["resumable"] = [make_run(1, card={"resumable": True})]


@pytest.mark.parametrize("case", sorted(CASES))
def test_golden(case: str) -> None:
    """What a person has read and approved."""
    path, text = GOLDEN / (case + ".sh"), rendered(CASES[case])
    golden.check(path, text)


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("case", sorted(CASES))
def test_bash_and_shellcheck_take_it(case: str, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(rendered(CASES[case]), "utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck:  # dev/test brings it
        done = subprocess.run([shellcheck, "-x", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


HOSTILE = "a'b\"c $(touch hacked) `id`; x"


def test_hostile_values_stay_words(tmp_path: Path) -> None:
    options = Options(comment=HOSTILE, modules=(HOSTILE,), partition=HOSTILE)
    text = rendered([make_run(1, model=HOSTILE + "\nid")], options, str(tmp_path / HOSTILE))
    script = tmp_path / "job.sh"
    script.write_text(text, "utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)
    head = text.partition("# -- which run")[0] + 'printf %s "$folder"\n'
    done = subprocess.run(["bash", "-c", head], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == str(tmp_path / HOSTILE) and not (tmp_path / "hacked").exists()


def test_references_are_the_only_thing_that_is_expanded() -> None:
    text = slurm_launch.shell_text("a ${NODE_RANK} $(id) ${HOME} ${MASTER_ADDR}:1'")
    script = "NODE_RANK=3 MASTER_ADDR=n1 HOME=/h; printf %%s %s" % text
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "a 3 $(id) ${HOME} n1:1'"
    assert slurm_launch.shell_text("") == "''"


@pytest.mark.parametrize("name", launchers.NAMES)
def test_world_size_counts_processes_and_ranks_come_from_the_job(name: str) -> None:
    found = slurm_launch.variables(make_run(1, name, 4, 8)["launcher"], 8)
    assert (found["WORLD_SIZE"], found["NNODES"], found["NPROC_PER_NODE"]) == ("32", "4", "8")
    assert found["NODE_RANK"] == found["MAD_NODE_RANK"] == "${NODE_RANK}" and found["MASTER_ADDR"] == "${MASTER_ADDR}"
    assert "29500" not in found["MAD_MULTI_NODE_RUNNER"], "the port is the job's own"


def test_too_few_nodes_for_a_launcher_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 3 nodes"):
        rendered([make_run(1, "sglang-disagg", 2)])


def test_a_given_variable_is_left_alone() -> None:
    text = slurm_launch.of_run(make_run(1, nodes=2, given_env=["MASTER_PORT", "NCCL_SOCKET_IFNAME"]))
    assert "export MASTER_PORT" not in text and " MASTER_PORT " not in text and " NCCL_SOCKET_IFNAME" not in text.rpartition("names=")[2]


# -- what a node executes ------------------------------------------------------------------------------------------------------------


def started(tmp_path: Path, starts: int = 0, **more: Any) -> str:
    folder = HostFolder(str(tmp_path / "campaigns" / "c.x"))
    folder.make(CAMPAIGN, "login")
    run = make_run(1, **more)
    (tmp_path / "campaigns/c.x/runs" / run["id"]).mkdir()
    folder.save_secrets({run["id"]: {"HF_TOKEN": "topsecret"}})
    attempt = folder.attempt(run["id"], 1)
    with files.Batch() as batch:
        slurm_attempt.Preparation(folder, run, attempt, {DIGEST: "/shared/image.tar"}).write(batch)
    for rank in range(starts or run["launcher"]["nnodes"]):
        subprocess.run(["bash", "-n", attempt.file("start-%d.sh" % rank)], check=True)
    return attempt.path


DIGEST = "sha256:" + "1" * 64
IMAGE = {"name": "x", "digest": DIGEST, "registry_image": "reg/x:1"}


@pytest.mark.parametrize(
    "vendor,runtime,words",
    [
        ("AMD", "docker", "gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/kfd --device /dev/dri)"),
        ("NVIDIA", "docker", '--gpus "\\"device=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-all}}\\""'),
        ("NVIDIA", "podman", 'gpus+=(--device "nvidia.com/gpu=$number")'),
        ("INTEL", "docker", "--device /dev/dri)"),
    ],
)
def test_a_container_gets_the_gpus_that_slurm_gave(tmp_path: Path, vendor: str, runtime: str, words: str) -> None:
    attempt = started(tmp_path, runtime=runtime, image=IMAGE, vendor=vendor)
    text = Path(attempt).joinpath("start-0.sh").read_text()
    assert words in text and '\n  %s run "${gpus[@]}" --name mad-%s' % (runtime, CAMPAIGN) in text


def test_without_gpus_an_engine_gets_no_word_about_them(tmp_path: Path) -> None:
    attempt = started(tmp_path, runtime="docker", image=IMAGE, gpus=0)
    text = Path(attempt).joinpath("start-0.sh").read_text()
    assert "gpus=()" in text and "--device" not in text and "--gpus" not in text


def test_secrets_lie_in_one_private_file(tmp_path: Path) -> None:
    attempt = Path(started(tmp_path, nodes=2))
    holders = [path for path in attempt.rglob("*") if path.is_file() and "topsecret" in path.read_text()]
    assert holders == [attempt / "env.sh"] and holders[0].stat().st_mode & 0o777 == 0o600
    settings = (attempt / "settings.sh").read_text()
    assert "runtime=host\n" in settings and "container=''\n" in settings and "timeout=60\n" in settings


def test_an_image_is_named_by_its_id(tmp_path: Path) -> None:
    attempt = Path(started(tmp_path, runtime="docker", image=IMAGE))
    assert "image=%s\n" % DIGEST in (attempt / "settings.sh").read_text()
    bring = (attempt / "bring.sh").read_text()
    assert "docker load --quiet --input /shared/image.tar\n" in bring and bring.endswith("\nhave\n") and DIGEST in bring


def test_a_runtime_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="runtime shifter is not known on Slurm; use one of docker, podman, apptainer, enroot, host"):
        started(tmp_path, runtime="shifter")


# -- launchers that need more than the table -----------------------------------------------------------------------------------------


def test_a_script_that_starts_itself_runs_once_on_the_bare_node_and_knows_its_image(tmp_path: Path) -> None:
    run = make_run(1, "slurm_multi", 4, runtime="docker", image=IMAGE)
    run["launcher"].update(prefill_nodes=1, decode_nodes=2)
    found = slurm_launch.variables_of(run)
    assert (found["DOCKER_IMAGE_NAME"], found["xP"], found["yD"], found["NNODES"]) == ("reg/x:1", "1", "2", "4")
    attempt = Path(started(tmp_path, launcher="slurm_multi", nodes=4, runtime="docker", image=IMAGE, starts=1))
    assert "driver.sh" in (attempt / "start-0.sh").read_text() and "docker" not in (attempt / "start-0.sh").read_text()
    assert not (attempt / "start-1.sh").exists() and "runtime=host\ncontainer=''\n" in (attempt / "settings.sh").read_text()
    assert "docker load" in (attempt / "bring.sh").read_text(), "every node gets the image"


@pytest.mark.parametrize(
    "model,settings,expected",
    [
        ("primus_pretrain/torchtitan_MI300X_qwen3", {}, {"BACKEND": "torchtitan", "PRIMUS_CONFIG_PATH": "exp_pretrain.yaml"}),
        ("primus_pretrain/megatron_bridge_x", {}, {"BACKEND": "megatron_bridge"}),
        ("primus_pretrain/maxtext_x", {}, {"BACKEND": "MaxText"}),
        ("other/maxtext_x", {}, {"BACKEND": None}),
        (
            "x",
            {"config_path": "a b.yaml", "cli_extra": "--x $(id)", "backend": "megatron"},
            {"PRIMUS_CLI_EXTRA": "--x $(id)", "BACKEND": "megatron"},
        ),
    ],
)
def test_primus_finds_its_configuration(model: str, settings: Dict[str, str], expected: Dict[str, Any]) -> None:
    run = make_run(1, "primus", 2, model=model)
    run["launcher"]["primus"] = settings
    found = slurm_launch.variables_of(run)
    assert {name: found.get(name) for name in expected} == expected


def test_an_unknown_setting_of_primus_is_named() -> None:
    run = make_run(1, "primus", 2)
    run["launcher"]["primus"] = {"config": "x"}
    with pytest.raises(InvalidInput, match="distributed.primus.config is not known"):
        slurm_launch.variables_of(run)
