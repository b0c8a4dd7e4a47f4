"""The report: one self-contained HTML file from what lies in the run folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from medkit.errors import RunError
from medkit.plugin import manager
from medkit.runs import figures, stats
from medkit.runs.evaluate import MetricValue, read_cases, read_examples, read_results
from medkit.runs.folder import write_atomically

Results = dict[str, dict[str, dict[str, MetricValue]]]


@dataclass(frozen=True)
class Comparison:
    """Two variants of a stage on the same cases."""

    split: str
    metric: str
    first: str
    second: str
    test: stats.Test
    p_holm: float
    clustered: bool
    higher_is_better: bool = True

    @property
    def says(self) -> str:
        if math.isnan(self.test.p):
            return "not defined on these cases"
        if self.p_holm < 0.05:
            first = (self.test.difference > 0) == self.higher_is_better
            return f"{self.first if first else self.second} is better"
        return "no difference shown"


@dataclass(frozen=True)
class _Shown:
    """What hooks of plugins get."""

    folder: Path
    recipe: Mapping[str, Any]
    results: Results


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, whole or not at all, and return its path."""
    import jinja2
    import yaml

    results = read_results(folder)
    recipe_text = (folder / "recipe.yaml").read_text()
    recipe = yaml.safe_load(recipe_text)
    environment = json.loads((folder / "environment.json").read_text())
    cases = read_cases(folder)
    lines = _lines(folder)
    groups: dict[str, list[str]] = {}
    for stage in results:
        groups.setdefault(stage.split("@")[0], []).append(stage)
    sections = [_section(base, stages, results, cases, lines, folder, recipe) for base, stages in groups.items()]
    hooked: list[Any] = manager().hook.medkit_report(run=_Shown(folder, recipe, results))
    extra = [item for found in hooked for item in found]
    environment_ = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment_.from_string(files("medkit.runs").joinpath("report.html").read_text())
    page = template.render(
        name=recipe["name"],
        environment=environment,
        synthetic=_synthetic(recipe),
        sections=sections,
        extra=extra,
        recipe=recipe_text,
        folder=folder.name,
        number=number,
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path


def number(value: float) -> str:
    """A number for a table: three or four significant digits, a dash for undefined."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    found = []
    texts = [text for text in path.read_text().splitlines() if text.strip()] if path.exists() else []
    for i, text in enumerate(texts, 1):
        try:
            found.append(json.loads(text))
        except ValueError as error:
            # A run that was killed may leave half a last line; anything else is damage.
            if i < len(texts):
                raise RunError(f"line {i} is not valid JSON ({error})", str(path)) from error
    return found


def _synthetic(recipe: Mapping[str, Any]) -> str:
    """A plain statement when results are not about patients."""
    sources = [block["source"]["use"] for block in recipe["data"].values()]
    if any(name == "phantoms:inserted_bleeds" for name in sources):
        return (
            "Lesions in these images are synthetic and inserted into one real head. The numbers show how the method "
            "works on real voxels; they say nothing about patients."
        )
    if any(name.startswith("phantoms:") for name in sources):
        return "All images are synthetic phantoms: the numbers compare methods and say nothing about patients."
    return ""


def _section(
    base: str,
    stages: Sequence[str],
    results: Results,
    cases: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    folder: Path,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    metrics = list(dict.fromkeys(m for s in stages for found in results[s].values() for m in found))
    splits = list(dict.fromkeys(split for s in stages for split in results[s]))
    rows = []
    for split in splits:
        values = {m: [results[s].get(split, {}).get(m) for s in stages] for m in metrics}
        for i, stage in enumerate(stages):
            cells = [_cell(values[m], i) for m in metrics]
            rows.append({"split": split, "stage": stage, "cells": cells, "first": i == 0})
    first = results[stages[0]][splits[0]] if splits else {}
    heads: list[dict[str, Any]] = [
        {"name": m, "unit": first[m].unit if m in first else "", "up": m in first and first[m].higher_is_better}
        for m in metrics
    ]
    rules: dict[str, list[str]] = {}
    for name in metrics:
        if name in first and first[name].rule not in ("", "none"):
            rules.setdefault(first[name].rule, []).append(name)
    curves = [(s, figures.learning_curves([line for line in lines if line["stage"] == s])) for s in stages]
    pictures = []
    for stage in stages:
        for split in splits:
            path = folder / "examples" / f"{stage}.{split}.npz"
            if not path.exists():
                continue
            examples = read_examples(path)
            if all("output" in e and "target" in e for e in examples):
                pictures.append((f"{stage}, {split}", figures.restorations(examples), "restoration"))
                pictures.append((f"{stage}, {split}", figures.noise_power(examples), "spectrum"))
            elif examples:
                pictures.append((f"{stage}, {split}", figures.overlays(examples), "overlay"))
    fpv = {
        split: {s: _scores(cases, s, split, "fpv") for s in stages if _scores(cases, s, split, "fpv")}
        for split in splits
    }
    box = figures.boxes(fpv, "FPV of normal cases, µL") if any(fpv.values()) else ""
    return {
        "name": base,
        "heads": heads,
        "rules": rules,
        "rows": rows,
        "curves": [(s, c) for s, c in curves if c],
        "pictures": pictures,
        "box": box,
        "comparisons": compare_variants(
            stages, splits, cases, recipe.get("report") or {}, [h["name"] for h in heads if not h["up"]]
        ),
    }


def _cell(values: Sequence[MetricValue | None], i: int) -> dict[str, Any]:
    value = values[i]
    if value is None:
        return {"text": "–", "range": "", "n": "", "best": False, "input": "", "missed": ""}
    known = [v.value for v in values if v is not None and not math.isnan(v.value)]
    best = len(known) > 1 and value.value == (max(known) if value.higher_is_better else min(known))
    interval = f"[{number(value.low)}, {number(value.high)}]" if not math.isnan(value.low) else "no interval"
    empty = f", {value.n_empty} empty" if value.n_empty else ""
    before, missed = value.extras.get("input"), value.extras.get("missed")
    return {
        "text": number(value.value),
        "range": interval,
        "n": f"n = {value.n}{empty}",
        "best": best,
        "input": f"input {number(before)}" if before is not None else "",
        "missed": f"{missed:.0f} missed" if missed else "",
    }


def _scores(cases: Sequence[Mapping[str, Any]], stage: str, split: str, metric: str) -> list[float]:
    return [float(row[metric]) for row in cases if (row["stage"], row["split"]) == (stage, split) and row.get(metric)]


def compare_variants(
    stages: Sequence[str],
    splits: Sequence[str],
    cases: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
    lower_is_better: Sequence[str] = (),
) -> list[Comparison]:
    """Test the first variant of a stage against each other one, per split and metric, on cases both have.

    ``auc`` has no value per case: it is always tested by DeLong, and other metrics never are (paired t instead).
    """
    compare = wanted.get("compare") or {}
    found: list[tuple[str, str, str, str, stats.Test, bool]] = []
    if len(stages) < 2 or not compare:
        return []
    for split in splits:
        for metric in compare.get("metric", []):
            for other in stages[1:]:
                tables = []
                for stage in (stages[0], other):
                    mine = [row for row in cases if (row["stage"], row["split"]) == (stage, split)]
                    tables.append({row["case"]: row for row in mine})
                test, clustered = _test(compare.get("test", "paired_t"), metric, *tables)
                if test is not None:
                    found.append((split, metric, stages[0], other, test, clustered))
    corrected = stats.holm([item[4].p for item in found])
    return [
        Comparison(split, metric, a, b, test, p, clustered, metric not in lower_is_better)
        for (split, metric, a, b, test, clustered), p in zip(found, corrected, strict=True)
    ]


def _test(
    kind: str, metric: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[stats.Test | None, bool]:
    if metric == "auc":
        kind = "delong"
    elif kind == "delong":
        kind = "paired_t"
    columns = ("probability", "label") if kind == "delong" else (metric,)
    both = [c for c in first if c in second and all(first[c].get(k) and second[c].get(k) for k in columns)]
    if not both:
        return None, False
    patients = [first[c]["patient"] for c in both]
    # Several rows of one patient in a test that takes rows for independent.
    clustered = len(set(patients)) < len(patients) and kind != "bootstrap"
    a, b = ([float(table[c][columns[0]]) for c in both] for table in (first, second))
    x, y = np.array(a), np.array(b)
    if kind == "delong":
        return stats.delong(x, y, np.array([float(first[c]["label"]) for c in both])), clustered
    if kind == "wilcoxon":
        return stats.wilcoxon(x, y), clustered
    if kind == "bootstrap":
        return stats.bootstrap_test(x, y, patients), clustered
    return stats.paired_t(x, y), clustered
