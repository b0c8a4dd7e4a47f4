"""From task losses to one gradient: summed, or with conflicts projected away (PCGrad)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from medkit.engine.agreement import FailedTogether
from medkit.engine.divided import is_divided
from medkit.engine.messages import Message
from medkit.engine.runtime import Runtime
from medkit.engine.shares import Shares
from medkit.engine.strategy import Strategy
from medkit.errors import ElsewhereError, RunError

PIECE = 1 << 17  # elements of one inner product
COSINE = "cosine/"
"""What the names of cosines begin with, among the means of an epoch."""


def backward(
    losses: Mapping[str, Tensor],
    parameters: Sequence[nn.Parameter],
    runtime: Runtime,
    *,
    shared: Sequence[nn.Parameter] | None = None,
    generator: torch.Generator | None = None,
    weight: float = 1.0,
    earlier: Earlier | None = None,
) -> Tensor | None:
    """Put the combined gradient, averaged over ranks, into ``.grad`` of every trainable parameter.

    Returns the Gram matrix of the tasks' gradients where they were projected.

    Parameters
    ----------
    losses:
        One scalar per task, weights applied.
    parameters:
        What this turn trains.
    shared:
        Parameters that several tasks train: they get projected task gradients (PCGrad), all others the gradient of the
        sum. None: all get the gradient of the sum.
    generator:
        Draws the order of projections; the same on all ranks.
    weight:
        How much this rank counts in the average: the items of its batch over the mean number of all ranks.
    earlier:
        What :func:`accumulate` has kept from other batches of the same step; ``.grad`` has the rest.

    Raises
    ------
    FailedTogether
        on all ranks, if it fails on one; but an error in gradients that travel while they are computed, those of
        divided parts and of losses that compare rows of all ranks, is raised on that rank alone.
    """
    strategy = runtime.strategy
    trained = [p for p in parameters if p.requires_grad]
    each = _weighted(losses, weight)
    if shared is not None and len(each) > 1:
        return _surgery(each, trained, shared, strategy, generator, earlier)
    # The gradients of divided ones arrive averaged.
    whole = trained if strategy.world_size == 1 else [p for p in trained if not is_divided(p)]
    error: Exception | None = None
    try:
        _total(each).backward()
    except Exception as caught:
        if strategy.world_size == 1 or strategy.gathers or len(whole) < len(trained):
            raise
        error = caught
    if strategy.world_size > 1:
        _average(whole, _agreed(error, [p.grad is not None for p in whole], strategy), strategy)
    return None


def _agreed(error: Exception | None, reached: Sequence[bool], strategy: Strategy) -> list[bool]:
    """Which gradients any rank has, once all ranks have computed theirs without an error."""
    failed, *somewhere = strategy.any_true([error is not None, *reached])
    if failed:
        raise FailedTogether from error or ElsewhereError()
    return somewhere


Earlier = list[list[Tensor | None]]
"""Each task's gradients of the shared parameters, over the batches so far."""


def accumulate(
    losses: Mapping[str, Tensor],
    parameters: Sequence[nn.Parameter],
    *,
    shared: Sequence[nn.Parameter] | None = None,
    weight: float = 1.0,
    earlier: Earlier | None = None,
) -> Earlier | None:
    """Keep the gradients of a batch for the step that :func:`backward` ends; no other rank is asked.

    What can be added up goes into ``.grad``; what is projected task by task is returned.
    """
    each = _weighted(losses, weight)
    if shared is None or len(each) == 1:
        _total(each).backward()
        return None
    several, own = _split([p for p in parameters if p.requires_grad], shared)
    return [
        _task_gradients(loss, several, own, i + 1 < len(each), None if earlier is None else earlier[i])
        for i, loss in enumerate(each)
    ]


def _weighted(losses: Mapping[str, Tensor], weight: float) -> list[Tensor]:
    return [loss if weight == 1 else loss * weight for loss in losses.values()]


