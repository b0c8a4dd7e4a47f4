"""``medkit verdict``: whether a method would win again, from patients' values over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medkit.cli.options import Json
from medkit.cli.output import show_json, show_table
from medkit.errors import InputError

if TYPE_CHECKING:
    from medkit.evaluation.verdict import Verdict
    from medkit.evaluation.verdict_runs import RunValues


def verdict(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE|DIR...",
            help="CSV or Parquet with the columns method, seed, patient, value (and case); or run folders.",
        ),
    ],
    b: Annotated[str, typer.Option("--b", metavar="NAME", help="The method that others are compared with.")],
    a: Annotated[
        list[str] | None,
        typer.Option("--a", metavar="NAME", help="The method in question; may be repeated. Default: all others."),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Of run folders: what is compared.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Of run folders. Default: all with the metric.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Of run folders: the test set.")] = None,
    higher_is_better: Annotated[
        bool | None,
        typer.Option(
            "--higher-is-better/--lower-is-better",
            help="Default: higher, or what run folders say about the metric.",
            show_default=False,
        ),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Equal seeds of two methods have nothing in common but the number.")
    ] = False,
    common: Annotated[
        bool,
        typer.Option("--common", help="Compare the patients, cases and seeds that both have; leave out the others."),
    ] = False,
    difference: Annotated[
        float | None,
        typer.Option("--difference", metavar="D", help="Say how many seeds and patients would show a difference of D."),
    ] = None,
    json: Json = False,
) -> None:
    """Say whether A would beat B again, trained anew and tested on new patients, and how certain that is.

    Example: medkit verdict values.csv --a pretrained --b scratch
    """
    from dataclasses import replace

    from medkit.evaluation.verdict import verdicts
    from medkit.evaluation.verdict_result import marked

    runs = _runs(sources, metric, stage, split, [b, *a] if a else [], common)
    table, higher, of = (sources[0], True, {}) if runs is None else _of_runs(runs)
    higher = higher if higher_is_better is None else higher_is_better
    paired = False if unpaired else None
    found = verdicts(table, b, a or (), higher_is_better=higher, paired=paired, common=common)
    if runs is not None:
        told = [(*one.notes, *runs.left_out, *runs.notes[one.a], *runs.notes[one.b]) for one in found]
        found = [replace(one, notes=notes) for one, notes in zip(found, told, strict=True)]
        found = marked(found, _seen(runs))
    plans = [_plan(one, difference) for one in found]
    if json:
        plain = [of | one.json() | ({"designs": p} if p else {}) for one, p in zip(found, plans, strict=True)]
        show_json(plain[0] if a is not None and len(a) == 1 else plain)
        return
    if of:
        print(f"{of['metric']} on {of['split']}:")
    for one, plan in zip(found, plans, strict=True):
        print(one.text)
        if plan:
            rows = [(row["seeds"], row["patients"] or "no number is enough") for row in plan]
            show_table(["seeds", f"patients that show {difference:g}"], rows)


def _runs(
    sources: Sequence[Path],
    metric: str | None,
    stage: str | None,
    split: str | None,
    methods: Sequence[str],
    common: bool,
) -> RunValues | None:
    """What run folders hold; None if a table is given."""
    if not any(source.is_dir() for source in sources):
        if len(sources) > 1:
            raise InputError("one table at a time", hint="put the rows of all seeds and methods into one file")
        if given := next((n for n, v in {"metric": metric, "stage": stage, "split": split}.items() if v), None):
            raise InputError(
                f"--{given} is for run folders", str(sources[0]), "a table holds one metric of one test set"
            )
        return None
    if metric is None:
        raise InputError("which metric of these runs should be compared?", hint="--metric NAME")
    from medkit.evaluation.verdict_runs import run_values

    return run_values(sources, metric, stage, split, methods, common=common)


def _of_runs(runs: RunValues) -> tuple[Any, bool, dict[str, str]]:
    """The table, whether higher is better, and the metric and test set that it holds."""
    return runs.rows, runs.higher_is_better, {"metric": runs.metric, "split": runs.split}


def _seen(runs: RunValues) -> dict[str, list[str]]:
    """Of each method, what is shown above results on patients who were seen in training."""
    from medkit.runs.seen import seen_on

    return {
        method: [line for folder, stage in mine for line in seen_on(folder, stage, runs.split)]
        for method, mine in runs.trainings.items()
    }


def _plan(verdict: Verdict, difference: float | None) -> list[dict[str, Any]]:
    """Seeds and patients that a difference needs; [] if no difference is given."""
    from dataclasses import asdict

    from medkit.evaluation.verdict_power import designs

    return [] if difference is None else [asdict(design) for design in designs(verdict.spread, difference)]
