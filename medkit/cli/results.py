"""``medkit runs``, ``evaluate``, ``report`` and ``compare``: what finished runs have measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, Devices, Json, PluginFile, RunDir, check_run
from medkit.cli.output import show_json, show_table
from medkit.cli.ranks import given, load_files_together, place_here, repeated, stoppable
from medkit.errors import InputError
from medkit.paths import typed

if TYPE_CHECKING:
    from medkit.evaluation.results import MetricValue
    from medkit.runs.folder import RunFolder

Key = tuple[str, str, str]
Results = Mapping[str, Mapping[str, Mapping[str, "MetricValue"]]]


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the runs are.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List the runs below a folder, latest first: recipe, how far each has got, a first number.

    Example: medkit runs
    """
    from medkit.runs.listing import FAILED, UNFINISHED, listed

    if not folder.is_dir():
        raise InputError("there is no such folder", str(folder), "'medkit run RECIPE' puts runs into runs/")
    found = listed(folder)
    if json:
        return show_json([one.json() for one in found])
    if not found:
        raise InputError("there is no run in or below it", str(folder), "'medkit run RECIPE --out FOLDER' makes one")
    columns = ("run", "recipe", "status", "stages", "started", "device", "result")
    rows = [
        (one.folder, one.recipe, one.status, f"{one.done} of {one.stages}", one.started, one.device, one.result)
        for one in found
    ]
    show_table(columns, rows)
    if left := [one for one in found if one.status in (FAILED, UNFINISHED)]:
        print(f"'medkit resume {typed(left[0].folder)}' continues it; 'medkit report DIR' shows what is there")


