# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration: layers, sources, all faults at once, round trips, schema, builder."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_engine.cli import _parser, load_config, read_config_file
from training_engine.config import LEAVES, PRESETS, TrainingConfig, TrainingConfigBuilder, parse_text, portable, preset, resolve, schema
from training_engine.errors import ConfigError


def test_all_faults_are_listed_with_their_source():
    with pytest.raises(ConfigError) as caught:
        resolve([("file", {"batch_size": 0, "learning_rat": 1.0}), ("command line", {"learning_rate": "fast", "mode": "best"})])
    assert len(caught.value.problems) == 4
    text = str(caught.value)
    assert "did you mean 'learning_rate'" in text
    assert "batch_size (file): must be at least 1, got 0" in text
    assert "learning_rate (command line): expected float, got 'fast'" in text


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_the_strongest_layer_wins_in_any_order(order):
    layers = [("preset", {"batch_size": 1, "seed": 1, "max_steps": 1, "log_every": 1}),
              ("file", {"batch_size": 2, "seed": 2, "max_steps": 2}),
              ("environment", {"batch_size": 3, "seed": 3}), ("command line", {"batch_size": 4})]
    config = resolve([layers[index] for index in order])
    assert (config.data.batch_size, config.run.seed, config.run.max_steps, config.run.log_every) == (4, 3, 2, 1)
    assert [config.source(leaf) for leaf in ("batch_size", "seed", "max_steps", "log_every", "model")] == [
        "command line", "environment", "file", "preset", "default"]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_valid_and_round_trip(name):
    config = TrainingConfigBuilder.from_preset(name).build()
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_builder_keeps_what_was_set_by_hand():
    config = TrainingConfigBuilder.from_preset("production").with_gradient_accumulation_steps(7).from_file_values(
        {"gradient_accumulation_steps": 3, "seed": 9}).build()
    assert config.optim.gradient_accumulation_steps == 7
    assert config.run.seed == 9
    assert config.optim.precision == "bf16"
    with pytest.raises(ConfigError, match="learning_rat"):
        TrainingConfigBuilder().with_learning_rat(1.0).build()
    with pytest.raises(AttributeError):
        TrainingConfigBuilder().set_learning_rate(1.0)
    with pytest.raises(ConfigError, match="no preset"):
        preset("fast")


def test_configurations_are_frozen_and_copies_validated():
    config = TrainingConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.data.batch_size = 3  # type: ignore[misc]
    assert config.with_values(batch_size=3).data.batch_size == 3
    with pytest.raises(ConfigError):
        config.with_values(batch_size=-3)


@pytest.mark.parametrize("values", [
    {"max_steps": 0}, {"max_steps": 0, "n_epochs": 1, "schedule": "cosine"}, {"early_stopping_patience": 2},
    {"eval_every": 1, "val_fraction": 0.0}, {"vanishing_threshold": 20.0}, {"warmup_steps": 9, "schedule_steps": 3},
    {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"model": ""}, {"model": " x"}, {"data": {"max_steps": 3}},
    {"batch_size": True}, {"shuffle": 1}, {"learning_rate": None}, {"seed": 2**70}])
def test_refused(values):
    with pytest.raises(ConfigError):
        resolve([("file", values)])


def test_only_what_changes_the_trajectory_changes_the_fingerprint():
    config = TrainingConfig()
    assert config.fingerprint() == config.with_values(run_dir="elsewhere", num_workers=2, max_steps=7).fingerprint()
    assert config.fingerprint() != config.with_values(learning_rate=0.5).fingerprint()


@pytest.mark.parametrize(("value", "expected"), [
    ("hf:/data/a b/tiny/", "hf:.../tiny"), ("hf:./tiny", "hf:.../tiny"), ("/data/tokens", ".../tokens"), ("hf:org/tiny", "hf:org/tiny"),
    ("hf:gpt2", "hf:gpt2"), ("char_lm", "char_lm"), (3, 3), (None, None)])
def test_a_folder_is_known_by_its_name_so_that_it_can_be_moved(value, expected):
    assert portable(value) == expected
    assert portable(expected) == expected


def test_a_run_goes_on_after_its_model_was_moved():
    config = TrainingConfig().with_values(model="hf:/old/place/tiny", tokenizer="/old/place/tiny")
    assert config.fingerprint() == config.with_values(model="hf:../new/tiny", tokenizer="~/tiny").fingerprint()
    assert config.fingerprint() != config.with_values(model="hf:/old/place/large").fingerprint()


def test_schema_covers_every_value():
    properties = schema()["properties"]
    assert {leaf for section in properties.values() for leaf in section["properties"]} == set(LEAVES)
    assert properties["optim"]["properties"]["precision"]["enum"] == ["fp32", "bf16", "fp16"]
    assert properties["optim"]["properties"]["learning_rate"]["exclusiveMinimum"] == 0.0
    assert properties["optim"]["properties"]["compile_mode"]["type"] == ["string", "null"]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(LEAVES)) | st.text(max_size=5),
                       st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), max_size=6))
def test_any_values_give_a_configuration_or_a_list_of_faults(values):
    try:
        config = resolve([("file", values)])
    except ConfigError as error:
        assert error.problems
    else:
        assert TrainingConfig.from_dict(config.to_dict()) == config


def test_parse_text():
    assert parse_text("batch_size", "12") == 12
    assert parse_text("batch_size", "1.5") == "1.5"
    assert parse_text("shuffle", "No") is False
    assert parse_text("compile_mode", "") is None
    assert parse_text("learning_rate", "1e-3") == 1e-3


def test_command_line_and_environment(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"run": {"seed": 4}, "batch_size": 2}))
    arguments = _parser().parse_args(["train", "--config", str(path), "--batch-size", "9"])
    config = load_config(arguments, {"TRAINING_ENGINE_BATCH_SIZE": "5", "TRAINING_ENGINE_LOG_EVERY": "3", "HOME": "/"})
    assert (config.data.batch_size, config.run.log_every, config.run.seed) == (9, 3, 4)
    with pytest.raises(ConfigError, match="environment: there is no option 'batchsize'"):
        load_config(_parser().parse_args(["train"]), {"TRAINING_ENGINE_BATCHSIZE": "5"})


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_faulty_files(tmp_path, text):
    path = tmp_path / "c.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c\.json"):
        read_config_file(path)
    with pytest.raises(ConfigError, match="missing"):
        read_config_file(tmp_path / "missing.json")
