# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes and partitions out of scontrol's words: recorded output of two releases, free text that looks like keys, lists of nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_nodes

FIXTURES = Path(__file__).resolve().parents[4] / "fixtures" / "slurm"


def nodes(name: str) -> dict[str, slurm_nodes.Node]:
    return {node.name: node for node in slurm_nodes.nodes((FIXTURES / name).read_text("utf-8"))}


def test_recorded_on_the_test_cluster() -> None:
    found = nodes("nodes-22.05.txt")
    assert list(found) == ["n1", "n2", "n3", "n4"]
    assert [(node.state, node.gpus, node.gpus_used) for node in found.values()] == [
        *[("idle", 8, 0), ("mixed", 8, 2), ("idle", 8, 0), ("idle", 8, 0)]
    ]
    assert found["n1"].idle() and found["n1"].partitions == ("main",) and found["n1"].cpus == 8 and found["n1"].memory_mb == 4000
    assert not found["n2"].idle() and found["n2"].usable()
    drained = found["n3"]
    assert drained.flags == ("drain",) and not drained.usable() and drained.partitions == ("main", "night")
    assert drained.reason == "fan broken State=IDLE it's [root@2026-11-28T05:28:36]"


def test_types_marks_and_free_text() -> None:
    found = nodes("nodes-24.05.txt")
    mixed, cloud, down, mig = found.values()
    assert (mixed.gpus, mixed.gpus_used, mixed.gpu_type) == (8, 4, "mi300x") and mixed.flags == ("planned",) and mixed.usable()
    assert (mixed.version, mixed.hostname, mixed.features) == ("24.05.8", "gpu-1.cluster", ("mi300x", "ib"))
    assert (cloud.gpus, cloud.gpus_used, cloud.gpu_type) == (6, 0, "a100,v100") and cloud.flags == ("cloud", "powered_down")
    assert (down.state, down.flags, down.gpus) == ("down", ("not_responding", "drain"), 8) and not down.usable()
    assert down.reason == "Not responding [slurm@2026-11-26T01:02:03]"
    assert (mig.gpus, mig.gpu_type, mig.gpus_used) == (9, "1g.10gb", 3) and mig.flags == ("maint",) and mig.partitions == ()


def test_partitions() -> None:
    main, night = slurm_nodes.partitions((FIXTURES / "partitions-22.05.txt").read_text("utf-8"))
    assert main == slurm_nodes.Partition("main", True, "up", 3, "2-00:00:00", False)
    assert night == slurm_nodes.Partition("night", False, "up", 2, "UNLIMITED", True)


def test_lists_of_nodes() -> None:
    assert slurm_nodes.names("n1,n[3-5,08],m[01-03]x") == ["n1", "n3", "n4", "n5", "n08", "m01x", "m02x", "m03x"]
    assert slurm_nodes.names("") == [] and slurm_nodes.names("a[x]") == ["a[x]"]


def test_which_nodes_a_job_may_get() -> None:
    found = list(nodes("nodes-22.05.txt").values())

    def names(*words: str) -> list[str]:
        return [node.name for node in slurm_nodes.chosen(found, *words)]

    assert names("", "", "") == ["n1", "n2", "n3", "n4"] and names("", "", "", "main") == ["n1", "n2", "n3"]
    assert names("night", "", "n4", "main") == ["n3"] and names("", "n[2-4]", "n3") == ["n2", "n4"]


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=400))
def test_no_text_breaks_it(text: str) -> None:
    slurm_nodes.nodes("NodeName=" + text)
    slurm_nodes.partitions(text)


@pytest.mark.parametrize("text,expected", [("(null)", (0, "")), ("gpu", (0, "")), ("mygpu:3", (0, "")), ("craynetwork:2,gpu:2", (2, ""))])
def test_what_is_no_gpu_is_none(text: str, expected: tuple[int, str]) -> None:
    assert slurm_nodes.gpus(text) == expected