def evaluate(
    folder: RunDir,
    split: Annotated[str, typer.Option("--split", help="A split of the stage's data; with --data, a new name.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Default: every stage.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Test the cases of this manifest instead.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="NAME", help="With --data: equal patient names there are other people."),
    ] = None,
    allow_seen: Annotated[
        str | None,
        typer.Option("--allow-seen", metavar="REASON", help="Why patients seen in training may be tested."),
    ] = None,
    devices: Devices = 1,
    device: Device = None,
    plugin: PluginFile = None,
    json: Json = False,
) -> None:
    """Evaluate a finished run on one split and add the numbers to its results.

    With --data, the cases are those of a manifest that came after the run, such as another hospital's, with the same
    columns; --split is then the name for their results. Patients or images that were seen in training are refused.

    With --devices N, N ranks share the cases, on CPU cores too; the numbers are the same as with one.

    Example: medkit evaluate runs/first --split external1

    Example: medkit evaluate runs/first --data hospital_b.csv --split hospital_b
    """
    with stoppable("the same command measures again"):
        here = place_here(devices)
        if here.world_size == 1:  # of several ranks, one says it later
            check_run(folder)
        load_files_together(here, plugin, device)
        if devices > 1:
            from medkit.engine.launch import launch

            words = [*given("--stage", stage), *given("--allow-seen", allow_seen), *given("--device", device)]
            words += [*given("--data", data), *given("--space", space)]
            words += [*repeated("--plugin", plugin), *(["--json"] if json else [])]
            launch(devices, ["evaluate", str(folder), "--split", split, *words])
            return
        from medkit.reporting.tables import SEEN_MARK
        from medkit.runs.measure import evaluate_again
        from medkit.runs.new_cases import NewCases
        from medkit.runs.seen import banners

        if data is None and space is not None:
            raise InputError("--space is for patients of new cases", "--space", "give their manifest with --data")
        new = None if data is None else NewCases(data, space)
        found = evaluate_again(folder, split, stage=stage, device=device, allow_seen=allow_seen, new=new)
        if not here.is_main:
            return
        if json:
            show_json({e.stage: {name: value.json() for name, value in e.values.items()} for e in found})
            return
        rows = [_line(e.stage, name, value) for e in found for name, value in e.values.items()]
        show_table(["stage", "metric", "value", "95 % interval", "counted", "empty"], rows, split)
        for text in banners(folder):
            print(f"{SEEN_MARK} {text}")
        print(f"'medkit report {typed(folder)}' writes the report again, with these numbers")


def _line(stage: str, metric: str, value: MetricValue) -> tuple[Any, ...]:
    """What the table of an evaluation says of one metric."""
    from medkit.reporting.tables import SEEN_MARK

    mark = SEEN_MARK if value.seen else ""
    number = f"{value.value:.4g}{mark}" if math.isfinite(value.value) else "undefined"
    interval = f"{value.low:.4g} to {value.high:.4g}" if math.isfinite(value.low) else value.method or "no interval"
    return stage, metric, number, interval, value.counts, value.n_empty


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders.")],
    json: Json = False,
    plugin: PluginFile = None,
) -> None:
    """Write the report of one or more runs again, each into its own folder, and print the tables of their recipes.

    Example: medkit report runs/first
    """
    from medkit.cli.paper_tables import show_paper_table
    from medkit.reporting.paper_table_text import as_json
    from medkit.reporting.paper_tables import paper_tables
    from medkit.reporting.report import write_report
    from medkit.reporting.run_results import RunResults
    from medkit.runs.folder import RunFolder

    load_files(plugin)
    found = []
    for folder in folders:
        path = write_report(RunFolder.open(folder).path)
        tables = paper_tables(RunResults.read(folder))
        found.append({"report": str(path), "tables": [as_json(table) for table in tables]})
        if not json:
            for table in tables:
                show_paper_table(table)
            print(path)
    if json:
        show_json(found)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Two or more run folders.")],
    json: Json = False,
) -> None:
    """Set the results of several runs side by side, and say where cases or a metric's arguments differ.

    Example: medkit compare runs/first runs/second
    """
    import sys

    from medkit.evaluation import files
    from medkit.evaluation.case_table import CaseTable
    from medkit.evaluation.metric_arguments import otherwise
    from medkit.evaluation.results import read_results
    from medkit.evaluation.same_cases import cases_of, different
    from medkit.runs.folder import RunFolder

    if len(folders) < 2:
        raise InputError("two or more run folders are needed to compare")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run folder is given twice", hint="name each run once")
    opened = {str(folder): RunFolder.open(folder, plugins=False) for folder in folders}
    results = {name: read_results(folder.path) for name, folder in opened.items()}
    runs = {name: _flat(results[name], folder) for name, folder in opened.items()}
    keys = list(dict.fromkeys(key for values in runs.values() for key in values))
    short = [folder.name for folder in folders]
    names = dict(zip(opened, short if len(set(short)) == len(short) else opened, strict=True))
    cases = {names[name]: cases_of(CaseTable.of_folder(folder.path)) for name, folder in opened.items()}
    notes = [f"{note}; numbers from different cases do not compare methods" for note in different(cases)]
    notes += otherwise({names[n]: (files.read_recipe(f.path), _metrics(results[n])) for n, f in opened.items()})
    if json:
        show_json(
            {
                name: {"/".join(key): values[key].json() for key in keys if key in values}
                for name, values in runs.items()
            }
        )
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        return
    rows = [(*key, *(_told(values.get(key)) for values in runs.values())) for key in keys]
    show_table(["stage", "split", "metric", *names.values()], rows)
    for note in notes:
        print(f"note: {note}")


def _metrics(results: Results) -> dict[str, list[str]]:
    """The names of what was measured of each stage."""
    return {
        stage: list(dict.fromkeys(name for values in splits.values() for name in values))
        for stage, splits in results.items()
    }


def _flat(results: Results, folder: RunFolder) -> dict[Key, MetricValue]:
    """A run's values by stage, split and metric."""
    from medkit.runs.new_cases import labels

    told = labels(folder)
    return {
        (stage, told.get((stage, split), split), metric): value
        for stage, splits in results.items()
        for split, values in splits.items()
        for metric, value in values.items()
    }


def _plain(values: Mapping[Key, MetricValue], keys: Sequence[Key]) -> dict[str, Any]:
    return {"/".join(key): values[key].json() for key in keys if key in values}


def _told(value: MetricValue | None) -> str:
    from medkit.reporting.tables import SEEN_MARK

    return "-" if value is None else value.told(SEEN_MARK if value.seen else "")
