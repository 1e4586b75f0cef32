# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration: frozen sections, one leaf name for each value, all faults listed at once, and the source of every value recorded.

Layers, weakest first: default < preset < file < environment < command line. A value of a weaker layer never overwrites a stronger one,
whatever the order in which they are given.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import ConfigError

Value = Any  # str, int, float, bool, None or a tuple of str: what JSON can say


def _f(default: Value, text: str, *, choices: tuple[str, ...] = (), low: float | None = None, above: float | None = None,
       high: float | None = None, trajectory: bool = True) -> Any:
    """A field with its help, its range and whether it changes the trajectory (and so must be the same at a resume)."""
    return field(  # pylint: disable=invalid-field-call  # every caller stands in a dataclass
        default=default,
        metadata={"help": text, "choices": choices, "low": low, "above": above, "high": high, "trajectory": trajectory},
    )


@dataclass(frozen=True, kw_only=True)
class RunSection:
    """What is trained, where the results go, and for how long."""

    task: str = _f("language_modeling", "the task: it picks loss, collator and metrics")
    model: str = _f("char_lm", "a registered model, or hf: and the name or folder of one of Hugging Face")
    lora_rank: int = _f(0, "train LoRA adapters of this rank instead of the weights of a model by name (0: the weights)", low=0)
    run_dir: str = _f("run", "folder of the run: checkpoints, events, status", trajectory=False)
    seed: int = _f(0, "seed of weights, sample order and dropout", low=0, high=2**63 - 1)
    max_steps: int = _f(100, "optimizer updates to make", low=0, trajectory=False)
    n_epochs: int = _f(0, "stop after so many epochs (0: only max_steps counts)", low=0, trajectory=False)
    log_every: int = _f(1, "steps between two lines of metrics.jsonl", low=1)
    trackers: str | None = _f(None, "where metrics are copied to, with commas: tensorboard, mlflow, wandb", trajectory=False)
    no_progress_limit: int = _f(3, "starts without a new checkpoint before the verdict 93", low=1, trajectory=False)


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """Where samples come from and how they are batched."""

    dataset: str = _f("text", "a registered data set, or hf: and the name or folder of one of Hugging Face")
    text_column: str = _f("text", "the texts in a data set by name")
    label_column: str = _f("label", "the classes in a data set by name")
    tokenizer: str | None = _f(None, "the tokenizer of a data set by name (empty: that of the model)")
    text_file: str | None = _f(None, "the text of the data set 'file'", trajectory=False)
    batch_size: int = _f(8, "samples of one micro-batch on one rank", low=1)
    sequence_length: int = _f(64, "tokens of one sample (text)", low=2)
    data_size: int = _f(0, "use only so many samples (0: all)", low=0)
    num_workers: int = _f(0, "processes that load data", low=0, trajectory=False)
    prefetch_factor: int = _f(2, "batches that each worker loads ahead", low=1, trajectory=False)
    pin_memory: bool = _f(False, "page-locked host memory for faster copies to a GPU", trajectory=False)
    shuffle: bool = _f(True, "another order of samples in each epoch")
    drop_last: bool = _f(False, "leave out the last, smaller window of an epoch")
    val_fraction: float = _f(0.1, "share of the samples kept for evaluation", low=0.0, high=0.9)
    normalization: str = _f("unit", "normalisation preset of images", choices=("none", "unit", "imagenet", "cifar10", "digits"))


