"""Stages that another run has finished under the same key are linked, not trained again.

A small index beside the prepared samples says which run folders have trained under a key; runs that are given a folder
keep one there, and take nothing from elsewhere but other folders that they are given. What it names is believed only as
far as the folder bears it out: the stage is done there, under that key, and its weights are those that were written. So
an entry may be stale, and the index may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from medkit.engine.best import no_best
from medkit.engine.checkpoint import LAST, PREVIOUS, checksum_in, read_tensors
from medkit.errors import MedkitError
from medkit.evaluation import files
from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.results import KEPT, Evaluation, MetricValue, write_results
from medkit.paths import cache_folder
from medkit.recipe import Stage
from medkit.records import write_atomically
from medkit.runs import cost, fitting, ledgers, own_data, seen
from medkit.runs.checks import judged_number
from medkit.runs.folder import RunFolder
from medkit.runs.lost import Measured
from medkit.runs.stage_key import StageKey, is_external

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench

INDEX = "stages"
VARIABLE = "MEDKIT_LINK"
REMEMBERED = 16  # run folders per key


@dataclass(frozen=True)
class Trained:
    """A stage as another run has finished it; ``measured`` says whether it was measured as it would be here."""

    folder: RunFolder
    stage: str
    measured: bool


def wanted(said: bool | Path | Sequence[Path] | None) -> bool | Sequence[Path] | None:
    """Whether stages are linked, and from which folders: as requested, else by ``$MEDKIT_LINK``; None if neither
    says.

    Never unasked: someone who runs the same recipe again may want to see whether the same comes out.
    """
    if isinstance(said, Path):
        return [said]
    variable = os.environ.get(VARIABLE, "")
    return variable != "0" if said is None and variable else said


# -- the key of a stage in its run ---------------------------------------------------------------------------------


def begin(bench: Workbench, stage: Stage) -> StageKey | None:
    """Note under which key a stage is trained. One that was begun under another key, and continues, has none."""
    folder = bench.folder
    assert folder is not None
    key = None if is_external(stage.objective) else bench.keys.of(stage)
    if key is not None and begun(folder, stage.name) and folder.key(stage.name).get("training") != key.training:
        key = None
    folder.keep_key(stage.name, {} if key is None else {"training": key.training, "results": key.results})
    return key


def begun(folder: RunFolder, stage: str) -> bool:
    """Whether there is a checkpoint to continue from."""
    return any((folder.checkpoints(stage) / name).exists() for name in (LAST, PREVIOUS))


def finish(bench: Workbench, stage: Stage, parts: Iterable[str], root: Path | None = None) -> None:
    """Note what a finished stage has written, and let other runs find it (those of ``root`` only, if it is given)."""
    folder = bench.folder
    assert folder is not None
    record = folder.key(stage.name)
    if not record.get("training"):
        return
    weights = {part: _checksum(folder.weights(stage.name, part)) for part in parts}
    notices = record.get("notices") or _notices(bench, stage)
    folder.keep_key(stage.name, {**record, "weights": weights, "notices": notices})
    _publish(record["training"], folder.path, root)


def _notices(bench: Workbench, stage: Stage) -> list[str]:
    """The part of what is shown above the run's results that the stage has contributed."""
    assert bench.folder is not None
    told = bench.folder.read_json("environment.json", {}).get("notices", [])
    kept = judged_number(stage, bench.metrics(stage), "keep_best")
    mine = [*bench.dataset(stage).told(), None if kept is None else no_best(stage.name, kept.key)]
    return [text for text in told if text in mine or text.startswith(f"{stage.name}: ")]


# -- the index -----------------------------------------------------------------------------------------------------


def _entry(key: str, root: Path | None) -> Path:
    return (root or cache_folder()) / INDEX / f"{key}.json"


def _publish(key: str, folder: Path, root: Path | None) -> None:
    path, here = _entry(key, root), folder.resolve()
    known = [other for other in _listed(key, root) if other != here]
    kept = [here, *known][:REMEMBERED]
    # Relative to their root, so that it can be moved with everything in it.
    names = [str(one if root is None else os.path.relpath(one, root.resolve())) for one in kept]
    with contextlib.suppress(OSError, MedkitError):  # without the index, the stage is trained again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps({"runs": names}) + "\n").encode())


