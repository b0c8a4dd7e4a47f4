"""Slices of a few cases, small enough to lie in a report: what its viewer scrolls through.

A case's slices stand side by side in one picture a layer (image, true mask, predicted mask, target, output), with 8
bits a pixel and without loss, so that windows and differences may be made from them.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from medkit.errors import RunError
from medkit.evaluation import files
from medkit.evaluation.measure import CaseRows
from medkit.evaluation.pictures import layers, telling
from medkit.evaluation.prediction import CasePrediction
from medkit.evaluation.worst import worst_first
from medkit.records import write_atomically

MOST = 32  # slices of a case
SIDE = 192  # pixels of a slice's longer side
BYTES = 500_000  # of a case
WORST = 2  # cases that are kept because they came out worst
FRACTIONS = ("mask", "mask_probability")


@dataclass(frozen=True)
class Stack:
    """Some slices of a case.

    Attributes
    ----------
    numbers:
        Which of the ``depth`` slices they are.
    start:
        Where among them a reader begins.
    width, height, columns:
        Pixels of a slice, and how many stand in a row of the picture.
    low, high:
        The values of images that 0 and 255 stand for; of masks these are 0 and 1.
    probability:
        That of each slice, where the stage has one.
    pictures:
        A PNG file a layer: ``image``, ``mask``, ``mask_probability``, ``target``, ``output``, ``reconstruction``.
    """

    case: str
    depth: int
    numbers: Sequence[int]
    start: int
    width: int
    height: int
    columns: int
    low: float
    high: float
    probability: Sequence[float] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        """Everything but the pictures, as plain data."""
        return {name: value for name, value in asdict(self).items() if name != "pictures"}


@dataclass(frozen=True)
class Shown:
    """What is kept of a case to be looked at: its slices, and of some cases a picture of one."""

    picture: dict[str, Any] | None
    stack: Stack


def worst_of(rows: Sequence[CaseRows], metrics: Sequence[Any]) -> list[int]:
    """The cases, by their places among ``rows``, with the worst rows of all."""
    place = {id(line): i for i, kept in enumerate(rows) for line in kept.lines}
    _, found = worst_first(
        [line for kept in rows for line in kept.lines], {metric.name: metric.higher_is_better for metric in metrics}
    )
    return list(dict.fromkeys(place[id(line)] for _, line in found))[:WORST]


def stack_of(prediction: CasePrediction) -> Stack:
    """The slices of a case: as many as there is room for, evenly spaced, the most telling one among them."""
    most = MOST
    while True:
        made = _stack(prediction, _spaced(len(prediction.sample.image), telling(prediction), most))
        size = sum(map(len, made.pictures.values()))
        if size <= BYTES or len(made.numbers) == 1:
            return made
        most = max(1, min(len(made.numbers) - 1, int(len(made.numbers) * BYTES / size)))


def _spaced(depth: int, wanted: int, most: int) -> np.ndarray:
    """At most ``most`` evenly spaced slices; the one nearest to ``wanted`` is moved there."""
    found = np.unique(np.linspace(0, depth - 1, min(depth, most)).round().astype(int))
    found[np.abs(found - wanted).argmin()] = wanted
    return found


def _stack(prediction: CasePrediction, numbers: np.ndarray) -> Stack:
    sample, found = prediction.sample, {"image": prediction.sample.shown[numbers], **dict(layers(prediction, numbers))}
    low, high = _range(found["image"])
    columns = math.ceil(math.sqrt(len(numbers)))
    small = {name: np.stack([_small(one) for one in np.asarray(array, np.float32)]) for name, array in found.items()}
    pictures = {}
    for name, array in small.items():
        black, white = (0.0, 1.0) if name in FRACTIONS else (low, high)
        pictures[name] = _encoded(((array - black) / (white - black)).clip(0, 1), columns)
    each = prediction.arrays.get("probability")
    known = each is not None and each.ndim == 1 and len(each) == len(sample.image)
    probability = [round(float(each[z]), 4) for z in numbers] if each is not None and known else []
    start = int(np.flatnonzero(numbers == telling(prediction))[0])
    height, width = small["image"].shape[1:]
    about = (sample.case.id, len(sample.image), numbers.tolist(), start, width, height, columns, low, high)
    return Stack(*about, probability, pictures)


def _range(images: np.ndarray) -> tuple[float, float]:
    """What is black and white: 0 and 1, as windows make it, or where values lie elsewhere, all but the outermost."""
    if images.min() >= -0.01 and images.max() <= 1.01:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(images, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _encoded(images: np.ndarray, columns: int) -> bytes:
    count, height, width = images.shape
    picture = np.zeros((math.ceil(count / columns) * height, columns * width), np.uint8)
    for i, image in enumerate((images * 255).round().astype(np.uint8)):
        row, column = divmod(i, columns)
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise RunError(f"OpenCV could not write a PNG picture of {picture.shape[1]} x {picture.shape[0]} pixels")
    return data.tobytes()


def write_stacks(path: Path, stacks: Sequence[Stack]) -> None:
    """Write the stacks of one evaluation, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for i, one in enumerate(stacks):
        arrays[f"{i}.about"] = np.array(json.dumps(one.about))
        arrays |= {f"{i}.{name}": np.frombuffer(data, np.uint8) for name, data in one.pictures.items()}
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, data.getvalue())


def read_stacks(path: Path) -> list[Stack]:
    """What :func:`write_stacks` wrote; [] where there is no file, as in runs of earlier versions."""
    if not path.is_file():
        return []
    arrays = files.read_arrays(path)
    count = sum(name.endswith(".about") for name in arrays)
    return files.guarded(path, lambda: [_read(arrays, f"{i}.") for i in range(count)])


def _read(arrays: Mapping[str, np.ndarray], start: str) -> Stack:
    about = json.loads(arrays[f"{start}about"].item())
    pictures = {
        name.removeprefix(start): array.tobytes()
        for name, array in arrays.items()
        if name.startswith(start) and not name.endswith(".about")
    }
    return Stack(**about, pictures=pictures)