def _total(losses: Sequence[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(list(losses)).sum()


def _average(parameters: Sequence[nn.Parameter], reached: Sequence[bool], strategy: Strategy) -> None:
    """Average gradients in one message, with zeros for what only other ranks' losses reached.

    A parameter that no rank reached stays without a gradient, and so without weight decay, as on a single rank.
    """
    for p, somewhere in zip(parameters, reached, strict=True):
        if somewhere and p.grad is None:
            p.grad = torch.zeros_like(p)
    strategy.average([p.grad for p in parameters if p.grad is not None])


def _surgery(
    losses: list[Tensor],
    trained: list[nn.Parameter],
    shared: Sequence[nn.Parameter],
    strategy: Strategy,
    generator: torch.Generator | None,
    earlier: Earlier | None = None,
) -> Tensor:
    """Project away the conflicts that all ranks together see; returns the Gram matrix of the gradients before that.

    The gradients of a task travel, each to the rank that works on it, while the next task's backward pass runs; what
    the ranks have made of them is spread to all. Parameters that are not shared get the gradient of the tasks' sum,
    which is complete after the last one.
    """
    several, own = _split(trained, shared)
    shares = strategy.shares(several)
    reached = [False] * len(several)
    messages: list[Message] = []
    # Losses stay separate scalars: stacking them would send each task's backward through every head.
    error: Exception | None = None
    for i, loss in enumerate(losses):
        mine: Sequence[Tensor | None] = [None] * len(several)
        try:
            if error is None:
                before = None if earlier is None else earlier[i]
                mine = _task_gradients(loss, several, own, i + 1 < len(losses), before)
        except Exception as caught:
            if strategy.world_size == 1 or strategy.gathers:
                raise
            error = caught  # other ranks wait for the messages of all tasks
        reached = [before or g is not None for before, g in zip(reached, mine, strict=True)]
        whole = [torch.zeros_like(p) if g is None else g for p, g in zip(several, mine, strict=True)]
        messages.append(shares.average_async(whole))
        del mine, whole  # what is combined needs the memory
    # What no task reached on any rank stays without a gradient, and so without weight decay, as in a sum.
    agreed = _agreed(error, [*reached, *(p.grad is not None for p in own)], strategy)
    if strategy.world_size > 1:
        _average(own, agreed[len(several) :], strategy)
    tasks = [message.wait() for message in messages]
    products = _gram_of_all(tasks, several, shares)
    combined = _combined(tasks, several[shares.mine], project(products, generator), strategy.world_size > 1)
    for p, total, somewhere in zip(several, shares.spread(combined, several), agreed[: len(several)], strict=True):
        if somewhere:
            # In the layout of its parameter: fused optimizers walk through memory without looking at strides.
            p.grad = total if total.stride() == p.stride() else torch.empty_like(p).copy_(total)
    return products


def _gram_of_all(tasks: Sequence[Sequence[Tensor]], several: Sequence[Tensor], shares: Shares) -> Tensor:
    """The Gram matrix of gradients of which each rank has those of its share."""
    pieces = [max(1, -(-p.numel() // PIECE)) for p in several]
    found = _dots(tasks, several[0].device if several else None)
    return _gram(shares.joined(found, pieces), len(tasks))


def _combined(
    tasks: Sequence[Sequence[Tensor]], parameters: Sequence[Tensor], weights: Sequence[float], overwrite: bool
) -> list[Tensor]:
    """The weighted sum of the tasks' gradients, in the memory of the first task's if it may be overwritten.

    What came by a message may be; autograd itself may give one tensor to two parameters.
    """
    found = []
    for p, first, *others in zip(parameters, *tasks, strict=True):
        total = torch.mul(first, weights[0], out=first if overwrite else torch.empty_like(p))
        for weight, gradient in zip(weights[1:], others, strict=True):
            total.add_(gradient, alpha=weight)
        found.append(total)
    return found


def _split(
    trained: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that several tasks train, and all others of a turn."""
    known = {id(p) for p in trained}
    several = [p for p in shared if p.requires_grad]
    strangers = sum(id(p) not in known for p in several)
    if strangers:
        raise RunError(f"{strangers} shared parameters are not among those this turn trains")
    names = {id(p) for p in several}
    return several, [p for p in trained if id(p) not in names]


def _task_gradients(
    loss: Tensor,
    several: Sequence[nn.Parameter],
    own: Sequence[nn.Parameter],
    keep: bool,
    earlier: Sequence[Tensor | None] | None,
) -> list[Tensor | None]:
    """A task's gradients of the shared parameters, with those of earlier batches; all others are added to ``.grad``."""
    every = _gradients(loss, [*several, *own], keep=keep)
    for p, g in zip(own, every[len(several) :], strict=True):
        if g is not None:
            p.grad = torch.empty_like(p).copy_(g) if p.grad is None else p.grad.add_(g)
    mine = list(every[: len(several)])
    if earlier is None:
        return mine
    return [b if a is None else a if b is None else a + b for a, b in zip(earlier, mine, strict=True)]


def _gradients(loss: Tensor, parameters: Sequence[Tensor], keep: bool) -> Sequence[Tensor | None]:
    """Gradients of one loss, None for what it does not reach; a loss without a graph, a constant, reaches nothing."""
    if not loss.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)


def gram(gradients: Sequence[Sequence[Tensor]]) -> Tensor:
    """(K,K) float64 inner products of K task gradients, each a list of tensors, without copying them together."""
    return _gram(_dots(gradients), len(gradients))


def _dots(gradients: Sequence[Sequence[Tensor]], device: torch.device | None = None) -> Tensor:
    """(pairs of tasks, pieces) float64 inner products, piece by piece; on ``device`` where there are no gradients."""
    pairs = list(combinations_with_replacement(range(len(gradients)), 2))
    found: list[list[Tensor]] = [[] for _ in pairs]
    for tensors in zip(*gradients, strict=True):
        # A piece of every task is multiplied by all others while it is in the processor's cache.
        for pieces in zip(*(tensor.reshape(-1).split(PIECE) for tensor in tensors), strict=True):
            for dots, (i, j) in zip(found, pairs, strict=True):
                dots.append(torch.dot(pieces[i], pieces[j]))
    if not pairs or not found[0]:
        return torch.zeros(len(pairs), 0, dtype=torch.float64, device=device)
    # Pieces are short enough for partial sums in single precision; only their total needs more.
    return torch.stack([torch.stack(dots) for dots in found]).double()


def _gram(dots: Tensor, tasks: int) -> Tensor:
    result = torch.zeros(tasks, tasks, dtype=torch.float64)
    totals = torch.stack([row.sum() for row in dots]).tolist() if len(dots) else []
    for total, (i, j) in zip(totals, combinations_with_replacement(range(tasks), 2), strict=True):
        result[i, j] = result[j, i] = total
    return result


def cosines(products: Tensor, tasks: Sequence[str]) -> dict[str, float]:
    """The cosine between the gradients of two tasks each, ``cosine/A~B``, of their Gram matrix; below 0 they conflict.

    A task without a gradient has none.
    """
    g = products.tolist()
    return {
        f"{COSINE}{tasks[i]}~{tasks[j]}": g[i][j] / math.sqrt(g[i][i] * g[j][j])
        for i in range(len(tasks))
        for j in range(i + 1, len(tasks))
        if g[i][i] > 0 and g[j][j] > 0
    }


def project(
    products: Tensor, generator: torch.Generator | None = None, orders: Sequence[Sequence[int]] | None = None
) -> list[float]:
    """Coefficients of the sum of projected gradients (PCGrad, Yu et al. 2020, Algorithm 1).

    Every projection uses the original gradients, so each result is a combination of them and their Gram matrix is
    all that is needed.

    Parameters
    ----------
    products:
        (K,K) Gram matrix.
    generator:
        Draws, for each task, the order in which the others are visited.
    orders:
        The orders themselves, for parity with published numbers.

    Returns
    -------
    list of float
        K coefficients of the merged gradient.
    """
    tasks = len(products)
    g = products.tolist()
    total = [0.0] * tasks
    for i in range(tasks):
        order = orders[i] if orders is not None else torch.randperm(tasks, generator=generator).tolist()
        mine = [0.0] * tasks
        mine[i] = 1.0
        for j in order:
            if j == i or g[j][j] <= 0:
                continue
            along = sum(mine[k] * g[k][j] for k in range(tasks))
            if along < 0:
                mine[j] -= along / g[j][j]
        total = [a + b for a, b in zip(total, mine, strict=True)]
    return total
