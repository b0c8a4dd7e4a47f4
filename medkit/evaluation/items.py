"""What metrics are given: one item per case or slice, predictions on the source grid.

:class:`medkit.protocols.Metric` lists the keys with shapes and units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medkit.data.dataset import Sample
from medkit.data.transforms import prepare
from medkit.errors import RunError

MAPS = ("mask_probability", "reconstruction", "output")
CLASS_MASKS = ("class_masks", "class_masks_said")
NUMBERS = ("probability", "value")
PER_SLICE = ("image", "target", "mask", "slice_volumes", "positions", *MAPS)


def check_predictions(arrays: Mapping[str, np.ndarray], sample: Sample, where: str) -> None:
    """Refuse predictions that no metric may see: NaN or infinite, not a probability, or of another shape.

    Rounded, a NaN would be a confident no: a network that has diverged would have the best specificity of all.
    """
    case, depth = f"case '{sample.case.id}'", len(sample.image)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise RunError(f"{name} of {case} is {array.dtype}, not a number", where)
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise RunError(
                f"{count} of {array.size} values of {name} of {case} are not finite (NaN or infinite)",
                where,
                "the network has diverged: a lower learning rate, or precision fp32, may help",
            )
        if name.endswith("probability") and array.size and (array.min() < -1e-3 or array.max() > 1 + 1e-3):
            span = f"{array.min():.4g} to {array.max():.4g}"
            raise RunError(f"{name} of {case} is not a probability: it goes from {span}", where)
        fits = {
            "probability": array.ndim == 1,
            "value": array.ndim == 1,
            "class_probability": array.ndim == 2,
            "label_probability": array.ndim == 2,
        }
        if not fits.get(name, True) or (name in fits and len(array) not in (1, depth)):
            raise RunError(f"{name} of {case} has the shape {array.shape}, for {depth} slices", where)
        if name in MAPS and (array.ndim != 4 or len(array) != depth or array.shape[2:] != sample.image.shape[-2:]):
            raise RunError(f"{name} of {case} has the shape {array.shape}, its image {sample.image.shape}", where)
        wanted = 1 if sample.classes is None else len(sample.classes)
        if name == "mask_probability" and array.shape[1] != wanted:
            what = f"{name} of {case} has {array.shape[1]} channels, and its mask {_counted(wanted)}"
            raise RunError(what, where)


def _counted(classes: int) -> str:
    return f"{classes} classes" if classes > 1 else "is one"


def as_predicted(sample: Sample, native: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Predictions on the source grid as a network on prepared slices would have made them: maps (D,1,H,W)."""
    arrays = {}
    for name, array in native.items():
        if name not in MAPS:
            arrays[name] = array
            continue
        shape = (len(sample.image), *sample.native_shape)
        if array.shape != shape:
            raise RunError(f"{name} of case '{sample.case.id}' is {array.shape}, its image {shape}")
        if name == "mask_probability":
            air = np.full(shape, -1000, np.int16)
            made, _ = prepare(sample.steps, {"image": air, "mask": (array > 0.5).astype(np.uint8)})
            arrays[name] = made["mask"][:, None].astype(np.float32)
        else:
            arrays[name] = prepare(sample.steps, {"image": array})[0]["image"][:, None]
    return arrays


def items_of(
    sample: Sample, arrays: Mapping[str, np.ndarray], unit: str, native_mask: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """What metrics see of a case: one item, or with ``unit`` slice one per slice (each a volume of one slice).

    ``native_mask`` is the predicted mask on the source grid if a separate program has made it there.
    """
    item: dict[str, Any] = {
        **sample.case.fields,
        "id": sample.case.id,
        "patient": sample.case.patient,
        "center": sample.case.center,
        "label": sample.label,
        "image": sample.image,
        **geometry_of(sample),
    }
    classes = sample.classes
    if sample.native_mask is not None:
        item["mask"] = sample.native_mask
        if classes is not None:
            item |= {"class_masks": classes.planes(item["mask"]), "mask": (item["mask"] > 0).astype(np.uint8)}
    if classes is not None:
        item["classes"] = classes.names
    if sample.target is not None:
        item["target"] = sample.target
    if sample.labels is not None:
        item |= {"labels": sample.labels, "declared": sample.declared}
    for name, array in arrays.items():
        if name == "mask_probability" and classes is not None:
            each = restored_classes(sample, array)
            item |= {name: classes.any_of(each), "class_masks_said": classes.planes(classes.said(each))}
        elif name == "mask_probability":
            restored = native_mask if native_mask is not None else sample.restore(np.ascontiguousarray(array[:, 0]))
            item[name] = restored
        elif name in MAPS:
            item[name] = array[:, 0] if array.shape[1] == 1 else array
        else:
            item[name] = array
    if unit == "slice":
        return [_slice_of(item, z) for z in range(len(sample.image))]
    if "probability" in item:
        # A slice-wise network judges a volume by its most suspicious slice,
        item["probability"] = float(np.max(item["probability"]))
    if "value" in item:
        # and measures it by what its slices say on average.
        item["value"] = float(np.mean(item["value"]))
    if "class_probability" in item:
        item["class_probability"] = item["class_probability"].mean(0)
    if "label_probability" in item:
        item["label_probability"] = item["label_probability"].max(0)
    return [item]


def restored_classes(sample: Sample, array: np.ndarray) -> np.ndarray:
    """(K,D,h,w) float32 on the source grid, from probabilities of classes (D,K,H,W)."""
    return np.stack([sample.restore(np.ascontiguousarray(array[:, number])) for number in range(array.shape[1])])


def geometry_of(sample: Sample) -> dict[str, Any]:
    """Sizes and positions of the source's voxels; nan if the source does not say how large they are."""
    known = bool(np.isfinite(sample.slice_volumes).all())
    nothing = np.nan if not known else 0.0
    return {
        "spacing": np.asarray(sample.spacing, float) + nothing,
        "voxel_volume": float(sample.voxel_volume),
        "slice_volumes": np.asarray(sample.slice_volumes, float),
        "positions": np.asarray(sample.positions, float) + nothing,
        "affine": np.asarray(sample.affine, float) + nothing,
    }


def _slice_of(item: Mapping[str, Any], z: int) -> dict[str, Any]:
    """One slice of a case's item, as a volume of one slice."""
    one = dict(item, id=f"{item['id']}#{z}")
    for name in PER_SLICE:
        if name in one:
            one[name] = item[name][z : z + 1]
    for name in CLASS_MASKS:
        if name in one:
            one[name] = item[name][:, z : z + 1]
    affine = np.array(item["affine"])
    affine[:3, 3] = item["positions"][z]
    one |= {"affine": affine, "voxel_volume": float(item["slice_volumes"][z])}
    for name in NUMBERS:
        if name in one:
            one[name] = float(item[name][z])
    for name in ("class_probability", "label_probability"):
        if name in one:
            one[name] = item[name][z]
    if "mask" in one:
        one["label"] = float(one["mask"].any())
    return one
