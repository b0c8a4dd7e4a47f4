"""``medkit verdict``: whether a method would win again, from a table of values over seeds and patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medkit.cli.options import Json
from medkit.cli.output import show_json, show_table

if TYPE_CHECKING:
    from medkit.evaluation.verdict import Verdict


def verdict(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="CSV or Parquet with the columns method, seed, patient, value (and case)."
        ),
    ],
    b: Annotated[str, typer.Option("--b", metavar="NAME", help="The method that others are held against.")],
    a: Annotated[
        list[str] | None,
        typer.Option("--a", metavar="NAME", help="The method in question; may be repeated. Default: all others."),
    ] = None,
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better/--lower-is-better", help="What the metric's best values are.")
    ] = True,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Equal seeds of two methods have nothing in common but their name.")
    ] = False,
    common: Annotated[
        bool, typer.Option("--common", help="Compare the patients, cases and seeds that both have; leave out others.")
    ] = False,
    difference: Annotated[
        float | None,
        typer.Option("--difference", metavar="D", help="Say how many seeds and patients would show a difference of D."),
    ] = None,
    json: Json = False,
) -> None:
    """Say whether A would beat B again, trained anew and tested on new patients, and how sure that is.

    Example: medkit verdict values.csv --a pretrained --b scratch
    """
    from medkit.evaluation.verdict import verdicts

    paired = False if unpaired else None
    found = verdicts(table, b, a or (), higher_is_better=higher_is_better, paired=paired, common=common)
    plans = [_plan(one, difference) for one in found]
    if json:
        plain = [one.json() | ({"designs": plan} if plan else {}) for one, plan in zip(found, plans, strict=True)]
        show_json(plain[0] if a is not None and len(a) == 1 else plain)
        return
    for one, plan in zip(found, plans, strict=True):
        print(" ".join([one.sentence, *one.notes]))
        if plan:
            rows = [(row["seeds"], row["patients"] or "no number is enough") for row in plan]
            show_table(["seeds", "patients"], rows, f"to show a difference of {difference:g}")


def _plan(verdict: Verdict, difference: float | None) -> list[dict[str, Any]]:
    """Seeds and patients that a difference needs; [] if none is asked for."""
    from dataclasses import asdict

    from medkit.evaluation.verdict_power import designs

    return [] if difference is None else [asdict(design) for design in designs(verdict.spread, difference)]
