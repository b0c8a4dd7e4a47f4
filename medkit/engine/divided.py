"""Tensors of which each rank holds a slice: putting them together, and cutting them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn, optim


def is_divided(tensor: Tensor) -> bool:
    """Whether ``tensor`` is one of torch's DTensors, whose module is imported only where they are made."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor, keep: bool = True) -> Tensor:
    """All of a tensor, on the CPU if it was divided; every rank has to ask. Without ``keep`` nothing is returned."""
    if not is_divided(tensor):
        return tensor
    full: Any = tensor
    full = full.full_tensor()
    return full.cpu() if keep else full.new_empty(0)


def own_slice(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor; no other rank is asked."""
    held: Any = tensor
    return held.to_local() if is_divided(tensor) else tensor


def divided_like(tensor: Tensor, own: Tensor) -> Tensor:
    """This rank's slice of a whole tensor, where its own tensor is divided; else the tensor itself."""
    if not is_divided(own):
        return tensor
    from torch.distributed.tensor import distribute_tensor  # noqa: TID251 (no message is sent)

    kept: Any = own
    return distribute_tensor(tensor.to(own.device), kept.device_mesh, kept.placements, src_data_rank=None)


def separate(optimizer: optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Split each group of a fresh optimizer into what is among ``parameters`` and what is not.

    torch's fused steps do not take tensors of both kinds together, and SGD's takes no divided ones at all. Groups are
    split on a single rank too, so that a checkpoint means the same on any number of ranks.
    """
    among = {id(p) for p in parameters}
    groups = []
    for group in optimizer.param_groups:
        for kind in (True, False):
            chosen = [p for p in group["params"] if (id(p) in among) is kind]
            if chosen:
                slower = {"fused": False} if kind and isinstance(optimizer, optim.SGD) else {}
                groups.append({**group, "params": chosen, **slower})
    optimizer.param_groups[:] = groups
