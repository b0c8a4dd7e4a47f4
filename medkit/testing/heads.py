"""The conformance check of pretext heads (:mod:`medkit.testing`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medkit.errors import did_you_mean
from medkit.parts.inference import tensors_in
from medkit.protocols import PretextHead, offered
from medkit.testing.calls import check_alone, check_keeps_no_graph, check_repeats, copied
from medkit.testing.common import (
    STRIDES,
    ExampleEncoder,
    build,
    check_construction,
    check_devices,
    check_dtype,
    check_gradients,
    check_resumes,
    check_state,
    dimensions,
    example_features,
    generators_rest,
    same,
    told,
)

SHAPES: dict[str, str] = {
    "probability": "N",
    "value": "N",
    "class_probability": "NK",
    "label_probability": "NK",
    "mask_probability": "N1HW",
    "reconstruction": "NCHW",
    "output": "NCHW",
}
"""Standard predictions (:mod:`medkit.protocols`) and their axes."""
SIZES = {2: ((32, 32), (33, 33)), 3: ((8, 16, 16), (9, 17, 17))}
"""Sizes of the images on which heads for slices, and for volumes, are tried."""


def check_pretext(constructor: Callable[..., Any], *, batch: Mapping[str, Any] | None = None, **arguments: Any) -> None:
    """``view``, ``forward``, ``loss`` and ``predict`` fit together; gradients reach every parameter; odd sizes work.

    ``view`` does not change the batch and its target has no graph; predictions have standard names and shapes. Fields
    in the head's ``needs`` are zeros and ones unless ``batch`` has them. A head with its own ``encode`` gets an encoder
    for one-channel images that offers tokens. A head for volumes is tried on patches of them, and one that takes either
    on both.
    """
    head = build(constructor, arguments, "pretext")
    check_construction(constructor, arguments)
    view_of = offered(PretextHead, head, "view")
    needs = getattr(head, "needs", ())
    assert isinstance(needs, tuple), "needs must be a tuple of field names"
    fields = {name: torch.tensor([0.0, 1.0, 1.0]) for name in needs}
    for size in [size for each in dimensions(head) for size in SIZES[each]]:
        of_volumes = len(size) == 3
        given = example_batch(size, fields, batch or {}, "patch3d" if of_volumes else "slice")
        fields = {name: given[name] for name in needs}
        kept = copy.deepcopy(given)
        torch.manual_seed(4)
        with generators_rest("view()"):
            inputs, target = view_of(given)
        same(kept, given, "view() changes the batch, which the other heads see too: make a new tensor")
        torch.manual_seed(4)
        again = view_of(given)
        same([inputs, target], list(again), "view() differs under the same seed: draw from torch's generator")
        for tensor in (*tensors_in(inputs), *tensors_in(target)):
            assert not tensor.requires_grad, "view() returns tensors with a graph, which would be trained: detach them"
        features = _features(head, inputs)
        with told("forward() fails on a pyramid of the channels it was given"), generators_rest("forward()"):
            unchanged = copied(features)
            output = head(features, **fields)
        same(unchanged, copied(features), "forward() changes the maps, which the other heads see too")
        unchanged = copied([output, target])
        with generators_rest("loss()"):
            terms = head.loss(output, target)
        same(unchanged, copied([output, target]), "loss() changes the output or the target: make a new tensor")
        for place, part in head.named_modules():
            check_keeps_no_graph(place, part)
        assert isinstance(terms, Mapping), f"loss() must return a dictionary, not a {type(terms).__name__}"
        assert terms, "loss() must name at least one term"
        for name, term in terms.items():
            assert term.dim() == 0, f"loss term '{name}' is not a scalar: {tuple(term.shape)}"
            assert torch.isfinite(term), f"loss term '{name}' is not finite"
        check_gradients(head, torch.stack(list(terms.values())).sum())
        head.eval()
        with torch.no_grad():
            if hasattr(head, "predict"):
                example = [example_features(given["image"].shape[2:]), fields]
                check_repeats(head, lambda head, given: head(given[0], **given[1]), example)
                said = head(example_features(given["image"].shape[2:]), **fields)
                found = head.predict(said)
                same(copied(found), copied(head.predict(said)), "predict() gives different results for the same output")
                check_predictions(
                    *((of_slices(found), in_slices(given["image"]), 3) if of_volumes else (found, given["image"]))
                )
                check_alone(head, lambda head, given: head.predict(head(given[0], **given[1])), example)
        head.train()

    def output_of(head: Any, dtype: torch.dtype = torch.float32, device: Any = None) -> Any:
        moved = {name: value.to(device) for name, value in fields.items()}
        return head(_features(head, _moved(inputs, dtype, device)), **moved)

    def trained(head: Any) -> Any:
        output = output_of(head)
        return [output, head.loss(output, target)]

    check_state(head, output_of, lambda: build(constructor, arguments, seed=9))
    check_resumes(head, trained, lambda: build(constructor, arguments, seed=9))
    check_dtype(head, lambda m: output_of(m, torch.float64))
    check_devices(head, lambda m, d: output_of(m, device=d))


def _features(head: Any, inputs: Any) -> Any:
    """What ``forward`` gets: a pyramid for the images' size, or what the head's own ``encode`` makes."""
    first = next(iter(tensors_in(inputs)))
    if not hasattr(head, "encode"):
        assert isinstance(inputs, Tensor), f"view() must return images (N,C,H,W), not a {type(inputs).__name__}"
        axes = " or ".join({2: "(N,C,H,W)", 3: "(N,C,D,H,W)"}[each] for each in dimensions(head))
        assert inputs.dim() - 2 in dimensions(head), f"view() must return images {axes}, not {tuple(inputs.shape)}"
        return [f.to(first.device) for f in example_features(inputs.shape[2:], len(inputs), inputs.dtype)]
    encoder = ExampleEncoder().to(first.device, first.dtype)
    with told("encode() fails on an encoder that offers tokens"), generators_rest("encode()"):
        return head.encode(encoder, inputs)


def _moved(inputs: Any, dtype: torch.dtype, device: Any) -> Any:
    """Inputs on another device, images in another precision; indices and masks keep their type."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, dtype if inputs.is_floating_point() else inputs.dtype)
    return tuple(_moved(item, dtype, device) for item in inputs)


