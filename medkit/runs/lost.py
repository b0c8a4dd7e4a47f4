"""What a run folder has lost since its stages were finished: refused where results could not be right, else told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from medkit.errors import RunError
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
    results = read_results(folder.path) if folder.file("results.json").is_file() else {}
    for stage in done:
        for split in [*bench.evaluated_splits(stage), *bench.recipe.points(stage)]:
            if split not in results.get(stage.name, {}):
                raise _lost("results", "results.json", folder, stage.name, split)
    known = evaluations(folder.path) if done else set()
    for stage in done:
        for split in bench.evaluated_splits(stage):
            counted = any(value.n for value in results[stage.name][split].values())
            if counted and (stage.name, split) not in known:
                raise _lost("cases", FILE, folder, stage.name, split)


def _lost(what: str, file: str, folder: RunFolder, stage: str, split: str) -> RunError:
    hint = f"'medkit evaluate {typed(folder.path)} --split {split}' measures them again"
    return RunError(f"the {what} of finished stage '{stage}' on '{split}' are missing", str(folder.file(file)), hint)


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
    named = ", ".join(gone[:SHOWN]) + (f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else "")
    return (
        f"weights of finished stages are missing ({named}). Results and 'medkit report {typed(folder.path)}' do not "
        "need them; predicting, evaluating, exporting and stages that take a part of them do. Restore the files from "
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
