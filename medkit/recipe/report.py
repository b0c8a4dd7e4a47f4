"""The ``report`` block: which splits, tests and tables; names are checked against the stages above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated

from annotated_types import Ge

from medkit.errors import did_you_mean
from medkit.recipe.blocks import Block
from medkit.recipe.model import DataBlock, Stage, evaluated_splits
from medkit.recipe.pieces import Pieces, kind_of, names_there
from medkit.recipe.report_model import Report, WantedTable
from medkit.recipe.stress import read_stress
from medkit.recipe.values import SEPARATOR
from medkit.recipe.yaml import Node

TESTS = ("paired_t", "wilcoxon", "delong", "bootstrap")
REFERENCES = ("input", "target")


def read_report(pieces: Pieces, node: Node, data: Mapping[str, DataBlock], stages: Sequence[Stage]) -> Report:
    """Check the block; problems go to ``pieces``."""
    report = Report()
    if node.value is None:
        return report
    entries = pieces.mapping(node, "report", [f.name for f in fields(Report)])
    entries = {key: child for key, child in entries.items() if child.value is not None}
    known = [name for block in data.values() for name in block.splits]
    if "splits" in entries:
        report.splits = pieces.value(entries["splits"], "report.splits", list[str]) or []
        for split in report.splits:
            if known and split not in known:  # that no block has splits is reported there
                what = f"no split is named '{split}'"
                pieces.problem(entries["splits"].mark, "report.splits", what, names_there(split, known))
    if "compare" in entries:
        compare = pieces.mapping(entries["compare"], "report.compare", ("test", "metric"))
        if "test" in compare:
            test = report.compare["test"] = compare["test"].value
            if test not in TESTS:
                what, hint = f"no test is named '{test}'", names_there(str(test), TESTS)
                pieces.problem(compare["test"].mark, "report.compare.test", what, hint)
        if compare:
            report.compare["metric"] = _compared(pieces, entries["compare"], compare.get("metric"), stages)
    if "maps" in entries:
        maps = pieces.mapping(entries["maps"], "report.maps", ("cases",))
        report.maps = {
            key: pieces.value(child, f"report.maps.{key}", Annotated[int, Ge(0)]) for key, child in maps.items()
        }
    if "allow_seen" in entries:
        report.allow_seen = _allowed(pieces, entries["allow_seen"], known)
    if "own_data" in entries:
        report.own_data = pieces.value(entries["own_data"], "report.own_data", Annotated[int, Ge(1)])
    if "stress" in entries:
        report.stress = read_stress(pieces, entries["stress"], data, stages, report.splits)
    if "tables" in entries:
        _tables(pieces, entries["tables"], report, data, stages)
    return report


def _compared(pieces: Pieces, block: Node, node: Node | None, stages: Sequence[Stage]) -> list[str]:
    """The metrics to compare, each of which has to belong to some stage."""
    path = "report.compare.metric"
    names = [] if node is None else pieces.value(node, path, list[str]) or []
    if not names:
        pieces.problem((node or block).mark, path, "names no metric, so nothing would be compared", "such as [auc]")
    known = list(dict.fromkeys(_metrics(stages)))
    for i, name in enumerate(names):
        if node is not None and not _is_known(name, known, "_"):
            what, hint = f"no metric of a stage is named '{name}'", names_there(name, known)
            pieces.problem(node.value[i].mark, path, what, hint)
    return names


def _is_known(name: str, known: Iterable[str], suffix: str = "") -> bool:
    """With ``suffix`` longer names are known too."""
    return any(name == k or (suffix and name.startswith(k + suffix)) for k in known)


def _tables(pieces: Pieces, node: Node, report: Report, data: Mapping[str, DataBlock], stages: Sequence[Stage]) -> None:
    for i, child in enumerate(pieces.items(node, "report.tables")):
        path = f"report.tables[{i}]"
        wanted = _table(pieces, child, path, report.splits, data, stages)
        if wanted is None:
            continue
        if any(wanted.slug == other.slug for other in report.tables):
            what = f"two tables would be written as '{wanted.slug}'"
            pieces.problem(child.value["title"].mark, f"{path}.title", what, "give each a title of its own")
        report.tables.append(wanted)


def _table(
    pieces: Pieces,
    node: Node,
    path: str,
    splits: Sequence[str],
    data: Mapping[str, DataBlock],
    stages: Sequence[Stage],
) -> WantedTable | None:
    entries = pieces.mapping(node, path, [f.name for f in fields(WantedTable)], ("title", "stage"))
    if "title" not in entries or "stage" not in entries:
        return None
    title = pieces.value(entries["title"], f"{path}.title", str)
    name = pieces.value(entries["stage"], f"{path}.stage", str)
    if title is None or name is None:
        return None
    group = [stage for stage in stages if stage.name.split(SEPARATOR)[0] == name]
    if not group:
        names = list(dict.fromkeys(stage.name.split(SEPARATOR)[0] for stage in stages))
        hint = "a table has all variants of a stage; name the stage" if SEPARATOR in name else names_there(name, names)
        pieces.problem(entries["stage"].mark, f"{path}.stage", f"no stage is named '{name}'", hint)
        return None
    labels = [stage.name.partition(SEPARATOR)[2] or name for stage in group]
    rows = _names(pieces, entries.get("rows"), f"{path}.rows", "row", [*labels, *REFERENCES])
    metrics = _names(pieces, entries.get("metrics"), f"{path}.metrics", "metric of the stage", _metrics(group), "_")
    splits_there = [split for stage in group for split in evaluated_splits(stage, stages, data, splits)]
    tested = _names(pieces, entries.get("splits"), f"{path}.splits", "evaluated split", splits_there)
    flags = {
        key: bool(pieces.value(entries[key], f"{path}.{key}", bool)) for key in ("average", "cost") if key in entries
    }
    return WantedTable(title, name, rows, metrics, tested, **flags)


def _names(
    pieces: Pieces, node: Node | None, path: str, kind: str, known: Iterable[str], suffix: str = ""
) -> dict[str, str]:
    """A list of names, or a mapping of name to what is printed; each has to be ``known``.

    With ``suffix`` longer names are known too: a metric may call itself ``rmse_hu`` where the recipe says ``rmse``.
    """
    if node is None or node.value is None:
        return {}
    if isinstance(node.value, list):
        found = {str(child.value): (str(child.value), child) for child in node.value}
    elif isinstance(node.value, dict):
        found = {}
        for key, child in node.value.items():
            printed = pieces.value(child, f"{path}.{key}", str)
            found[key] = (key if printed is None else printed, child)
    else:
        pieces.problem(
            node.place, path, f"a list, or a mapping of name to printed name, is expected here, not {kind_of(node)}"
        )
        return {}
    known = list(dict.fromkeys(known))
    for name, (_, child) in found.items():
        if not _is_known(name, known, suffix):
            hint = did_you_mean(name, known) or f"there are: {', '.join(known)}"
            pieces.problem(child.place, path, f"no {kind} is named '{name}'", hint)
    return {name: printed for name, (printed, _) in found.items()}


def _metrics(group: Sequence[Stage]) -> list[str]:
    return [metric.entry.name for stage in group for metric in stage.metrics if isinstance(metric, Block)]


def _allowed(pieces: Pieces, node: Node, known: Sequence[str]) -> str | dict[str, str] | None:
    """``allow_seen``: a reason, or one for each split."""
    path = "report.allow_seen"
    found: str | dict[str, str] | None = pieces.value(node, path, str | dict[str, str] | None)
    for split in found if isinstance(found, dict) else ():
        if split not in known:
            place = node.value[split].place
            pieces.problem(place, path, f"no split is named '{split}'", names_there(split, known))
    reasons = found.values() if isinstance(found, dict) else [found]
    if any(reason is not None and not reason.strip() for reason in reasons):
        pieces.problem(node.place, path, "no reason is given", "say why; the reason is printed above the results")
    return found
