# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU detection against stand-ins for the vendors' tools and made-up /sys trees."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.containers.probe import System, parse_json
from ansible_collections.mad.engine.plugins.module_utils.facts import gpu, gpu_amd
from ansible_collections.mad.engine.tests.fixtures.gpu_tools import machines


def nodes(facts: Dict[str, Any]) -> Dict[int, str]:
    return {entry["index"]: entry["render_node"] for entry in facts["devices"]}


# --- no GPU ---------------------------------------------------------------------------------------------------------------


def test_a_cpu_host_is_none(tmp_path: Path) -> None:
    machines.base(tmp_path)
    machines.bmc(tmp_path)
    facts = gpu.detect(machines.machine(tmp_path))
    assert (facts["vendor"], facts["count"], facts["devices"], facts["problems"]) == ("NONE", 0, [], [])


def test_stray_tools_on_a_login_node_are_no_gpus(tmp_path: Path) -> None:
    facts = gpu.detect(machines.machine(tmp_path, "stray"))
    assert facts["vendor"] == "NONE" and facts["count"] == 0
    assert any("nvidia-smi ended with 9" in problem and "driver is not loaded" in problem for problem in facts["problems"])


def test_the_graphics_unit_of_a_processor_is_no_gpu(tmp_path: Path) -> None:
    machines.kfd_cpu(tmp_path, 0)
    machines.kfd_gpu(tmp_path, 1, 4711, 128, 0x0E, target=100306)
    machines.pci(tmp_path, "0000:0e:00.0", machines.AMD, "amdgpu")
    machines.pci(tmp_path, "0000:00:02.0", machines.INTEL, "i915", render="renderD129")
    facts = gpu.detect(machines.machine(tmp_path))
    assert facts["vendor"] == "NONE"
    assert facts["problems"] == ["the graphics unit inside the processor (gfx1036) is not used"]


def test_a_card_without_driver_is_named(tmp_path: Path) -> None:
    machines.pci(tmp_path, "0000:07:00.0", machines.NVIDIA, "nouveau")
    machines.pci(tmp_path, "0000:05:00.0", machines.AMD, "", "0x120000")
    facts = gpu.detect(machines.machine(tmp_path))
    assert facts["vendor"] == "NONE"
    assert any("no nvidia-smi" in problem for problem in facts["problems"])
    assert any("1 AMD GPU(s) are on the PCI bus without a driver" in problem for problem in facts["problems"])


# --- NVIDIA ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "count", "product", "driver", "cuda"),
    [("a100", 4, "NVIDIA A100-SXM4-80GB", "550.54.15", "12.4"), ("h100", 8, "NVIDIA H100 80GB HBM3", "570.86.10", "12.8")],
)
def test_nvidia(tmp_path: Path, tools: str, count: int, product: str, driver: str, cuda: str) -> None:
    machines.nvidia(tmp_path, count, product)
    facts = gpu.detect(machines.machine(tmp_path, tools))
    assert facts["problems"] == []
    assert (facts["vendor"], facts["count"], facts["product"], facts["architecture"]) == ("NVIDIA", count, product, product)
    assert (facts["driver"], facts["runtime_version"]) == (driver, cuda)
    first = facts["devices"][0]
    assert (first["index"], first["bus"]) == (0, "0000:07:00.0") and first["uuid"].startswith("GPU-")
    assert [entry["index"] for entry in facts["devices"]] == list(range(count))
    assert "mig" not in first and "slices" not in first


def test_nvidia_with_mig(tmp_path: Path) -> None:
    facts = gpu.detect(machines.machine(tmp_path, "h100_mig"))
    assert facts["count"] == 2
    assert facts["devices"][1]["slices"] == [
        {"index": 0, "profile": "3g.40gb", "uuid": "MIG-77aa01bc-0001-0"},
        {"index": 1, "profile": "1g.10gb", "uuid": "MIG-77aa01bc-0001-1"},
    ]
    assert sum("is split by MIG (2 slices)" in problem for problem in facts["problems"]) == 2


