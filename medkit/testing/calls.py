"""What calling a network must leave unchanged, and what its output must not depend on (:mod:`medkit.testing`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medkit.parts.inference import tensors_in
from medkit.testing.common import generators_rest, same

OF_TORCH = ("_g", "_orig")
"""Endings of the parameters from which torch's weight and spectral norm compute a weight in every call."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_calls(module: nn.Module, output: Callable[[Any, Any], Any], inputs: Any) -> None:
    """A call ``output(module, inputs)`` does not change its inputs, touch generators (other than drawing from torch's)
    or keep tensors with their graph, and in evaluation mode returns the same every time."""
    trained, kept = module.training, copied(inputs)
    module.train()
    with generators_rest("forward()"):
        output(module, inputs)
    same(kept, copied(inputs), "forward() changes its input, which other parts see too: make a new tensor")
    for place, part in module.named_modules():
        check_keeps_no_graph(place, part)
    check_repeats(module, output, inputs)
    module.train(trained)


def check_repeats(module: nn.Module, output: Callable[[Any, Any], Any], inputs: Any, what: str = "forward()") -> None:
    """In evaluation mode the output is the same under two seeds; the module is left in that mode."""
    module.eval()
    found = []
    for seed in (2, 3):
        torch.manual_seed(seed)
        with torch.no_grad(), generators_rest(what):
            found.append(copied(output(module, inputs)))
    same(
        found[0],
        found[1],
        "in evaluation mode the output is random: a prediction could not be repeated "
        "(F.dropout needs training=self.training)",
    )


def check_keeps_no_graph(place: str, part: nn.Module) -> None:
    """No attribute of a module keeps what an earlier call computed, with all that it was computed from."""
    for name, value in vars(part).items():
        if name in ("_parameters", "_buffers", "_modules") or any(
            f"{name}{end}" in part._parameters for end in OF_TORCH
        ):
            continue
        if any(tensor.grad_fn is not None for tensor in tensors_in(value)):
            where = f"{place}.{name}" if place else name
            raise AssertionError(
                f"'{where}' keeps a tensor with its graph from call to call, and with it the memory of a batch: "
                "detach it, or keep nothing"
            )


def check_alone(module: nn.Module, output: Callable[[Any, Any], Any], given: Any, items: int | None = None) -> None:
    """In evaluation mode the output of each item of a batch does not depend on the others.

    ``given`` holds tensors of the batch, nested at will; ``items`` (default: as many as its first tensor has) is the
    batch's size, and outputs have as many rows or a multiple of it. Batch norm without running statistics is assumed to
    be intended: a network that has it is not checked.
    """
    if meet_on_purpose(module):
        return
    count = len(next(tensors_in(given))) if items is None else items
    trained = module.training
    module.eval()
    with torch.no_grad():
        together = [rows.chunk(count) for rows in tensors_in(output(module, copied(given)))]
        for item in range(count):
            alone = list(tensors_in(output(module, item_of(given, item, count))))
            compare_alone([parts[item] for parts in together], alone)
    module.train(trained)


def meet_on_purpose(module: nn.Module) -> bool:
    """Whether images of a batch affect each other in evaluation mode too, by batch norm without running statistics."""
    return any(isinstance(part, BATCH_NORMS) and not part.track_running_stats for part in module.modules())


def compare_alone(together: Sequence[Tensor], alone: Sequence[Tensor]) -> None:
    """What an item gets in a batch is what it gets alone, up to rounding."""
    for a, b in zip(together, alone, strict=True):
        assert a.shape == b.shape, "the shape of an image's output depends on the others in its batch"
        scale = 1e-4 * (1 + float(b.abs().max()))
        assert bool(((a - b).abs() <= scale).all()), (
            "in evaluation mode the output of an image depends on the others in its batch: does a layer take the batch "
            "for a sequence (batch_first), or normalise over it?"
        )


def item_of(given: Any, item: int, count: int) -> Any:
    """One item of a nested batch of ``count``, still as a batch; what does not have as many rows stays as it is."""
    if isinstance(given, Tensor):
        fits = given.dim() > 0 and len(given) and len(given) % count == 0
        return given.chunk(count)[item].clone() if fits else given.clone()
    if isinstance(given, Mapping):
        return {key: item_of(value, item, count) for key, value in given.items()}
    if isinstance(given, list | tuple):
        if len(given) == count and all(isinstance(value, str) for value in given):
            return [given[item]]
        return [item_of(value, item, count) for value in given]
    return given


def copied(value: Any) -> Any:
    """A nested value with tensors of its own, without graphs."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return value
