"""An objective in the form in which it predicts fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from medkit.parts.inference import prepare_for_inference
from medkit.protocols import Batch

# On one CPU core a pass over few pixels stays in cache: 2 slices of 256x256 beat 64 in time and memory
# (benchmarks/bench_volume.py). At 64x64 and 128x128 (ResNet-18) neither chunks nor folding gained anything.
PIXELS_AT_ONCE = 2 * 256 * 256
SMALLEST = 256 * 256


def ready(objective: Any, batch: Batch, device: torch.device) -> Any:
    """``objective`` for prediction: on a CPU, a folded copy of a network with an encoder, taking few slices at once.

    ``batch`` is one volume it will be asked about; its first slice serves as the example. On other devices, where
    nothing was measured, for slices below 256x256 and for networks without an encoder, it is the objective itself.
    """
    objective.eval()
    pixels = batch["image"].shape[-1] * batch["image"].shape[-2]
    if device.type != "cpu" or pixels < SMALLEST or "encoder" not in objective.parts():
        return objective
    example = first_slice(batch)
    copied: Any = prepare_for_inference(objective, _predict(example))
    if hasattr(copied, "slices_at_once"):
        copied.slices_at_once = max(1, min(copied.slices_at_once, PIXELS_AT_ONCE // pixels))
    return copied


def _predict(batch: Batch) -> Callable[[Any], Any]:
    return lambda module: module.predict(batch)


def first_slice(batch: Mapping[str, Any]) -> Batch:
    """A volume batch cut down to its first slice."""
    one: Batch = dict(batch)
    depth = len(batch["image"])
    for name in ("image", "mask", "target"):
        value = batch.get(name)
        if isinstance(value, Tensor) and len(value) == depth:
            one[name] = value[:1]
    one["lengths"] = torch.ones_like(batch["lengths"])
    return one
