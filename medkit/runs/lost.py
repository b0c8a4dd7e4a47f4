"""What a run folder has lost since its stages were finished: refused where results could not be right, else told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medkit.errors import RunError, some
from medkit.evaluation import files
from medkit.evaluation.case_table import FILE, evaluations
from medkit.evaluation.evaluate import read_results
from medkit.paths import typed
from medkit.recipe import Stage
from medkit.runs.folder import RunFolder
from medkit.runs.stage_key import is_external

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench

SHOWN = 4


def check_results(bench: Workbench, folder: RunFolder) -> None:
    """Refuse a folder that has lost results of a finished stage, or their cases: its report would silently lack them,
    and correct its tests for fewer of them than there are.

    Raises
    ------
    RunError
        naming stage, split and file, and how to measure them again.
    """
    done = [stage for stage in bench.recipe.stages if folder.done(stage.name)]
    if not done:
        return
    measured = Measured(folder)
    for stage in done:
        if (lost := measured.lost(stage.name, bench.evaluated_splits(stage), bench.recipe.points(stage))) is not None:
            raise lost.error(folder)


@dataclass(frozen=True)
class Lost:
    """Results of a finished stage, or their cases, that a run folder has lost."""

    stage: str
    split: str
    file: str
    at_dose: bool

    def __str__(self) -> str:
        what = "cases" if self.file == FILE else "results"
        return f"the {what} of finished stage '{self.stage}' on '{self.split}' are missing"

    def error(self, folder: RunFolder) -> RunError:
        if self.at_dose:
            hint = f"'{train_again(folder)} --link' takes over its weights and measures it again"
        else:
            hint = f"'medkit evaluate {typed(folder.path)} --split {self.split}' measures them again"
        return RunError(str(self), str(folder.file(self.file)), hint)


class Measured:
    """What a run folder still has of what its stages were measured on; its files are read once."""

    def __init__(self, folder: RunFolder) -> None:
        self.results = read_results(folder.path) if folder.file("results.json").is_file() else {}
        self._cases = evaluations(folder.path)

    def lost(self, stage: str, evaluated: Sequence[str], points: Sequence[str]) -> Lost | None:
        """The first thing that is missing of a finished stage: of a split, or of a point of a curve over the dose."""
        found = self.results.get(stage, {})
        for split in [*evaluated, *points]:
            if split not in found:
                return Lost(stage, split, "results.json", split in points)
        for split in [*evaluated, *points]:
            if any(value.n for value in found[split].values()) and (stage, split) not in self._cases:
                return Lost(stage, split, FILE, split in points)
        return None


def lost_epochs(folder: RunFolder, stages: Sequence[Stage]) -> str:
    """A sentence for readers of the report about finished stages of which no epoch is known any more; "" if there are
    none. Programs of their own need not tell their epochs."""
    finished = [stage.name for stage in stages if folder.done(stage.name) and not is_external(stage.objective)]
    kept = {line["stage"] for line in files.read_lines(folder.file("metrics.jsonl"))} if finished else set()
    gone = [name for name in finished if name not in kept]
    told = f"metrics.jsonl has lost the epochs of {', '.join(gone)}: there are no curves of their training."
    return told if gone else ""


def without_weights(folder: RunFolder, stages: Sequence[Stage]) -> str:
    """What is missing of the weights of finished stages, what works without them, and how to get them back; "" if
    nothing is missing."""
    gone = [name for stage in stages if folder.done(stage.name) for name in _gone(folder, stage)]
    if not gone:
        return ""
    return (
        f"weights of finished stages are missing ({some(gone, SHOWN)}). "
        f"Results and 'medkit report {typed(folder.path)}' do not need them; "
        "predicting, evaluating, exporting and stages that take a part of them do. Restore the files from "
        f"a copy of the run, or train again in a new folder: {train_again(folder)}"
    )


def train_again(folder: RunFolder) -> str:
    """The command that makes the run anew."""
    return f"medkit run {typed(folder.file('recipe.yaml'))} --out NEW_FOLDER"


def _gone(folder: RunFolder, stage: Stage) -> Iterator[str]:
    """The weights of a finished stage that are not there any more; a program of its own keeps them in its own way."""
    written = folder.key(stage.name).get("weights")
    if written is not None:
        names = [folder.weights(stage.name, part) for part in written]
        yield from (f"weights/{path.name}" for path in names if not path.is_file())
    elif not is_external(stage.objective) and not folder.all_weights(stage.name):
        yield f"weights/{stage.name}.*.safetensors"  # which parts it has is recorded of stages with a key only
