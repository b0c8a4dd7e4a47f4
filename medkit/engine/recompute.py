"""Activation checkpointing: what a block computed is forgotten and recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(part: nn.Module) -> list[str]:
    """Have the blocks of ``part`` keep only their inputs where gradients may be asked for, and recompute the rest.

    Blocks are the members of the part's outermost lists and sequences that consist of layers themselves (a ResNet's
    residual blocks, a decoder's levels); without any, the part as a whole is one. Numbers stay the same: random draws
    are repeated, and buffers (batch-norm statistics, spectral-norm vectors) are as they were while a block is
    recomputed. Names of parameters stay as well.

    Returns
    -------
    list of str
        Names of the blocks; that of the part itself is empty.
    """
    blocks = list(_members(part)) or [("", part)]
    for _, block in blocks:
        kind = type(block)
        if not issubclass(kind, _Recomputed):
            # A subclass and not a wrapper: state dictionaries, isinstance and deep copies keep working.
            block.__class__ = type(kind.__name__, (_Recomputed, kind), {"__module__": kind.__module__})
    return [name for name, _ in blocks]


def _members(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential | nn.ModuleList):
            for key, member in child.named_children():
                if next(member.parameters(), None) is not None and next(member.children(), None) is not None:
                    yield f"{path}.{key}", member
        else:
            yield from _members(child, f"{path}.")


class _Recomputed(nn.Module):
    """Mixed into the class of a block."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or not (self.training or any(p.requires_grad for p in self.parameters())):
            return super().forward(*args, **kwargs)
        before = [buffer.clone() for buffer in self.buffers()]

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _Earlier(list(self.buffers()), before)

        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


class _Earlier:
    """Buffers at earlier values while a block is recomputed, however often that is; then as they were."""

    def __init__(self, buffers: list[Tensor], values: list[Tensor]) -> None:
        self.buffers, self.values = buffers, values
        self.now: list[Tensor] = []

    def __enter__(self) -> None:
        self.now = [buffer.clone() for buffer in self.buffers]
        _copy(self.values, self.buffers)

    def __exit__(self, *_: object) -> None:
        _copy(self.now, self.buffers)


def _copy(values: list[Tensor], buffers: list[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        # Through .data: autograd need not know, as no gradient depends on the buffers' later values.
        buffer.data.copy_(value)
