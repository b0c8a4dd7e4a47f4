"""Which cases of its splits a stage trains on: a fraction of the patients, those that have the truths it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medkit.data.cases import take
from medkit.data.fractions import Chosen, choose
from medkit.data.labels import check_present
from medkit.data.ledger import person_of_each
from medkit.errors import InputError
from medkit.protocols import Case
from medkit.recipe import Stage

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench


TRUTHS = {"label", "labels", "mask"}
"""Entries of a batch that not every case has."""


class StageCases:
    """The cases of the stages of a recipe, each found once."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._fractions: dict[tuple[str, str, float], Chosen] = {}
        self._learnable: dict[tuple[str, str], Sequence[Case]] = {}

    def train(self, stage: Stage) -> Sequence[Case]:
        """The cases of the split that ``stage`` trains on, or of the fraction of it, labelled or not."""
        cases = self.bench.dataset(stage).cases(stage.train)
        return cases if stage.fraction is None else take(cases, self.fraction(stage).inside)

    def fraction(self, stage: Stage) -> Chosen:
        """Which patients of its split a stage trains on; the same ones for all stages, for one seed of the recipe."""
        assert stage.fraction is not None
        key = (stage.data, stage.train, stage.fraction)
        if key not in self._fractions:
            dataset = self.bench.dataset(stage)
            cases = dataset.cases(stage.train)
            people, declared = person_of_each(dataset.source, cases), dataset.declared
            labels = dataset.labels(cases, self.bench.jobs) if declared is None else declared.strata(cases)
            self._fractions[key] = choose(people, labels, stage.fraction, self.bench.recipe.seed)
        return self._fractions[key]

    def check_fraction(self, stage: Stage, objective: Any) -> None:
        """Refuse a fraction without a patient or, if labels are read, without a case of some class."""
        if stage.fraction is not None:
            chosen, where = self.fraction(stage), f"stages.{stage.name}.train.fraction"
            chosen.check(stage.fraction, where, classes=False)
            read = self.bench.reads.of(stage, objective)
            chosen.check(stage.fraction, where, classes=read is None or bool(read & TRUTHS))

    def fraction_in_words(self, stage: Stage) -> str:
        """How many patients a fraction has, and by what it is stratified; nothing if all are trained on."""
        if stage.fraction is None:
            return ""
        found = self.fraction(stage)
        share = f"{found.patients} of {found.total} patients of '{stage.train}'"
        return f"it trains on {share} (fraction {stage.fraction:g}, {found.strata})"

    def learnable(self, stage: Stage, split: str) -> Sequence[Case]:
        """The cases of a split that losses of ``stage`` can be computed on: those that have the labels and masks that
        its objective reads. All of them, if it reads none or does not say.

        Raises
        ------
        InputError
            if none is left.
        """
        key = (stage.name, split)
        if key not in self._learnable:
            cases = self.train(stage) if split == stage.train else self.bench.dataset(stage).cases(split)
            truths = self._truths(stage)
            found = take(cases, self.bench.dataset(stage).labelled(cases, truths)) if truths else cases
            if not len(found):
                what = f"stage '{stage.name}' reads {' and '.join(truths)}, which no case of '{split}' has"
                hint = "on unlabelled cases only heads that read no labels can be trained"
                raise InputError(what, f"stages.{stage.name}", hint)
            self._learnable[key] = found
        return self._learnable[key]

    def left_out(self, stage: Stage, split: str) -> str:
        """How many cases of a split a stage leaves out, in words; nothing if it takes all."""
        every = self.train(stage) if split == stage.train else self.bench.dataset(stage).cases(split)
        some = self.learnable(stage, split)
        missing = len(every) - len(some)
        why = f"without the {' and '.join(self._truths(stage))} that it reads"
        return f"{missing} of {len(every)} cases of '{split}' are left out, {why}" if missing else ""

    def _truths(self, stage: Stage) -> list[str]:
        """Which of label and mask the objective of a stage reads."""
        return sorted((self.bench.reads.of(stage) or set()) & TRUTHS)

    def check_labels(self, stage: Stage) -> None:
        """Refuse to train on declared labels that no case has, or with no case of a class. No voxel is read."""
        declared = self.bench.dataset(stage).declared
        if declared is None or "labels" not in self._truths(stage):
            return
        cases = self.train(stage)
        cases = take(cases, declared.known(cases))
        where = f"stages.{stage.name}.train"
        if not len(cases):
            what = f"no case of '{stage.train}' has a label"
            raise InputError(what, where, f"labels are {declared.labels.in_words}: 'column' says where they are")
        if declared.labels.names:
            check_present(declared.count(cases), where, stage.train)

    def labels_in_words(self, stage: Stage, split: str) -> tuple[str, str]:
        """How many cases of a split have each class, and for how many it is not known; nothing without classes."""
        declared = self.bench.dataset(stage).declared
        if declared is None or not declared.labels.names or "labels" not in self._truths(stage):
            return "", ""
        cases = self.learnable(stage, split)
        counts = ", ".join(f"{name} {count}" for name, count in declared.count(cases).items())
        missing = ", ".join(f"{name} {count}" for name, count in declared.missing(cases).items())
        unknown = f"cases of '{split}' for which a class is not known, and is not counted: {missing}"
        return f"classes of '{split}': {counts}", unknown if missing else ""