def in_slices(volumes: Tensor) -> Tensor:
    """Patches of volumes (N,C,D,H,W) as their slices, (N*D,C,H,W)."""
    return volumes.transpose(1, 2).flatten(0, 1)


def of_slices(predictions: Any) -> Any:
    """The predictions of a head for volumes, with maps (N,K,D,H,W) as those of slices, (N*D,K,H,W)."""
    if not isinstance(predictions, Mapping):
        return predictions
    return {name: in_slices(value) if value.dim() == 5 else value for name, value in predictions.items()}


def example_batch(
    size: Sequence[int], fields: Mapping[str, Tensor], more: Mapping[str, Any], unit: str = "slice"
) -> dict[str, Any]:
    """A batch of three slices, of two volumes with two slices and one, of three pairs of patches, or of three patches
    of volumes."""
    made = torch.Generator().manual_seed(3)
    image = torch.rand(3, 1, *size, generator=made)
    label = torch.tensor([0.0, 1.0, 1.0])
    given: dict[str, Any] = {"image": image, "ids": ["a", "b", "c"]}
    if unit == "patch3d":
        given |= {"views": torch.rand(3, 2, 1, *size, generator=made)}
        given |= {"target": torch.rand(3, 1, *size, generator=made), "label": label, **fields}
        return given | {"mask": (torch.rand(3, 1, *size, generator=made) > 0.5).float()} | dict(more)
    given |= {"views": torch.rand(3, 2, 1, *size, generator=made), "crops": torch.rand(3, 4, 1, 16, 16, generator=made)}
    if unit == "patch":
        return given | {"target": torch.rand(3, 1, *size, generator=made)} | dict(more)
    given |= {"mask": (torch.rand(3, 1, *size, generator=made) > 0.5).float(), "label": label, **fields}
    if unit == "volume":
        given |= {"lengths": torch.tensor([2, 1]), "label": label[:2], "ids": ["a", "b"]}
    return given | dict(more)


def check_predictions(predictions: Any, image: Tensor, items: int | None = None) -> None:
    """Check names, shapes for ``image`` (S,C,H,W) and ``items`` items (default: S), and ranges of predictions."""
    assert isinstance(predictions, Mapping), f"predict() must return a dictionary, not a {type(predictions).__name__}"
    sizes = {"1": 1, "C": image.shape[1]}
    if all(side % STRIDES[-1] == 0 for side in image.shape[2:]):  # else maps may extend beyond the image
        sizes |= {"H": image.shape[2], "W": image.shape[3]}
    for name, value in predictions.items():
        hint = did_you_mean(name, SHAPES) or f"there are: {', '.join(SHAPES)}"
        assert name in SHAPES, f"'{name}' is not a standard prediction, so nothing would evaluate it; {hint}"
        assert isinstance(value, Tensor), f"prediction '{name}' must be a tensor, not a {type(value).__name__}"
        assert torch.isfinite(value).all(), f"prediction '{name}' is not finite (NaN or infinite)"
        axes, shape = SHAPES[name], tuple(value.shape)
        count = len(image) if "H" in axes or items is None else items
        assert value.dim() > 0, f"prediction '{name}' is ({','.join(axes)}), not a scalar"
        assert len(value) == count, f"prediction '{name}' has {len(value)} items for {count} images"
        fits = len(shape) == len(axes) and all(
            sizes.get(axis, side) == side for axis, side in zip(axes[1:], shape[1:], strict=True)
        )
        assert fits, f"prediction '{name}' is {shape}, not ({','.join(axes)})"
        if name.endswith("probability"):
            assert value.min() >= 0, f"'{name}' falls below 0"
            assert value.max() <= 1, f"'{name}' exceeds 1"
        if name == "class_probability":
            assert torch.allclose(value.sum(1), torch.ones(len(value), dtype=value.dtype), atol=1e-4), (
                "'class_probability' of an image does not sum to 1"
            )
