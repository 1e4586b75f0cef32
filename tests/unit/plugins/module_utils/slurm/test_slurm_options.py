# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_options: the section of a context and the directives that it becomes."""

from __future__ import annotations

import shlex
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import context, presets
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_options
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options, Shape, directives, parse

ONE = Shape(1, 0, 900)
# madengine's guide, B.1
SPECIFICATION = {
    "deploy": "slurm",
    "launcher": "torchrun",
    "nnodes": 4,
    "nproc_per_node": 8,
    "slurm": {
        "login_node": "hpc-login.example.com",
        "partition": "gpu",
        "qos": "high",
        "account": "ml-research",
        "time_limit": 14400,
        "modules": ["rocm/5.7.0", "python/3.10", "git/2.40"],
        "output_dir": "./slurm_jobs",
        "work_dir": "/projects/ml/experiments",
    },
    "env_vars": {"NCCL_DEBUG": "INFO"},
}


def test_the_specifications_example() -> None:
    normal = presets.apply_presets(context.normalise([SPECIFICATION])["context"])
    options = parse(normal["slurm"])
    assert (options.partition, options.qos, options.account, options.login_node) == ("gpu", "high", "ml-research", "hpc-login.example.com")
    assert options.time == 14400 and options.work_dir == "/projects/ml/experiments" and options.output_dir == "./slurm_jobs"
    assert options.modules == ("rocm/5.7.0", "python/3.10", "git/2.40")
    lines = directives(options, Shape(4, 8, 14400))
    assert lines[:4] == ["--nodes=4", "--ntasks-per-node=1", "--gpus-per-node=8", "--time=04:00:00"]
    assert "--exclusive" in lines and "--no-requeue" in lines


def test_nothing_given_names_no_site() -> None:
    for nodes in (1, 4):
        normal = presets.apply_presets(context.normalise([{"slurm": {}, "nnodes": nodes}])["context"])
        assert parse(normal["slurm"]).time is None, "the job's limit comes from the model's timeout"
        lines = directives(parse(normal["slurm"]), Shape(nodes, 8, 8100))
        assert not [line for line in lines if line.startswith(("--partition", "--account", "--qos", "--mail", "--reservation"))]
        assert "--time=02:15:00" in lines


def test_a_cluster_that_knows_no_gpus_is_asked_for_none() -> None:
    options = parse({"skip_gpus_directive": True})
    assert not [line for line in directives(options, Shape(2, 8, 900)) if "gpu" in line]
    assert slurm_options.asked_gpus(options, 8) == 0 and slurm_options.asked_gpus(Options(), 8) == 8
    with pytest.raises(InvalidInput, match="skip_gpus_directive needs slurm.exclusive"):
        parse({"skip_gpus_directive": True, "exclusive": False})


def test_every_option_arrives() -> None:
    section: Dict[str, Any] = {
        "partition": "p",
        "account": "a",
        "qos": "q",
        "constraint": "mi300x&ib",
        "reservation": "r",
        "nodelist": "n1, n[3-4]",
        "exclude": ["n5", "n6"],
        "gres": "gpu:mi300x:4",
        "mem": "64G",
        "cpus_per_task": 8,
        "signal": "B:USR1@120",
        "requeue": True,
        "dependency": "afterok:12",
        "mail": "ops@example.org",
        "mail_type": "END,FAIL",
        "comment": "it's $HOME",
        "extra": ["--licenses=foo:2", "#SBATCH --switches=1"],
        "exclusive": False,
        "time": "1-00:00:00",
    }
    lines = directives(parse(section), Shape(2, 8, 86400, 1))
    words = [shlex.split(line)[0] for line in lines]
    assert words == [
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gres=gpu:mi300x:4",
        "--time=1-00:00:00",
        "--partition=p",
        "--account=a",
        "--qos=q",
        "--constraint=mi300x&ib",
        "--reservation=r",
        "--nodelist=n1,n[3-4]",
        "--exclude=n5,n6",
        "--mem=64G",
        "--cpus-per-task=8",
        "--dependency=afterok:12",
        "--signal=B:USR1@120",
        "--mail-user=ops@example.org",
        "--mail-type=END,FAIL",
        "--comment=it's $HOME",
        "--requeue",
        "--open-mode=append",
        "--licenses=foo:2",
        "--switches=1",
    ]


