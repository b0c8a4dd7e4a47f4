"""A finished stage of a run, ready for one image after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.data.dicom_seg import Segment
from medkit.data.ledger import Ledger
from medkit.data.transforms import Resize, Window
from medkit.data.volume import Volume
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.protocols import Record
from medkit.protocols.classes import Classes
from medkit.protocols.labels import Labels
from medkit.recipe import Recipe, Stage
from medkit.runs.folder import RunFolder
from medkit.runs.inference import Accepts
from medkit.runs.ledgers import recorded_ledger, seen_in_training
from medkit.runs.origin import SLICES, inputs_named, ledger_in_short, now, origin
from medkit.runs.stage_trainer import StageTrainer
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench

Format = Literal["dicom", "dicom-seg", "nifti"]


@dataclass(frozen=True)
class PredictSettings:
    """What is made of a prediction.

    Parameters
    ----------
    threshold:
        Probability above which a voxel is positive; only for stages with a mask.
    resample:
        Write a DICOM series whose slices vary in spacing or are sheared by a tilt, which NIfTI cannot hold, as NIfTI
        on an even, upright grid (:func:`medkit.data.resample.even`). ``volume_ml`` is that of the true slices.
    tile:
        Side in pixels of the overlapping tiles in which a denoiser takes a slice; default: as the recipe says.
    overlap:
        Share of a tile that its neighbour covers too, in [0, 1); default: as the recipe says.
    format:
        ``dicom`` for a series of masks or images, ``dicom-seg`` for one DICOM Segmentation object (the extra ``seg``),
        ``nifti``. Default: by the name of the output, or of the input.
    """

    threshold: float = 0.5
    resample: bool = False
    tile: int | None = None
    overlap: float | None = None
    format: Format | None = None


DEFAULT = PredictSettings()
NUMBERS = "what the network says of the prepared image; the mask, its volume and slices are on the image's own grid"
"""What probability and value of a stage with a mask are: a mask may be empty beside a high probability."""


@dataclass(frozen=True)
class Prediction:
    """What a stage predicts for one image.

    Attributes
    ----------
    segments:
        Where the mask is above the threshold, or each class is predicted, (D,H,W) of 0 and 1 on the image's grid; none
        for a stage without a mask.
    mask_probability:
        (D,H,W) on the image's grid, for classes (K,D,H,W), or None.
    output:
        The denoised image in the source's units, or None.
    numbers:
        Probabilities and values of the image, with their unit.
    notes:
        What is doubtful about the image.
    classes:
        Of the mask, if it has several.
    """

    image: Volume
    segments: Sequence[Segment] = ()
    mask_probability: np.ndarray | None = None
    output: Volume | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    classes: Classes | None = None

    @property
    def mask(self) -> Volume | None:
        """Where any class is, or None for a stage without a mask."""
        if not self.segments:
            return None
        masks = [segment.mask for segment in self.segments]
        return self.image.like(masks[0] if len(masks) == 1 else np.max(masks, axis=0))

    @property
    def numbers_of_classes(self) -> Volume | None:
        """The mask with class numbers in place of 1, where classes overlap their sum; or the mask itself."""
        if self.classes is None or not self.segments:
            return self.mask
        values = [self.classes.value(number) for number in range(len(self.segments))]
        masks = [segment.mask * np.uint8(value) for segment, value in zip(self.segments, values, strict=True)]
        return self.image.like(np.stack(masks).sum(0, dtype=np.uint8))

    @property
    def of_classes(self) -> dict[str, Any]:
        """Value in the written mask, volume and slices of each class, by name."""
        found: dict[str, Any] = {}
        for number, segment in enumerate(self.segments if self.classes is not None else ()):
            assert self.classes is not None
            about = {"value": self.classes.value(number), "volume_ml": self._ml(segment.mask)}
            found[segment.label] = {**about, "slices": np.flatnonzero(segment.mask.any((1, 2))).tolist()}
        return found

    @property
    def volume_ml(self) -> float | None:
        """mL of the mask; None without a mask, or if the spacing is not known."""
        mask = self.mask
        return None if mask is None else self._ml(mask.voxels)

    def _ml(self, mask: np.ndarray) -> float | None:
        if not self.image.spacing_known:
            return None
        return round(float((mask.sum((1, 2)) * self.image.slice_volumes()).sum()) / 1000, 4)


class Predictor:
    """Applies a stage of a finished run; weights are read once, when the first image is predicted.

    Parameters
    ----------
    run:
        A run folder.
    stage:
        Which stage's model; default: the recipe's last one that is not a variant.
    runtime:
        Where to compute, if that is known already; otherwise ``device`` decides.

    Raises
    ------
    InputError
        for a stage that does not exist, a threshold outside [0, 1] or for masks of classes, or tiles for a stage
        without any.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        stage: str | None = None,
        settings: PredictSettings = DEFAULT,
        device: str | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if not 0 <= settings.threshold <= 1:
            raise InputError(f"a probability lies in [0, 1], not {settings.threshold}", "--threshold")
        self.folder = RunFolder.open(Path(run))
        self.recipe: Recipe = self.folder.recipe()
        self.stage = self.recipe.stage(stage) if stage else last_stage(self.recipe)
        self.settings, self.device, self._runtime = settings, device, runtime
        self.classes = self.recipe.data[self.stage.data].classes
        if self.classes is not None and settings.threshold != DEFAULT.threshold:
            hint = "each voxel gets its most likely class; if classes overlap, all those above 0.5"
            raise InputError("masks of classes have no threshold", "--threshold", hint)

    @cached_property
    def _trainer(self) -> StageTrainer:
        bench = Workbench(self.recipe, self._runtime or Runtime.start(device=self.device), self.folder)
        objective = bench.trained(self.stage)
        _tile(objective, self.stage, self.settings)
        return trainer_of(bench, self.stage, objective)

    @property
    def objective(self) -> Any:
        """The stage's objective with its weights."""
        return self._trainer.objective

    @cached_property
    def _window(self) -> Window:
        """The window of the preparation, if it is the kind that can be undone."""
        steps = [step.build() for step in self.recipe.data[self.stage.data].prepare]
        return the_window(steps, str(self.folder.path))

    @property
    def on_cpu(self) -> bool:
        return bool(self._trainer.bench.runtime.device.type == "cpu")

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the run itself: weights on a GPU cannot be sent."""
        return _again, (self.folder.path, self.stage.name, self.settings, self.device)

    def load(self) -> None:
        """Read the weights now; raises whatever rules out any prediction."""
        if self.stage.unit == "patch":
            _ = self._window
        _ = self._trainer

    def predict(
        self,
        image: Volume | Record,
        fields: Mapping[str, float] | None = None,
        *,
        accepts: Accepts = lambda gives: None,
        progress: Progress | None = None,
    ) -> Prediction:
        """Predict one image.

        Parameters
        ----------
        image:
            In HU if the recipe's preparation asks for that; a record if a case has several images, as channels.
        fields:
            What a head needs besides the image, such as ``{"sex": 1}``.
        accepts:
            Called with the names of the predictions, before the work is done.

        Raises
        ------
        InputError
            if the image or a field does not fit the stage, a tile is twice as large as a slice, or there is a threshold
            for a stage without a mask.
        """
        self.load()
        record = image if isinstance(image, Record) else Record(image)
        image = record.image
        _check_tile(self.settings, image)

        def accepted(gives: set[str]) -> None:
            self._check_threshold(gives)
            accepts(gives)

        found = self._trainer.predict_image(record, fields or {}, accepted, progress or Progress(quiet=True))
        segments: list[Segment] = []
        output = None
        for given in (found.mask_probability, found.output):
            # (D,H,W), or (K,D,H,W) of K classes.
            if given is not None and given.shape[-3:] != image.voxels.shape:
                sizes = ["x".join(map(str, shape[-2:])) for shape in (given.shape, image.voxels.shape)]
                what = f"stage '{self.stage.name}' gives slices of {sizes[0]} for this image's slices of {sizes[1]}"
                hint = "its network halves slices and doubles them again: give the recipe's 'prepare' a resize"
                raise InputError(what, image.place, hint)
        if found.mask_probability is not None:
            segments = self._segments(found.mask_probability)
        elif found.output is not None:
            output = image.like(to_source_units(image.voxels, found.output, self._window))
        labels = self.recipe.data[self.stage.data].labels
        notes = [note for volume in (image, *record.channels) for note in volume.notes]
        numbers, notes = _numbers(found.found, self.objective, labels), [*notes, *found.notes]
        return Prediction(image, segments, found.mask_probability, output, numbers, notes, self.classes)

    def _check_threshold(self, gives: set[str]) -> None:
        """Refuse a threshold where there is no mask: it would silently change nothing."""
        if self.settings.threshold != DEFAULT.threshold and "mask_probability" not in gives:
            named = ", ".join(sorted(gives)) or "nothing"
            hint = "leave it out, and compare the numbers in prediction.json with it"
            raise InputError(f"stage '{self.stage.name}' gives {named} and no mask", "--threshold", hint)

    def _segments(self, probability: np.ndarray) -> list[Segment]:
        if self.classes is None:
            mask = (probability > self.settings.threshold).astype(np.uint8)
            return [Segment(f"{self.recipe.name} {self.stage.name}", mask)]
        planes = self.classes.planes(self.classes.said(probability)).astype(np.uint8)
        return [Segment(name, plane) for name, plane in zip(self.classes.names, planes, strict=True)]

    @cached_property
    def _origin(self) -> dict[str, Any]:
        return origin(self.folder, self.recipe, self.stage, self.objective.parts())

    @cached_property
    def _ledger(self) -> Ledger | None:
        return recorded_ledger(self.folder, self.stage.name)

    @property
    def notices(self) -> Sequence[str]:
        """What readers have to know about the data that the run was trained on."""
        found: Sequence[str] = self._origin["notices"]
        return found

    @property
    def weights(self) -> Mapping[str, str]:
        """The digest of each part's weights."""
        found: Mapping[str, str] = self._origin["weights"]
        return found

    def summary(self, prediction: Prediction, record: Record, sources: Sequence[Path]) -> dict[str, Any]:
        """What ``prediction.json`` says about a prediction: where it comes from, and its numbers.

        ``sources`` is where the images of ``record`` were read from.
        """
        image = prediction.image
        found = {**self._origin, "date": now(), "ledger": ledger_in_short(self._ledger)}
        found |= inputs_named(record, sources)
        found["seen_in_training"] = seen_in_training(self._ledger, image)
        if prediction.notes:
            found["input_notes"] = list(prediction.notes)
        mask = prediction.mask
        if mask is not None:
            found |= {"threshold": self.settings.threshold} if self.classes is None else {}
            found["volume_ml"] = prediction.volume_ml
            if self.classes is not None:
                found["classes"] = prediction.of_classes
                if self.classes.overlapping:
                    found["mask_values"] = "the sum of the values of all classes that a voxel has"
            found |= {"slices": np.flatnonzero(mask.voxels.any((1, 2))).tolist(), "slices_are": SLICES}
            if prediction.numbers:
                found["numbers_are"] = NUMBERS
        return found | dict(prediction.numbers)


