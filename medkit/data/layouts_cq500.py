"""CQ500's folders and its readers' votes as a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from medkit.data.layouts import SHARES
from medkit.data.manifest import read_manifest, texts
from medkit.data.splits import assign_folds
from medkit.data.tree_labels import Labels, join
from medkit.data.tree_table import Choices, Gathered, LeftOut
from medkit.data.tree_write import Written, write
from medkit.errors import InputError

FINDINGS = {
    "ICH": "label",
    "IPH": "intraparenchymal",
    "IVH": "intraventricular",
    "SAH": "subarachnoid",
    "EDH": "epidural",
    "SDH": "subdural",
    "ChronicBleed": "chronic",
    "Fracture": "fracture",
    "CalvarialFracture": "calvarial_fracture",
    "MassEffect": "mass_effect",
    "MidlineShift": "midline_shift",
}
"""Columns of the manifest, by the findings in ``reads.csv``."""
READERS = ("R1", "R2", "R3")
PATIENT = r"(CQ500-?CT-?\d+)"
CONTRAST = r"(?i)(?<!non )(?<!non-)(?<!pre )(?<!pre-)(?<!without )contrast|\bpost\b|\bcect\b|\boral iv\b|\bct c\b"
"""Names of series with contrast medium, in which vessels are as bright as blood; ``CT C`` is a guess."""
CHOICES = Choices(modality="CT", patient=PATIENT, skip=CONTRAST)
TOLD = (
    "labels are what at least two of the three readers saw; 'votes' says how many saw a bleed",
    "each scan counts as a patient: the set does not identify patients otherwise",
)


def cq500(
    folder: Path,
    out: Path,
    reads: Path | None = None,
    choices: Choices = CHOICES,
    *,
    lists: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write the manifest of CQ500: one series of each scan, with what at least two of three readers saw.

    491 scans from New Delhi in two batches (Chilamkurthy et al., Lancet 2018;392:2388-96), each of several series, such
    as ``CQ500CT12 CQ500CT12/Unknown Study/CT PLAIN THIN/CT000000.dcm``, at any depth. ``reads.csv`` has one row per
    scan: ``name`` (``CQ500-CT-12``), ``Category`` (batch ``B1`` or ``B2``), and 0 or 1 from each of three readers,
    ``R1:ICH`` to ``R3:MidlineShift``. Folders and columns are named as in public code that reads the set.

    Parameters
    ----------
    reads:
        The table; default: ``reads.csv`` in ``folder``, or beside it.
    choices:
        Which of several series to prefer; default: an original with a soft kernel and the most slices, whose name does
        not suggest contrast medium.
    lists, progress:
        As for :func:`medkit.data.tree_write.write`.

    Raises
    ------
    InputError
        if there is no scan, or the table lacks a column or an entry; and as :func:`medkit.data.tree_write.write`.
    """
    folder = Path(folder)
    if reads is None:
        places = (folder / "reads.csv", folder.parent / "reads.csv")
        reads = next((place for place in places if place.is_file()), places[0])
    return write(folder, out, choices, labels=Votes(Path(reads)), lists=lists, progress=progress)


@dataclass(frozen=True)
class Votes:
    """The table of CQ500's readers."""

    path: Path

    def join(self, found: Gathered, left_out: LeftOut) -> list[str]:
        """Add what most readers saw to the scans, and draw folds by patient."""
        table = self._majority()
        for row, keys in zip(found.rows, found.keys, strict=True):
            row["patient"] = keys["patient"] = _name(row["patient"])
        told = join(found, table, left_out, Labels(self.path, "name", "patient"))
        folds = assign_folds([row["patient"] for row in found.rows], [row["label"] for row in found.rows], SHARES)
        for row, fold in zip(found.rows, folds, strict=True):
            row |= {"center": "cq500", "fold": fold}
        return [*told, *TOLD]

    def _majority(self) -> pyarrow.Table:
        """``name``, ``batch``, ``votes`` and the findings, 0 or 1."""
        where = str(self.path)
        table = read_manifest(self.path, "table of readers (reads.csv)")
        votes = {finding: [f"{reader}:{finding}" for reader in READERS] for finding in FINDINGS}
        for column in ("name", "Category", *(name for names in votes.values() for name in names)):
            if column not in table.column_names:
                raise InputError(f"there is no column '{column}'", where, "it has to be reads.csv of CQ500")
        seen = {finding: [self._seen(table, name) for name in names] for finding, names in votes.items()}
        counts = {finding: [sum(marks) for marks in zip(*readers, strict=True)] for finding, readers in seen.items()}
        columns: dict[str, list[Any]] = {
            "name": [_name(name or "") for name in texts(table, "name", where).to_pylist()]
        }
        columns["batch"] = texts(table, "Category", where).to_pylist()
        columns["votes"] = counts["ICH"]
        for finding, column in FINDINGS.items():
            columns[column] = [int(count >= 2) for count in counts[finding]]
        return pyarrow.table(columns)

    def _seen(self, table: pyarrow.Table, column: str) -> list[int]:
        found = texts(table, column, str(self.path)).to_pylist()
        for row, text in enumerate(found):
            if text not in ("0", "1"):
                what = f"'{column}' is {'empty' if text is None else repr(text)}: a reader's entry is 0 or 1"
                raise InputError(what, f"{self.path}:{row + 2}")
        return [int(text) for text in found]


def _name(text: str) -> str:
    """The same name for ``CQ500-CT-12`` and ``CQ500CT12``."""
    return text.replace("-", "")
