# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one row builder: from a record to rows of perf.csv, and from rows to CSV text and back.

The header: madengine's 29 columns in madengine's order, then ours (the last of them, `extra`, holds every further column of a
multiple_results file as JSON), then one column for each of those further names, sorted: the first part never depends on contents.
A further column whose name is taken stands in `extra` only.

Cells are text. A text that a spreadsheet would run as a formula (first character = + - @, a tab, a line end or one of their full-width
forms) gets an apostrophe in front, and so does a text of apostrophes before such a character, which makes `restore` exact; a plain number
such as -1 or +1.5e3 stays as it is. Line ends inside cells are kept and quoted.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import time
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .hardware import hardware_class
from .metrics import NUMBER, number
from .record import is_moment
from .status import row_status

MADENGINE_COLUMNS = (
    *("model", "n_gpus", "nnodes", "gpus_per_node", "training_precision", "pipeline", "args", "tags", "docker_file", "base_docker"),
    *("docker_sha", "docker_image", "git_commit", "machine_name", "deployment_type", "launcher", "gpu_architecture", "performance"),
    *("metric", "relative_change", "status", "build_duration", "test_duration", "dataname", "data_provider_type", "data_size"),
    *("data_download_duration", "build_number", "additional_docker_run_options"),
)
OUR_COLUMNS = (
    *("campaign", "run_id", "attempt", "result", "host", "repeat", "runtime", "failure_class", "reason", "unit", "better", "digest"),
    *("repo_commit", "started", "finished", "queue_duration", "stage_duration", "run_duration", "model_duration", "exit_code"),
    *("gpu_vendor", "gpu_product", "gpus", "cpus", "hardware"),
    *("version", "repo_diff", "card_hash", "context_hash", "driver", "firmware", "kernel", "governor", "numa", "extra"),
)
COLUMNS = MADENGINE_COLUMNS + OUR_COLUMNS
# What makes a row one row, and what makes rows those of one attempt.
KEY = ("campaign", "run_id", "attempt", "result")
ATTEMPT_KEY = ("campaign", "run_id", "attempt")

# What a run has in common with those of a baseline, and the baseline's median of each.
_COMPARED = ("model", "args", "metric", "n_gpus", "host")
Baseline = Dict[Tuple[str, ...], float]

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_ARMED = re.compile("''*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_SPECIAL = re.compile('[,"\r\n]|\\A\\s|\\s\\Z')
_DEPLOYMENT = {"k8s": "kubernetes"}
_PLAIN_LAUNCHERS = ("", "none", "python")  # nothing that madengine would call a launcher


def rows(record: Mapping[str, Any], baseline: Optional[Baseline] = None) -> List[Dict[str, str]]:
    """The rows of one record: one, or one per result of `multiple_results`; relative_change is that to the `baseline`."""
    shared = {**_from_card(record), **_from_image(record), **_from_place(record), **_our_part(record), **_provenance(record)}
    metrics: Sequence[Mapping[str, Any]] = record.get("metrics") or [{}]
    found = [_row(record, shared, metric, index) for index, metric in enumerate(metrics, 1)]
    for row in found if baseline else ():
        row["relative_change"] = _relative_change(row, baseline or {})
    return found


def _row(record: Mapping[str, Any], shared: Mapping[str, str], metric: Mapping[str, Any], index: int) -> Dict[str, str]:
    extra = metric.get("extra") or {}
    own = {
        "model": record["model"] + ("_" + metric["row"] if metric.get("row") else ""),
        "performance": str(metric.get("text") or ""),
        "metric": str(metric.get("unit") or ""),
        "status": row_status(record, metric) if metric else record["status"],
        "result": str(index),
        "unit": str(metric.get("unit") or ""),
        "better": str(metric.get("better") or ""),
        "extra": json.dumps(extra, sort_keys=True, ensure_ascii=False) if extra else "",
    }
    row = {**dict.fromkeys(COLUMNS, ""), **shared, **own, **{name: text for name, text in extra.items() if name not in COLUMNS}}
    if row["status"] == "SUCCESS":
        row["failure_class"] = row["reason"] = ""
    elif row["status"] == "FAILURE" and not row["failure_class"]:
        row["failure_class"], row["reason"] = "no_metric", "no performance"
    return row


def baseline_of(comparison: Mapping[str, Any]) -> Baseline:
    """What a campaign's comparison.json says of its baseline; an entry that cannot be read says nothing."""
    found: Baseline = {}
    entries = comparison.get("locations")
    for entry in entries if isinstance(entries, list) else ():
        median = entry.get("median") if isinstance(entry, dict) else None
        if isinstance(median, (int, float)) and not isinstance(median, bool) and median > 0:
            found[tuple(str(entry.get(name, "")) for name in _COMPARED)] = float(median)
    return found


def _relative_change(row: Mapping[str, str], baseline: Baseline) -> str:
    """A part: 0.05 is five percent more than the baseline's median on this host, or on all hosts where this one is not in it."""
    value = number(row["performance"])
    key = (row["model"], " ".join(row["args"].split()), row["metric"] or "performance", row["n_gpus"])
    median = baseline.get((*key, row["host"])) or baseline.get((*key, ""))
    return "" if value is None or median is None or row["status"] != "SUCCESS" else "%.4f" % (value / median - 1.0)


def _from_card(record: Mapping[str, Any]) -> Dict[str, str]:
    card = record.get("card") or {}
    tags = card.get("tags") or []
    data = record.get("data") or {}
    return {
        "training_precision": _text(card.get("training_precision")),
        "args": _text(record.get("args")),
        "tags": tags if isinstance(tags, str) else ",".join(str(tag) for tag in tags),
        "dataname": _text(data.get("name") or card.get("data")),
        "data_provider_type": _text(data.get("provider_type")),
        "data_size": _text(data.get("size")),
        "data_download_duration": _text(data.get("download_duration")),
        "additional_docker_run_options": _text(card.get("additional_docker_run_options")),
        "pipeline": _text(record.get("pipeline")),
        "build_number": _text(record.get("build_number") or "0"),
    }


