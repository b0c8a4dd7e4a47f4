"""What a reader of a table has to know: which tests against which row, how many cases, what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medkit.data.transforms import Window
from medkit.evaluation.bootstrap import FEW, FEWEST
from medkit.evaluation.comparisons import Comparison
from medkit.reporting.paper_table_model import Line, PaperTable
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import SEEN_MARK

PIXELS = ("psnr", "ssim", "rmse", "rmse_hu")
MEMORY = {
    "process": "the process's peak, libraries included",
    "cuda": "the peak of the GPU's allocator",
    "children": "the peak of the program that trains it",
}


def caption(table: PaperTable, run: RunResults, compared: Sequence[Comparison], comparable: bool) -> list[str]:
    """Sentences for below the table, the most important first.

    Parameters
    ----------
    compared:
        Every test the report makes for the stage; ``comparable`` is False for rows on different data.
    """
    failed = run.failed
    lines = [*run.banners.get(table.stage, ()), *run.later.get(table.stage, ()), *run.notices]
    if any(cell is not None and cell.seen for line in table.rows for cell in line.cells):
        lines.append(f"{SEEN_MARK} On patients who were seen in training.")
    gone = [line for line in table.rows if line.status]
    lines += [f"{line.name} failed: {_end(failed[line.stage])}" for line in gone if line.stage in failed]
    if unfinished := [line.name for line in gone if line.stage not in failed]:
        lines.append(f"Not finished: {', '.join(unfinished)}.")
    lines.append("In brackets: 95 % intervals, by patients; [–]: none.")
    lines += _few(table)
    lines += _counts(table)
    lines += _window(table, run)
    if not comparable:
        lines.append("The rows are on different data, so none is marked best and none is tested against another.")
    else:
        lines += _tests(table, compared)
    if any(not column.split for column in table.columns):
        lines.append(
            "Average: the plain mean over the test sets, with equal weights whatever their sizes. It has no interval; "
            "a test split over all centres has one."
        )
    if table.cost:
        lines += _cost(table, run)
    return lines


def _end(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else text + "."


def _few(table: PaperTable) -> list[str]:
    """Which test sets have so few patients that their intervals mean little or do not exist."""
    fewest: dict[str, int] = {}
    for i, column in enumerate(table.columns):
        known = [cell.n_patients for line in table.rows if (cell := line.cells[i]) and cell.n_patients]
        if column.split and known:
            fewest[column.group] = min([fewest.get(column.group, known[0]), *known])
    few = [f"{group} ({count})" for group, count in fewest.items() if count < FEW]
    if not few:
        return []
    return [
        f"Few patients: {_and(few)}. Under {FEW} an interval means little, under {FEWEST} there is none, nor a test."
    ]


def _counts(table: PaperTable) -> list[str]:
    """Cases and patients behind each number: once per test set, or per metric where they differ."""
    texts = []
    for group in dict.fromkeys(column.group for column in table.columns if column.split):
        found: dict[str, tuple[list[int], list[int]]] = {}
        for i, column in enumerate(table.columns):
            cells = [cell for line in table.rows if (cell := line.cells[i]) and not line.reference]
            if column.group == group and cells:
                found[column.label] = (
                    sorted({c.n for c in cells}),
                    sorted({c.n_patients for c in cells if c.n_patients}),
                )
        each = {label: _range(*counts) for label, counts in found.items()}
        if len(set(each.values())) == 1:
            texts.append(f"{group}: {next(iter(each.values()))}")
        elif each:
            texts.append(f"{group}: {', '.join(f'{label} {text}' for label, text in each.items())}")
    return [f"{_counted(table).capitalize()}: {'; '.join(texts)}."] if texts else []


def _counted(table: PaperTable) -> str:
    """What the numbers count: cases, slices, or one in some rows and the other in others."""
    measured = [cell for line in table.rows for cell in line.cells if cell is not None and cell.n]
    return " or ".join(dict.fromkeys(cell.counted for cell in measured)) or "cases"


def _range(counts: Sequence[int], patients: Sequence[int]) -> str:
    n, those = (f"{c[0]} to {c[-1]}" if len(c) > 1 else f"{c[0]}" if c else "" for c in (counts, patients))
    return f"n = {n} of {those} patient{'s' if those != '1' else ''}" if those else f"n = {n}"


def _window(table: PaperTable, run: RunResults) -> list[str]:
    """The window and data range in which images were compared, for pixel metrics."""
    columns = [column for column in table.columns if column.metric in PIXELS]
    labels = list(dict.fromkeys(column.label for column in columns))
    block = next(iter(run.blocks([table.stage, *(line.stage for line in table.rows)]).values()), {})
    steps = run.recipe.get("data", {}).get(block.get("data"), {}).get("prepare") or []
    windows = [step for step in steps if str(step.get("use", "")).rpartition(":")[2] == "window"]
    if not labels or len(windows) != 1:
        return []  # with several windows, or none, it is unknown in which an image was compared
    low, high = (f"{windows[0].get(end, getattr(Window, end)):g}" for end in ("low", "high"))
    unit = "HU" if windows[0].get("units", "HU") == "HU" else "stored values"
    text = f"of whole slices, air included, in the window of {low} to {high} {unit} scaled to [0, 1]; data range 1"
    return [f"{_and(labels)}: {text}."]


def _tests(table: PaperTable, compared: Sequence[Comparison]) -> list[str]:
    labels = {(column.split, column.metric): column.label for column in table.columns if column.split}
    tested = {labels[c.split, c.metric]: c.test.name for c in compared if (c.split, c.metric) in labels}
    if not tested:
        return ["No column is tested."]
    name = next((line.name for line in table.rows if line.stage == table.stage), table.stage)
    counted = _counted(table)
    by: dict[str, list[str]] = {}
    for label, test in tested.items():
        by.setdefault(test, []).append(label)
    tests = "; ".join(f"{test} for {_and(columns)}" for test, columns in by.items())
    lines = [
        f"Stars compare with {name} on the {counted} both have ({tests}): * p < 0.05, ** p < 0.01, *** p < 0.001 after "
        f"Holm's correction for all {len(compared)} comparisons of this stage."
    ]
    if undefined := [c.test.why for c in compared if math.isnan(c.p_holm)]:
        why = "; ".join(dict.fromkeys(filter(None, undefined)))
        lines.append(f"{len(undefined)} of them are not defined" + (f": {why}." if why else "."))
    if rest := [label for label in dict.fromkeys(labels.values()) if label not in tested]:
        lines.append(f"Not tested: {_and(rest)}.")
    if any(c.clustered for c in compared):
        lines.append(f"Some patients have several {counted}: patients are tested, not {counted}.")
    return lines


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _cost(table: PaperTable, run: RunResults) -> list[str]:
    measured = [line for line in table.rows if line.seconds is not None or line.peak_mb is not None]
    if not measured:
        return ["Time and memory were not measured."]
    kinds: dict[str, list[Line]] = {}
    for line in measured:
        kinds.setdefault(run.costs[line.stage].get("memory", ""), []).append(line)
    texts = []
    for kind, lines in kinds.items():
        if kind in MEMORY:
            of = "" if len(kinds) == 1 else f" ({_and(line.name for line in lines)})"
            texts.append(MEMORY[kind] + of)
    text = "Time is that of training"
    blocks = run.blocks([line.stage for line in measured])
    if any(_takes(block.get("objective")) for block in blocks.values()):
        text += " this stage alone, without the earlier stages that parts are taken from"
    return [f"{text}; memory is {'; '.join(texts)}." if texts else f"{text}."]


def _takes(value: Any) -> bool:
    """Whether an objective takes a part of an earlier stage."""
    if isinstance(value, Mapping):
        return "from" in value or any(_takes(item) for item in value.values())
    return isinstance(value, list) and any(_takes(item) for item in value)
