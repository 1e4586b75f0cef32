# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and labels: valid for any text, the same for the same, different for what differs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_names

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?\Z")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")
texts = st.text(max_size=90)


@pytest.mark.parametrize(
    "text,name",
    [
        ("dummy", "dummy"),
        ("a-b", "a-b"),
        ("primus_pretrain/qwen3_1.7B", "primus-pretrain-qwen3-1-7b-d47543e4"),
        ("", "x-12ae32cb"),
    ],
)
def test_dns_labels(text: str, name: str) -> None:
    assert k8s_names.dns_label(text) == name


@given(texts, st.integers(12, 63))
def test_any_text_becomes_a_dns_label(text: str, length: int) -> None:
    name = k8s_names.dns_label(text, length)
    assert DNS_LABEL.match(name) and len(name) <= length
    assert k8s_names.dns_label(name, length) == name


@given(texts, texts)
def test_two_texts_never_share_a_name_or_a_label(one: str, other: str) -> None:
    if one != other:
        assert k8s_names.dns_label(one) != k8s_names.dns_label(other)
        assert k8s_names.label_value(one) != k8s_names.label_value(other)
        assert k8s_names.job_name("c", "r", 1, one) != k8s_names.job_name("c", "r", 1, other)


@given(texts, texts, st.integers(1, 9999), texts)
def test_a_job_s_pods_have_names_too(campaign: str, run_id: str, attempt: int, model: str) -> None:
    name = k8s_names.job_name(campaign, run_id, attempt, model)
    assert DNS_LABEL.match(name) and DNS_LABEL.match(name + "-99999")
    assert name == k8s_names.job_name(campaign, run_id, attempt, model)
    assert name != k8s_names.job_name(campaign, run_id, attempt + 1, model) and name.endswith("-%d" % attempt)


@given(texts, texts, texts)
def test_labels_are_label_values(campaign: str, model: str, host: str) -> None:
    labels = k8s_names.labels({"campaign": campaign, "id": "0123456789abcdef", "attempt": 2, "model": model, "place": {"host": host}})
    assert all(LABEL_VALUE.match(value) for value in labels.values()), labels
    assert labels["mad.engine/run"] == "0123456789abcdef" and labels["mad.engine/attempt"] == "2"
    assert k8s_names.selector(campaign).endswith(labels["mad.engine/campaign"])


def test_long_models_that_differ_at_their_end() -> None:
    names = {k8s_names.job_name("c", "r", 1, "m" * 80 + tail) for tail in "abc"}
    assert len(names) == 3