def test_every_option_of_the_section_is_used() -> None:
    """An option that is parsed and becomes neither a directive nor a documented setting would be accepted without effect."""
    elsewhere = {
        "modules",
        "network_interface",
        "login_node",
        "work_dir",
        "shared_workspace",
        "output_dir",
        "runtime",
        "max_jobs",
        "requeue",
    }
    elsewhere |= {"node_check", "time", "gpus_per_node", "skip_gpus_directive"}
    changed = {"exclusive": False, "extra": ("--x=1",), "cpus_per_task": 3}
    plain = directives(Options(), ONE)
    for name in Options._fields:
        if name not in elsewhere:
            assert directives(Options()._replace(**{name: changed.get(name, "word")}), ONE) != plain, name


@pytest.mark.parametrize(
    "section,words",
    [
        ({"partiton": "x"}, ("slurm.partiton", "did you mean partition?")),
        ({"zzz": 1}, ("slurm.zzz", "known are account")),
        ({"partition": "a\nb"}, ("slurm.partition", "one line")),
        ({"nodelist": "n1;id"}, ("slurm.nodelist", "names of nodes")),
        ({"gpus_per_node": -1}, ("slurm.gpus_per_node",)),
        ({"exclusive": "perhaps"}, ("slurm.exclusive", "true or false")),
        ({"work_dir": "jobs"}, ("slurm.work_dir", "share")),
        ({"runtime": "lxc"}, ("slurm.runtime", "apptainer")),
        ({"extra": ["--job-name=x"]}, ("slurm.extra[0]", "--job-name", "mad.engine sets it")),
        ({"extra": ["--signal=USR1"]}, ("slurm.extra[0]", "slurm.signal")),
        ({"extra": ["-p main"]}, ("slurm.extra[0]", "long option")),
        ({"extra": ["--comment=a\n#SBATCH --wrap=id"]}, ("slurm.extra[0]", "one line")),
        ({"signal": "rm -rf"}, ("slurm.signal",)),
        ({"network_interface": "eth0; id"}, ("slurm.network_interface",)),
        ({"nodes": 2}, ("distributed.nnodes",)),
        ({"auto_cleanup_nodes": True}, ("never killed",)),
        ({"time": "soon"}, ("slurm.time", "UNLIMITED")),
        ({"mem": "4G", "memory": "8G"}, ("another spelling",)),
    ],
)
def test_what_is_wrong_is_named(section: Dict[str, Any], words: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(section)
    for word in words:
        assert word in caught.value.message


def test_spellings_and_empty_answers() -> None:
    assert parse({"time_limit": 60, "enable_node_check": "yes", "memory": "1G"}) == Options(time=60, node_check=True, mem="1G")
    assert parse({"partition": "", "modules": [], "auto_cleanup_nodes": False, "nodelist": None}) == Options()
    assert parse({"runtime": "pyxis"}).runtime == "enroot" and parse({"network_interface": "auto"}).network_interface == ""
    assert slurm_options.parse({"modules": "rocm/6.4, python"}).modules == ("rocm/6.4", "python")


def test_the_shared_workspace_is_the_shared_folder() -> None:
    assert (
        parse({"shared_workspace": "/nfs/mad"}).work_dir
        == "/nfs/mad"
        == parse({"work_dir": "/nfs/mad", "shared_workspace": "/nfs/mad"}).work_dir
    )
    with pytest.raises(InvalidInput, match="slurm.work_dir says /a and slurm.shared_workspace says /b"):
        parse({"work_dir": "/a", "shared_workspace": "/b"})


@pytest.mark.parametrize(("key", "place"), [("nnodes", "distributed.nnodes"), ("deploy", "deploy at the top of the context"), ("n_gpus", "gpus_per_node")])
def test_what_belongs_elsewhere_says_where(key: str, place: str) -> None:
    with pytest.raises(InvalidInput, match="^slurm.%s is not an option of this release: write %s$" % (key, place)):
        parse({key: 2})
