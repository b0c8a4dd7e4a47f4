"""What has to be told beside numbers about the cases of a data set: doubts and warnings of reading."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from medkit.data.units import SAY_SO

NUMBER = re.compile(r"\d+(\.\d+)?")
KINDS = 4  # kinds of warnings told of a data set


def has_remarks(meta: Mapping[str, Any]) -> bool:
    """Whether :func:`medkit.data.sample.remarks` says anything."""
    return bool(meta["doubt"] or meta["notes"] or meta["person"] is not None)


class Remarks:
    """Remarks about prepared cases, by their ids, whether they were prepared now or come from the cache.

    Attributes
    ----------
    doubts:
        Why cases may not be CT in HU.
    notes:
        What the reader warned of.
    people:
        Digests of the PatientIDs in DICOM headers.
    """

    def __init__(self) -> None:
        self.doubts: dict[str, str] = {}
        self.notes: dict[str, tuple[str, ...]] = {}
        self.people: dict[str, int] = {}

    def add(self, case: str, meta: Mapping[str, Any]) -> None:
        """Keep what :func:`medkit.data.sample.remarks` says about a case."""
        if meta["doubt"]:
            self.doubts.setdefault(case, meta["doubt"])
        if meta["notes"]:
            self.notes.setdefault(case, tuple(meta["notes"]))
        if meta["person"] is not None:
            self.people[case] = meta["person"]

    def of_cases(self) -> dict[str, list[str]]:
        """All remarks of each case that has any."""
        found = {case: [doubt] for case, doubt in self.doubts.items()}
        for case, notes in self.notes.items():
            found.setdefault(case, []).extend(notes)
        return found

    def told(self) -> list[str]:
        """Sentences to go with every number; they name no case, as they also go to predictions."""
        return [*self._doubtful(), *self._warned()]

    def _doubtful(self) -> list[str]:
        if not self.doubts:
            return []
        first = next(iter(self.doubts.values()))
        count = _count(len(self.doubts))
        return [f"{count} may not be CT in HU (for the first, {first}), but the preparation assumes it; {SAY_SO}"]

    def _warned(self) -> list[str]:
        counts: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for case in sorted(self.notes):  # in an order of their own, so that a resumed run says the same
            for kind, note in {NUMBER.sub("#", note): note for note in self.notes[case]}.items():
                counts[kind] += 1
                examples.setdefault(kind, note)
        where = "'medkit check RECIPE --data' names them"
        told = [
            f"{_count(number)} read with a warning, such as: {examples[kind]} ({where})"
            for kind, number in counts.most_common(KINDS)
        ]
        more = len(counts) - KINDS
        return [*told, f"{more} more kinds of warnings of reading ({where})"] if more > 0 else told


def _count(number: int) -> str:
    return f"{number} case{'' if number == 1 else 's'}"
