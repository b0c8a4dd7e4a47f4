"""Results as rows for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from medkit.bench.results import CaseResult, Results, TargetResult, VariantResult, replace
from medkit.errors import InputError

COLUMNS = ("variant", "ms", "quartiles", "speed", "quartiles", "error", "peak MB", "GFLOP/s", "GB/s", "roofline")


def rows(case: CaseResult) -> list[tuple[str, ...]]:
    """One row per variant that ran or failed, for ``COLUMNS``; ``speed`` is relative to the reference."""
    told = [variant for variant in case.variants if variant.seconds is not None or variant.status == "failed"]
    return [_row(variant, variant.name == case.reference) for variant in told]


def notes(case: CaseResult) -> list[str]:
    """What is said below a table: what failed, why other variants did not run, pages mapped, what variants say."""
    found = [f"FAILED: {case.reason}"] * (case.status == "failed")
    found += [
        f"{variant.name} was not run: {variant.reason}" for variant in case.variants if variant.status == "skipped"
    ]
    faults = [f"{v.name}: {v.faults:,.0f}" for v in case.variants if v.faults is not None]
    found += [f"memory pages mapped in a call: {'; '.join(faults)}"] * bool(faults)
    return found + [f"{variant.name}: {variant.remark}" for variant in case.variants if variant.remark]


def _row(v: VariantResult, reference: bool) -> tuple[str, ...]:
    error = "" if v.error is None else f"{v.error:.1e}"
    if v.flips:
        error += f" ({v.flips} flips)" if v.flips > 1 else " (1 flip)"
    if v.seconds is None or v.speed is None:
        return (v.name, "failed", "", "", "", error, *[""] * 4)
    low, middle, high = (1e3 * value for value in v.seconds)
    memory = "" if v.memory is None else _number(v.memory / 1e6)
    if v.memory_share is not None and not reference:
        memory += f" ({v.memory_share:.2f}x)"
    return (
        v.name,
        _number(middle),
        f"{_number(low)}-{_number(high)}",
        "1" if reference else f"{v.speed[1]:.2f}x",
        "" if reference else f"{v.speed[0]:.2f}-{v.speed[2]:.2f}",
        error,
        memory,
        "" if v.flops_per_s is None else _number(v.flops_per_s / 1e9),
        "" if v.bytes_per_s is None else _number(v.bytes_per_s / 1e9),
        "" if v.roofline_share is None else f"{100 * v.roofline_share:.0f} %",
    )


def target_rows(results: Results) -> list[tuple[str, str, str, str, str]]:
    """Case, variant, promise, what was found, and whether it is met."""
    told = {True: "met", False: "not met", None: "not judged here"}
    return [
        (
            f"{case.suite}: {case.name}",
            target.variant,
            target.text,
            _found(target),
            told[target.met],
        )
        for case in results.cases
        for target in case.targets
    ]


def _found(target: TargetResult) -> str:
    if target.found is None:
        return ""
    return f"{target.found:.1e}" if target.quantity == "error" else f"{target.found:.2f}"


def markdown(results: Results, promised: bool = False) -> str:
    """The targets and every table; with ``promised``, only the tables of cases that have targets."""
    about = results.environment
    lines = [
        f"Measured {about['measured']} on {about['device']} ({about['cores']} cores; threads used: {about['threads']}"
        f"), torch {about['libraries']['torch']}; "
        + ", ".join(f"{name} {value / 1e9:.3g}e9" for name, value in results.roofline.items())
        + ".",
        "",
    ]
    if any(case.targets for case in results.cases):
        lines += table(("case", "variant", "target", "found", ""), target_rows(results))
    for case in results.cases:
        if promised and not case.targets:
            continue
        kind = "relative" if case.relative else "largest absolute"
        lines += [f"**{case.suite}: {case.name}** ({kind} error at most {case.tolerance:g})", ""]
        lines += table(COLUMNS, rows(case))
        for note in notes(case):
            lines += [note + ".", ""]
    return "\n".join(lines)


def fill(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the lines ``<!-- bench NAME -->`` and ``<!-- end -->`` of a Markdown page.

    Raises
    ------
    InputError
        if the page has no such lines.
    """
    begin, end = f"<!-- bench {name} -->\n", "<!-- end -->"
    content = page.read_text("utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise InputError(f"the page has no lines '{begin.strip()}' and '{end}'", str(page))
    replace(page, f"{before}{begin}{text.rstrip()}\n{end}{after}")


def table(columns: Sequence[str], content: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, with an empty one at the end."""
    bars = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*bars, *(f"| {' | '.join(row)} |" for row in content), ""]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
