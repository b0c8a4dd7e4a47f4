"""Apply a finished run to many images: a folder each, whole or not at all, so that it can be stopped and continued.

``OUTPUT/CASE/`` holds what was written for a case and its ``prediction.json``; it gets its name when both are on disk.
``OUTPUT/predict.json`` says what all of them are made with, so that a second call continues only with the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import medkit
from medkit.data.files import stamp
from medkit.data.inputs import Input, Wanted, find_inputs, write_list
from medkit.data.whole import check_room, whole_folder
from medkit.engine.progress import Progress
from medkit.errors import InputError, MedkitError
from medkit.evaluation.files import read_json
from medkit.records import encoded, write_atomically
from medkit.runs.file_digest import digest
from medkit.runs.lock import acquire
from medkit.runs.prediction_files import NAME, Target, write_json
from medkit.runs.prediction_workers import Answer, attempt, by_processes
from medkit.runs.predictor import DEFAULT, Predictor, PredictSettings
from medkit.runs.reading import Reading

SETTINGS, TABLE, LISTS = "predict.json", "predictions.csv", "series"
LEFT = re.compile(r"\.[0-9a-f]{8}\..+")
"""Folders that a process was writing when it was killed."""
OUTPUTS = {"nifti": ".nii.gz", "dicom": "", "dicom-seg": ".dcm"}
PLAIN = Reading()
LONGEST = 80  # characters in a folder's name


@dataclass
class Predicted:
    """What became of many images.

    Attributes
    ----------
    new, kept:
        Cases that were predicted now, and those that an earlier call had predicted.
    failed:
        Why each of the others was not, by case.
    left_out:
        Files and series of the input that are not images, by kind.
    seen:
        Cases whose image or patient was seen in training.
    """

    output: Path
    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    notices: Sequence[str] = ()

    def json(self) -> dict[str, Any]:
        return {
            "output": str(self.output),
            "predicted": len(self.new),
            "were_there": len(self.kept),
            "failed": self.failed,
            "left_out": dict(self.left_out),
            "seen_in_training": self.seen,
            "notices": list(self.notices),
        }


@dataclass(frozen=True)
class Work:
    """What a process needs to know to predict cases."""

    predictor: Predictor
    reading: Reading
    output: Path

    def case(self, image: Input) -> None:
        """Predict one case into its folder.

        Raises
        ------
        MedkitError
            if it cannot be read, predicted or written; then nothing of it is left.
        """
        if image.problem:
            raise InputError(image.problem, image.image or None)
        with whole_folder(folder_of(self.output, image)) as new:
            identity = _identity(image)  # before it is read, so that the next call sees a change made meanwhile
            paths = [Path(path) for path in image.images]
            record = self.reading.record(paths)
            target = self._target(new, record.image.header.get("format") == "dicom")
            fields = {**image.fields, **self.reading.fields}
            found = self.predictor.predict(record, fields, accepts=lambda gives: target.check(record.image, gives))
            summary = {"case": image.case, **self.predictor.summary(found, record, paths)}
            written = target.write(found)
            if "written" in written:
                written["written"] = target.path.name
            files = {
                path.relative_to(new).as_posix(): digest(path) for path in sorted(new.rglob("*")) if path.is_file()
            }
            write_json(new / NAME, {**summary, **written, "files": files, "identity": identity})

    def _target(self, folder: Path, from_dicom: bool) -> Target:
        wanted = self.predictor.settings.format or ("dicom" if from_dicom else "nifti")
        return Target.of(self.predictor, folder / f"prediction{OUTPUTS[wanted]}", chosen=False)


def predict_many(
    run: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    stage: str | None = None,
    reading: Reading = PLAIN,
    settings: PredictSettings = DEFAULT,
    device: str | None = None,
    jobs: int = 1,
    quiet: bool = False,
) -> Predicted:
    """Predict every image in a manifest, in a DICOM study or below any folder.

    Called again with the same ``output`` it continues: cases whose files are complete and whose input has not changed
    are kept. A case that fails is reported and affects no other.

    Parameters
    ----------
    input:
        A manifest (columns ``image``, or those of the run's own manifest if its cases have several images, and, if
        there are any, ``case`` and the fields that heads need) or a folder (:func:`medkit.data.inputs.find_inputs`).
    output:
        A new folder, or one of an earlier call.
    jobs:
        Processes of one thread each; 1 works in this process, with all of torch's threads.

    Raises
    ------
    InputError
        if nothing can be predicted at all: there is no image, the run has no weights, or ``output`` holds something
        else, or predictions made with other weights or settings.
    """
    input, output = Path(input), Path(output)
    if input.is_dir() and output.resolve().is_relative_to(input.resolve()):
        what = "the output is inside the input, and would be taken for a part of it"
        raise InputError(what, str(output), "name a folder beside the input")
    predictor = Predictor(run, stage=stage, settings=settings, device=device)
    predictor.load()
    asked = _asked(predictor, reading)
    _check_output(output, asked)
    with Progress(quiet) as progress:
        wanted = Wanted(_needs(predictor), _columns(predictor), reading.allow_gaps, reading.mend)
        inputs = find_inputs(input, wanted)
        output.mkdir(parents=True, exist_ok=True)
        lock = acquire(output, "predict")
        try:
            _remove_left(output)
            write_json(output / SETTINGS, asked)
            images = [_listed(image, output) for image in inputs.images]
            work = Work(predictor, reading, output)
            notices = predictor.notices
            found = Predicted(output, left_out=dict(inputs.left_out), notices=notices)
            _go_through(work, images, jobs, progress, found)
            _write_table(output, images, found)
        finally:
            lock.release()
    return found


def _go_through(work: Work, images: Sequence[Input], jobs: int, progress: Progress, found: Predicted) -> None:
    todo: list[Input] = []
    for image in images:
        why = _why_again(work.output, image)
        if why is None:
            found.kept.append(image.case)
            continue
        if why:
            progress.say(f"{image.case}: predicted again, {why}")
            shutil.rmtree(folder_of(work.output, image), ignore_errors=True)
        todo.append(image)
    if found.kept:
        progress.say(f"{len(found.kept)} of {len(images)} cases are already predicted")
    with progress.task("predicting", total=len(images)) as advance:
        advance(len(found.kept))
        for image, problem in _answers(work, todo, jobs):
            if problem is None:
                found.new.append(image.case)
            else:
                found.failed[image.case] = problem
                progress.say(f"{image.case}: {problem}")
            advance(len(found.kept) + len(found.new) + len(found.failed))


def _answers(work: Work, images: Sequence[Input], jobs: int) -> Iterator[Answer]:
    if min(jobs, len(images)) > 1:
        yield from by_processes(work.case, images, jobs, "fork" if work.predictor.on_cpu else "spawn")
    else:
        for image in images:
            yield image, attempt(work.case, image)


def folder_of(output: Path, image: Input) -> Path:
    """Where a case's files go: a name that every file system takes, and no two cases share."""
    name = re.sub(r"[^\w.@+~=-]+", "_", image.case).strip("._")[:LONGEST]
    if name != image.case:
        name = f"{name}-{hashlib.blake2b(encoded(image.case), digest_size=4).hexdigest()}"
    return output / name