def test_broken_nvidia_is_a_gpu_host_with_no_usable_gpu(tmp_path: Path) -> None:
    machines.nvidia(tmp_path, 8, "NVIDIA H100 80GB HBM3")
    facts = gpu.detect(machines.machine(tmp_path, "mismatch"))
    assert (facts["vendor"], facts["count"], facts["product"]) == ("NVIDIA", 0, "NVIDIA H100 80GB HBM3")
    assert "Driver/library version mismatch" in facts["problems"][0] and "reboot" in facts["problems"][0]


def test_a_gpu_that_fell_off_the_bus_is_noticed(tmp_path: Path) -> None:
    machines.nvidia(tmp_path, 5, "NVIDIA A100-SXM4-80GB")
    facts = gpu.detect(machines.machine(tmp_path, "a100"))
    assert facts["count"] == 4
    assert any("driver knows 5 GPUs but nvidia-smi lists 4" in problem for problem in facts["problems"])


def tool(folder: Path, name: str, script: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + script)
    (folder / name).chmod(0o755)
    return str(folder)


def test_nvidia_lines_that_are_no_gpu(tmp_path: Path) -> None:
    lines = "0, [Unknown Error], [Unknown Error], 550.1, 00000000:07:00.0, [N/A]\nUnable to determine the device handle for GPU1\n"
    lines += "2, 'NVIDIA' \"X\"; $(id), GPU-2, 550.1, 00000000:27:00.0, [N/A]\n"
    folder = tool(tmp_path / "bin", "nvidia-smi", "case $1 in --query*) printf '%%s' '%s';; esac" % lines.replace("'", "'\\''"))
    facts = gpu.detect(machines.machine(tmp_path, extra_path=[folder]))
    assert [entry["index"] for entry in facts["devices"]] == [2]
    assert facts["product"] == "'NVIDIA' \"X\"; $(id)"
    assert any(problem.startswith("GPU 0 does not answer") for problem in facts["problems"])
    assert any("line that is not a GPU: Unable to determine" in problem for problem in facts["problems"])


def test_an_old_nvidia_smi_without_the_mig_field(tmp_path: Path) -> None:
    script = """case $1 in
        *mig*) echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2;;
        --query*) echo '0, Tesla V100, GPU-0, 418.1, 0:07:00.0';; esac"""
    facts = gpu.detect(machines.machine(tmp_path, extra_path=[tool(tmp_path / "bin", "nvidia-smi", script)]))
    assert (facts["count"], facts["product"], facts["problems"]) == (1, "Tesla V100", [])


def test_different_gpus_are_a_problem(tmp_path: Path) -> None:
    script = "case $1 in --query*) echo '0, A, GPU-0, 5, 0:1:0.0, N/A'; echo '1, B, GPU-1, 5, 0:2:0.0, N/A';; esac"
    facts = gpu.detect(machines.machine(tmp_path, extra_path=[tool(tmp_path / "bin", "nvidia-smi", script)]))
    assert any("not all of one kind (1 x A, 1 x B)" in problem for problem in facts["problems"])


# --- AMD ------------------------------------------------------------------------------------------------------------------

MI300X_NODES = {index: "/dev/dri/renderD%d" % (129 + 8 * index) for index in range(8)}


def test_mi300x(tmp_path: Path) -> None:
    machines.base(tmp_path)
    machines.mi300x(tmp_path)
    facts = gpu.detect(machines.machine(tmp_path, "mi300x"))
    assert facts["problems"] == []
    assert (facts["vendor"], facts["count"], facts["architecture"], facts["product"]) == ("AMD", 8, "gfx942", "AMD Instinct MI300X")
    assert (facts["driver"], facts["runtime_version"]) == ("6.12.12", "6.4.1")
    assert nodes(facts) == MI300X_NODES
    assert facts["devices"][2]["uuid"] == "GPU-7d3c5b2a4f8e3d24" and facts["devices"][2]["bus"] == "0000:46:00.0"


