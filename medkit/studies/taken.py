"""How long methods that were to get the same seconds did train: of every training, and where they are far apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from medkit.evaluation import files
from medkit.studies.folder import StudyFolder
from medkit.studies.reader import labels
from medkit.studies.seconds import KEPT, Paced, apart
from medkit.studies.study import SEED
from medkit.studies.tables import Table
from medkit.studies.trials import Trial


@dataclass(frozen=True)
class Taken:
    """The trainings of a method's stage: the seconds that the steps of each took.

    ``at`` is the point without the seed, in words; empty where the stage is the same at every point.
    """

    paced: Paced
    at: str
    trainings: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.trainings)

    def json(self) -> dict[str, Any]:
        return {**asdict(self.paced), "at": self.at, "taken": self.median, "trainings": len(self.trainings)}


def taken(folder: StudyFolder) -> list[Taken]:
    """What is known so far of the stages that got seconds; [] if none did."""
    found = []
    for plain in folder.about().get(KEPT, []):
        paced = Paced(**plain)
        mine = [trial for trial in folder.trials() if trial.method == paced.method and paced.stage in trial.stages]
        for at, trials in _points(mine, paced.stage).items():
            each = {trial.stages[paced.stage]: trial for trial in trials if folder.run_folder(trial).done(paced.stage)}
            if each:
                found.append(Taken(paced, at, [_seconds(folder, trial, paced.stage) for trial in each.values()]))
    return found


def _points(trials: Sequence[Trial], stage: str) -> Mapping[str, Sequence[Trial]]:
    """Trials by their points without the seed; all of them together where ``stage`` is the same at every point."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        at = labels({axis: label for axis, label in trial.point.items() if axis != SEED})
        found.setdefault(at, []).append(trial)
    keys = {frozenset(trial.stages[stage] for trial in mine) for mine in found.values()}
    return {"": trials} if len(keys) == 1 else found


def _seconds(folder: StudyFolder, trial: Trial, stage: str) -> float:
    """Seconds that the steps of a training took, without interruptions; a stage taken over has its lines too."""
    lines = files.read_lines(folder.run_folder(trial).file("metrics.jsonl"))
    return sum(line.get("seconds") or 0.0 for line in lines if line["stage"] == stage)


def taken_table(found: Sequence[Taken]) -> Table:
    """What was measured before, the epochs that followed from it, and how long these took."""
    columns = ["stage", "method", "at", "seconds", "an epoch was to take", "epochs", "they took", "trainings"]
    rows = [
        (
            one.paced.stage,
            one.paced.method,
            one.at or "–",
            f"{one.paced.seconds:g}",
            f"{one.paced.epoch:.3g} s",
            one.paced.epochs,
            f"{one.median:.3g} s",
            len(one.trainings),
        )
        for one in sorted(found, key=lambda one: (one.paced.stage, one.at))
    ]
    note = (
        "Methods get the same seconds in these stages, not the same steps: as many epochs as fit by a pace measured "
        "before the first trial. They took: the median over trainings of the time of all steps, without validation "
        "and checkpoints."
    )
    return Table("the same seconds", columns, rows, note)


def taken_apart(found: Sequence[Taken]) -> list[str]:
    """A warning for each place where methods trained for times that cannot be called the same."""
    told = []
    for stage, at in dict.fromkeys((one.paced.stage, one.at) for one in found):
        mine = {one.paced.method: one.median for one in found if (one.paced.stage, one.at) == (stage, at)}
        if far := apart(mine):
            where = f" at {at}" if at else ""
            told.append(f"Methods were to train for the same seconds in stage '{stage}'{where}, and took {far}.")
    return told