@dataclass(frozen=True, kw_only=True)
class OptimSection:
    """The update."""

    optimizer: str = _f("adamw", "the optimizer", choices=("adamw", "sgd"))
    learning_rate: float = _f(1e-3, "peak learning rate", above=0.0)
    weight_decay: float = _f(0.01, "decoupled weight decay", low=0.0)
    momentum: float = _f(0.9, "momentum of sgd", low=0.0, high=0.9999)
    gradient_accumulation_steps: int = _f(1, "micro-batches of one update", low=1)
    max_grad_norm: float = _f(1.0, "clip the total gradient norm to this (0: never)", low=0.0)
    schedule: str = _f("constant", "learning-rate schedule", choices=("constant", "linear", "cosine"))
    warmup_steps: int = _f(0, "steps of linear warm-up", low=0)
    schedule_steps: int = _f(0, "horizon of the schedule in steps (0: max_steps at the first start)", low=0)
    min_learning_rate_ratio: float = _f(0.0, "the schedule ends at this share of the peak", low=0.0, high=1.0)
    precision: str = _f("fp32", "arithmetic of the forward pass", choices=("fp32", "bf16", "fp16"))
    compile_mode: str | None = _f(None, "torch.compile mode (empty: no compilation)",
                                  choices=("default", "reduce-overhead", "max-autotune"))
    parallel: str = _f("ddp",
                       "how ranks share the work: ddp keeps the whole model on each, fsdp (FSDP2) spreads weights and optimizer",
                       choices=("ddp", "fsdp"))
    attention_check: bool = _f(True, "before the first update, compare the attention backends with plain attention; use those that agree",
                               trajectory=False)
    threads: int = _f(0, "CPU threads of torch (0: as torch finds it at the first start, and the same at every resume)", low=0)
    device: str = _f("auto", "auto, cpu, cuda or cuda:N", trajectory=False)


@dataclass(frozen=True, kw_only=True)
class CheckpointSection:
    """When the state is saved and what is kept."""

    checkpoint_every: int = _f(50, "steps between two checkpoints (0: never by step)", low=0, trajectory=False)
    checkpoint_epochs: int = _f(0, "epochs between two checkpoints (0: never by epoch)", low=0, trajectory=False)
    checkpoint_minutes: float = _f(0.0, "minutes between two checkpoints (0: never by time)", low=0.0, trajectory=False)
    keep_best_k: int = _f(3, "checkpoints kept for their metric", low=0, trajectory=False)
    keep_last_n: int = _f(5, "checkpoints kept for their age", low=1, trajectory=False)
    monitor: str = _f("val_loss", "the metric that says which is best")
    mode: str = _f("min", "whether a small or a large metric is good", choices=("min", "max"))
    async_save: bool = _f(True, "write in a thread while training goes on", trajectory=False)
    mirror: str | None = _f(None, "second place for checkpoints: a folder, or a URL for fsspec", trajectory=False)
    deadline_margin: float = _f(10.0, "seconds kept free before the time limit", low=0.0, trajectory=False)


@dataclass(frozen=True, kw_only=True)
class EvalSection:
    """Evaluation and early stopping."""

    eval_every: int = _f(0, "steps between two evaluations (0: only at the end)", low=0)
    eval_batches: int = _f(0, "batches of one evaluation (0: all)", low=0)
    early_stopping_patience: int = _f(0, "evaluations without an improvement before the run ends (0: never)", low=0)
    early_stopping_min_delta: float = _f(0.0, "the smallest change that counts as an improvement", low=0.0)
    extra_metrics: str | None = _f(None, "more metrics (torchmetrics), with commas: f1, precision, recall, auroc, matthews")
    drift_every: int = _f(0, "steps between two comparisons of training and validation samples (0: never)", low=0)
    drift_method: str = _f("js", "the measure of drift", choices=("js", "psi", "ks", "wasserstein"))
    drift_alpha: float = _f(0.01, "share of comparisons without drift that may raise the alarm", above=0.0, high=0.5)
    drift_batches: int = _f(16, "batches of each side in a comparison", low=1)


