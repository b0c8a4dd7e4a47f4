"""How the processes of one training work together: a single one, or ranks that each hold all weights.

Nothing else talks to ``torch.distributed``: whatever needs something from other ranks asks the strategy. Every rank
has to ask for the same things in the same order.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medkit.engine import groups
from medkit.engine.messages import Arrived, LostRank, Message, Sent, told
from medkit.engine.shares import AllMine, Shares, Split
from medkit.errors import InputError

TIMEOUT = "MEDKIT_TIMEOUT"
PATIENCE = 12 * 3600.0
"""Seconds that ranks wait at a barrier for one still validating or preparing. One that has ended is seen at once."""


class Strategy(Protocol):
    """What training asks of its ranks.

    ``gathers`` says whether losses of the step under way compare rows of all ranks (:mod:`medkit.engine.rows`): then
    messages are a part of the backward pass, and a rank that fails in it fails alone.
    """

    gathers: bool

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes."""
        ...

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all ranks, in one message."""
        ...

    def average_async(self, tensors: Sequence[Tensor]) -> Message:
        """Start averaging tensors over all ranks; other work goes on meanwhile."""
        ...

    def shares(self, tensors: Sequence[Tensor]) -> Shares:
        """Deal out to the ranks the work on a list of tensors of these sizes."""
        ...

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""
        ...

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give every rank the buffers (batch-norm statistics, spectral-norm vectors) of rank 0."""
        ...

    def any_true(self, values: Sequence[bool]) -> list[bool]:
        """For each value, whether it is true on any rank."""
        ...

    def all_true(self, value: bool) -> bool:
        """True if ``value`` is true on every rank."""
        ...

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value, in double precision, summed over all ranks."""
        ...

    def total(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape on all ranks, summed over them."""
        ...

    def gather(self, item: Any, what: str, seconds: float | None = None) -> list[Any]:
        """On the main rank the items of all ranks, in their order; nothing on the others. ``what`` is named if one is
        missing, and none is waited for longer than ``seconds``, if given."""
        ...

    def share(self, item: Any, what: str) -> Any:
        """The main rank's item, on every rank."""
        ...

    def barrier(self, what: str, seconds: float | None = None) -> None:
        """Wait until all ranks have arrived, however long one of them still evaluates; or for at most ``seconds``."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor, on the main rank; every rank asks for each that may be divided among them."""
        ...

    def stepped(self) -> None:
        """An optimizer has changed the weights."""
        ...

    def clip(self, bound: Any, parameters: Sequence[nn.Parameter]) -> None:
        """Bound gradients by ``bound.clip(parameters)``."""
        ...

    def computing(self) -> contextlib.AbstractContextManager[None]:
        """Around what is computed by an objective."""
        ...


