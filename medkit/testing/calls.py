"""What calling a network must leave unchanged, and what its output must not depend on (:mod:`medkit.testing`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medkit.parts.inference import tensors_in
from medkit.testing.common import same

OF_TORCH = ("_g", "_orig")
"""Endings of the parameters from which torch's weight and spectral norm compute a weight in every call."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_calls(module: nn.Module, output: Callable[[Any, Any], Any], inputs: Any) -> None:
    """A call ``output(module, inputs)`` does not change its inputs, seed torch or keep tensors with their graph, and in
    evaluation mode returns the same every time."""
    trained, kept = module.training, copied(inputs)
    module.train()
    output(module, inputs)
    same(kept, copied(inputs), "forward() changes its input, which other parts see too: make a new tensor")
    for place, part in module.named_modules():
        check_keeps_no_graph(place, part)
    module.eval()
    with torch.no_grad():
        torch.manual_seed(2)
        first = copied(output(module, inputs))
        assert torch.initial_seed() == 2, "forward() sets torch's seed, on which repeating and resuming steps relies"
        torch.manual_seed(3)
        again = copied(output(module, inputs))
    same(first, again, "in evaluation mode the output is random: a prediction could not be repeated")
    module.train(trained)


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


def check_alone(module: nn.Module, output: Callable[[Any, Tensor], Any], images: Tensor) -> None:
    """In evaluation mode an image's output does not depend on the other images of its batch.

    Batch norm without running statistics is assumed to be intended: a network that has it is not checked.
    """
    if any(isinstance(part, BATCH_NORMS) and not part.track_running_stats for part in module.modules()):
        return
    trained = module.training
    module.eval()
    with torch.no_grad():
        together = [tensor[:1] for tensor in tensors_in(output(module, images))]
        alone = list(tensors_in(output(module, images[:1])))
    for a, b in zip(together, alone, strict=True):
        scale = 1e-4 * (1 + float(b.abs().max()))
        assert a.shape == b.shape, "the shape of an image's output depends on the others in its batch"
        assert bool(((a - b).abs() <= scale).all()), (
            "in evaluation mode the output of an image depends on the others in its batch"
        )
    module.train(trained)


def copied(value: Any) -> Any:
    """A nested value with tensors of its own, without graphs."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return value
