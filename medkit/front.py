"""The front door from Python: starting and resuming runs, with their reports, opening and exporting them.

Here runs and reports meet: a run knows nothing about its report, which is written when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from typing_extensions import TypedDict, Unpack

from medkit.recipe import Recipe
from medkit.reporting.report import write_report
from medkit.runs import run as runs
from medkit.runs.handle import Run
from medkit.runs.settings import RunSettings, Workers
from medkit.runs.trackers import Track

if TYPE_CHECKING:
    from medkit.runs.export import ExportSettings
    from medkit.runs.reading import Reading


class Options(TypedDict, total=False):
    """Keywords of :func:`run` for where and how; :class:`medkit.runs.settings.RunSettings` explains them."""

    precision: str
    device: str | None
    quiet: bool
    resume: bool
    track: Sequence[Track]
    jobs: int | None
    workers: Workers | None
    link: bool | Path | Sequence[Path] | None


class ResumeOptions(TypedDict, total=False):
    """Keywords of :func:`resume`; precision and ranks are those with which the run was started."""

    device: str | None
    quiet: bool
    track: Sequence[Track]
    jobs: int | None
    workers: Workers | None
    link: bool | Path | Sequence[Path] | None


class ExportOptions(TypedDict, total=False):
    """Keywords of :func:`export`; :func:`medkit.runs.export.export` explains them."""

    stage: str | None
    settings: ExportSettings
    images: Sequence[str]
    reading: Reading


def run(
    recipe: Recipe | Mapping[str, Any] | BaseModel | str | Path,
    out: str | Path | None = None,
    *,
    set: Sequence[str] = (),
    skip: Sequence[str] = (),
    seed: int | None = None,
    **options: Unpack[Options],
) -> Run:
    """Train every stage of ``recipe``, evaluate it and write the report.

    Whatever can be checked is checked before the first file is written: names, types, splits, patients.

    Parameters
    ----------
    recipe:
        A recipe, its path, the name of a bundled one, or Python data (as for :func:`medkit.recipe_from`).
    out:
        The run folder; it must not exist, or be empty, unless ``resume`` is true. Default: ``runs/NAME-DATE-TIME``.
    set:
        Overrides such as ``"stages.pretext.epochs=2"`` (not for a :class:`Recipe`, which is checked already).
    skip:
        Stages or variants to leave out, such as ``"segment@nnunet_3d"``.
    seed:
        Replaces the recipe's own.
    **options:
        ``precision``, ``device``, ``quiet``, ``resume``, ``track``, ``jobs``, ``workers`` and ``link``, as explained by
        :class:`medkit.runs.settings.RunSettings`.

    Raises
    ------
    InputError
        if the recipe or the data are wrong; then nothing was written.
    RunError
        if the run fails; the folder can be resumed.
    """
    return runs.run(recipe, out, set=set, skip=skip, seed=seed, settings=RunSettings(**options), report=write_report)


def resume(out: str | Path, **options: Unpack[ResumeOptions]) -> Run:
    """Resume a run that was interrupted; finished stages are not trained again."""
    return runs.resume(out, RunSettings(**options), report=write_report)


def export(run: str | Path, output: str | Path, **options: Unpack[ExportOptions]) -> dict[str, Any]:
    """Write a stage's network as ONNX (``.onnx``) or torch export (``.pt2``), with all that is needed to use it in a
    ``.json`` and a model card in a ``.md`` beside it; returns the content of the ``.json``.

    Nothing is written unless the file reproduces the run's numbers on real slices (:func:`medkit.runs.export.export`).

    Raises
    ------
    InputError
        if a file exists already, the extra ``export`` is missing, or there is nothing to check the file on.
    RunError
        if the network cannot be exported, or gives other numbers.
    """
    from medkit.reporting.model_card import model_card
    from medkit.runs import export as exporting

    return exporting.export(run, output, card=model_card, **options)


def open(folder: str | Path) -> Run:
    """An earlier run: its recipe, ``results``, ``cases`` and models. Nothing in its folder is changed.

    Raises
    ------
    InputError
        if this is not a run folder.
    """
    return Run.open(folder)
