"""Keep a run in the docs: its numbers with their origin, and a table of them made from that file.

medkit run tables/table9 --out runs/table9
python benchmarks/keep_run.py runs/table9 --as table9 --stage denoise --metrics rmse psnr ssim --into docs/tables.md
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medkit_benchmarks import script

from medkit.bench import table as markdown
from medkit.bench.table import fill
from medkit.errors import InputError, MedkitError
from medkit.evaluation.results import MetricValue
from medkit.records import encoded, write_atomically
from medkit.reporting.run_results import RunResults

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "runs"
COSTS = ("train_seconds", "peak_mb")


def path_of(name: str) -> Path:
    return RESULTS / f"{name}.json"


def keep(run: Path, name: str, shown: Mapping[str, Any], commit: str | None) -> None:
    """Write ``results/runs/NAME.json``: the run's results, costs, versions, notices, and the settings of its table."""
    if not (run / "results.json").is_file():
        raise InputError("the run has no results", str(run), f"medkit resume {run}")
    results = RunResults.read(run)
    environment = json.loads((run / "environment.json").read_text("utf-8"))
    commit = commit or subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=HERE, text=True).strip()
    made = {
        key: environment[key]
        for key in ("medkit", "python", "system", "cores", "libraries", "device", "seed", "started")
    }
    captions = [list(table.caption) for table in _tables(results)]
    content = {
        "recipe": results.recipe["name"],
        "made": made | {"commit": commit},
        "notices": environment.get("notices", []),
        "captions": captions,
        "shown": dict(shown),
        "cost": {stage: {key: cost[key] for key in COSTS if key in cost} for stage, cost in results.costs.items()},
        "results": {
            stage: {split: {metric: value.json() for metric, value in found.items()} for split, found in splits.items()}
            for stage, splits in results.results.items()
        },
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(path_of(name), encoded(json.dumps(content, indent=1) + "\n"))


def _tables(results: RunResults) -> Sequence[Any]:
    from medkit.reporting.paper_tables import paper_tables

    return paper_tables(results)


def page(found: Mapping[str, Any]) -> str:
    """The table of a kept run, with its caption and origin."""
    shown, metrics = found["shown"], found["shown"]["metrics"]
    splits = list(dict.fromkeys(split for stage in found["results"].values() for split in stage))
    wanted = shown.get("splits") or splits
    rows = []
    for stage, names in found["results"].items():
        base, _, label = stage.partition("@")
        if base != shown["stage"]:
            continue
        for split in wanted:
            if split in names:
                cells = [_cell(names[split].get(metric)) for metric in metrics]
                title = shown["rows"].get(label or base, label or base)
                place = [split] if len(wanted) > 1 else []
                rows.append(
                    (title, *place, *cells, _counted(names[split], metrics), *_cost(found["cost"].get(stage, {})))
                )
    rows += _references(found, metrics, wanted)
    heads = (
        "",
        *(["test set"] if len(wanted) > 1 else []),
        *(_head(found, metric) for metric in metrics),
        "counted",
        "training",
        "peak MiB",
    )
    made = found["made"]
    lines = markdown.table(heads, rows)
    for caption in found["captions"]:
        lines += [" ".join(line for line in caption if not line.startswith("Stars")), ""]
    lines.append(
        f"`{found['recipe']}`, seed {made['seed']}; medkit {made['medkit']} at {made['commit'][:7]}, {made['device']}, "
        f"{made['started'][:10]}."
    )
    return "\n".join(lines)


def _head(found: Mapping[str, Any], metric: str) -> str:
    value = next(v[metric] for s in found["results"].values() for v in s.values() if metric in v)
    return (
        f"{metric.upper()}{', ' + value['unit'] if value['unit'] else ''} {'↑' if value['higher_is_better'] else '↓'}"
    )


def _counted(values: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """How many rows and patients the numbers are of, with the metrics where they differ."""
    of: dict[str, list[str]] = {}
    for metric in metrics:
        if metric in values:
            of.setdefault(MetricValue.from_json(values[metric]).counts, []).append(metric.upper())
    if len(of) < 2:
        return "".join(of)
    return "; ".join(f"{', '.join(names)}: {counts}" for counts, names in of.items())


def _cell(plain: Mapping[str, Any] | None) -> str:
    if plain is None:
        return "–"
    value = MetricValue.from_json(plain)
    interval = "" if value.low != value.low else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.value:.3f}{interval}"


def _cost(cost: Mapping[str, Any]) -> tuple[str, str]:
    seconds = cost.get("train_seconds")
    time = "–" if seconds is None else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return time, f"{cost['peak_mb']:,.0f}" if cost.get("peak_mb") else "–"


def _references(found: Mapping[str, Any], metrics: Sequence[str], splits: Sequence[str]) -> list[tuple[str, ...]]:
    """The score of the input itself, where it was measured."""
    rows = []
    for split in splits:
        values = next((s[split] for s in found["results"].values() if split in s), {})
        known = [values.get(metric, {}).get("input") for metric in metrics]
        if any(value is not None for value in known):
            cells = ["–" if value is None else f"{value:.3f}" for value in known]
            rows.append(("Input", *([split] if len(splits) > 1 else []), *cells, "", "", ""))
    return rows


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run folder; without it the kept file is shown")
    parser.add_argument("--as", dest="name", required=True, help="the file's name in benchmarks/results/runs")
    parser.add_argument("--stage", help="the stage whose variants are rows")
    parser.add_argument("--metrics", nargs="+", help="the columns")
    parser.add_argument("--splits", nargs="+", help="the test sets; default: all")
    parser.add_argument("--into", type=Path, help="a page with the lines '<!-- bench run NAME -->' and '<!-- end -->'")
    parser.add_argument("--commit", help="commit of the medkit that ran it; default: that of this checkout")
    said = parser.parse_args()
    try:
        if said.run is not None:
            report = RunResults.read(said.run).tables
            rows = next((dict(table.rows) for table in report if table.stage == said.stage), {})
            shown = {"stage": said.stage, "metrics": said.metrics, "splits": said.splits or [], "rows": rows}
            keep(said.run, said.name, shown, said.commit)
        text = page(json.loads(path_of(said.name).read_text("utf-8")))
        print(text) if said.into is None else fill(said.into, f"run {said.name}", text)
    except MedkitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