def _needs(predictor: Predictor) -> tuple[str, ...]:
    return tuple(getattr(predictor.objective, "needs", ()))


def _columns(predictor: Predictor) -> tuple[str, ...]:
    """The columns of a manifest with the images of a case: those of the run's own, if a case has several."""
    named = predictor.recipe.data[predictor.stage.data].source.arguments.get("image")
    return tuple(map(str, named)) if isinstance(named, list | tuple) and len(named) > 1 else ("image",)


def _asked(predictor: Predictor, reading: Reading) -> dict[str, Any]:
    """Everything that predictions come from, except the images."""
    return {
        "medkit": medkit.__version__,
        "run": predictor.folder.path.resolve().name,
        "stage": predictor.stage.name,
        "weights": dict(predictor.weights),
        **asdict(predictor.settings),
        "allow_gaps": reading.allow_gaps,
        "units": reading.units,
        "mend": reading.mend.plain(),
        "fields": dict(reading.fields),
    }


def _check_output(output: Path, asked: Mapping[str, Any]) -> None:
    if not output.exists():
        check_room(output)
        return
    hint = "name a new folder"
    if not output.is_dir():
        raise InputError("many predictions go into a folder, and this is a file", str(output), hint)
    if not (output / SETTINGS).is_file():
        if any(output.iterdir()):
            raise InputError("the output exists, and holds no predictions to continue", str(output), hint)
        return
    before = read_json(output / SETTINGS)
    differing = [name for name in asked if before.get(name) != asked[name]]
    if differing:
        said = ", ".join(f"{name} {_shown(before.get(name))} there, {_shown(asked[name])} now" for name in differing)
        raise InputError(f"it holds predictions of another kind: {said}", str(output), hint)


def _shown(value: Any) -> str:
    return "others" if isinstance(value, dict) else str(value)


def _remove_left(output: Path) -> None:
    """Remove what a killed process was writing: nobody else is working here."""
    for path in output.iterdir():
        if path.is_dir() and LEFT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _listed(image: Input, output: Path) -> Input:
    """An image that one name stands for: a series of several folders gets a list."""
    if not image.files:
        return image
    path = output / LISTS / f"{folder_of(output, image).name}.txt"
    write_list(image, path)
    return replace(image, image=str(path), files=())


def _identity(image: Input) -> str:
    stamps = "\n".join(map(stamp, image.images))
    return hashlib.blake2b(encoded(f"{stamps}\n{sorted(image.fields.items())}"), digest_size=16).hexdigest()


def _why_again(output: Path, image: Input) -> str | None:
    """None for a case that is there; else why it is predicted again, or an empty text if it never was."""
    folder = folder_of(output, image)
    if not folder.exists():
        return ""
    try:
        summary = read_json(folder / NAME)
        if image.problem or summary["identity"] != _identity(image):
            return "its input has changed"
        for name, known in summary["files"].items():
            if digest(folder / name) != known:
                return f"'{name}' has changed"
    except (OSError, MedkitError, KeyError, TypeError, AttributeError):
        return "its files are not complete"
    return None


def _write_table(output: Path, images: Sequence[Input], found: Predicted) -> None:
    """One line per case, in the order of the input; also which of them were seen in training."""
    columns = ["case", "folder", "seen_in_training", "threshold", "volume_ml", "probability", "value", "unit"]
    rows = []
    classes: dict[str, None] = {}  # columns of declared classes, if the stage predicts some
    for image in images:
        if image.case in found.failed:
            rows.append({"case": image.case, "error": found.failed[image.case]})
            continue
        folder = folder_of(output, image)
        summary = read_json(folder / NAME)
        if summary["seen_in_training"] is True:
            found.seen.append(image.case)
        row = {name: json.dumps(v) if isinstance(v := summary.get(name), list) else v for name in columns}
        said = _classes(summary)
        classes |= dict.fromkeys(said)
        rows.append({**row, **said, "folder": folder.name})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *classes, "error"], restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(output / TABLE, encoded(text.getvalue()))


def _classes(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The class that a prediction gives, and the probability of each, as columns; nothing for other predictions."""
    if not isinstance(summary.get("class"), str):
        return {}
    each = summary.get("label_probability", summary.get("class_probability"))
    return {"class": summary["class"], **{f"probability_{name}": value for name, value in each.items()}}
