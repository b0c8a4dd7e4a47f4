"""The folder of a study: its trials are run folders, from which it is seen what has become of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.errors import InputError
from medkit.evaluation import files
from medkit.recipe import yaml as yaml_marks
from medkit.recipe.difference import first_difference
from medkit.recipe.yaml_dump import dump
from medkit.records import encoded, made_with, write_atomically
from medkit.runs.folder import LIBRARIES, RunFolder
from medkit.studies.study import Study
from medkit.studies.trials import Trial

FORMAT = 1
PLAN, STUDY, TOKEN, OPEN = "trials.jsonl", "study.json", "token", "open"
SILENT = 120.0  # seconds


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; ``stages`` has the planned keys of stages that failed in it, each with its error."""

    status: str
    """``finished`` or ``failed``."""
    error: str = ""
    hint: str = ""
    seconds: float = 0.0
    stages: Mapping[str, str] | None = None


class StudyFolder:
    """Paths and small files of one study.

    =======================  =============================================================================
    ``study.yaml``           the study's file as it was given
    ``study.json``           versions, options, what was checked
    ``trials.jsonl``         one line per trial: method, point, planned keys of its stages
    ``recipes/TRIAL.yaml``   the resolved recipe of each trial
    ``trials/TRIAL/``        its run folder
    ``outcomes/TRIAL.json``  how it ended
    ``own_data/TRIAL.json``  what it is worth on its own training data
    ``attempts/TRIAL``       how often it was begun, if a worker was killed over it
    ``claims/``              who is at work on what
    ``stages/``              which trial has trained a stage under which key
    ``logs/``                what workers print
    ``search.journal``       attempts of a search (Optuna)
    ``log.txt``              what was printed
    ``report.html``          the report, with ``results.json`` and ``table.csv``
    =======================  =============================================================================
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: set[str] = set()
        self._plan: tuple[float, list[Trial]] | None = None

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """An existing folder of a study."""
        if not (path / STUDY).is_file():
            hint = "'medkit study run STUDY.yaml --out FOLDER' makes one"
            raise InputError("this is not the folder of a study: it holds no study.json", str(path), hint)
        return cls(path)

    def run_folder(self, trial: Trial) -> RunFolder:
        return RunFolder(self.path / "trials" / trial.name)

    def recipe_file(self, trial: Trial) -> Path:
        return self.path / "recipes" / f"{trial.name}.yaml"

    def log(self, text: str) -> None:
        with (self.path / "log.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    # -- the plan ----------------------------------------------------------------------------------------------

    def check(self, study: Study, trials: Iterable[Trial]) -> None:
        """Refuse a folder that holds something else: another study, or trials of other recipes under the same names."""
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        hint = "choose another --out"
        if not (self.path / STUDY).is_file():
            if {item.name for item in self.path.iterdir()} <= {"log.txt", "run.lock"}:
                return  # a study ended here just as it began
            raise InputError("the output folder exists and holds no study", str(self.path), hint)
        there = self.about()
        if there.get("name") != study.name:
            what = f"the folder holds the study '{there.get('name')}', and this is '{study.name}'"
            raise InputError(what, str(self.path), hint)
        for trial in trials:
            kept = self.recipe_file(trial)
            if not kept.is_file() or trial.recipe is None:
                continue
            found = first_difference(trial.recipe.resolved(), yaml_marks.read(kept).plain())
            if found is not None:
                what = f"the folder holds trial '{trial.name}' of another recipe: {found[0]} is {found[2]!r} there"
                raise InputError(f"{what} and {found[1]!r} here", str(self.path), "give the changed study a new --out")

    def write_plan(self, study: Study, trials: Sequence[Trial] | None, said: Mapping[str, Any]) -> None:
        """Write recipes, plan and the study itself; what was already there of the same study stays.

        Without trials, which a search adds, the plan stays as it was.
        """
        for name in ("recipes", "trials", "outcomes", "own_data", "attempts", "claims", "stages", "logs"):
            (self.path / name).mkdir(exist_ok=True)
        # First what was measured: whoever is killed before the last recipe is written goes on with the same epochs.
        about = {"format": FORMAT, "name": study.name, "recipe": study.recipe_name, **made_with(LIBRARIES)}
        self.write_json(STUDY, {**about, "begun": time.strftime("%Y-%m-%d %H:%M:%S"), **self.about(), **said})
        write_atomically(self.path / "study.yaml", encoded(study.text))
        self.add(trials or [], replace=trials is not None)

    def add(self, trials: Sequence[Trial], replace: bool = True) -> None:
        """Write the plan, with these trials alone or in addition to those that are there."""
        for trial in trials:
            if trial.recipe is not None and not self.recipe_file(trial).is_file():
                write_atomically(self.recipe_file(trial), encoded(dump(trial.recipe.resolved())))
        known = [] if replace else [t for t in self.trials() if t.name not in {trial.name for trial in trials}]
        lines = [json.dumps(trial.plain()) for trial in [*known, *trials]]
        write_atomically(self.path / PLAN, "".join(f"{line}\n" for line in lines).encode())
        self._plan = None

    @contextmanager
    def open_for_more(self) -> Iterator[None]:
        """Inside, trials may be added to the plan: workers that find none wait for them."""
        try:
            self.stay_open(begin=True)
            yield
        finally:
            (self.path / OPEN).unlink(missing_ok=True)

    def stay_open(self, begin: bool = False) -> None:
        """Repeat that trials may be added, if that was said."""
        if begin or (self.path / OPEN).is_file():
            write_atomically(self.path / OPEN, b"")

    def is_open(self) -> bool:
        """Whether trials may be added; not if whoever adds them has been silent for long."""
        try:
            return time.time() - (self.path / OPEN).stat().st_mtime < SILENT
        except FileNotFoundError:
            return False

    def trials(self) -> list[Trial]:
        """The planned trials; read again when the plan has changed."""
        path = self.path / PLAN
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        if self._plan is None or self._plan[0] != changed:
            lines = files.read_lines(path) if path.is_file() else []
            self._plan = changed, [Trial(**line) for line in lines]
        return self._plan[1]

    def about(self) -> dict[str, Any]:
        """``study.json``."""
        return dict(files.read_json(self.path / STUDY)) if (self.path / STUDY).is_file() else {}

    def compared(self) -> list[dict[str, Any]]:
        """What the study compares: its first number, then those of ``also``; [] if it compares nothing."""
        said = yaml_marks.read(self.path / "study.yaml").plain().get("compare")
        if not said:
            return []
        first = {key: value for key, value in said.items() if key != "also"}
        return [first, *({**first, **other} for other in said.get("also") or [])]

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.path / name, f"{json.dumps(content, indent=1)}\n".encode())

    # -- what has become of the trials -------------------------------------------------------------------------

    def outcome(self, trial: Trial) -> Outcome | None:
        """How a trial ended; None if it has not."""
        path = self.path / "outcomes" / f"{trial.name}.json"
        return Outcome(**files.read_json(path)) if path.is_file() else None

    def own_data(self, trial: Trial) -> dict[str, Any] | None:
        """What a trial is worth on its own training data (:mod:`medkit.studies.own_data`), if that was measured."""
        path = self.path / "own_data" / f"{trial.name}.json"
        return dict(files.read_json(path)) if path.is_file() else None

    def keep_outcome(self, trial: Trial, outcome: Outcome) -> None:
        said = {name: value for name, value in vars(outcome).items() if value}
        self.write_json(f"outcomes/{trial.name}.json", said)

    def forget_failures(self) -> None:
        """Failed trials are tried again."""
        for trial in self.trials():
            outcome = self.outcome(trial)
            if outcome is not None and outcome.status == "failed":
                (self.path / "outcomes" / f"{trial.name}.json").unlink(missing_ok=True)
            (self.path / "attempts" / trial.name).unlink(missing_ok=True)

    def count_attempt(self, trial: Trial, by: int) -> int:
        """Count that a trial began (1), or that it ended in an orderly way (-1); returns how many attempts are open."""
        path = self.path / "attempts" / trial.name
        count = int(path.read_text(encoding="ascii")) if path.is_file() else 0
        write_atomically(path, str(count + by).encode())
        return count + by

    def trained(self, key: str) -> bool:
        """Whether some trial has finished a stage with this planned key."""
        if key not in self._done:
            for trial in self.trials():
                names = [name for name, planned in trial.stages.items() if planned == key]
                if any(self.run_folder(trial).done(name) for name in names):
                    self._done.add(key)
                    break
        return key in self._done

    def failed_stages(self) -> dict[str, tuple[str, str]]:
        """The planned keys of stages that failed: in which trial, and how."""
        found: dict[str, tuple[str, str]] = {}
        for trial in self.trials():
            outcome = self.outcome(trial)
            if outcome is not None and outcome.stages:
                found |= {key: (trial.name, error) for key, error in outcome.stages.items()}
        return found


def shared(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """Planned keys that several trials have, each with the names of those trials."""
    found: dict[str, list[str]] = {}
    for trial in trials:
        for key in dict.fromkeys(trial.stages.values()):
            found.setdefault(key, []).append(trial.name)
    return {key: names for key, names in found.items() if len(names) > 1}
