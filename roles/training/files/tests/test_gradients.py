# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses, accumulation, gradient health, out of memory: the gradient of a window is the gradient of the big batch."""

from __future__ import annotations

import math
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training_engine.chunked import chunked_cross_entropy
from training_engine.config import TrainingConfigBuilder
from training_engine.data.collate import IGNORE
from training_engine.data.loader import Window
from training_engine.data.plan import WindowShape
from training_engine.errors import MemoryExhausted, NoRetryError, UsageError
from training_engine.health import GradientMonitor, layer_norms, total_norm
from training_engine.loss import ClassificationLoss, LanguageModelingLoss, MaskedLMLoss, Seq2SeqLoss, check_trainable, losses, real_valued
from training_engine.output import ModelOutput, adapter_for
from training_engine.peers import Peers, Place
from training_engine.step import EMPTY, UNHEALTHY, UPDATED, TrainStep, input_names, split_batch

VOCAB = 11


class Tiny(nn.Module):
    """An embedding and a head: logits (B, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(VOCAB, 6), nn.Linear(6, VOCAB)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(input_ids))


def _batch(rows: int, lengths: list[int], length: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCAB, (rows, length), generator=draw)
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "labels": ids.masked_fill(mask == 0, IGNORE), "attention_mask": mask}


def _window(batches: list[dict[str, torch.Tensor]]) -> Window:
    return Window(WindowShape(0, 0, 0, 1, False), batches, [False] * len(batches))


def _step(model: nn.Module, *, dtype_loss=None, events=None, **values) -> TrainStep:
    builder = TrainingConfigBuilder().with_optimizer("sgd").with_momentum(0.0).with_max_grad_norm(0.0)
    for name, value in values.items():
        getattr(builder, f"with_{name}")(value)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return TrainStep(model, optimizer, dtype_loss or LanguageModelingLoss(), builder.build(), rate=lambda _: 1.0, monitor=GradientMonitor(),
                     peers=Peers(Place()), device=torch.device("cpu"), on_event=lambda name, **what: (events or []).append((name, what)))


@pytest.mark.parametrize("dtype,limit", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 32])
def test_accumulated_gradient_equals_the_big_batch(dtype, limit, count):
    """Ragged batches: a mean of means would be wrong by up to half."""
    batches = [_batch(2, [1 + (5 * number) % 7, 2 + number % 6], seed=number) for number in range(count)]
    model = Tiny().to(dtype)
    step = _step(model)
    window = _window(batches)
    step._accumulate(window, step.weight(window))
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    reference = Tiny().to(dtype)
    logits = reference(whole["input_ids"])[:, :-1]
    F.cross_entropy(logits.reshape(-1, VOCAB), whole["labels"][:, 1:].reshape(-1)).backward()
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert (mine.grad - theirs.grad).norm() <= limit * theirs.grad.norm()


def test_language_modeling_targets():
    """Token 0 is a token; masks move with the labels; packed documents do not predict across their border."""
    loss = LanguageModelingLoss()
    ids = torch.tensor([[0, 1, 0, 2]])
    assert loss.targets({"labels": ids}).tolist() == [[1, 0, 2, IGNORE]]
    assert int(loss.weight({"labels": ids})) == 3
    assert loss.targets({"labels": ids, "attention_mask": torch.tensor([[0, 1, 1, 1]])}).tolist() == [[1, 0, 2, IGNORE]]
    assert loss.targets({"labels": ids, "attention_mask": torch.tensor([[1, 1, 0, 0]])}).tolist() == [[1, IGNORE, IGNORE, IGNORE]]
    documents = torch.tensor([[5, 5, 6, 6]])
    assert loss.targets({"labels": ids, "document_ids": documents}).tolist() == [[1, IGNORE, 2, IGNORE]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_padding_content_never_matters(lengths, seed):
    batch = _batch(len(lengths), lengths, seed=seed)
    model = Tiny()
    loss = LanguageModelingLoss()
    first = loss.compute_loss(batch, ModelOutput(model(batch["input_ids"])))
    noisy = batch["input_ids"].where(batch["attention_mask"] == 1, torch.tensor(3))
    second = loss.compute_loss({**batch, "labels": noisy}, ModelOutput(model(noisy)))
    assert torch.equal(first.weight, second.weight)
    assert math.isclose(float(first.total.detach()), float(second.total.detach()), rel_tol=1e-5, abs_tol=1e-6)
    assert int(first.weight) == int(loss.weight(batch))


def test_all_ignored_gives_zero_and_no_update():
    model = Tiny()
    batch = _batch(2, [0, 1])
    total, weight = LanguageModelingLoss().compute_loss(batch, ModelOutput(model(batch["input_ids"])))
    assert (float(total.detach()), int(weight)) == (0.0, 0)
    window = _window([batch])
    step = _step(model)
    before = model.head.weight.clone()
    assert step.run(window, step.weight(window), 0).kind == EMPTY
    assert torch.equal(before, model.head.weight)


def test_classification_weights_match_torch():
    logits, labels = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, 0, 0, 1, IGNORE, 0])
    weights = torch.tensor([0.1, 1.0, 2.0, 3.0])
    loss = ClassificationLoss(class_weights=weights)
    total, weight = loss.compute_loss({"labels": labels}, ModelOutput(logits))
    assert torch.allclose(total / weight, F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE))
    assert torch.equal(weight, loss.weight({"labels": labels}))


def test_other_strategies():
    ids = torch.tensor([[1, 2, 3]])
    assert MaskedLMLoss().targets({"labels": ids, "attention_mask": torch.tensor([[1, 0, 1]])}).tolist() == [[1, IGNORE, 3]]
    batch = {"labels": ids, "attention_mask": torch.tensor([[0, 0, 0, 0]]), "decoder_attention_mask": torch.tensor([[1, 1, 0]])}
    assert Seq2SeqLoss().targets(batch).tolist() == [[1, 2, IGNORE]]
    assert set(losses.list_available()) == {"language_modeling", "masked_lm", "seq2seq", "classification", "vision_classification"}


@pytest.mark.parametrize("batch,logits,words", [
    ({}, torch.zeros(2, 3, VOCAB), "no 'labels'"),
    ({"labels": torch.zeros(8, 3, dtype=torch.long)}, torch.zeros(4, 3, VOCAB), r"\(4, 3, 11\).*\(8, 3\)"),
    ({"labels": torch.zeros(3, 4, dtype=torch.long)}, torch.zeros(4, 3, VOCAB), "expected"),
    ({"labels": torch.full((1, 3), VOCAB)}, torch.zeros(1, 3, VOCAB), "enlarge the head"),
    ({"labels": torch.tensor([[1, 9, 9]])}, torch.zeros(1, 3, VOCAB), "attention_mask"),
    ({"labels": torch.zeros(1, 3, dtype=torch.long)}, None, "no logits"),
    ({"labels": torch.zeros(1, 3, dtype=torch.long)}, torch.zeros(1, 3, VOCAB, dtype=torch.int32), "dequantize"),
])
def test_errors_name_tensor_shape_and_fix(batch, logits, words):
    with pytest.raises(UsageError, match=words):
        LanguageModelingLoss(pad_token_id=9).compute_loss(batch, ModelOutput(logits))


@pytest.mark.parametrize("logits,labels,weights,words", [
    (torch.zeros(4, 3), torch.zeros(8, dtype=torch.long), None, r"\(4, 3\).*\(8,\)"),
    (torch.zeros(4, 3), torch.full((4,), 3), None, "3 classes"),
    (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), torch.ones(2), "2 class weights for 3"),
    (None, torch.zeros(4, dtype=torch.long), None, "no logits"),
])
def test_classification_errors(logits, labels, weights, words):
    with pytest.raises(UsageError, match=words):
        ClassificationLoss(class_weights=weights).compute_loss({"labels": labels}, ModelOutput(logits))


def test_quantized_logits_are_dequantized():
    logits = torch.quantize_per_tensor(torch.tensor([[1.0, -1.0]]), 0.1, 0, torch.qint8)
    assert torch.allclose(real_valued(logits), torch.tensor([[1.0, -1.0]]), atol=0.06)


def test_frozen_base_and_adapters():
    model = Tiny()
    model.embed.requires_grad_(False)
    assert check_trainable(model) == (6 * VOCAB + VOCAB, 12 * VOCAB + VOCAB)
    step = _step(model)
    window = _window([_batch(2, [7, 7])])
    assert step.run(window, step.weight(window), 0).kind == UPDATED
    assert model.embed.weight.grad is None
    model.head.requires_grad_(False)
    with pytest.raises(UsageError, match="trainable"):
        check_trainable(model)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunked_cross_entropy_equals_the_plain_one(chunk, dtype):
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 5, dtype=dtype, requires_grad=True), torch.randn(VOCAB, 5, dtype=dtype, requires_grad=True)
    targets = torch.tensor([1, 2, IGNORE, 3, 4, 5, IGNORE, 0, 10, 9])
    plain = F.cross_entropy(hidden @ weight.T, targets, reduction="sum", ignore_index=IGNORE)
    expected = torch.autograd.grad(plain * 0.3, (hidden, weight))
    mine = chunked_cross_entropy(hidden, weight, targets, chunk, IGNORE)
    found = torch.autograd.grad(mine * 0.3, (hidden, weight))
    assert torch.allclose(mine.to(dtype), plain, rtol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(found, expected, strict=True))


def test_chunked_head_through_the_strategy():
    model = Tiny()
    batch = _batch(2, [7, 5])
    loss = LanguageModelingLoss(head=nn.Linear(6, VOCAB, bias=False), chunk_size=4)
    total, dummy = loss.compute_loss(batch, ModelOutput(None, hidden_states=model.embed(batch["input_ids"])))
    plain, dummy = LanguageModelingLoss().compute_loss(batch, ModelOutput(loss._head(model.embed(batch["input_ids"]))))
    assert torch.allclose(total, plain, rtol=1e-5)


# -- health


@pytest.mark.parametrize("value,word", [(float("nan"), "NaN"), (float("inf"), "Inf")])
def test_injected_into_every_parameter_in_turn(value, word):
    """Scenario 1 of the plan, for each parameter: found, named, and no update made."""
    for victim, dummy in Tiny().named_parameters():
        model = Tiny()
        for name, parameter in model.named_parameters():
            parameter.grad = torch.ones_like(parameter)
            if name == victim:
                parameter.grad.view(-1)[-1] = value
        health = GradientMonitor(max_consecutive_failures=9).check_gradients(model)
        assert (health.is_healthy, health.has_nan, health.has_inf) == (False, word == "NaN", word == "Inf")
        assert health.affected_layers == [f"{victim} ({word})"]


def test_three_in_a_row_of_any_kind_is_a_verdict():
    """Scenario 2, and an Inf in between does not start the count again."""
    monitor = GradientMonitor()
    ones = [1.0]
    assert monitor.observe(ones, float("nan"), ["a"]) is False
    assert monitor.observe(ones, float("inf"), ["a"]) is False
    with pytest.raises(NoRetryError, match="3 unhealthy"):
        monitor.observe(ones, float("nan"), ["a"])
    monitor = GradientMonitor()
    for total in (float("nan"), float("nan"), 1.0, float("nan"), float("nan")):
        monitor.observe(ones, total, ["a"])
    assert monitor.consecutive == 2


def test_no_gradients_at_all_is_unhealthy():
    health = GradientMonitor().check_gradients(Tiny())
    assert (health.is_healthy, health.min_norm, health.issues) == (False, 0.0, ("no gradients",))


@pytest.mark.parametrize("total,word", [(1e-9, "vanishing"), (50.0, "exploding"), (0.5, "")])
def test_thresholds(total, word):
    """Scenarios 3, 4 and 5."""
    seen = []
    monitor = GradientMonitor(on_issue=lambda **what: seen.append(what["issues"][0]))
    assert monitor.observe([total], total, ["a"])
    assert monitor.observe([total], total, ["a"])
    assert [issue.split(":")[0] for issue in seen] == ([word] if word else [])


def test_a_layer_far_from_its_own_median_is_named():
    seen = []
    monitor = GradientMonitor(on_issue=lambda **what: seen.extend(what["issues"]), relative_limit=100.0)
    for dummy in range(20):
        monitor.observe([1e-3, 1.0], 1.0, ["small", "large"])
    assert not seen
    saved = monitor.state_dict()
    other = GradientMonitor(on_issue=lambda **what: seen.extend(what["issues"]), relative_limit=100.0)
    other.load_state_dict(saved)
    other.observe([1.0, 1.0], 1.4, ["small", "large"])
    assert seen == ["unusual: small"]


def test_norms_of_half_precision_do_not_overflow():
    assert math.isclose(layer_norms([torch.full((1000,), 300.0, dtype=torch.float16)])[0], 300.0 * 1000**0.5, rel_tol=1e-3)
    assert not math.isfinite(total_norm([1.0, float("nan")]))
    assert not math.isfinite(total_norm([float("inf"), float("nan")]))


def test_unhealthy_step_changes_nothing():
    model, events = Tiny(), []
    step = _step(model, events=events)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    before = model.embed.weight.clone()
    window = _window([_batch(2, [7, 7])])
    assert step.run(window, step.weight(window), 0).kind == UNHEALTHY
    assert torch.equal(before, model.embed.weight)


def test_clipping_limits_the_norm():
    model = Tiny()
    step = _step(model, max_grad_norm=0.01)
    window = _window([_batch(2, [7, 7])])
    outcome = step.run(window, step.weight(window), 0)
    assert outcome.grad_norm > 0.01
    assert abs(total_norm(layer_norms([p.grad for p in model.parameters()])) - 0.01) < 1e-5


# -- memory


class Hungry(Tiny):
    """Fails for batches of more than `limit` samples, as an allocator does."""

    limit = 2

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        if len(input_ids) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(input_ids)


def test_out_of_memory_splits_with_the_same_gradient():
    batch = _batch(7, [7, 3, 5, 1, 7, 2, 6])
    plain, hungry = Tiny(), Hungry()
    for model in (plain, hungry):
        step = _step(model)
        window = _window([batch])
        outcome = step.run(window, step.weight(window), 0)
        assert outcome.kind == UPDATED
    assert step.split == 4
    for mine, theirs in zip(hungry.parameters(), plain.parameters(), strict=True):
        assert (mine.grad - theirs.grad).norm() <= 1e-6 * theirs.grad.norm()


def test_out_of_memory_at_one_sample_is_the_end():
    model = Hungry()
    model.limit = 0
    step = _step(model)
    window = _window([_batch(3, [7, 7, 7])])
    with pytest.raises(MemoryExhausted, match="one sample"):
        step.run(window, step.weight(window), 0)


def test_split_batch_keeps_every_sample():
    batch = _batch(5, [7] * 5)
    for parts in range(1, 9):
        pieces = split_batch(batch, parts)
        assert torch.equal(torch.cat([piece["input_ids"] for piece in pieces]), batch["input_ids"])


# -- outputs


def test_outputs_of_every_kind():
    logits, loss = torch.zeros(2, 3), torch.zeros(())
    assert ModelOutput.from_raw(logits).logits is logits
    for raw in ((logits, loss), (loss, logits), {"logits": logits, "loss": loss}, types.SimpleNamespace(logits=logits, loss=loss)):
        found = ModelOutput.from_raw(raw)
        assert found.logits is logits
        assert found.loss is loss
    hidden = (torch.zeros(2, 4),)
    found = ModelOutput.from_raw((logits, hidden))
    assert found.loss is None
    assert adapter_for(found)(found) is found
    assert ModelOutput.from_raw({"last_hidden_state": hidden[0]}).hidden_states is hidden[0]
    with pytest.warns(DeprecationWarning):
        first, second = ModelOutput(logits, loss)
    assert first is logits
    assert second is loss


@pytest.mark.parametrize("raw", [None, 3, (), ("x",), (torch.zeros(()),), {"x": 1}, [torch.zeros(2, 2)]])
def test_outputs_that_nobody_can_read(raw):
    with pytest.raises(UsageError):
        ModelOutput.from_raw(raw)


def test_output_validation():
    with pytest.raises(UsageError, match="expected 3 samples"):
        ModelOutput(torch.zeros(2, 3)).validate(batch=3)
    with pytest.raises(UsageError, match="meta"):
        ModelOutput(torch.zeros(2, 3)).validate(batch=2, device=torch.device("meta"))
    ModelOutput(None).validate(batch=1)


def test_labels_are_never_given_to_the_model():
    class Open(nn.Module):
        def forward(self, **values):
            return values

    batch = _batch(1, [7])
    assert set(input_names(Open())(batch)) == {"input_ids", "attention_mask"}
    assert set(input_names(Tiny())(batch)) == {"input_ids"}