def test_mi300x_with_a_warning_before_the_json(tmp_path: Path) -> None:
    machines.mi300x(tmp_path)
    facts = gpu.detect(machines.machine(tmp_path, "mi300x", environ={"FAKE_NO_GROUP": "1"}))
    assert nodes(facts) == MI300X_NODES


def test_mi300x_without_any_tool_gives_the_same_numbers(tmp_path: Path) -> None:
    """A host that has the kernel driver only, as many container hosts do."""
    machines.mi300x(tmp_path)
    machines.write(tmp_path, "sys/class/drm/renderD129/device/product_name", "AMD Instinct MI300X OAM\n")
    facts = gpu.detect(machines.machine(tmp_path))
    assert nodes(facts) == MI300X_NODES
    assert (facts["architecture"], facts["product"], facts["problems"]) == ("gfx942", "AMD Instinct MI300X OAM", [])


def test_the_driver_of_the_kernel_is_named_by_the_kernel(tmp_path: Path) -> None:
    machines.base(tmp_path)
    machines.mi250(tmp_path)
    assert gpu.detect(machines.machine(tmp_path))["driver"] == "kernel 6.8.0-45-generic"


def test_mi250_with_old_tools(tmp_path: Path) -> None:
    machines.mi250(tmp_path)
    facts = gpu.detect(machines.machine(tmp_path, "mi250"))
    assert nodes(facts) == {index: "/dev/dri/renderD%d" % (128 + index) for index in range(4)}
    assert (facts["architecture"], facts["product"], facts["runtime_version"]) == ("gfx90a", "AMD Instinct MI250X", "6.0.2")
    assert facts["problems"] == []


def test_mi250_by_rocm_smi_alone(tmp_path: Path) -> None:
    machines.mi250(tmp_path)
    script = (machines.TOOLS / "mi250/rocm-smi").read_text()
    folder = tool(tmp_path / "bin", "rocm-smi", script.split("\n", 1)[1])
    facts = gpu.detect(machines.machine(tmp_path, extra_path=[folder]))
    assert facts["count"] == 4 and facts["product"] == "AMD Instinct MI250X" and facts["devices"][3]["uuid"] == "0x9f1a0004"


def test_amd_smi_without_topology(tmp_path: Path) -> None:
    """No /sys/class/kfd: the render nodes come from the tool itself."""
    for minor in range(129, 186, 8):
        machines.write(tmp_path, "dev/dri/renderD%d" % minor, "")
    machines.write(tmp_path, "dev/kfd", "")
    assert nodes(gpu.detect(machines.machine(tmp_path, "mi300x"))) == MI300X_NODES


def test_amd_smi_without_numbers_of_the_topology_is_matched_by_bus(tmp_path: Path) -> None:
    machines.mi250(tmp_path)
    rows = [{"index": 0, "bus": "0000:35:00.0"}]
    found, _integrated = gpu_amd._topology(machines.machine(tmp_path))
    node = gpu_amd._match(rows[0], found)
    assert node is not None and node.minor == 130


def test_broken_amd_tools_cost_nothing_but_a_problem(tmp_path: Path) -> None:
    machines.mi300x(tmp_path)
    facts = gpu.detect(machines.machine(tmp_path, "broken"))
    assert nodes(facts) == MI300X_NODES and facts["architecture"] == "gfx942"
    assert any("amd-smi ended with 1" in problem and "libamd_smi.so" in problem for problem in facts["problems"])


def test_an_integrated_unit_beside_a_card_keeps_its_number(tmp_path: Path) -> None:
    machines.kfd_gpu(tmp_path, 1, 1111, 128, 0x0E, target=100306)
    machines.kfd_gpu(tmp_path, 2, 2222, 129, 0x2F, target=110000)
    rows = '[{"gpu": 0, "bdf": "0000:0e:00.0", "kfd_id": 1111, "node_id": 1},'
    rows += ' {"gpu": 1, "bdf": "0000:2F:00.0", "kfd_id": 2222, "node_id": 2}]'
    facts = gpu.detect(machines.machine(tmp_path, extra_path=[tool(tmp_path / "bin", "amd-smi", "echo '%s'" % rows)]))
    assert nodes(facts) == {1: "/dev/dri/renderD129"} and facts["architecture"] == "gfx1100"