def _again(run: Path, stage: str, settings: PredictSettings, device: str | None) -> Predictor:
    return Predictor(run, stage=stage, settings=settings, device=device)


def last_stage(recipe: Recipe) -> Stage:
    """The recipe's last stage that is not a variant."""
    return next(stage for stage in reversed(recipe.stages) if "@" not in stage.name)


def _numbers(result: Mapping[str, np.ndarray], objective: Any, labels: Labels | None) -> dict[str, Any]:
    """Probabilities and values; a value's unit if its head names one, classes by the names of declared labels."""
    found: dict[str, Any] = {}
    for name in ("probability", "value"):
        if name in result:
            values = np.asarray(result[name], np.float64).reshape(-1)
            found[name] = float(values[0]) if len(values) == 1 else [round(float(v), 5) for v in values]
    if "value" in found:
        able = (*getattr(objective, "heads", {}).values(), getattr(objective, "labels", None))
        found["unit"] = next((one.unit for one in able if getattr(one, "unit", "")), "that of the training labels")
    if labels is not None and (said := _said(labels, result)):
        return found | said
    if "class_probability" in result:
        each = np.asarray(result["class_probability"], np.float64).round(6)
        found["class_probability"] = each[0].tolist() if len(each) == 1 else each.tolist()
    return found


