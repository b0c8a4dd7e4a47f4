"""``medkit bench``: variants of the heavy operators, checked against each other and measured."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkit.cli.output import show_json, show_table
from medkit.errors import InputError, RunError

if TYPE_CHECKING:
    from medkit.bench.results import Results


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help="fftconv, spectral, conv3d, volume, pcgrad, data, metrics, step, ...; default: all."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest sizes only: seconds instead of minutes.")
    ] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="TEXT", help="Cases with this in their name.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="In place of each case's own number.")] = None,
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
        float, typer.Option("--fail-above", min=1.0, help="With --compare: the time ratio that counts as a failure.")
    ] = 1.10,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Plot time against size.")] = None,
    markdown: Annotated[
        str | None, typer.Option("--markdown", metavar="NAME", help="Print saved results as Markdown; measure nothing.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="PAGE", help="With --markdown: write what has targets into this page."),
    ] = None,
    results: Annotated[Path, typer.Option("--results", metavar="DIR", help="Where results are saved.")] = Path(
        "benchmarks/results"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check variants of an operator against each other, then measure time, memory and share of the roofline.

    Every variant of a case has to match the result of the first one, or of one in double precision, before it is timed;
    then all take turns in one process. A failure is a row that says why, all others are kept, and the exit code is 1.
    'speed' is the first one's time over a variant's: quartiles on both sides of 1 show no difference.
    What each suite compares, and how to read a table, is in docs/benchmarks.md.

    Example: medkit bench fftconv --quick

    \b
    Some cases of two suites:             medkit bench conv3d volume --only 256x256
    Save what this machine does:          OMP_NUM_THREADS=1 medkit bench all --save before
    Fail where a change made it slower:   OMP_NUM_THREADS=1 medkit bench all --compare before --fail-above 1.10
    """
    from medkit.bench import results as saved
    from medkit.bench.device import place as chosen
    from medkit.bench.runner import choose, run
    from medkit.bench.session import Session
    from medkit.bench.table import fill
    from medkit.bench.table import markdown as as_markdown

    place = chosen(device)
    if markdown is not None:
        text = as_markdown(saved.read(saved.path_of(results, markdown, place)), promised=into is not None)
        print(text) if into is None else fill(into, markdown, text)
        return
    wanted = choose(suites or [])
    earlier = saved.read(saved.path_of(results, compare, place)) if compare is not None else None
    if earlier is not None:
        for change in saved.comparable(saved.environment(place, []), earlier.environment):
            print(f"note: {change} when '{compare}' was saved", file=sys.stderr)
    path = saved.path_of(results, save, place) if save is not None else None
    session = Session(
        place, quick, only, rounds, memory=memory, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    keep = partial(saved.write, path=path) if path is not None else None
    found = run(wanted, session, keep)
    if json:
        from dataclasses import asdict

        show_json(asdict(found))
    else:
        _show(found)
    _keep(found, path, plot)
    if found.failures:
        for failure in found.failures:
            print(f"error: {failure}", file=sys.stderr)
        raise RunError(f"failures: {len(found.failures)}, listed above")
    if earlier is not None:
        worse, compared = saved.slower(found, earlier, fail_above)
        if worse:
            what = "; ".join(f"{name}: {ratio:.2f} times its time" for name, ratio in worse)
            raise RunError(f"{len(worse)} of {compared} variants are slower than in '{compare}': {what}")
        print(
            f"none of {compared} variants takes more than {fail_above:g} times its time in '{compare}'", file=sys.stderr
        )


def _show(found: Results) -> None:
    from medkit.bench.table import COLUMNS, notes, rows, target_rows

    for case in found.cases:
        show_table(COLUMNS, rows(case), f"{case.suite}: {case.name}")
        for note in notes(case):
            print(note)
    if targets := target_rows(found):
        show_table(["case", "variant", "target", "found", ""], targets, "targets")
    for name, value in found.roofline.items():
        print(f"the roof here: {value / 1e9:.3g}e9 {name}")


def _keep(found: Results, path: Path | None, plot: Path | None) -> None:
    from medkit.bench.plot import plot as draw
    from medkit.bench.results import write

    if path is not None:
        print(f"saved: {write(found, path)}", file=sys.stderr)
        draw(found, path.with_suffix(".png"))
    if plot is not None and not draw(found, plot):
        raise InputError("there is nothing to plot: no group of cases has two sizes", str(plot), "leave out --quick")
