# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories, cards, facts and hosts for tests of the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from ansible_collections.mad.engine.plugins.module_utils.contexts import context as contexts
from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_continue

CAMPAIGN = "20261122T101500Z"
DIGEST = "sha256:" + "1" * 64


def header(**keys: Any) -> str:
    """A CONTEXT header and a FROM."""
    return "# CONTEXT %r\nARG BASE_DOCKER=rocm/pytorch\nFROM $BASE_DOCKER\n" % (keys,)


def repository(folder: Path) -> Path:
    """A small model repository: dummy (AMD and NVIDIA), any (every vendor), multi (two AMD Dockerfiles)."""
    files = {
        "models.json": "[]",
        "docker/dummy.ubuntu.amd.Dockerfile": header(gpu_vendor="AMD", guest_os="UBUNTU"),
        "docker/dummy.ubuntu.nvidia.Dockerfile": header(gpu_vendor="NVIDIA", guest_os="UBUNTU"),
        "docker/any.ubuntu.Dockerfile": header(guest_os="UBUNTU"),
        "docker/arch.ubuntu.amd.Dockerfile": header(gpu_vendor="AMD") + "ARG MAD_SYSTEM_GPU_ARCHITECTURE\n",
        "docker/ctx.ctx1.ubuntu.amd.Dockerfile": header(gpu_vendor="AMD", ctx_test="1"),
        "docker/ctx.ctx2a.ubuntu.amd.Dockerfile": header(gpu_vendor="AMD", ctx_test="2"),
        "docker/ctx.ctx2b.ubuntu.amd.Dockerfile": header(gpu_vendor="AMD", ctx_test="2") + "ENV ctxtest=2\n",
        "docker/ctx.noctx.ubuntu.amd.Dockerfile": header(gpu_vendor="AMD", ctx_test="None"),
        "docker/bare.ubuntu.amd.Dockerfile": "FROM x\n",
        "docker/broken.ubuntu.amd.Dockerfile": "# CONTEXT {'gpu_vendor': \nFROM x\n",
        "scripts/dummy/run.sh": "echo performance: 1 x\n",
        "scripts/dummy/job.slurm": "echo\n",
        "scripts/dummy/train.py": "print(1)\n",
        "scripts/dummy/notes.txt": "no script\n",
        "scripts/tree/run.sh": "echo\n",
        "scripts/empty/readme": "no run.sh here\n",
        "scripts/common/pre_scripts/hello.sh": "echo hello\n",
        "run.sh": "echo at the top\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def card(name: str = "dummy", **more: Any) -> Dict[str, Any]:
    """A card in its normal form."""
    known: Dict[str, Any] = {
        "name": name,
        "dockerfile": "docker/dummy",
        "scripts": "scripts/dummy/run.sh",
        "args": "",
        "n_gpus": "1",
        "tags": ["t"],
        "skip_gpu_arch": [],
        "env_vars": {},
        "multiple_results": "",
        "additional_docker_run_options": "",
        "source": "models.json",
    }
    return dict(known, **more)


def facts(vendor: str = "AMD", count: int = 2, architecture: str = "gfx942", engine: str = "docker", **more: Any) -> Dict[str, Any]:
    """Facts of a host; `engine` "" has none."""
    devices = [{"index": index, "render_node": "/dev/dri/renderD%d" % (128 + index), "uuid": "u%d" % index} for index in range(count)]
    gpu = {
        "vendor": vendor,
        "count": count,
        "architecture": architecture,
        "product": more.pop("product", "Instinct"),
        "runtime_version": "6.4.1",
        "devices": devices,
        "problems": more.pop("problems", []),
    }
    engines = {
        name: {"available": name == engine, "version": "1", "problem": "" if name == engine else "not installed"}
        for name in ("docker", "podman")
    }
    return dict({"gpu": gpu, "engines": engines, "cpu": {"count": 8}, "os": {"id": "ubuntu", "like": ["debian"]}}, **more)


CPU_HOST = facts("NONE", 0, "", "docker", product="")
NO_ENGINE = facts("NONE", 0, "", "", product="")


def host(layer: Optional[Dict[str, Any]] = None, known: Optional[Dict[str, Any]] = None, **more: Any) -> Dict[str, Any]:
    """A host as the plan sees it."""
    normal = contexts.normalise([layer or {}])["context"]
    return dict({"context": normal, "facts": facts() if known is None else known, "runtime": "", "reachable": True, "reason": ""}, **more)


def unreachable(layer: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """A host that does not answer."""
    return dict(host(layer), facts=None, reachable=False, reason="ssh: no route to host")


def make(repo: Path, cards: Any = None, hosts: Any = None, **options: Any) -> Dict[str, Any]:
    """A plan of this play, as campaign_plan writes it for a new campaign."""
    more = {key: options.pop(key) for key in ("manifest", "environ", "credentials", "common", "broken") if key in options}
    models = [card()] if cards is None else cards
    made = plan.make_plan(models, {"n1": host()} if hosts is None else hosts, dict(options, campaign=CAMPAIGN), str(repo), **more)
    whole = plan_continue.continue_plan(made, None, {}, {})
    plan_continue.build_hosts(whole, options.get("build_host", ""))
    return whole


def runs(repo: Path, cards: Any = None, hosts: Any = None, **options: Any) -> List[Dict[str, Any]]:
    """Its runs."""
    return list(make(repo, cards, hosts, **options)["runs"])


def one(repo: Path, cards: Any = None, hosts: Any = None, **options: Any) -> Dict[str, Any]:
    """Its only run."""
    (run,) = runs(repo, cards, hosts, **options)
    return run


def fails(run: dict, failure_class: str, *words: str) -> None:
    """The run has failed already, for a reason with these words."""
    assert run["outcome"] is not None, run
    assert (run["outcome"]["status"], run["outcome"]["failure_class"]) == ("FAILURE", failure_class), run["outcome"]
    for word in words:
        assert word in run["outcome"]["reason"]


def skips(run: dict, *words: str) -> None:
    """The run is skipped, for a reason with these words."""
    assert run["outcome"] is not None and (run["outcome"]["status"], run["outcome"]["failure_class"]) == ("SKIPPED", "")
    for word in words:
        assert word in run["outcome"]["reason"]
