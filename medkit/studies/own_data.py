"""Whether a trial beats the trivial answer on the very cases that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from medkit.engine.runtime import Runtime
from medkit.evaluation.results import recorded
from medkit.runs import own_data
from medkit.runs.own_data import OwnData
from medkit.runs.settings import RunSettings
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench
from medkit.studies.folder import StudyFolder
from medkit.studies.trials import Trial


def on_own_data(folder: StudyFolder, trial: Trial, compare: Mapping[str, str], settings: RunSettings) -> OwnData | None:
    """Measure the compared stage of a finished trial on its training cases; none of it enters the trial's results.

    None if a separate program predicts, and for a metric without a known trivial answer.
    """
    run = folder.run_folder(trial)
    bench = Workbench(run.recipe(), Runtime.start(device=settings.device, precision=settings.precision), run)
    stage = bench.recipe.stage(compare["stage"])
    metrics = [one for one in bench.metrics(stage) if recorded(compare["metric"], [one.name]) == one.name]
    found = own_data.on_own_data(bench, trainer_of(bench, stage, bench.trained(stage)), metrics[:1])
    return found[0] if found else None
