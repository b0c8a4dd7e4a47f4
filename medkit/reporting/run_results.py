"""What a run has to report, read once from its folder for the report and its tables."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medkit.evaluation import files
from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.comparisons import Comparison, compare_variants
from medkit.evaluation.results import MetricValue, read_results
from medkit.evaluation.subgroups import Subgroups, read_subgroups
from medkit.protocols.labels import Labels, labels_of
from medkit.recipe.report_model import Stress, WantedTable
from medkit.reporting.tables import base_of, count_of, variants
from medkit.runs import own_data
from medkit.runs.cost import read_costs
from medkit.runs.folder import RunFolder
from medkit.runs.handle import Results
from medkit.runs.new_cases import later
from medkit.runs.own_data import OwnData
from medkit.runs.seen import banners

Costs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class RunResults:
    """Results of a run as far as it has come.

    Attributes
    ----------
    recipe:
        The resolved recipe as plain data.
    results, cases:
        What ``results.json`` and ``cases.csv`` hold.
    done:
        Stages that are finished, whether or not they were evaluated.
    failed:
        Messages of stages that failed, by name.
    costs:
        ``{stage: {train_seconds, peak_mb, memory}}``, memory in MiB.
    notices:
        What readers have to know about the data and weights of all stages.
    banners:
        What they have to know about a stage with its variants, by the stage's name: patients seen in training.
    later:
        What was measured on cases that came after the run, by the stage's name.
    own_data:
        Results of stages on the cases that they were trained on, if the recipe requests them.
    tables:
        The tables that the recipe requests in ``report.tables``.
    curves:
        The curves over the dose that it requests in ``report.stress``, by name.
    subgroups:
        Results of groups of cases by stage and split, where the run has kept them.
    """

    recipe: Mapping[str, Any]
    results: Results = field(default_factory=Results)
    cases: CaseTable = field(default_factory=lambda: CaseTable(()))
    done: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    costs: Costs = field(default_factory=dict)
    notices: Sequence[str] = ()
    banners: Mapping[str, Sequence[str]] = field(default_factory=dict)
    later: Mapping[str, Sequence[str]] = field(default_factory=dict)
    own_data: Mapping[str, Sequence[OwnData]] = field(default_factory=dict)
    tables: Sequence[WantedTable] = ()
    curves: Mapping[str, Stress] = field(default_factory=dict)
    subgroups: Mapping[tuple[str, str], Subgroups] = field(default_factory=dict)
    _compared: dict[str, list[Comparison]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, folder: Path) -> RunResults:
        """What a run folder has so far; what no stage has written yet is empty."""
        opened, recipe = RunFolder(folder), files.read_recipe(folder)
        state = opened.read_json("state.json", {})
        tables = (recipe.get("report") or {}).get("tables") or []
        curves = (recipe.get("report") or {}).get("stress") or {}
        bases = dict.fromkeys(base_of(stage["name"]) for stage in recipe["stages"])
        results = Results(read_results(folder) if (folder / "results.json").is_file() else {})
        return cls(
            recipe,
            results,
            CaseTable.of_folder(folder),
            state.get("done", []),
            state.get("failed", {}),
            read_costs(opened),
            opened.read_json("environment.json", {}).get("notices", []),
            {base: banners(folder, base) for base in bases},
            {base: later(opened, base) for base in bases},
            own_data.read(opened),
            files.guarded(folder / "recipe.yaml", lambda: [WantedTable(**plain) for plain in tables]),
            files.guarded(folder / "recipe.yaml", lambda: {name: Stress(**plain) for name, plain in curves.items()}),
            {
                (stage, split): found
                for stage, splits in results.items()
                for split in splits
                if (found := read_subgroups(folder / "subgroups" / f"{stage}.{split}.json")) is not None
            },
        )

    @property
    def report(self) -> Mapping[str, Any]:
        """The recipe's ``report`` block."""
        return self.recipe.get("report") or {}

    def variants(self) -> dict[str, list[str]]:
        """Stages that are finished or have results, with their variants, the stage itself first."""
        return variants([*self.results, *(stage for stage in self.done if stage not in self.results)])

    def blocks(self, stages: Container[str]) -> dict[str, Mapping[str, Any]]:
        """The recipe's blocks of some stages, by name."""
        return {block["name"]: block for block in self.recipe["stages"] if block["name"] in stages}

    def labels(self, stage: str) -> Labels | None:
        """The labels that a stage's data block declares; None if it declares none."""
        block = (self.recipe.get("data") or {}).get(self.blocks([stage]).get(stage, {}).get("data"), {})
        return labels_of(block["labels"]) if block.get("labels") else None

    def counted(self, stage: str, patients: Sequence[str]) -> str:
        """``52 slices, 2 patients``: how many rows of a stage these are, from the patient of each."""
        what = "slice" if self.blocks([stage]).get(stage, {}).get("unit") == "slice" else "case"
        return f"{count_of(len(patients), what)}, {count_of(len({*patients}), 'patient')}"

    def of(self, stage: str) -> Mapping[str, Mapping[str, MetricValue]]:
        """Values of a stage by split and metric, without the points of its curves; nothing for one without results."""
        return {split: found for split, found in self.results.get(stage, {}).items() if split not in self._points}

    def at_doses(self, stage: str, curve: str) -> dict[float, Mapping[str, MetricValue]]:
        """Values of a stage on a curve by dose and metric, as far as they have been measured."""
        found, points = self.results.get(stage, {}), self.curves[curve].points(curve)
        return {dose: found[point] for point, dose in points.items() if point in found}

    @cached_property
    def _points(self) -> set[str]:
        return {point for name, curve in self.curves.items() for point in curve.points(name)}

    def comparisons(self, base: str) -> list[Comparison]:
        """All comparisons of a stage and its variants in the report, so that p-values are the same everywhere."""
        if base not in self._compared:
            group = variants(self.results).get(base, [])
            splits = list(dict.fromkeys(split for stage in group for split in self.of(stage)))
            values = [(n, v) for stage in group for found in self.of(stage).values() for n, v in found.items()]
            lower = list(dict.fromkeys(name for name, value in values if not value.higher_is_better))
            self._compared[base] = compare_variants(
                *(group, splits, self.cases, self.report, lower, self.blocks(group)), values=self.results
            )
        return self._compared[base]
