"""The files that a prediction is written to: which kind the name and the format ask for, and what they cannot hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.data.volume import Volume
from medkit.data.whole import check_room
from medkit.errors import InputError
from medkit.recipe import Recipe, Stage
from medkit.records import write_atomically
from medkit.runs.predictor import Prediction, Predictor, PredictSettings

SEGMENTATION = ".dcm"
IMAGES = {"mask_probability", "output"}
"""Predictions that are written as images."""


@dataclass(frozen=True)
class Target:
    """Where a prediction goes, and as what.

    ``chosen`` is whether somebody has chosen the name, and so asks for an image if it is that of one.
    """

    path: Path
    settings: PredictSettings
    recipe: Recipe
    stage: Stage
    chosen: bool = True

    @classmethod
    def of(cls, predictor: Predictor, path: Path, chosen: bool = True) -> Target:
        return cls(path, predictor.settings, predictor.recipe, predictor.stage, chosen)

    @property
    def _nifti(self) -> bool:
        from medkit.data.io import is_nifti_name

        return is_nifti_name(self.path)

    def check_new(self) -> None:
        """Refuse a name that is taken, or that does not fit the format; at that point nothing has been read."""
        beside = self._summary(True) if self._is_file else self.path
        for path in (self.path, beside):
            if path.exists():
                raise InputError("the output exists", str(path), "name a new one: nothing is overwritten")
        check_room(self.path)
        wanted = self.settings.format
        if wanted == "nifti" and not self._nifti:
            raise InputError("a NIfTI file ends in .nii or .nii.gz", str(self.path), "name the output so")
        if wanted == "dicom-seg" and self.path.suffix != SEGMENTATION:
            raise InputError("a DICOM segmentation is one file, which ends in .dcm", str(self.path), "name it so")
        if wanted == "dicom" and self._is_file:
            raise InputError("a DICOM series goes into a folder", str(self.path), "name a new folder")
        if wanted == "dicom-seg" and self.settings.resample:
            what = "a DICOM segmentation keeps its source's slices and is not resampled"
            raise InputError(what, "--resample", "leave it out, or name a file that ends in .nii.gz")

    @property
    def _is_file(self) -> bool:
        return self._nifti or self.settings.format == "dicom-seg"

    def check_image(self, image: Volume) -> None:
        """Say at once what would stop an image on this grid from being written, if the name asks for one.

        Segmentations have to wait for :meth:`check`: a stage without a mask has none, whatever the image is.
        """
        if self._is_file and self.settings.format != "dicom-seg":
            self._check_grid(image)

    def check(self, image: Volume, gives: set[str]) -> None:
        """Say, before the whole volume goes through the network, that the output does not fit what comes out."""
        wanted, resample = self.settings.format, self.settings.resample
        named = f"stage '{self.stage.name}' gives {', '.join(sorted(gives)) or 'nothing'}"
        if not gives & IMAGES:
            if (self.chosen and self._is_file) or resample or wanted is not None:
                hint = "name a file ending in .json or a new folder, without --format and --resample"
                raise InputError(f"{named} and no image", str(self.path), hint)
            return
        if self.path.suffix == ".json":
            hint = "name a new folder, or a file ending in .nii.gz"
            raise InputError("a mask or image is not JSON", str(self.path), hint)
        if wanted == "dicom-seg" and "mask_probability" not in gives:
            raise InputError(f"{named} and no mask", "--format", "give --format dicom or nifti")
        self._check_grid(image)

    def _check_grid(self, image: Volume) -> None:
        from medkit.data.dicom_seg_write import check_segmentable
        from medkit.data.io import check_output

        if self.settings.format == "dicom-seg":
            check_segmentable(image)
        else:
            check_output(image, self.path, resample=self.settings.resample)

    def write(self, prediction: Prediction) -> dict[str, Any]:
        """Write mask or image, if there is one; returns what the summary says about it."""
        from medkit.data.dicom_seg_types import type_of
        from medkit.data.dicom_seg_write import write_segments
        from medkit.data.io import write_like
        from medkit.data.resample import even, resampling

        mask = prediction.numbers_of_classes
        volume = prediction.output if mask is None else mask
        if volume is None:
            return {}
        found: dict[str, Any] = {"written": str(self.path)}
        said = f"{self.recipe.name} {self.stage.name}"
        if self.settings.format == "dicom-seg":
            write_segments(prediction.image, prediction.segments, self.path, description=f"mask: {said}")
            found["segment_types"] = {segment.label: type_of(segment.label).said for segment in prediction.segments}
            return found
        if self.settings.resample:
            volume = even(volume, nearest=mask is not None)
        how = resampling(volume)
        if how is not None:
            found["resampled"] = {"how": how, "spacing_mm": [round(length, 4) for length in volume.spacing]}
            if mask is not None:
                inside = float((volume.voxels > 0).sum())
                found["resampled"]["volume_ml"] = round(inside * volume.voxel_volume / 1000, 4)
        if mask is None:
            write_like(volume, self.path, kind="image", description=f"denoised: {said}")
        else:
            write_like(volume, self.path, kind="mask", description=f"mask: {said}")
        return found

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``prediction.json`` into the written folder, next to the written file, or alone if there is neither."""
        write_json(self._summary("written" in summary), summary)

    def _summary(self, written: bool) -> Path:
        if self._is_file and written:
            return self.path.with_name(self.path.name + ".json")
        return self.path if self.path.suffix == ".json" else self.path / NAME


NAME = "prediction.json"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole, in a folder that may have to be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
