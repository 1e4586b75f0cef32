# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and labels of Kubernetes objects: valid for any model, the same whoever asks, different for every attempt of every run."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

from ..base.canonical import hash_value

PREFIX = "mad"
LABEL_LENGTH = 63
# A pod of an Indexed Job is reached as <job>-<index>, and that is a DNS label too: room for indexes up to 99999.
JOB_LENGTH = LABEL_LENGTH - len("-99999")

# Our own labels. A watch of a campaign selects by CAMPAIGN; the run id is the key of everything else.
CAMPAIGN, RUN, ATTEMPT, HOST, MODEL = ("mad.engine/%s" % word for word in ("campaign", "run", "attempt", "host", "model"))
MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "mad.engine"

_NOT_DNS = re.compile(r"[^a-z0-9]+")
_NOT_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")
_EDGES = re.compile(r"\A[^A-Za-z0-9]+|[^A-Za-z0-9]+\Z")


def dns_label(text: str, length: int = LABEL_LENGTH) -> str:
    """Any text as a DNS label (RFC 1035: a letter first) of at most this length. What had to be changed gets a hash of the text behind it."""
    plain = _NOT_DNS.sub("-", text.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else ("x-" + plain).rstrip("-")
    if plain == text and len(plain) <= length:
        return plain
    return "%s-%s" % (plain[: length - 9].rstrip("-"), _digest(text))


def job_name(campaign: str, run_id: str, attempt: int, model: str) -> str:
    """`mad-<model>-<10 hex>-<attempt>`: names the Job of one attempt, its Service, and what else belongs to it."""
    tail = "-%s-%d" % (_digest([campaign, run_id, model], 10), attempt)
    plain = _NOT_DNS.sub("-", model.lower()).strip("-")
    room = JOB_LENGTH - len(PREFIX) - 1 - len(tail)
    return "-".join(part for part in (PREFIX, plain[:room].strip("-")) if part) + tail


def label_value(text: str) -> str:
    """Any text as the value of a label; what had to be changed gets a hash of the text behind it, so that two texts never share a value."""
    plain = _EDGES.sub("", _NOT_LABEL.sub("-", text))
    if plain == text and len(plain) <= LABEL_LENGTH:
        return plain
    return ("%s-%s" % (plain[: LABEL_LENGTH - 9].rstrip("-._"), _digest(text))).lstrip("-") if text else ""


def selector(campaign: str) -> str:
    """The label selector of everything that belongs to a campaign."""
    return "%s=%s,%s=%s" % (MANAGED, MANAGER, CAMPAIGN, label_value(campaign))


def labels(run: Mapping[str, Any]) -> Dict[str, str]:
    """The labels of every object of a run's attempt: the recommended ones, and ours."""
    campaign, model = str(run["campaign"]), str(run["model"])
    attempt = int(run.get("attempt") or 1)
    return {
        "app.kubernetes.io/name": "mad-engine",
        "app.kubernetes.io/instance": job_name(campaign, str(run["id"]), attempt, model),
        "app.kubernetes.io/component": "benchmark",
        "app.kubernetes.io/part-of": label_value(campaign),
        MANAGED: MANAGER,
        CAMPAIGN: label_value(campaign),
        RUN: label_value(str(run["id"])),
        ATTEMPT: str(attempt),
        HOST: label_value(str((run.get("place") or {}).get("host") or "")),
        MODEL: label_value(model),
    }


def _digest(value: Any, length: int = 8) -> str:
    return hash_value(value)[:length]
