"""Who was seen: a run neither tests nor validates on patients that any stage or weights of the chain have seen.

The chain of a stage is the stage itself, the stages that it takes parts from, theirs, and every file of weights that
one of them starts from. What a stage has seen is recorded before it trains (``ledgers/STAGE.json``), so that a
manifest that changes later does not change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medkit.data.alike import look_alikes
from medkit.data.header_patients import comparable_headers
from medkit.data.ledger import NOTHING, ROLES, Entry, Ledger, Role, digest, people, read_ledger, space_of
from medkit.errors import InputError, Problems, RunError
from medkit.evaluation.results import Evaluation, read_results
from medkit.protocols import Case
from medkit.recipe import Stage
from medkit.runs.folder import RunFolder
from medkit.runs.ledgers import FOLDER, images_of, recorded_ledger, weights_of

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench

Part = tuple[str, str, float | None]
"""A split of a data block: its names, and the fraction of its patients, if it is one."""
SHOWN = 5
FILE = "seen.json"
"""``{stage: {split: {patients, seen, how, reason}}}``: what was tested on patients seen in training, by permission."""


@dataclass(frozen=True)
class Found:
    """Patients of a split that a stage's chain has seen.

    ``patients`` and ``cases`` count the split, ``seen`` those patients that were seen; ``how`` says by what, and
    ``names`` are up to five of them.
    """

    patients: int
    cases: int
    seen: int = 0
    how: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    other: bool = False  # seen by weights or a data block other than the stage's own

    def sentence(self, stage: str, split: str, verb: str) -> str:
        shown = ", ".join(self.names) + (f" and {self.seen - len(self.names)} more" if self.seen > SHOWN else "")
        what = f"stage '{stage}' is {verb} '{split}'"
        return f"{what}, and {self.share} {'; '.join(self.how)}: {shown}"

    @property
    def share(self) -> str:
        return share(self.seen, self.patients)


def share(seen: int, patients: int) -> str:
    return f"{seen} of {patients} patients {'was' if seen == 1 else 'were'}"


class Seen:
    """Ledgers of the stages of a workbench, and what they say about a split."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._people: dict[Part, dict[int, str]] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._images: dict[Part, np.ndarray] = {}
        self._headers: dict[Part, tuple[np.ndarray, bool]] = {}

    def ledger(self, stage: Stage) -> Ledger:
        """Whom the chain of ``stage`` has seen: as recorded when it trained, else by its recipe."""
        if stage.name not in self._ledgers:
            recorded = recorded_ledger(self.bench.folder, stage.name)
            done = self.bench.folder is not None and self.bench.folder.done(stage.name)
            if recorded is not None and done:
                self._ledgers[stage.name] = recorded
            else:
                planned = self._planned(stage)
                self._ledgers[stage.name] = planned if recorded is None else recorded + planned
        return self._ledgers[stage.name]

    def _planned(self, stage: Stage) -> Ledger:
        ledger = Ledger()
        taken = stage.takes_from()
        for parent in self.bench.recipe.stages:
            if parent.name in taken:
                ledger += self.ledger(parent)
        for weights in weights_of(stage):
            known = None if weights.startswith("hub:") else read_ledger(Path(weights))
            ledger += Ledger(unknown=(weights,)) if known is None else known
        return ledger + Ledger(tuple(self._own(stage)))

    def _own(self, stage: Stage) -> Iterator[Entry]:
        looked: Role = "select" if stage.keep_best is not None or stage.fitted else "validate"
        splits: list[tuple[Role, str]] = [("train", stage.train)]
        if stage.validate is not None:
            splits.append((looked, stage.validate))
        for role, split in splits:
            part = self._part(stage, split, role == "train")
            patients = np.sort(np.fromiter(self._named(stage, part), np.uint64))
            space = space_of(self.bench.dataset(stage).source)
            images = self._images.get(part, NOTHING)
            headers, comparable = self._headers.get(part, (NOTHING, False))
            words = (self.bench.recipe.name, stage.name, stage.data, split, space)
            yield Entry(role, patients, images, *words, headers=headers, comparable=comparable)

    def _part(self, stage: Stage, split: str, training: bool) -> Part:
        """A split as a stage uses it."""
        return stage.data, split, stage.fraction if training else None

    def _cases(self, stage: Stage, part: Part) -> Sequence[Case]:
        _, split, fraction = part
        return self.bench.dataset(stage).cases(split) if fraction is None else self.bench.cases.train(stage)

    def _named(self, stage: Stage, part: Part) -> dict[int, str]:
        """The people of a split, or of a fraction of it, by their digests."""
        if part not in self._people:
            source = self.bench.dataset(stage).source
            space, names = space_of(source), people(source, self._cases(stage, part))
            self._people[part] = {digest(space, name): name for name in names}
        return self._people[part]

    def found(
        self,
        stage: Stage,
        split: str,
        roles: tuple[Role, ...] = tuple(ROLES),
        copies: Sequence[Case] = (),
        ledger: Ledger | None = None,
    ) -> Found:
        """Which patients of ``split`` the chain of ``stage``, or another ``ledger``, has seen in these roles, or under
        other names."""
        named = self._named(stage, self._part(stage, split, False))
        patients = np.fromiter(named, np.uint64)
        seen = np.zeros(len(patients), bool)
        how, other = [], False
        for entry in (self.ledger(stage) if ledger is None else ledger).entries:
            if entry.role not in roles:
                continue
            among = entry.among(patients)
            if among.any():
                seen |= among
                how.append(self._how(entry))
                other |= (entry.recipe, entry.data) != (self.bench.recipe.name, stage.data)
        shown = set(people(self.bench.dataset(stage).source, copies))
        copied = np.isin(patients, np.fromiter((d for d, name in named.items() if name in shown), np.uint64)) & ~seen
        if copied.any():
            seen |= copied
            how.append(f"seen in images that are copies ({copied.sum()} patients)")
        names = sorted(named[int(patients[i])] for i in np.flatnonzero(seen))[:SHOWN]
        cases = len(self.bench.dataset(stage).cases(split))
        return Found(len(patients), cases, int(seen.sum()), tuple(dict.fromkeys(how)), tuple(names), other)

    def _how(self, entry: Entry) -> str:
        what = ROLES[entry.role]
        if not entry.stage:
            return f"{what} by weights that it starts from"
        foreign = f" of '{entry.recipe}'" if entry.recipe != self.bench.recipe.name else ""
        return f"{what} in stage '{entry.stage}'{foreign} (split '{entry.split}' of '{entry.data}')"

    def check(
        self, stage: Stage, split: str, *, validation: bool = False, way_out: str = "'report: {allow_seen: REASON}'"
    ) -> None:
        """Refuse a split of which the chain has seen patients, unless the recipe's report allows it.

        Parameters
        ----------
        validation:
            The split is for validation: only patients that were trained on matter.
        way_out:
            How the user may allow it.

        Raises
        ------
        InputError
            naming the stages, the splits, the number of patients and up to five of them.
        """
        if self.bench.recipe.report.allowed(split) is not None:
            return
        found = self.found(stage, split, ("train",) if validation else tuple(ROLES))
        if found.seen:
            hint = "put each patient on one side only"
            if found.other:
                hint += ", or give each source a 'space' if equal names mean different patients"
            hint += f"; if it is intended, {way_out} says so beside the results"
            verb = "validated on" if validation else "tested on"
            raise InputError(found.sentence(stage.name, split, verb), f"stages.{stage.name}", hint)

    def check_all(self) -> None:
        """Refuse every stage, of those still to be finished, that is tested or validated on patients seen in training.

        Raises
        ------
        Problems
            with all of them.
        """
        problems: list[InputError] = []
        for stage in self.bench.recipe.stages:
            if self.bench.folder is not None and self.bench.folder.done(stage.name):
                continue
            wanted = [(split, False) for split in self.bench.evaluated_splits(stage)]
            if stage.validate is not None:
                wanted.append((stage.validate, True))
            for split, validation in wanted:
                try:
                    self.check(stage, split, validation=validation)
                except InputError as error:
                    problems.append(error)
        if problems:
            raise Problems(problems)

    def notices(self) -> list[str]:
        """What a reader has to know: weights whose training data are unknown, validation on patients trained on."""
        return [*self._foreign(), *self._validated(), *self._alike()]

    def _alike(self) -> Iterator[str]:
        """Tested patients whose names differ from names of patients seen in training only in how they are written."""
        for stage in self.bench.recipe.stages:
            seen = self._written(stage)
            for split in self.bench.evaluated_splits(stage):
                named = self._named(stage, self._part(stage, split, False)).values()
                known = seen.get(space_of(self.bench.dataset(stage).source), set())
                others = set(named) - known
                groups = look_alikes([*known, *others]) if others else []
                if count := sum(name in others for group in groups if not known.isdisjoint(group) for name in group):
                    what = f"{count} of {len(named)} patients of '{split}' ({stage.name}) have names that differ only"
                    yield (
                        f"{what} in case, separators or leading zeros from names of patients seen in training. "
                        "They count as different people; if they are the same, write their names alike."
                    )

    def _written(self, stage: Stage) -> dict[str, set[str]]:
        """The names of patients that the stages of a chain train and validate on, by their space."""
        found: dict[str, set[str]] = {}
        for each in self.bench.recipe.chain([stage.name]):
            names = found.setdefault(space_of(self.bench.dataset(each).source), set())
            for split in each.splits([]):
                names.update(self._named(each, self._part(each, split, split == each.train)).values())
        return found

    def _validated(self) -> Iterator[str]:
        for stage in self.bench.recipe.stages:
            reason = None if stage.validate is None else self.bench.recipe.report.allowed(stage.validate)
            if stage.validate is not None and reason is not None:
                found = self.found(stage, stage.validate, ("train",))
                if found.seen:
                    told = f"{share(found.seen, found.patients)} {'; '.join(found.how)}"
                    yield f"{stage.name} is validated on '{stage.validate}', and {told}. Allowed because: {reason}"

    def _foreign(self) -> list[str]:
        unknown = dict.fromkeys(name for stage in self.bench.recipe.stages for name in self.ledger(stage).unknown)
        names = ", ".join(f"'{name if name.startswith('hub:') else Path(name).name}'" for name in unknown)
        return [f"What these weights were trained on is not known: {names}."] if names else []

    def copies(self, stage: Stage, split: str) -> list[Case]:
        """Cases of ``split``, prepared, that show images which the chain of ``stage`` has seen, under whatever name."""
        dataset, seen = self.bench.dataset(stage), images_of(self.ledger(stage))
        found = [(case, mine) for case, mine in dataset.digests(dataset.cases(split)) if mine]
        return [case for case, mine in found if np.isin(np.array(mine, np.uint64), seen).all()]

    def check_images(self, stage: Stage, tested: Sequence[str]) -> None:
        """Refuse splits, their cases prepared, that show images which the chain of ``stage`` has seen.

        Raises
        ------
        RunError
            with the number of cases and up to five of them, unless the report allows it.
        """
        for split in tested:
            if self.bench.recipe.report.allowed(split) is not None:
                continue
            if found := self.copies(stage, split):
                names = ", ".join(case.id for case in found[:SHOWN]) + (" ..." if len(found) > SHOWN else "")
                what = f"{len(found)} cases of '{split}' show images that were seen in training, under other patients"
                raise RunError(f"{what}: {names}", f"stage {stage.name}", "remove one of the two from the data")

    def look(self, stage: Stage) -> None:
        """Add the images that ``stage`` trains and validates on, which have been prepared, to its ledger."""
        dataset = self.bench.dataset(stage)
        looked: dict[Part, Sequence[Case]] = {}
        for split in (stage.train, stage.validate):
            if split is None:
                continue
            part = self._part(stage, split, split == stage.train)
            if part not in self._images:
                cases = self._cases(stage, part)
                each = (one for _, mine in dataset.digests(cases) for one in mine)
                self._images[part] = np.unique(np.fromiter(each, np.uint64))
                looked[part] = cases
        self._headers |= comparable_headers(dataset.source, looked, dataset.remarks.people)
        self.look_again()  # ledgers of later stages hold this one's

    def look_again(self) -> None:
        """Forget the ledgers that were read: one of them has been rewritten."""
        self._ledgers.clear()

    def write(self, stage: Stage) -> str:
        """Record whom ``stage`` has seen, before it trains; the text goes into its weights too."""
        assert self.bench.folder is not None
        text = self.ledger(stage).text()
        self.bench.folder.file(FOLDER).mkdir(exist_ok=True)
        self.bench.folder.write_text(f"{FOLDER}/{stage.name}.json", text)
        return text

    def _trained(self, stage: Stage) -> dict[str, int]:
        """On how many patients a stage was trained, out of how many; where only new cases are at hand, as the run's
        earlier results have it."""
        if stage.train in self.bench.recipe.data[stage.data].splits:
            on, of = (len(self._named(stage, self._part(stage, stage.train, training))) for training in (True, False))
            return {"trained_on": on, "trained_of": of}
        known = read_results(self.bench.folder.path).get(stage.name, {}) if self.bench.folder is not None else {}
        value = next((v for found in known.values() for v in found.values() if v.trained_on), None)
        return {} if value is None else {"trained_on": value.trained_on, "trained_of": value.trained_of}

    def counted(self, stage: Stage, evaluation: Evaluation, reason: str | None = None) -> Evaluation:
        """The evaluation with its numbers of patients, cases and slices, and of patients seen in training.

        If there are any, what has seen them and why it was allowed go to ``seen.json``.
        """
        found = self.found(stage, evaluation.split, copies=self.copies(stage, evaluation.split))
        counts: dict[str, Any] = {
            "patients": found.patients,
            "cases": found.cases,
            "slices": evaluation.slices,
            "seen": found.seen,
            **self._trained(stage),
        }
        folder = self.bench.folder
        if folder is not None:
            kept = folder.read_json(FILE, {})
            of_stage = {k: v for k, v in kept.get(stage.name, {}).items() if k != evaluation.split}
            if found.seen:
                reason = reason or self.bench.recipe.report.allowed(evaluation.split) or ""
                how = {"patients": found.patients, "seen": found.seen, "how": list(found.how), "reason": reason}
                of_stage[evaluation.split] = how
            new = {**{k: v for k, v in kept.items() if k != stage.name}, **({stage.name: of_stage} if of_stage else {})}
            if new != kept:
                folder.write_json(FILE, new)
        values = {name: replace(value, **counts) for name, value in evaluation.values.items()}
        return replace(evaluation, values=values)


def banners(folder: Path, base: str | None = None) -> list[str]:
    """What is shown above the results of a run tested on patients seen in training, one line per stage and split.

    ``base`` picks a stage with its variants.
    """
    return [_banner(stage, split, of) for stage, split, of in RunFolder(folder).of_splits(FILE, base)]


def seen_on(folder: Path, stage: str, split: str) -> list[str]:
    """The banner of one stage, without its variants, on one split; empty if nobody tested there was seen."""
    return [_banner(*each) for each in RunFolder(folder).of_splits(FILE) if each[:2] == (stage, split)]


def _banner(stage: str, split: str, of: Any) -> str:
    text = f"{share(of['seen'], of['patients'])} {'; '.join(of['how'])}"
    return f"{stage} on {split} is no test of new patients: {text}. Allowed because: {of['reason']}"