def _from_image(record: Mapping[str, Any]) -> Dict[str, str]:
    image = record.get("image") or {}
    return {
        "docker_file": "N/A (local image mode)" if image.get("given") else _text(image.get("dockerfile")),
        "base_docker": _text(image.get("base_docker")),
        "docker_sha": _text(image.get("docker_sha")),
        "docker_image": _text(image.get("name")),
        "digest": _text(image.get("digest")),
        "git_commit": _text(record.get("git_commit") or record.get("repo_commit")),
        "repo_commit": _text(record.get("repo_commit")),
    }


def _from_place(record: Mapping[str, Any]) -> Dict[str, str]:
    place, host, gpus, launcher = (record.get(key) or {} for key in ("place", "host", "gpus", "launcher"))
    nodes, count = launcher.get("nnodes") or 1, gpus.get("count")
    target = str(place.get("target") or "local")
    runtime = str((record.get("target") or {}).get("runtime") or "")
    name = str(launcher.get("name") or "")
    return {
        "n_gpus": _text(count),
        "nnodes": _text(nodes),
        "gpus_per_node": _text(count // nodes if isinstance(count, int) and isinstance(nodes, int) and nodes > 0 else ""),
        "machine_name": _text(host.get("hostname") or place.get("host")),
        "deployment_type": _DEPLOYMENT.get(target, target),
        "launcher": ("native" if target == "k8s" else runtime) if name in _PLAIN_LAUNCHERS else name,
        "gpu_architecture": _text(gpus.get("architecture") or "N/A"),
        "host": _text(place.get("host")),
        "runtime": runtime,
        "gpu_vendor": _text(gpus.get("vendor")),
        "gpu_product": _text((host.get("gpu") or {}).get("product")),
        "gpus": ",".join(str(index) for index in gpus.get("indexes") or []),
        "cpus": _text(record.get("cpus")),
        "hardware": hardware_class(host),
    }


def _our_part(record: Mapping[str, Any]) -> Dict[str, str]:
    times = record.get("timings") or {}
    own = {name: _text(record.get(name)) for name in ("campaign", "run_id", "attempt", "repeat", "failure_class", "reason", "exit_code")}
    durations = {name + "_duration": _seconds(times.get(name)) for name in ("queue", "stage", "run", "model", "build")}
    moments = {name: _moment(times.get(name)) for name in ("started", "finished")}
    return {**own, **durations, **moments, "test_duration": durations["run_duration"]}


def _provenance(record: Mapping[str, Any]) -> Dict[str, str]:
    """What it takes to explain the row months later; the record has more of it."""
    host, content = record.get("host") or {}, record.get("content") or {}
    firmware = host.get("firmware") or {}
    return {
        "version": _text(record.get("version")),
        "repo_diff": _text(record.get("repo_diff")),
        "card_hash": _text(content.get("card")),
        "context_hash": _text(content.get("context")),
        "driver": _text((host.get("gpu") or {}).get("driver")),
        "firmware": "; ".join("%s %s" % (name, firmware[name]) for name in ("bios", "microcode", "gpu") if firmware.get(name)),
        "kernel": _text(host.get("kernel")),
        "governor": _text((host.get("cpu") or {}).get("governor")),
        "numa": "; ".join(str(cpus) for cpus in host.get("numa") or []),
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _seconds(value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    return ("%.3f" % value).rstrip("0").rstrip(".") or "0"


def _moment(value: Any) -> str:
    """ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value)) if is_moment(value) else ""


# -- CSV -----------------------------------------------------------------------------------------------------------------------


def header(entries: Iterable[Mapping[str, str]], known: Sequence[str] = ()) -> List[str]:
    """The header for these rows: `known` columns of a file keep their places, then COLUMNS, then further names, sorted."""
    columns = list(dict.fromkeys([*known, *COLUMNS]))
    further = {name for entry in entries for name in entry} - set(columns)
    return columns + sorted(further)


@functools.lru_cache(maxsize=4096)  # most cells of a table are those of the row above
def neutral(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; `restore` undoes it. NUL bytes, which no CSV reader takes, are replaced."""
    text = text.replace("\0", "\ufffd")
    return "'" + text if _FORMULA.match(text) and not NUMBER.match(text) else text


def restore(cell: str) -> str:
    """The text that `neutral` was given."""
    return cell[1:] if _ARMED.match(cell) else cell


def to_csv(columns: Sequence[str], entries: Iterable[Mapping[str, str]]) -> str:
    """CSV text with a header and line ends of one line feed; cells are made neutral, absent ones are empty."""
    lines = [columns, *([entry.get(name, "") for name in columns] for entry in entries)]
    return raw_csv([neutral(cell) for cell in line] for line in lines)


def raw_csv(lines: Iterable[Sequence[str]]) -> str:
    """CSV text of cells as they are; line ends of one line feed."""
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


@functools.lru_cache(maxsize=4096)
def _quoted(cell: str) -> str:
    """A cell as csv.reader takes it back (the csv module of older Pythons leaves a lone carriage return unquoted)."""
    if _SPECIAL.search(cell):
        return '"%s"' % cell.replace('"', '""')
    return cell


def from_csv(text: str) -> List[Dict[str, str]]:
    """The rows of a perf.csv (ours or madengine's), cells restored."""
    reader = csv.reader(io.StringIO(text, newline=""))
    columns = [restore(name) for name in next(reader, [])]
    return [dict(zip(columns, map(restore, cells))) for cells in reader if cells]
