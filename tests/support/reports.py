# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns to report on: fleets of any size with noise, slow hosts, failures and logs, the same every time."""

from __future__ import annotations

import os
import random
from typing import Any, Dict, List, Sequence

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.hardware import hardware_class

from .records import make_campaign, make_metric, make_outcome, make_parsed, make_run

NIGHT = 1_795_000_000.0  # a night in November 2026
MODELS = (
    ("llm/llama-3.1-8b", "tokens_per_second", 11250.0, ("llm", "inference")),
    ("llm/mixtral-8x7b", "tokens_per_second", 4830.0, ("llm", "inference")),
    ("vision/resnet50", "images_per_second", 2710.0, ("vision", "training")),
    ("comm/all_reduce", "busbw", 371.5, ("comm",)),
    ("bert-large", "ms", 18.4, ("nlp", "inference")),
    ("diffusion/sdxl", "seconds_per_image", 1.92, ("vision", "inference")),
)
PRODUCTS = (("AMD", "MI300X", "gfx942", "6.12.12"), ("NVIDIA", "H100 80GB HBM3", "H100", "550.90"))
FAILURES = (
    ("oom", {"oom": True}, "HIP out of memory. Tried to allocate 12.50 GiB"),
    ("crash", {"exit_code": 139}, "Segmentation fault (core dumped)"),
    ("timeout", {"timed_out": True}, "step 4800/5000"),
)


def hardware(number: int, hosts: int) -> str:
    """The class of a host of such a fleet."""
    return hardware_class(facts(number, hosts))


def facts(number: int, hosts: int) -> Dict[str, Any]:
    """What a host is: the first two thirds of a fleet have the first product."""
    vendor, product, architecture, driver = PRODUCTS[0 if number * 3 < hosts * 2 else 1]
    gpu = {"vendor": vendor, "count": 8, "product": product, "architecture": architecture, "driver": driver, "runtime_version": "6.4.1"}
    cpu = {"model": "AMD EPYC 9654 96-Core Processor", "count": 192, "governor": "performance", "architecture": "x86_64"}
    os_facts = {"id": "ubuntu", "version": "24.04", "name": "Ubuntu 24.04.1 LTS"}
    name = "node%03d" % (number + 1)
    return {
        "hostname": name,
        "kernel": "6.8.0-45-generic",
        "gpu": gpu,
        "cpu": cpu,
        "os": os_facts,
        "memory_bytes": 2164 * 10**9,
        "numa_balancing": "0",
    }


def fleet(
    results: Any,
    name: str,
    *,
    hosts: int = 6,
    models: int = len(MODELS),
    repeats: int = 3,
    night: int = 0,
    slow: float = 1.0,
    failing: float = 0.04,
    logs: int = 40,
) -> Campaign:
    """One campaign of models x hosts x repeats. `slow` is what the first model's numbers are multiplied by; the third host is 6 % slow."""
    dice, runs, kept = random.Random("%s %d" % (name, night)), [], []
    for host in range(hosts):
        known = facts(host, hosts)
        for number in range(models * repeats):
            run = _run(len(runs) + 1, number // repeats, number % repeats + 1, known["hostname"])
            runs.append(run)
            kept.append(_record({**run, "campaign": name}, known, dice, night, slow, failing, 0.94 if host == 2 else 1.0))
    command = ["ansible-playbook", "-i", "inventory.yml", "mad.engine.run", "-e", "mad_repo=/srv/MAD", "-e", "mad_tags=llm,vision"]
    campaign = make_campaign(
        results, runs, name, command=command, created=NIGHT + night * 86400.0, options={"tags": ["llm", "vision"], "repeats": repeats}
    )
    for record in kept:
        save(campaign, record, logs)
    return campaign


def save(campaign: Campaign, record: Dict[str, Any], logs: int = 0, log: Sequence[str] = ()) -> None:
    """Keep a record as a play would, but without waiting for the disk; `logs` lines of a log beside it, or the given ones."""
    folder = campaign.run_dir(record["run_id"], make=True)
    with open(campaign.result_path(record["run_id"]), "wb") as stream:
        stream.write(files.json.dumps(record).encode("utf-8", "surrogateescape"))
    lines = list(log) or _log(record, logs)
    if lines:
        with open(os.path.join(folder, "run.log"), "wb") as stream:
            stream.write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def _run(number: int, model: int, repeat: int, host: str) -> Dict[str, Any]:
    title, dummy, dummy, tags = MODELS[model % len(MODELS)]
    title += "" if model < len(MODELS) else "-%d" % (model // len(MODELS))
    env = {
        "MAD_MODEL_NAME": title,
        "NCCL_SOCKET_IFNAME": "ens1f0",
        "HSA_ENABLE_SDMA": "0",
        "MAD_SYSTEM_NGPUS": {"unresolved": "the GPUs of the host"},
    }
    return make_run(
        number, model=title, card={"name": title, "tags": list(tags)}, repeat=repeat, place={"host": host}, env=env, secret_env=["HF_TOKEN"],
        command={"argv": ["bash", "run.sh", "--a", "1"]}, options=["--shm-size", "64g"], order=number,
    )  # fmt: skip


def _record(
    run: Dict[str, Any], known: Dict[str, Any], dice: random.Random, night: int, slow: float, failing: float, host: float
) -> Dict[str, Any]:
    index = run["order"] - 1
    base = next(entry for entry in MODELS if run["model"].startswith(entry[0]))
    began = NIGHT + night * 86400.0 + index % 97 * 60.0
    times = {"queued": began - 30, "staged": began - 12, "started": began, "finished": began + 240 + dice.random() * 40}
    times.update(model_started=began + 3, model_finished=times["finished"] - 1)
    if dice.random() < failing:
        dummy, how, line = FAILURES[dice.randrange(len(FAILURES))]
        return records.make_record(run, make_outcome(times=times, **how), make_parsed(metrics=[], excerpt=[line]), known)
    value = base[2] * dice.gauss(1.0, 0.008) * (2.0 if known["gpu"]["vendor"] == "NVIDIA" else 1.0)
    better = "lower" if base[1] in ("ms", "seconds_per_image") else "higher"
    value *= (host if better == "higher" else 1 / host) * (slow if base is MODELS[0] else 1.0)
    metric = make_metric(name=base[1], unit=base[1], value=value, text="%.6g" % value, better=better)
    return records.make_record(run, make_outcome(times=times), make_parsed(metrics=[metric]), known)


def _log(record: Dict[str, Any], lines: int) -> List[str]:
    dice = random.Random(record["run_id"])
    body = [
        "[%5d] step %d loss %.4f lr %.2e" % (number, number * 50, 8 / (1 + number) + dice.random() / 9, 3e-4 * dice.random())
        for number in range(lines)
    ]
    if lines and record["status"] == "FAILURE":
        trace = [
            "Traceback (most recent call last):",
            '  File "run.py", line %d, in <module>' % dice.randrange(900),
            "RuntimeError: " + record["reason"],
        ]
        return [*body, *trace]
    return [*body, *("performance: %s %s" % (metric["text"], metric["unit"]) for metric in record["metrics"])] if lines else []
