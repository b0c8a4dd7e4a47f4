"""Apply a finished run to a new image and write the result on that image's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.engine.progress import Progress
from medkit.runs.prediction_files import Target
from medkit.runs.predictor import DEFAULT, Predictor, PredictSettings, to_source_units
from medkit.runs.reading import Images, Reading, paths_of

__all__ = ["DEFAULT", "PLAIN", "PredictSettings", "predict", "to_source_units"]

PLAIN = Reading()


def predict(
    run: str | Path,
    input: Images,
    output: str | Path,
    *,
    stage: str | None = None,
    reading: Reading = PLAIN,
    settings: PredictSettings = DEFAULT,
    device: str | None = None,
) -> dict[str, Any]:
    """Predict one DICOM series or NIfTI image and write masks or images with its geometry.

    A DICOM folder gives a DICOM series in the folder ``output``; a NIfTI file gives the NIfTI file ``output``, and so
    does a DICOM folder when ``output`` ends in .nii or .nii.gz. With the format ``dicom-seg``, the file ``output`` is a
    DICOM Segmentation object. A summary goes to ``prediction.json`` next to it, with volumes in mL and with what the
    prediction comes from: weights, ledger, version, threshold, input, and the notices of the run's training data. A
    stage that gives only numbers writes just that, to ``output`` itself if it ends in .json, else into a new folder.

    A denoised image has new values where the source's are inside the window of the run's preparation, in whole HU if
    the source has whole HU; everywhere else it keeps the source's own values exactly.

    Parameters
    ----------
    run:
        A run folder.
    input:
        DICOM folder or file, NIfTI or PNG; several where the run's cases have several images, in their order. What is
        written has the grid of the first.
    stage:
        Which stage's model; default: the recipe's last one that is not a variant.
    reading:
        How the image is read, and what is known about it.
    settings:
        Threshold, grid, tiles and format.

    Raises
    ------
    InputError
        if the input cannot be read, ``output`` exists or cannot hold the input's grid, the stage has no tiles, or its
        images cannot be converted back to the source's units.
    """
    predictor = Predictor(run, stage=stage, settings=settings, device=device)
    target = Target.of(predictor, Path(output))
    target.check_new()
    record = reading.record(input)
    target.check_image(record.image)
    with Progress() as progress:
        found = predictor.predict(
            record, reading.fields, accepts=lambda gives: target.check(record.image, gives), progress=progress
        )
    summary = predictor.summary(found, record, paths_of(input)) | target.write(found)
    target.write_summary(summary)
    return summary