def test_partitions_of_one_card(tmp_path: Path) -> None:
    """CPX mode: one bus address, partition number in the high bits of location_id."""
    for number in range(4):
        machines.kfd_gpu(tmp_path, 2 + number, 100 + number, 128 + number, 0, place=(number << 28) | 0x0500)
    facts = gpu.detect(machines.machine(tmp_path))
    assert nodes(facts) == {index: "/dev/dri/renderD%d" % (128 + index) for index in range(4)}


def test_a_container_without_the_devices_has_no_gpu(tmp_path: Path) -> None:
    machines.mi300x(tmp_path)
    (tmp_path / "dev/kfd").unlink()
    facts = gpu.detect(machines.machine(tmp_path, "mi300x"))
    assert facts["vendor"] == "NONE" and any("/dev/kfd is not here" in problem for problem in facts["problems"])


def test_a_container_with_one_device_has_one(tmp_path: Path) -> None:
    machines.mi300x(tmp_path)
    for minor in range(129, 178, 8):
        (tmp_path / ("dev/dri/renderD%d" % minor)).unlink()
    facts = gpu.detect(machines.machine(tmp_path, "mi300x"))
    assert nodes(facts) == {7: "/dev/dri/renderD185"}
    assert "GPU 0 is left out: /dev/dri/renderD129 is not here" in facts["problems"]


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ([], {}, "/opt/rocm"),
        ([], {"ROCM_PATH": "/else"}, "/else"),
        (["opt/rocm/.info/version"], {"ROCM_PATH": "/x"}, "/opt/rocm"),
        (["opt/rocm-6.9.1/bin/rocminfo", "opt/rocm-6.10.0/bin/rocminfo"], {}, "/opt/rocm-6.10.0"),
        (["x/bin/amd-smi", "usr/local/rocm/bin/amd-smi"], {"HIP_PATH": "/x"}, "/x"),
        (["usr/local/rocm/bin/amd-smi"], {}, "/usr/local/rocm"),
        (["home/u/therock/bin/rocm-smi"], {"HOME": "/home/u"}, "/home/u/therock"),
        (["opt/rocm/bin/amd-smi", "mine/bin/rocminfo"], {"MAD_ROCM_PATH": "/mine"}, "/mine"),
        (["opt/rocm/bin/amd-smi"], {"MAD_AUTO_ROCM_PATH": "0", "ROCM_PATH": "/y"}, "/y"),
    ],
)
def test_rocm_root(tmp_path: Path, files: list[str], environ: Dict[str, str], expected: str) -> None:
    for path in files:
        machines.write(tmp_path, path, "")
    assert gpu_amd.rocm_root(machines.machine(tmp_path, environ=environ)) == (expected, [])


def test_a_wrong_mad_rocm_path_is_said(tmp_path: Path) -> None:
    machines.write(tmp_path, "opt/rocm/bin/amd-smi", "")
    root, problems = gpu_amd.rocm_root(machines.machine(tmp_path), "/wrong")
    assert root == "/wrong" and "MAD_ROCM_PATH is /wrong" in problems[0]


# --- Intel, several vendors -----------------------------------------------------------------------------------------------


def test_intel_cards_by_xpu_smi(tmp_path: Path) -> None:
    machines.pci(tmp_path, "0000:29:00.0", machines.INTEL, "i915", "0x038000", "renderD129")
    facts = gpu.detect(machines.machine(tmp_path, "xpu"))
    assert (facts["vendor"], facts["product"]) == ("INTEL", "Intel(R) Data Center GPU Max 1100")
    assert nodes(facts) == {1: "/dev/dri/renderD129", 2: ""}


