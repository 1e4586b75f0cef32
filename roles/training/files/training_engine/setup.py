# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trainer needs before it can start: the device, the optimizer, the wrappers of the model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import OptimSection
from .errors import NoRetryError, UsageError
from .peers import Peers, Place
from .tree import is_sharded


def pick_device(name: str, place: Place) -> torch.device:
    """The device a name means on this rank. Raises UsageError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is not one that torch knows: {error}") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device {name!r} was asked for, and torch sees no such device here; use device auto or cpu")
        device = torch.device("cuda", place.local_rank if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device


def make_optimizer(model: nn.Module, config: OptimSection) -> torch.optim.Optimizer:
    """The configured optimizer over the trainable parameters; vectors (biases, norms) are not decayed."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [item for item in trainable if item.dim() >= 2], "weight_decay": config.weight_decay},
              {"params": [item for item in trainable if item.dim() < 2], "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        # torch has no fused SGD for tensors that are spread over ranks.
        fused = not any(is_sharded(parameter) for parameter in trainable)
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer | None, scheduler: object, config: OptimSection) -> None:
    """Raise UsageError for an optimizer or a scheduler of one's own that would train nothing, or not as it is meant."""
    if scheduler is not None and (optimizer is None or getattr(scheduler, "optimizer", None) is not optimizer):
        raise UsageError("a scheduler needs the optimizer that it was made for: give both, or set `schedule` in the configuration")
    if optimizer is None:
        return
    if config.parallel == "fsdp":
        raise UsageError("an optimizer of one's own holds the whole parameters, which parallel 'fsdp' replaces; leave it to the engine")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in model.parameters() if parameter.requires_grad):
        raise UsageError("the optimizer holds no trainable parameter of this model, so nothing would be trained; make it from the "
                         "parameters of the very model that you give, after the last change to it")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise UsageError(f"{type(optimizer).__name__} evaluates the loss several times in one step (a closure), and an update of the "
                         "engine is one pass over its window; use an optimizer without one")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], path: Path) -> None:
    """Put the state of a checkpoint into an optimizer. Raises NoRetryError where it belongs to another one."""
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise NoRetryError(f"the optimizer of {path} is another one ({error}); make it as it was, or start a new run folder") from error


def shard_model(model: nn.Module, config: OptimSection, peers: Peers, device: torch.device) -> nn.Module:
    """With parallel=fsdp and several ranks: the same module with its parameters spread over them, unit by unit.

    The entries of every ModuleList (the blocks) are units that are gathered one after the other; what is left is the last unit.
    """
    if config.parallel != "fsdp" or peers.world == 1:
        return model
    if device.type == "cpu" and not hasattr(torch.cpu.current_stream(), "record_event"):
        raise UsageError(f"parallel 'fsdp' on CPUs needs a newer torch than {torch.__version__}, whose FSDP2 is for accelerators alone; "
                         "update torch, or use parallel 'ddp'")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (peers.world,))
    for holder in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        for unit in holder:
            fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def wrap_model(model: nn.Module, config: OptimSection, peers: Peers, device: torch.device) -> nn.Module:
    """The model compiled and shared between ranks, as far as that is asked for."""
    if config.compile_mode:
        model = torch.compile(model, mode=config.compile_mode)  # type: ignore[assignment]  # a callable module
    if peers.world == 1 or config.parallel == "fsdp":
        return model
    # The order in which gradients are summed must be the same before and after a resume. One bucket is not enough for more than two
    # ranks: after the first backward pass it is laid out anew, in the order in which gradients came, and with the layout changes which
    # rank's number is added first. A search for unused parameters keeps the first layout.
    devices = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices, bucket_cap_mb=1 << 20, gradient_as_bucket_view=True,
                                               find_unused_parameters=peers.world > 2)
