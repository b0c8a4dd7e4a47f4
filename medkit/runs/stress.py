"""Curves over the dose: a trained stage measured on a test split whose scans get the noise of lower doses, and are
denoised before that if the recipe says so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from medkit.data.at_dose import AtDose
from medkit.data.dose import PHOTONS, Scanner
from medkit.data.ledger import Ledger
from medkit.data.volume import Volume
from medkit.engine.agreement import together
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.evaluation.evaluate import Evaluation, Request, evaluate
from medkit.evaluation.stress import against_own_dose
from medkit.paths import typed
from medkit.recipe import Stage
from medkit.recipe.report_model import Stress
from medkit.runs.file_digest import digest as file_digest
from medkit.runs.folder import RunFolder
from medkit.runs.ledgers import recorded_ledger
from medkit.runs.predictor import Predictor, the_window
from medkit.runs.stage_key import by_content, components, digest
from medkit.runs.stage_trainer import StageTrainer
from medkit.runs.workbench import Workbench


class StageDenoiser:
    """A denoising stage of a run, the present one or a finished one; its weights are read when they are first needed.

    Like ``medkit predict``, it keeps voxels outside its window as they are.
    """

    def __init__(self, run: Path, stage: str | None, runtime: Runtime) -> None:
        self.predictor = Predictor(run, stage=stage, runtime=runtime)

    @cached_property
    def identity(self) -> str:
        stage, recipe = self.predictor.stage, self.predictor.recipe
        used = [stage.objective, *recipe.data[stage.data].prepare]
        made = by_content([block.plain() for block in used])
        return digest([made, dict(components(used)), _weights(self.predictor.folder, stage.name)])

    def denoise(self, scan: Volume) -> Volume:
        output = self.predictor.predict(scan).output
        if output is None:
            what = f"stage '{self.predictor.stage.name}' gives no image"
            raise InputError(what, str(self.predictor.folder.path), "a denoiser has a generator")
        return output

    def check(self) -> None:
        """Refuse what is not a denoiser, or cannot give scans back in HU."""
        stage, where = self.predictor.stage, str(self.predictor.folder.path)
        if stage.unit != "patch":
            raise InputError(f"stage '{stage.name}' is not a denoiser: it does not train on 'unit: patch'", where)
        if not self.predictor.folder.done(stage.name):
            raise InputError(
                f"stage '{stage.name}' is not finished", where, f"'medkit resume {typed(where)}' continues it"
            )
        self.predictor.load()


def _weights(folder: RunFolder, stage: str) -> list[tuple[str, str]]:
    return [(path.name, file_digest(path)) for path in sorted(folder.all_weights(stage))]


def denoiser_of(bench: Workbench, curve: Stress) -> StageDenoiser | None:
    """What denoises the scans of a curve; a stage of the run itself has to be trained."""
    if curve.denoise is None:
        return None
    if own := _own(bench, curve):
        assert bench.folder is not None
        return StageDenoiser(bench.folder.path, own.name, bench.runtime)
    return StageDenoiser(Path(curve.denoise), None, bench.runtime)


def _own(bench: Workbench, curve: Stress) -> Stage | None:
    """The stage of this recipe that denoises."""
    return next((stage for stage in bench.recipe.stages if stage.name == curve.denoise), None)


def check_denoisers(bench: Workbench) -> None:
    """Refuse curves whose denoiser cannot be one, before any data are read.

    Raises
    ------
    InputError
        naming the curve.
    """
    for name, curve in bench.recipe.report.stress.items():
        if curve.denoise is None:
            continue
        try:
            if own := _own(bench, curve):
                the_window([step.build() for step in bench.recipe.data[own.data].prepare], f"data.{own.data}.prepare")
            elif (denoiser := denoiser_of(bench, curve)) is not None:
                denoiser.check()
        except InputError as error:
            raise InputError(f"report.stress.{name}.denoise: {error.what}", error.where, error.hint) from error


def check_seen_by_denoisers(bench: Workbench) -> None:
    """Refuse curves over patients whom the denoiser has seen in training, or may have, unless the report allows it.

    Raises
    ------
    InputError
        naming the curve, the number of patients and up to five of them; or the run that does not say on whom it was
        trained.
    """
    for name, curve in bench.recipe.report.stress.items():
        if curve.denoise is None or bench.recipe.report.allowed(curve.split) is not None:
            continue
        own = _own(bench, curve)
        ledger = bench.seen.ledger(own) if own else _ledger_of(Path(curve.denoise))
        if ledger is None:
            raise InputError(
                f"report.stress.{name}.denoise: nothing is known of the patients that '{curve.denoise}' was trained on",
                hint=f"train it anew; if none is in '{curve.split}', 'report: {{allow_seen: REASON}}' says so",
            )
        found = bench.seen.found(bench.recipe.stage(curve.stages[0]), curve.split, ledger=ledger)
        if found.seen:
            what = f"report.stress.{name}.denoise: of '{curve.split}', {found.share} {'; '.join(found.how)}"
            hint = (
                "take a denoiser trained on other patients; if it is intended, 'report: {allow_seen: REASON}' says so"
            )
            raise InputError(f"{what}: {', '.join(found.names)}", hint=hint)


def _ledger_of(run: Path) -> Ledger | None:
    predictor = Predictor(run)
    return recorded_ledger(predictor.folder, predictor.stage.name)


def identity_of(bench: Workbench, stage: Stage) -> list[Any]:
    """What the curves of a stage are measured on, besides its test split, and the test that compares their doses."""
    found = []
    for name, curve in bench.recipe.stressed(stage).items():
        denoiser = denoiser_of(bench, curve)
        settings = [
            bench.recipe.report.test,
            curve.split,
            curve.dose,
            curve.photons,
            curve.kernel,
            curve.modulation,
            curve.seed,
        ]
        found.append([name, *settings, None if denoiser is None else denoiser.identity])
    return found


def stressed(bench: Workbench, trainer: StageTrainer, metrics: Sequence[Any], progress: Progress) -> list[Evaluation]:
    """Measure a trained stage at every dose of its curves; every rank takes its share, the main one gets the numbers.

    If a dose is compared with the scans' own, its numbers have the ``difference`` to it, the ``p`` of the report's
    test, and ``p_holm``, corrected for all of the stage's.
    """
    stage, found = trainer.stage, []
    for name, curve in bench.recipe.stressed(stage).items():
        with together(bench.runtime, f"the denoiser of curve '{name}'"):
            denoiser = denoiser_of(bench, curve)
        for point, dose in curve.points(name).items():
            made = _measured(bench, trainer, metrics, (curve, point, dose), denoiser, progress)
            if made is not None:
                # Counts of the split itself: its patients are those of every dose.
                counted = bench.seen.counted(stage, _renamed(made, curve.split))
                found.append(_renamed(counted, point))
    return against_own_dose(found, bench.recipe.stressed(stage), bench.recipe.report.test)


def _renamed(evaluation: Evaluation, split: str) -> Evaluation:
    lines = [{**line, "split": split} for line in evaluation.cases]
    return Evaluation(evaluation.stage, split, evaluation.values, lines, [], slices=evaluation.slices)


def _measured(
    bench: Workbench,
    trainer: StageTrainer,
    metrics: Sequence[Any],
    at: tuple[Stress, str, float],
    denoiser: StageDenoiser | None,
    progress: Progress,
) -> Evaluation | None:
    stage, runtime, (curve, point, dose) = trainer.stage, bench.runtime, at
    with together(runtime, f"the preparation of {stage.name}, {point}"):
        scanner = Scanner(curve.photons or PHOTONS, kernel=curve.kernel, modulation=curve.modulation)
        dataset = bench.over(stage, AtDose(bench.source(stage.data), dose, scanner, curve.seed, denoiser))
        cases = dataset.cases(curve.split)
        mine = cases[runtime.rank :: runtime.world_size]
        with progress.task(f"{stage.name}: preparing {point}", total=len(mine)) as advance:
            # A network is not passed to other processes.
            dataset.prepare_all(mine, progress=advance, jobs=bench.jobs if denoiser is None else 1)
    request = Request(dataset, cases, metrics, stage.name, point, stage.unit)
    with progress.task(f"{stage.name}: evaluating {point}", total=len(cases)) as advance:
        return evaluate(trainer.objective, request, runtime, progress=advance)
