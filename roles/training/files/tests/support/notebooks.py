# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The notebooks as text: `python tests/support/notebooks.py` writes notebooks/*.ipynb; a test compares, and executes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "notebooks"

TEMPLATE = [
    """# Template: a model and data of your own

Fill in the two cells in the middle. Run all cells again after the runtime was restarted: training goes on where it was.""",
    """import os

RUN_DIR = os.environ.get("RUN_DIR", "template-run")  # on a service with a time limit: a folder of the mounted drive
STEPS = int(os.environ.get("STEPS", "40"))""",
    """import torch

from training_engine.data.sources import DataSet, TensorSource, fingerprint

generator = torch.Generator().manual_seed(0)
labels = torch.randint(0, 3, (240,), generator=generator)
pixels = torch.randn(240, 1, 8, 8, generator=generator) + labels.reshape(-1, 1, 1, 1)
tensors = {"pixel_values": pixels, "labels": labels}
train = {name: tensor[:200] for name, tensor in tensors.items()}
val = {name: tensor[200:] for name, tensor in tensors.items()}
data = DataSet(TensorSource(**train), TensorSource(**val), "vision", fingerprint(pixels, labels))""",
    """from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def forward(self, pixel_values):
        return self.body(pixel_values)


torch.manual_seed(0)
model = Model()""",
    """from training_engine import TrainingConfigBuilder, make_trainer

config = (TrainingConfigBuilder.from_preset("baseline").with_task("vision_classification").with_run_dir(RUN_DIR).with_max_steps(STEPS)
          .with_batch_size(16).with_checkpoint_every(5).with_eval_every(20).with_threads(1).build())
result = make_trainer(config, data=data, model=model).train()
print(result.exit_code.name, result.step, result.metrics)""",
    """from pathlib import Path

from training_engine.visualization import dashboard

dashboard(Path(RUN_DIR), Path(RUN_DIR) / "dashboard.html")""",
]  # fmt: skip

TRAINING = [
    """# Training: a character language model, from the first step to a bundle

Every cell can be run again; the run folder decides where it goes on.""",
    """import os

RUN_DIR = os.environ.get("RUN_DIR", "training-run")
STEPS = int(os.environ.get("STEPS", "60"))""",
    """from training_engine import TrainingConfigBuilder, make_trainer

config = (TrainingConfigBuilder.from_preset("baseline").with_dataset("text").with_sequence_length(32).with_batch_size(8)
          .with_run_dir(RUN_DIR).with_max_steps(STEPS).with_checkpoint_every(5).with_eval_every(30).with_eval_batches(10)
          .with_threads(1).build())
result = make_trainer(config).train()
print(result.exit_code.name, result.step, result.metrics)""",
    """from pathlib import Path

from training_engine import CheckpointManager

manager = CheckpointManager(Path(RUN_DIR) / "ckpt")
for entry in manager.list_checkpoints():
    print(entry.step, dict(entry.metrics), "whole" if not manager.verify(entry.path) else "BROKEN")""",
    """import shutil

from training_engine import export_bundle
from training_engine.data import MapDataModule
from training_engine.factory import make_data, make_model
from training_engine.step import input_names

data = make_data(config)
model = make_model(config, data)
model.load_state_dict(manager.load().model())
example = input_names(model)(next(iter(MapDataModule(data, config.data).val_dataloader())))
target = Path(RUN_DIR) / "bundle"
shutil.rmtree(target, ignore_errors=True)
print(sorted(path.name for path in export_bundle(model, example, target, name="char_lm").iterdir()))""",
]  # fmt: skip

NOTEBOOKS = {"template": TEMPLATE, "training": TRAINING}


def notebook(cells: list[str]) -> dict[str, Any]:
    """The notebook: the first cell is its text, the others are code."""
    kinds = [{"cell_type": "markdown"} if number == 0 else {"cell_type": "code", "execution_count": None, "outputs": []}
             for number in range(len(cells))]
    return {"cells": [{**kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
                      for number, (kind, text) in enumerate(zip(kinds, cells, strict=True))],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
            "nbformat": 4, "nbformat_minor": 5}


def text_of(name: str) -> str:
    """The file of a notebook."""
    return json.dumps(notebook(NOTEBOOKS[name]), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for chosen in NOTEBOOKS:
        (FOLDER / f"{chosen}.ipynb").write_text(text_of(chosen), encoding="utf-8")
