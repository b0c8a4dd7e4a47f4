"""``medkit bench``: variants of the heavy operators, checked against each other and measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkit.cli.output import show_json, show_table
from medkit.errors import InputError, RunError

if TYPE_CHECKING:
    from medkit.bench.results import Results

WIDTH = 120  # of a table that goes to a file


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help="fftconv, spectral, conv3d, volume, pcgrad, data, metrics, step, ...; default: all."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest sizes only: seconds instead of minutes.")
    ] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="TEXT", help="Cases with this in their name.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Instead of each case's own number.")] = None,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory.")] = True,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda; default: cuda when there is one.")
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="NAME", help="Keep the results as JSON and PNG.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="NAME", help="Compare with saved results of this device.")
    ] = None,
    fail_above: Annotated[
        float, typer.Option("--fail-above", min=1.0, help="With --compare: the time ratio that is a failure.")
    ] = 1.10,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Draw time over size.")] = None,
    markdown: Annotated[
        str | None, typer.Option("--markdown", metavar="NAME", help="Print saved results as Markdown; measure nothing.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="PAGE", help="With --markdown: fill what has targets into this page."),
    ] = None,
    results: Annotated[Path, typer.Option("--results", metavar="DIR", help="Where results are saved.")] = Path(
        "benchmarks/results"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check variants of an operator against each other, then measure time, memory and share of the roofline.

    Example: medkit bench fftconv --quick
    """
    import torch

    from medkit.bench import results as saved
    from medkit.bench.runner import choose, run
    from medkit.bench.session import Session
    from medkit.bench.table import fill
    from medkit.bench.table import markdown as as_markdown

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("no CUDA device was found", hint="use --device cpu")
    place = torch.device(name)
    if markdown is not None:
        text = as_markdown(saved.read(saved.path_of(results, markdown, place)), promised=into is not None)
        print(text) if into is None else fill(into, markdown, text)
        return
    earlier = saved.read(saved.path_of(results, compare, place)) if compare is not None else None
    path = saved.path_of(results, save, place) if save is not None else None
    session = Session(
        place, quick, only, rounds, memory=memory, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    found = run(choose(suites or []), session)
    if json:
        from dataclasses import asdict

        show_json(asdict(found))
    else:
        _show(found)
    _keep(found, path, plot)
    if found.failures:
        for failure in found.failures:
            print(f"error: {failure}", file=sys.stderr)
        raise RunError(f"failures: {len(found.failures)}, told above")
    if earlier is not None:
        worse, compared = saved.slower(found, earlier, fail_above)
        if worse:
            what = "; ".join(f"{name}: {ratio:.2f} times its time" for name, ratio in worse)
            raise RunError(f"{len(worse)} of {compared} variants are slower than in '{compare}': {what}")
        print(
            f"none of {compared} variants takes more than {fail_above:g} times its time in '{compare}'", file=sys.stderr
        )


def _show(found: Results) -> None:
    from medkit.bench.table import COLUMNS, rows, skipped, target_rows

    for case in found.cases:
        show_table(COLUMNS, rows(case), f"{case.suite}: {case.name}", WIDTH)
        for reason in skipped(case):
            print(reason)
    if targets := target_rows(found):
        show_table(["case", "variant", "target", "found", ""], targets, "targets", WIDTH)
    for name, value in found.roofline.items():
        print(f"measured here: {value / 1e9:.3g}e9 {name}")


def _keep(found: Results, path: Path | None, plot: Path | None) -> None:
    from medkit.bench.plot import plot as draw
    from medkit.bench.results import write

    if path is not None:
        print(f"saved: {write(found, path)}", file=sys.stderr)
        draw(found, path.with_suffix(".png"))
    if plot is not None and not draw(found, plot):
        raise InputError("there is nothing to plot: no group of cases has two sizes", str(plot), "leave out --quick")
