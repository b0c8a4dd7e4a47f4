"""Which cases the report shows, and one telling slice of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from medkit.data.channels import one_shown
from medkit.data.collate import with_channels
from medkit.evaluation.items import MAPS
from medkit.evaluation.maps import activation
from medkit.evaluation.prediction import CasePrediction


def spread(sizes: Sequence[int], count: int) -> list[int]:
    """Which cases to show, by the sizes of their truths: the largest, a small one, normal ones; then others in between.

    They are chosen after the evaluation and predicted again: looking for them beforehand would read every mask twice,
    and keeping what all of them need would take memory for every case.
    """
    positive = sorted((i for i, size in enumerate(sizes) if size), key=lambda i: -sizes[i])
    normal = [i for i, size in enumerate(sizes) if not size]
    order = [
        *positive[:1],
        *positive[-1:],
        *normal[:2],
        *positive[len(positive) // 2 : len(positive) // 2 + 1],
        *positive,
        *normal,
    ]
    return sorted(list(dict.fromkeys(order))[:count])


def picture(objective: Any, prediction: CasePrediction, device: torch.device) -> dict[str, Any]:
    """One slice of a case: image, truth, prediction and the encoder's activation."""
    sample = prediction.sample
    z = telling(prediction)
    shown: dict[str, Any] = {"case": sample.case.id, "slice": z, "label": sample.label, "image": sample.shown[z]}
    if sample.declared is not None:
        shown["declared"] = sample.declared.told(sample.labels)
    if sample.native_mask is not None and np.isfinite(sample.slice_volumes).all():
        voxels = np.count_nonzero(sample.native_mask, (1, 2))
        shown["volume_ml"] = float((voxels * sample.slice_volumes).sum() / 1000)
    if sample.native_mask is not None and sample.classes is not None:
        there = [plane.any() for plane in sample.classes.planes(sample.native_mask)]
        shown["classes"] = ", ".join(name for name, found in zip(sample.classes.names, there, strict=True) if found)
    shown |= {name: array[0] for name, array in layers(prediction, np.array([z]))}
    encoder = objective.parts().get("encoder")
    # The identity shows nothing new, and a 3-D encoder sees no single slice.
    if encoder is not None and any(True for _ in encoder.parameters()) and getattr(encoder, "dimensions", 2) == 2:
        image = with_channels(np.array(sample.image[z : z + 1])).to(device)
        shown["activation"] = activation(encoder, image)[0]
    return shown


def telling(prediction: CasePrediction) -> int:
    """The slice with the most of the true mask, else of the predicted one, else the middle one."""
    mask = prediction.sample.mask
    if mask is not None and mask.any():
        return int(np.argmax(np.count_nonzero(mask, (1, 2))))
    if "mask_probability" in prediction.arrays:
        return int(np.argmax((_any_class(prediction, slice(None)) > 0.5).sum((1, 2))))
    return len(prediction.sample.image) // 2


def layers(prediction: CasePrediction, pick: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What is seen beside the image of the slices ``pick``, (n,H,W) each: true mask, target, and what was predicted."""
    for name in ("mask", "target"):
        array = getattr(prediction.sample, name)
        if array is not None:
            shown = one_shown(array[pick], prediction.sample.steps)
            yield name, (shown > 0).astype(shown.dtype) if name == "mask" else shown
    for name in MAPS:
        if name == "mask_probability" and name in prediction.arrays:
            yield name, _any_class(prediction, pick)
        elif name in prediction.arrays:
            yield name, one_shown(prediction.arrays[name][pick], prediction.sample.steps)


def _any_class(prediction: CasePrediction, pick: slice | np.ndarray) -> np.ndarray:
    """(n,H,W) the predicted mask's probability, with several classes above 0.5 where any of them is predicted."""
    array, classes = prediction.arrays["mask_probability"][pick], prediction.sample.classes
    return np.asarray(array[:, 0]) if classes is None else classes.any_of(array.swapaxes(0, 1))