@dataclass(frozen=True, kw_only=True)
class HealthSection:
    """What counts as an unhealthy gradient."""

    max_consecutive_failures: int = _f(3, "unhealthy steps in a row before the verdict 93", low=1)
    vanishing_threshold: float = _f(1e-7, "total norms below this are reported as vanishing", low=0.0)
    explosion_threshold: float = _f(10.0, "total norms above this are reported as exploding", above=0.0)
    relative_limit: float = _f(100.0, "a layer further than this factor from its own running median is reported (0: off)", low=0.0)
    histogram_every: int = _f(0, "steps between two histograms of the gradients for the trackers (0: never)", low=0, trajectory=False)
    health_every: int = _f(1, "steps between two looks at single layers (non-finite gradients are seen at every step)", low=1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All sections. Make one with `resolve`, `from_dict` or the builder; change one with `with_values`."""

    run: RunSection = field(default_factory=RunSection)
    data: DataSection = field(default_factory=DataSection)
    optim: OptimSection = field(default_factory=OptimSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    evaluation: EvalSection = field(default_factory=EvalSection)
    health: HealthSection = field(default_factory=HealthSection)
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    def to_dict(self) -> dict[str, dict[str, Value]]:
        """Nested plain values, fit for JSON; `from_dict` reads them back to an equal object."""
        return {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """From nested or flat plain values. Raises ConfigError with all faults."""
        return resolve([("file", values)])

    def with_values(self, **leaves: Value) -> TrainingConfig:
        """A validated copy with other values, named by their leaf."""
        return resolve([*_layers_of(self), ("code", leaves)])

    def source(self, leaf: str) -> str:
        """The layer a value came from: default, preset, file, environment, command line or code."""
        return dict(self.sources).get(leaf, "default")

    def trajectory(self) -> dict[str, Value]:
        """The values that decide what is computed: two runs with equal ones are comparable bit by bit."""
        return {leaf: portable(getattr(getattr(self, spec.section), leaf)) for leaf, spec in LEAVES.items() if spec.trajectory}

    def fingerprint(self) -> str:
        """sha256 over `trajectory()`."""
        import hashlib  # most commands, and the launcher, do without

        return hashlib.sha256(json.dumps(self.trajectory(), sort_keys=True).encode()).hexdigest()


def portable(value: Value) -> Value:
    """A value of the trajectory, with a folder (hf:/..., hf:./...) by its own name: it may be moved between two starts. What was read from
    it is in the checkpoint (the model) or in the hash of the data."""
    if not isinstance(value, str) or not value.removeprefix("hf:").startswith(("/", "./", "../", "~")):
        return value
    prefix = "hf:" if value.startswith("hf:") else ""
    return f"{prefix}.../{value.rstrip('/').rpartition('/')[2]}"


@dataclass(frozen=True)
class Leaf:
    """What is known of one value: where it lives, its type, range, help."""

    name: str
    section: str
    base: type
    optional: bool
    default: Value
    help: str
    choices: tuple[str, ...]
    low: float | None
    above: float | None
    high: float | None
    trajectory: bool


def _leaves(section: str, kind: type) -> dict[str, Leaf]:
    hints = get_type_hints(kind)
    return {item.name: _leaf(section, item, hints[item.name]) for item in dataclasses.fields(kind)}


def _leaf(section: str, item: dataclasses.Field[Any], hint: Any) -> Leaf:
    arguments = [part for part in get_args(hint) if part is not NoneType]
    base = arguments[0] if arguments else hint
    meta = item.metadata
    return Leaf(item.name, section, base, bool(arguments), item.default, meta["help"], meta["choices"], meta["low"], meta["above"],
                meta["high"], meta["trajectory"])


SECTIONS: dict[str, type] = {"run": RunSection, "data": DataSection, "optim": OptimSection, "checkpoint": CheckpointSection,
                             "evaluation": EvalSection, "health": HealthSection}
LEAVES: dict[str, Leaf] = {name: leaf for section, kind in SECTIONS.items() for name, leaf in _leaves(section, kind).items()}

PRESETS: dict[str, dict[str, Value]] = {
    "baseline": {"precision": "fp32", "gradient_accumulation_steps": 1, "schedule": "constant", "checkpoint_every": 50},
    "production": {"precision": "bf16", "gradient_accumulation_steps": 4, "schedule": "cosine", "warmup_steps": 100,
                   "min_learning_rate_ratio": 0.1, "checkpoint_every": 200, "checkpoint_minutes": 30.0, "eval_every": 200,
                   "early_stopping_patience": 5, "max_grad_norm": 1.0},
    "smoke": {"max_steps": 10, "checkpoint_every": 5, "batch_size": 4, "sequence_length": 16, "data_size": 64, "threads": 1},
}
BOOLEANS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
ORDER = ("default", "preset", "file", "environment", "command line", "code")
Layer = Literal["preset", "file", "environment", "command line", "code"]


def resolve(layers: list[tuple[Layer, Mapping[str, Any]]]) -> TrainingConfig:
    """Lay values over each other by the strength of their layer, validate, and record where each came from."""
    problems: list[str] = []
    values: dict[str, Value] = {}
    sources: dict[str, str] = {}
    for layer, mapping in sorted(layers, key=lambda pair: ORDER.index(pair[0])):
        for leaf, value in _flatten(layer, mapping, problems).items():
            values[leaf], sources[leaf] = value, layer
    checked = {leaf: _check(LEAVES[leaf], value, sources[leaf], problems) for leaf, value in values.items()}
    if not problems:
        problems.extend(_across({leaf: checked.get(leaf, spec.default) for leaf, spec in LEAVES.items()}))
    if problems:
        raise ConfigError(problems)
    sections = {name: kind(**{leaf: value for leaf, value in checked.items() if LEAVES[leaf].section == name})
                for name, kind in SECTIONS.items()}
    return TrainingConfig(sources=tuple(sorted(sources.items())), **sections)


def preset(name: str) -> dict[str, Value]:
    """The values of a preset. Raises ConfigError for an unknown one."""
    if name not in PRESETS:
        raise ConfigError([f"there is no preset {name!r}; available: {', '.join(PRESETS)}"])
    return dict(PRESETS[name])


def schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of the nested form."""
    names = {int: "integer", float: "number", str: "string", bool: "boolean"}
    out: dict[str, Any] = {}
    for leaf in LEAVES.values():
        kind: dict[str, Any] = {"description": leaf.help, "default": leaf.default,
                                "type": [names[leaf.base], "null"] if leaf.optional else names[leaf.base]}
        bounds = {"minimum": leaf.low, "exclusiveMinimum": leaf.above, "maximum": leaf.high}
        kind.update({key: bound for key, bound in bounds.items() if bound is not None})
        if leaf.choices:
            kind["enum"] = [*leaf.choices, None] if leaf.optional else list(leaf.choices)
        section = out.setdefault(leaf.section, {"type": "object", "additionalProperties": False, "properties": {}})
        section["properties"][leaf.name] = kind
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": False, "properties": out}


def parse_text(leaf: str, text: str) -> Value:
    """The value that a string from the environment or the command line means; what cannot be read stays a string and fails in the check."""
    spec = LEAVES[leaf]
    if spec.optional and text in {"", "none", "null"}:
        return None
    if spec.base is bool:
        return BOOLEANS.get(text.lower(), text)
    if spec.base in (int, float):
        try:
            return spec.base(text)
        except ValueError:
            return text
    return text


class TrainingConfigBuilder:
    """A fluent facade over `resolve`: `TrainingConfigBuilder().with_learning_rate(1e-3).with_batch_size(8).build()`.

    Every leaf has its `with_<leaf>`. A preset lies under what was set by hand, whichever was called first.
    """

    def __init__(self) -> None:
        self._preset: dict[str, Value] = {}
        self._file: dict[str, Value] = {}
        self._set: dict[str, Value] = {}

    @classmethod
    def from_preset(cls, name: str) -> TrainingConfigBuilder:
        """A builder over the values of a preset (baseline, production, smoke)."""
        made = cls()
        made._preset = preset(name)
        return made

    def from_file_values(self, values: Mapping[str, Any]) -> TrainingConfigBuilder:
        """Lay the contents of a configuration file under what is set by hand."""
        self._file = dict(values)
        return self

    def __getattr__(self, name: str) -> Any:
        leaf = name.removeprefix("with_")
        if leaf == name:
            raise AttributeError(name)

        def setter(value: Value) -> TrainingConfigBuilder:
            self._set[leaf] = value
            return self

        return setter

    def build(self) -> TrainingConfig:
        """The validated configuration. Raises ConfigError with all faults, unknown names included."""
        return resolve([("preset", self._preset), ("file", self._file), ("code", self._set)])


def _layers_of(config: TrainingConfig) -> list[tuple[Layer, Mapping[str, Any]]]:
    grouped: dict[Layer, dict[str, Value]] = {}
    for leaf, layer in config.sources:
        grouped.setdefault(layer, {})[leaf] = getattr(getattr(config, LEAVES[leaf].section), leaf)  # type: ignore[arg-type]  # layers we wrote
    return list(grouped.items())


def _flatten(layer: str, mapping: Mapping[str, Any], problems: list[str]) -> dict[str, Value]:
    flat: dict[str, Value] = {}
    for key, value in mapping.items():
        nested = key in SECTIONS and isinstance(value, Mapping)
        for leaf, item in (value.items() if nested else [(key, value)]):
            if leaf not in LEAVES or (nested and LEAVES[leaf].section != key):
                problems.append(_unknown(layer, str(leaf), key if nested else None))
            else:
                flat[leaf] = item
    return flat


def _unknown(layer: str, leaf: str, section: str | None) -> str:
    if leaf in LEAVES:
        return f"{layer}: {leaf!r} belongs into the section {LEAVES[leaf].section!r}, not {section!r}"
    import difflib  # only where there is something to complain about

    close = difflib.get_close_matches(leaf, LEAVES, n=1, cutoff=0.6)
    return f"{layer}: there is no option {leaf!r}" + (f", did you mean {close[0]!r}?" if close else "")


def _check(leaf: Leaf, value: Value, source: str, problems: list[str]) -> Value:
    if value is None and leaf.optional:
        return None
    if leaf.base is float and value.__class__ is int:
        value = float(value)
    if value.__class__ is not leaf.base:
        problems.append(f"{leaf.name} ({source}): expected {leaf.base.__name__}, got {value!r}")
        return value
    problem = _range_problem(leaf, value)
    if problem:
        problems.append(f"{leaf.name} ({source}): {problem}, got {value!r}")
    return value


def _range_problem(leaf: Leaf, value: Value) -> str:
    if leaf.choices and value not in leaf.choices:
        return "expected one of " + ", ".join(leaf.choices)
    if isinstance(value, str) or leaf.base is bool:
        return "" if not isinstance(value, str) or value.strip() == value != "" else "expected a text without blanks around it"
    if not (leaf.low is None or value >= leaf.low):
        return f"must be at least {leaf.low}"
    if not (leaf.above is None or value > leaf.above):
        return f"must be greater than {leaf.above}"
    if not (leaf.high is None or value <= leaf.high):
        return f"must be at most {leaf.high}"
    return "must be a finite number" if isinstance(value, float) and not math.isfinite(value) else ""


def _across(values: Mapping[str, Value]) -> list[str]:
    """Rules over more than one value."""
    out = []
    if values["max_steps"] == 0 and values["n_epochs"] == 0:
        out.append("max_steps and n_epochs are both 0: the run would have no end")
    if values["schedule"] != "constant" and values["max_steps"] == 0 and values["schedule_steps"] == 0:
        out.append(f"schedule {values['schedule']!r} needs max_steps or schedule_steps: without a horizon it has no shape")
    if values["early_stopping_patience"] and not values["eval_every"]:
        out.append("early_stopping_patience needs eval_every: nothing would ever be evaluated")
    if values["eval_every"] and values["val_fraction"] == 0.0:
        out.append("eval_every needs val_fraction above 0: there would be nothing to evaluate on")
    if values["drift_every"] and values["val_fraction"] == 0.0:
        out.append("drift_every needs val_fraction above 0: there would be nothing to compare with")
    if values["histogram_every"] and not values["trackers"]:
        out.append("histogram_every needs trackers: nobody would see the histograms")
    if values["parallel"] == "fsdp" and values["compile_mode"]:
        out.append("parallel 'fsdp' does not go with compile_mode yet; leave one of them")
    if values["vanishing_threshold"] >= values["explosion_threshold"]:
        out.append("vanishing_threshold must be below explosion_threshold")
    if values["warmup_steps"] and values["schedule_steps"] and values["warmup_steps"] > values["schedule_steps"]:
        out.append("warmup_steps is longer than schedule_steps")
    return out


assert get_origin(Layer) is Literal and set(get_args(Layer)) < set(ORDER)