def test_intel_cards_by_the_bus(tmp_path: Path) -> None:
    machines.pci(tmp_path, "0000:00:02.0", machines.INTEL, "i915", render="renderD128")
    machines.pci(tmp_path, "0000:03:00.0", machines.INTEL, "xe", render="renderD129")
    facts = gpu.detect(machines.machine(tmp_path))
    assert (facts["vendor"], facts["driver"]) == ("INTEL", "xe") and nodes(facts) == {0: "/dev/dri/renderD129"}


def test_two_vendors(tmp_path: Path) -> None:
    machines.mi250(tmp_path)
    system = machines.machine(tmp_path, "a100")
    facts = gpu.detect(system)
    assert facts["vendor"] == "NVIDIA" and "there are also 4 AMD GPU(s): set gpu_vendor to use them" in facts["problems"]
    assert gpu.detect(system, "amd")["vendor"] == "AMD"
    assert gpu.detect(system, "none")["vendor"] == "NONE"


def test_usable_gpus_win_over_broken_ones(tmp_path: Path) -> None:
    machines.mi250(tmp_path)
    machines.nvidia(tmp_path, 1, "NVIDIA T1000")
    facts = gpu.detect(machines.machine(tmp_path, "mismatch"))
    assert (facts["vendor"], facts["count"]) == ("AMD", 4)
    assert any("version mismatch" in problem for problem in facts["problems"])


# --- tools that misbehave -------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_hanging_tools_are_stopped_with_their_children(tmp_path: Path) -> None:
    machines.mi300x(tmp_path)
    machines.nvidia(tmp_path, 1, "NVIDIA H100")
    pids = tmp_path / "pids"
    start = time.monotonic()
    facts = gpu.detect(machines.machine(tmp_path, "hanging", environ={"FAKE_PIDS": str(pids)}), timeout=1.0)
    assert time.monotonic() - start < 120, "the tools sleep for 300 s"
    assert facts["vendor"] == "AMD" and nodes(facts) == MI300X_NODES
    for name in ("nvidia-smi", "amd-smi"):
        assert any("%s did not end within 1 s" % name in problem for problem in facts["problems"])
    children = [int(line) for line in pids.read_text().split()]
    deadline = time.monotonic() + 60
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 3 and not any(map(alive, children))


def test_the_vendors_are_asked_side_by_side(tmp_path: Path) -> None:
    """Each tool waits until the other one has been asked, too: in turn, both would hang."""
    machines.mi300x(tmp_path)
    machines.nvidia(tmp_path, 1, "NVIDIA H100")
    folder = tmp_path / "bin"
    for name, other in (("nvidia-smi", "amd-smi"), ("amd-smi", "nvidia-smi")):
        tool(folder, name, ': >"$0.asked"\nwhile [ ! -e %s.asked ]; do /bin/sleep 0.05; done\n' % (folder / other))
    facts = gpu.detect(machines.machine(tmp_path, extra_path=[str(folder)]), timeout=30.0)
    assert not any("did not end within" in problem for problem in facts["problems"])


def test_a_flooding_tool_is_stopped(tmp_path: Path) -> None:
    machines.nvidia(tmp_path, 1, "NVIDIA H100")
    facts = gpu.detect(machines.machine(tmp_path, "flooding"), timeout=20.0)
    assert (facts["vendor"], facts["count"]) == ("NVIDIA", 0)
    assert "printed more than 4 MB" in facts["problems"][0] and all(len(problem) < 1000 for problem in facts["problems"])


def test_a_daemon_that_keeps_the_pipes_does_not_hold_us(tmp_path: Path) -> None:
    folder = tool(tmp_path / "bin", "x", "/bin/sleep 30 &\necho hello\n")
    start = time.monotonic()
    answer = System("/", {"PATH": folder}).run([folder + "/x"], 20.0)
    assert (answer.code, answer.out, answer.problem) == (0, "hello\n", "") and time.monotonic() - start < 25


