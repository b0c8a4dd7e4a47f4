"""Ranks that divide weights of parts among themselves (torch's ``fully_shard``), with their gradients and moments."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from medkit.engine.divided import divided_like, is_divided, whole
from medkit.engine.runtime import Runtime
from medkit.engine.strategy import Replicated
from medkit.errors import InputError, RunError

MIXED = "got mixed torch.Tensor and DTensor"  # how torch says that a part was not called, but reached into
Validate = Callable[[int], Mapping[str, float]]


class Sharded(Replicated):
    """Ranks that each hold a slice of some parts' weights, and all of the others.

    A part is whole from its call to the end of its backward pass. Its gradients arrive averaged and divided.

    Parameters
    ----------
    ranks:
        The ranks as they are between stages.
    parts:
        What is divided, by name; each is its own root. Their parameters are replaced by divided ones.
    """

    def __init__(self, ranks: Replicated, parts: Mapping[str, nn.Module]) -> None:
        self.device, self.rank, self.world_size = ranks.device, ranks.rank, ranks.world_size
        self.patience, self.groups = ranks.patience, ranks.groups
        self.parts: dict[str, FSDPModule] = {}
        mesh = init_device_mesh(self.device.type, (self.world_size,))
        for name, part in parts.items():
            for tensor in part.parameters():
                tensor.data = tensor.data.contiguous()  # even what was in channels_last: torch divides no other layout
            self.parts[name] = fully_shard(part, mesh=mesh)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        super().broadcast(tensor for tensor in tensors if not is_divided(tensor))

    def average(self, tensors: Sequence[Tensor]) -> None:
        super().average([tensor for tensor in tensors if not is_divided(tensor)])

    def whole(self, tensor: Tensor) -> Tensor:
        return whole(tensor, keep=self.is_main)

    def stepped(self) -> None:
        for part in self.parts.values():
            part.reshard()  # a part that had no backward pass since its call would keep the weights from before

    def clip(self, bound: Any, parameters: Sequence[nn.Parameter]) -> None:
        """Bound gradients as they are on all ranks together: those of the turn are put together for it."""
        found = [nn.Parameter(whole(p.detach())) if is_divided(p) else p for p in parameters]
        for p, own in zip(found, parameters, strict=True):
            if p is not own and own.grad is not None:
                p.grad = whole(own.grad)
        bound.clip(found)
        for p, own in zip(found, parameters, strict=True):
            if p is not own and p.grad is not None:
                own.grad = divided_like(p.grad, own)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if MIXED not in str(error):
                raise
            raise RunError(
                f"a divided part ({', '.join(self.parts)}) is used without being called, beside weights that are whole "
                f"({error})",
                hint="'shard' takes parts that are called; of parts averaged into each other (ema) all or none",
            ) from error


@dataclass
class Division:
    """An objective as it is trained, and as it is measured: the same one, unless parts of it are divided.

    ``objective`` and ``runtime`` are what to train with. ``measured`` has whole weights, as of when they were last put
    together.
    """

    measured: Any
    objective: Any
    runtime: Runtime

    @classmethod
    def of(cls, objective: Any, shard: Sequence[str], runtime: Runtime) -> Division:
        """``objective`` with the parts of ``shard`` divided; on a single rank there is nothing to divide."""
        ranks = runtime.strategy
        if not shard or not isinstance(ranks, Replicated):
            return cls(objective, objective, runtime)
        ranks.broadcast([*objective.parameters(), *objective.buffers()])
        trained = copy.deepcopy(objective.to("cpu")).to(runtime.device)
        parts = trained.parts()
        sharded = Sharded(ranks, {name: parts[name] for name in shard})
        return cls(objective, trained, replace(runtime, strategy=sharded))

    def put_together(self) -> Any:
        """Bring ``measured`` up to date, on every rank, and return it."""
        if self.objective is not self.measured:
            _copy(self.objective.named_parameters(), self.measured.named_parameters())
            _copy(self.objective.named_buffers(), self.measured.named_buffers())
            self.measured.to(self.runtime.device)
        return self.measured

    def measuring(self, validate: Validate | None) -> Validate | None:
        """``validate``, which measures ``measured``, with up-to-date weights in it."""
        if validate is None or self.objective is self.measured:
            return validate

        def measure(epoch: int) -> Mapping[str, float]:
            self.put_together()
            try:
                return validate(epoch)
            finally:
                self.measured.to("cpu")

        return measure


@torch.no_grad()
def _copy(newest: Iterable[tuple[str, Tensor]], kept: Iterable[tuple[str, Tensor]]) -> None:
    into = dict(kept)
    for name, tensor in newest:
        into[name].copy_(whole(tensor.detach()))


def check_division(objective: Any, shard: Sequence[str], where: str) -> None:
    """Refuse what cannot be divided, on any number of ranks."""
    parts = objective.parts()
    strangers = [name for name in shard if name not in parts]
    if strangers:
        raise InputError(f"there is no part '{strangers[0]}' to divide", where, f"its parts: {', '.join(parts)}")
    mine = {name: {id(p) for p in parts[name].parameters()} for name in shard}
    for name in shard:
        if not mine[name]:
            raise InputError(f"part '{name}' has no weights to divide", where, f"leave '{name}' out")
        for other in shard:
            if other != name and mine[name] & mine[other]:
                what = f"parts '{name}' and '{other}' share weights, which only one of them can divide"
                raise InputError(what, where, f"leave '{other}' out")
    for turn in objective.turns():
        if turn.combine == "pcgrad" and (divided := [name for name in turn.parts if name in shard]):
            what = f"turn '{turn.name}' wants pcgrad, which needs whole gradients of '{divided[0]}'"
            raise InputError(what, where, f"combine: sum for this turn, or leave '{divided[0]}' out of 'shard'")
