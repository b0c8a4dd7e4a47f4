"""Every image of a recipe read and prepared once: which are broken and why, and the manifest without those."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medkit.data.manifest import write_rows
from medkit.data.prepare import Failure, fill
from medkit.data.source import ManifestSource, read_table
from medkit.data.whole import whole_file
from medkit.engine.progress import Progress
from medkit.errors import InputError
from medkit.recipe import Recipe
from medkit.runs.prepare import Block, all_blocks


@dataclass
class CheckedBlock:
    """A data block whose cases were read.

    Attributes
    ----------
    before:
        How many had already been read and prepared, from files that have not changed.
    missing:
        The cases of a manifest that lack a file; they are not among the block's.
    failures:
        The cases that cannot be prepared, each with what is wrong; the missing ones first.
    """

    block: Block
    before: int
    missing: list[Failure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Cases, including the missing ones."""
        return len(self.block.cases) + len(self.missing)

    @property
    def remarks(self) -> dict[str, list[str]]:
        """What is doubtful about images, and what their reader warned of, by case."""
        return self.block.dataset.remarks.of_cases()


def check_data(recipe: Recipe, jobs: int, progress: Progress) -> list[CheckedBlock]:
    """Read and prepare the cases of all data blocks; what is prepared is kept, so that a run finds it.

    Parameters
    ----------
    jobs:
        Processes that read.

    Raises
    ------
    InputError
        for what is known without voxels, except for files of a manifest that do not exist.
    """
    missing: dict[str, list[Failure]] = {}

    def look(name: str, source: Any) -> None:
        manifest = _manifest(source)
        if manifest is not None:
            missing[name] = [Failure(case, error) for case, error in manifest.leave_out_missing()]

    found = []
    for block in all_blocks(recipe, look):
        cached = block.dataset.cache is not None
        before = len(block.cases) - len(block.dataset.missing(block.cases)) if cached else 0
        checked = CheckedBlock(block, before, missing.get(block.name, []))
        with progress.task(f"reading {block.name}", total=len(block.cases)) as advance:
            failures = {failure.case: failure for failure in fill(block.dataset, block.cases, jobs, advance)}
        unread = [failures[case.id] for case in block.cases if case.id in failures]
        checked.failures = [*checked.missing, *unread]
        found.append(checked)
    return found


def write_sound(checked: list[CheckedBlock], path: Path) -> int:
    """Write the manifest without the cases that failed, and these next to it with the reasons; how many are left.

    Raises
    ------
    InputError
        if not exactly one data block has a manifest, or one of the files exists.
    """
    path = Path(path)
    sources = [(one, _manifest(one.block.dataset.source)) for one in checked]
    own = [(one, source) for one, source in sources if source is not None]
    if len(own) != 1:
        what = f"{len(own)} data blocks of the recipe have a manifest, and only one can be written"
        raise InputError(what, "--leave-out")
    one, source = own[0]
    if path.suffix != Path(source.path).suffix:
        raise InputError(
            f"it is written as it was read, so its name must end in '{Path(source.path).suffix}'", str(path)
        )
    if path.resolve().parent != Path(source.path).resolve().parent and source.root is None:
        raise InputError(
            "relative paths in a manifest start at its folder", str(path), f"write it next to {source.path}"
        )
    cases = {case.id: case for case in one.block.cases}
    broken = {source.line(cases[failure.case]) for failure in one.failures if failure.case in cases}
    rows = broken | source.left_out
    table = read_table(Path(source.path))
    with whole_file(path.with_name(f"{path.stem}.left_out.csv")) as told:
        with told.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "reason"])
            writer.writerows((failure.case, str(failure.error)) for failure in one.failures)
        kept = table.drop(index=sorted(rows))
        with whole_file(path) as temporary:
            write_rows(kept, temporary, path.suffix)
    return len(kept)


def _manifest(source: Any) -> ManifestSource | None:
    """The manifest that a source reads, or wraps."""
    while source is not None and not isinstance(source, ManifestSource):
        source = getattr(source, "source", None)
    return source
