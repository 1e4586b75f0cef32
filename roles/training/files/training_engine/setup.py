# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trainer needs before it can start: the device, the optimizer, the wrappers of the model."""

from __future__ import annotations

import torch
from torch import nn

from .config import OptimSection
from .errors import UsageError
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