class Single:
    """One process: there is nobody to ask."""

    rank = 0
    world_size = 1
    is_main = True
    gathers = False

    def average(self, tensors: Sequence[Tensor]) -> None:
        pass

    def average_async(self, tensors: Sequence[Tensor]) -> Message:
        return Arrived(list(tensors))

    def shares(self, tensors: Sequence[Tensor]) -> Shares:
        return AllMine()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        pass

    def broadcast_buffers(self, module: nn.Module) -> None:
        pass

    def any_true(self, values: Sequence[bool]) -> list[bool]:
        return list(values)

    def all_true(self, value: bool) -> bool:
        return value

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def total(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, item: Any, what: str, seconds: float | None = None) -> list[Any]:
        return [item]

    def share(self, item: Any, what: str) -> Any:
        return item

    def barrier(self, what: str, seconds: float | None = None) -> None:
        pass

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor

    def stepped(self) -> None:
        pass

    def clip(self, bound: Any, parameters: Sequence[nn.Parameter]) -> None:
        bound.clip(parameters)

    def computing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Replicated:
    """Ranks that hold the same weights and each see a share of every batch.

    Gradients are averaged by one message, where the caller says so; torch's DistributedDataParallel is not used, since
    ranks drift apart under it when layers are opened later and when gradients are computed task by task.

    Parameters
    ----------
    device:
        Where tensors of messages are kept.
    patience:
        Seconds at a barrier; default: ``$MEDKIT_TIMEOUT``, else twelve hours.
    """

    gathers = False

    def __init__(self, device: torch.device, patience: float | None = None) -> None:
        self.device, self.patience = device, _patience() if patience is None else patience
        self.groups = groups.join(device, self.patience)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with told("in an average"):
            dist.all_reduce(flat)
        flat /= self.world_size
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def average_async(self, tensors: Sequence[Tensor]) -> Message:
        if not tensors:
            return Arrived([])
        return Sent(tensors, self.world_size, self._group(tensors[0]))

    def shares(self, tensors: Sequence[Tensor]) -> Shares:
        return Split(tensors, self.rank, self.world_size, self._group(tensors[0]) if tensors else None)

    def _group(self, tensor: Tensor) -> Any:
        """The ranks' connection for tensors on this one's device."""
        return self.groups.numbers if tensor.device.type == "cpu" else None

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        with told("in a broadcast"):
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def broadcast_buffers(self, module: nn.Module) -> None:
        self.broadcast(module.buffers())

    def any_true(self, values: Sequence[bool]) -> list[bool]:
        if not values:
            return []
        flags = torch.tensor([int(value) for value in values], dtype=torch.int32)
        with told("in a vote"):
            dist.all_reduce(flags, group=self.groups.numbers)
        return [count > 0 for count in flags.tolist()]

    def all_true(self, value: bool) -> bool:
        return not self.any_true([not value])[0]

    def sum(self, values: Sequence[float]) -> list[float]:
        if not values:
            return []
        total = torch.tensor(list(values), dtype=torch.float64)
        with told("in a sum"):
            dist.all_reduce(total, group=self.groups.numbers)
        return total.tolist()

    def total(self, tensor: Tensor) -> Tensor:
        wide = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True).contiguous()
        with told("in a sum of rows"):
            dist.all_reduce(wide, group=self._group(wide))
        return wide.to(tensor.dtype)

    def gather(self, item: Any, what: str, seconds: float | None = None) -> list[Any]:
        self.barrier(what, seconds)
        found: list[Any] | None = [None] * self.world_size if self.is_main else None
        with told(f"at '{what}'"):  # what is pickled here comes from this run's own ranks
            dist.gather_object(item, found, group=self.groups.waiting)
        return found or []

    def share(self, item: Any, what: str) -> Any:
        self.barrier(what)
        holder = [item if self.is_main else None]
        with told(f"at '{what}'"):
            dist.broadcast_object_list(holder, 0, group=self.groups.waiting)
        return holder[0]

    def barrier(self, what: str, seconds: float | None = None) -> None:
        begun = time.monotonic()
        patience = self.patience if seconds is None else min(seconds, self.patience)
        try:
            dist.monitored_barrier(self.groups.waiting, timedelta(seconds=patience), wait_all_ranks=True)
        except RuntimeError as error:
            late = time.monotonic() - begun >= patience
            raise self._missing(what, str(error), late) from error

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor

    def stepped(self) -> None:
        pass

    def clip(self, bound: Any, parameters: Sequence[nn.Parameter]) -> None:
        bound.clip(parameters)

    def computing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _missing(self, what: str, said: str, late: bool) -> LostRank:
        """Who is missing; ranks other than 0 know only that rank 0 does not answer."""
        found = re.search(r"Ranks? ([\d, ]+?) failed to pass", said)
        who = f"rank{'s' if found and ',' in found[1] else ''} {found[1]}" if found else "rank 0"
        if not late:
            return LostRank(f"{who} ended before '{what}'", hint="its own message is above; 'medkit resume' continues")
        return LostRank(
            f"{who} did not arrive at '{what}' within {self.patience:g} s",
            hint=f"if it was still at work, allow more seconds by {TIMEOUT}; 'medkit resume' continues",
        )


def _patience() -> float:
    text = os.environ.get(TIMEOUT)
    if not text:
        return PATIENCE
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 30 * 24 * 3600:
        raise InputError(f"{TIMEOUT} is '{text}'", hint="the seconds that ranks wait for one another, such as 7200")
    return seconds