def test_odd_bytes_and_missing_tools(tmp_path: Path) -> None:
    folder = tool(tmp_path / "bin", "x", "printf 'a\\377b\\000c'\nexit 3\n")
    system = System("/", {"PATH": folder})
    answer = system.run([folder + "/x"], 5.0)
    assert answer.code == 3 and answer.out == "a\ufffdb\0c" and "x ended with 3" in answer.problem
    assert "cannot be started" in system.run([str(tmp_path / "absent")], 5.0).problem
    (tmp_path / "bin/y").write_text("no shebang")
    (tmp_path / "bin/y").chmod(0o755)
    assert "cannot be started" in system.run([folder + "/y"], 5.0).problem
    assert system.find_tool("absent-tool-of-nobody") == "" and os.path.basename(system.find_tool("x")) == "x"


def test_a_probe_that_breaks_costs_its_vendor_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_system: System, _timeout: float) -> Dict[str, Any]:
        raise KeyError("surprise")

    monkeypatch.setitem(gpu.VENDORS, "NVIDIA", broken)
    machines.mi250(tmp_path)
    facts = gpu.detect(machines.machine(tmp_path))
    assert facts["vendor"] == "AMD" and any("NVIDIA GPUs failed: KeyError" in problem for problem in facts["problems"])


@given(st.text(max_size=200))
def test_no_output_of_a_tool_breaks_the_parsers(text: str) -> None:
    from ansible_collections.mad.engine.plugins.module_utils.facts import gpu_nvidia

    gpu_nvidia._parse_list(text)
    gpu_amd._agents(text)
    gpu_amd._amd_smi_rows(parse_json(text))
    gpu_amd._rocm_smi_rows(parse_json(text))


KEYS = ["gpu", "card0", "node_id", "render", "hip_uuid", "Unique ID", "gpu_data"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_no_document_breaks_the_readers(document: Any) -> None:
    for row in gpu_amd._amd_smi_rows(document) + gpu_amd._rocm_smi_rows(document):
        assert isinstance(row["index"], int) and isinstance(row["bus"], str)


# --- what people write ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0,2-4,5-5,7", [0, 2, 3, 4, 5, 7]), ("3,1", [3, 1]), (" 0 , 1 - 2 ", [0, 1, 2]), ("", []), ("  ", []), (5, [5]), ("007", [7])],
)
def test_expand_indexes(text: Any, expected: list[int]) -> None:
    assert gpu.expand_indexes(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "'a' is neither"), ("1,,2", "'' is neither"), ("1-", "'1-' is neither"), ("-1", "neither"), ("1-2-3", "neither"),
        ("4-2", "write 2-4"), ("0,0", "names 0 twice"), ("1-3,2", "names 2 twice"), ("0-99999", "more than 8192"),
        ("0-999999999", "more than 8192"), ("٣", "neither"), ("0\n", None), ("$(id)", "neither"), ("1;2", "neither"), ("0x1", "neither"),
        (None, "not NoneType"), (True, "not bool"), ([1], "not list"),
        ("9" * 10_000_000, "neither"),
    ],
)  # fmt: skip
def test_bad_indexes_are_named(text: Any, words: Any) -> None:
    if words is None:
        assert gpu.expand_indexes(text) == [0]
        return
    with pytest.raises(InvalidInput) as caught:
        gpu.expand_indexes(text, "docker_cpus")
    assert caught.value.message.startswith("docker_cpus") and words in caught.value.message and len(caught.value.message) < 200


@given(st.lists(st.integers(0, 500), unique=True, max_size=40))
def test_expand_indexes_is_the_inverse_of_joining(numbers: list[int]) -> None:
    assert gpu.expand_indexes(",".join(map(str, numbers))) == numbers


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mi300x", "gfx942"), (" MI250 ", "gfx90a"), ("mi300a", "gfx940"), ("gfx1100", "gfx1100"), ("H100", "H100")],
)
def test_architecture_aliases(name: str, expected: str) -> None:
    assert gpu.architecture(name) == expected
