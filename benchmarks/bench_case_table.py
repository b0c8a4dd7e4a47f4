"""Time to write, merge, read and compare ``cases.csv`` with many variants; it should be proportional to their number.

Writes benchmarks/results/ratio-case_table.json. Each variant has two test sets of 400 cases with six metrics.

python benchmarks/bench_case_table.py [--variants 20] [--rounds 5]
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from medkit_benchmarks import script

from medkit.bench.ratio import Ratio, save, take_turns
from medkit.evaluation.case_table import CaseTable, merge_cases, write_cases
from medkit.evaluation.comparisons import compare_variants

SPLITS, CASES = ("internal", "external"), 400
METRICS = ("dice", "fpv", "hd95", "assd", "sensitivity", "ppv")
REPORT = {"compare": {"test": "paired_t", "metric": ["dice"]}}


def lines(stage: str, split: str) -> list[dict[str, Any]]:
    numbers = np.random.default_rng(len(stage)).random((CASES, len(METRICS)))
    known = {"stage": stage, "split": split, "center": "A"}
    return [
        {**known, "case": f"c{i}", "patient": f"p{i}", **dict(zip(METRICS, row.tolist(), strict=True))}
        for i, row in enumerate(numbers)
    ]


def write(stages: list[str]) -> None:
    """What a run does: one evaluation after another, and the merge at its end."""
    with tempfile.TemporaryDirectory() as name:
        for stage in stages:
            for split in SPLITS:
                write_cases(Path(name), stage, split, lines(stage, split))
        merge_cases(Path(name))


def read(folder: Path, stages: list[str]) -> None:
    """What a report does: every variant against the stage, and the numbers of each for its pictures."""
    table = CaseTable.of_folder(folder)
    compare_variants(stages, SPLITS, table, REPORT)
    for stage in stages:
        for split in SPLITS:
            table.scores(stage, split, "fpv")


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    few, many = arguments.variants, 4 * arguments.variants
    stages = {f"{count} variants": ["s", *(f"s@v{i}" for i in range(count - 1))] for count in (many, few)}
    wide, narrow = stages
    note = f"{len(SPLITS)} test sets of {CASES} cases with {len(METRICS)} metrics; {wide} against {narrow}."
    with tempfile.TemporaryDirectory() as name:
        folders = {way: Path(name) / way for way in stages}
        for way, folder in folders.items():
            folder.mkdir()
            for stage in stages[way]:
                for split in SPLITS:
                    write_cases(folder, stage, split, lines(stage, split))
            merge_cases(folder)
        found = []
        for what, ways in (
            ("cases.csv: written", {way: partial(write, stages[way]) for way in stages}),
            ("cases.csv: read and compared", {way: partial(read, folders[way], stages[way]) for way in stages}),
        ):
            times = take_turns(ways, arguments.rounds, "cpu")
            found.append(Ratio.of(what, times, wide, narrow, at_most=5.0, note=note))
        save("case_table", found)


if __name__ == "__main__":
    main()