def _listed(key: str, root: Path | None) -> list[Path]:
    try:
        runs = json.loads(_entry(key, root).read_text(encoding="utf-8"))["runs"]
        names = [Path(name) for name in runs if isinstance(name, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if root is None:
        return names
    there = root.resolve()
    inside = [(there / name).resolve() for name in names]
    return [path for path in inside if path.is_relative_to(there)]


def find(bench: Workbench, stage: Stage, key: StageKey, roots: Sequence[Path | None] = (None,)) -> Trained | None:
    """Another run that has finished the stage under its key, in one of the folders (None: anywhere); one that was
    measured in the same way comes first, and then one of an earlier folder."""
    assert bench.folder is not None
    here = bench.folder.path.resolve()
    listed = [path for root in roots for path in _listed(key.training, root)]
    found = [_trained(path, stage.name, key) for path in listed if path != here]
    known = [one for one in found if one is not None]
    return next((one for one in known if one.measured), known[0] if known else None)


def _trained(path: Path, stage: str, key: StageKey) -> Trained | None:
    """The stage in a run folder, if it is done there under the key and all of its files exist."""
    folder = RunFolder(path)
    try:
        record = folder.key(stage)
        if not folder.done(stage) or record.get("training") != key.training or "weights" not in record:
            return None
        # Names of parts become file names here, and another user may have written them.
        if {folder.weights(stage, part) for part in record["weights"]} != set(folder.all_weights(stage)):
            return None
        return Trained(folder, stage, record.get("results") == key.results and folder.file("results.json").is_file())
    except (MedkitError, OSError):
        return None


# -- linking -------------------------------------------------------------------------------------------------------


def link(trained: Trained, folder: RunFolder, evaluated: Sequence[str], points: Sequence[str]) -> Trained:
    """Take the stage over into ``folder``: weights, ledger, epochs, cost, and what was measured if that is the same and
    all there; the stage as it was taken over.

    Of what was measured only the splits ``evaluated`` and the ``points`` of curves are taken: the other run may have
    been evaluated on more, which it selects in its own way.

    Raises
    ------
    MedkitError
        if a file of the other run is damaged or not the one that was written; then nothing that counts is changed.
    """
    other, stage = trained.folder, trained.stage
    record = other.key(stage)
    for part, checksum in record["weights"].items():
        path = other.weights(stage, part)
        read_tensors(path)  # refuses what does not match its own checksum
        if _checksum(path) != checksum:
            raise files.damaged(path, "these are not the weights that its run wrote")
    measured = Measured(other) if trained.measured else None
    if measured is not None and measured.lost(stage, evaluated, points) is not None:
        trained, measured = replace(trained, measured=False), None
    lines = [line for line in files.read_lines(other.file("metrics.jsonl")) if line["stage"] == stage]
    costs = cost.read_costs(other).get(stage, {})
    for part in record["weights"]:
        _same_file(other.weights(stage, part), folder.weights(stage, part))
    _same_file(other.file(f"{ledgers.FOLDER}/{stage}.json"), folder.file(f"{ledgers.FOLDER}/{stage}.json"))
    folder.drop_metrics_after(stage, 0)
    for line in lines:
        folder.append_metrics(line)
    for notice in record.get("notices", []):
        folder.add_notice(notice)
    if measured is not None:
        found = measured.results.get(stage, {})  # nothing where it is tested on nothing
        _take_results(other, folder, stage, {split: found[split] for split in [*evaluated, *points]})
    else:
        costs = {key: value for key, value in costs.items() if key != "evaluate_seconds"}
    _merge(folder, cost.FILE, stage, costs)
    _merge(folder, fitting.FILE, stage, fitting.read_choices(other).get(stage, {}))
    taken = {"from": str(other.path), "weights": record["weights"], "notices": record.get("notices", [])}
    folder.keep_key(stage, {**folder.key(stage), **taken})
    return trained


def _take_results(
    other: RunFolder, folder: RunFolder, stage: str, measured: Mapping[str, Mapping[str, MetricValue]]
) -> None:
    """What was measured of a stage on some splits: numbers, rows, pictures, features, and who had been seen."""
    rows = CaseTable.of_folder(other.path)
    for split, values in measured.items():
        mine = [{name: text for name, text in row.items() if text} for row in rows.of(stage, split)]
        write_results(folder.path, Evaluation(stage, split, dict(values), mine, []))
        for kept in (f"{name}/{stage}.{split}.{ending}" for name, ending in KEPT.items()):
            if other.file(kept).is_file():
                _same_file(other.file(kept), folder.file(kept))
    _merge(folder, own_data.FILE, stage, other.read_json(own_data.FILE, {}).get(stage, []))
    known = other.read_json(seen.FILE, {}).get(stage, {})
    _merge(folder, seen.FILE, stage, {split: known[split] for split in measured if split in known})


def _merge(folder: RunFolder, name: str, stage: str, content: Mapping[str, Any] | list[Any]) -> None:
    if content:
        folder.write_json(name, {**folder.read_json(name, {}), stage: content})


def _same_file(source: Path, target: Path) -> None:
    """``target`` becomes ``source``: the same file if the disk allows it, as none of them is ever written to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # renaming a file onto another of its own names does nothing


def _checksum(path: Path) -> str:
    """What a file of weights says about its tensors."""
    try:
        return checksum_in(path)
    except (OSError, SafetensorError) as error:
        raise files.damaged(path, error) from error