def _said(labels: Labels, result: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Which declared classes are predicted, by name: for the image, and for its slices if it has several."""
    name = "label_probability" if labels.kind == "any_of" else "class_probability"
    if name not in result:
        return {}
    each = np.asarray(result[name], np.float64)
    whole = each.max(0) if labels.kind == "any_of" else each.mean(0)
    found: dict[str, Any] = {"class": labels.told(labels.said(whole))}
    found[name] = {n: round(float(p), 6) for n, p in zip(labels.names, whole, strict=True)}
    if len(each) > 1:
        found["class_of_slices"] = [labels.told(labels.said(one)) for one in each]
    return found


def _tile(objective: Any, stage: Stage, settings: PredictSettings) -> None:
    """Have a denoiser take slices in tiles of sizes other than its recipe says."""
    tile, overlap = settings.tile, settings.overlap
    if tile is None and overlap is None:
        return
    if not hasattr(objective, "tile"):
        raise InputError(f"stage '{stage.name}' does not predict in tiles", "--tile", "only denoisers do")
    if tile is not None:
        if tile < 1:
            raise InputError(f"a tile has a side of at least one pixel, not {tile}", "--tile")
        objective.tile = tile
    if objective.tile is None:
        raise InputError("an overlap without tiles changes nothing", "--overlap", "give --tile too")
    if overlap is not None:
        objective.overlap = overlap


def _check_tile(settings: PredictSettings, image: Volume) -> None:
    """Refuse tiles that are mostly filling. Some are larger than a slice: networks may need a multiple of a side."""
    largest = max(image.voxels.shape[-2:])
    if settings.tile is not None and settings.tile >= 2 * largest:
        what = f"slices of {'x'.join(map(str, image.voxels.shape[-2:]))} would be filled up to tiles of {settings.tile}"
        raise InputError(what, image.place, f"--tile {largest} takes a slice whole")


def the_window(steps: Sequence[Any], where: str) -> Window:
    """The one window of a preparation that can be undone; any other preparation is an InputError."""
    windows = [step for step in steps if isinstance(step, Window)]
    if len(windows) != 1 or not all(isinstance(step, Window | Resize) for step in steps):
        names = ", ".join(type(step).__name__ for step in steps) or "nothing"
        raise InputError(
            f"images prepared by {names} cannot be converted back to the source's units",
            where,
            "a denoiser's preparation is one window, with or without resize",
        )
    return windows[0]


def to_source_units(voxels: np.ndarray, restored: np.ndarray, window: Window) -> np.ndarray:
    """Undo ``window``: new values where the source's are inside it, the source's own elsewhere; the source's type."""
    values = restored * np.float32(window.high - window.low) + np.float32(window.low)
    if voxels.dtype.kind in "iu" or np.array_equal(voxels, np.rint(voxels)):
        values = np.rint(values)
    inside = (voxels >= window.low) & (voxels <= window.high)
    return np.where(inside, values, voxels).astype(voxels.dtype)
