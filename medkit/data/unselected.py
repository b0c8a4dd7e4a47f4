"""Cases that no split has: a typing error in a fold makes them disappear, so they are counted and told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medkit.data.cases import CaseTable, encoded, take, union
from medkit.data.splits import is_wanted
from medkit.errors import some
from medkit.protocols import Case

SHOWN = 5


def unselected(
    cases: Sequence[Case], splits: Mapping[str, Sequence[Case]], picks: Iterable[Mapping[str, Any]]
) -> str | None:
    """How many cases are in no split, and which values of the columns that splits select by no split names; None if
    every case is in one.

    Parameters
    ----------
    picks:
        What each split selects by, as :func:`medkit.data.splits.select` takes it.
    """
    found = union([*splits.values()])
    if len(found) == len(cases):
        return None
    if isinstance(cases, CaseTable) and isinstance(found, CaseTable):
        outside = ~np.isin(cases.rows, found.rows)
    else:
        inside = {case.id for case in found}
        outside = np.array([case.id not in inside for case in cases])
    rest = take(cases, outside)
    wanted: dict[str, list[Any]] = {}
    for pick in picks:
        for column, values in pick.items():
            wanted.setdefault(column, []).extend(values if isinstance(values, list) else [values])
    told = [text for column, values in wanted.items() if (text := _unnamed(rest, column, values))]
    why = f" ({'; '.join(told)})" if told else ""
    are = "is" if len(rest) == 1 else "are"
    return f"{len(rest)} of {len(cases)} cases {are} in no split{why}: nothing trains or tests on them"


def _unnamed(cases: Sequence[Case], column: str, wanted: Sequence[Any]) -> str:
    """The values of a column that no split asks for, in words; nothing if there are none."""
    codes, values = encoded(cases, column)
    used = [values[code] for code in np.unique(codes[codes >= 0]).tolist()]
    names = sorted(str(value) for value in used if not any(is_wanted(value, one) for one in wanted))
    if (codes < 0).any() and "" not in wanted:
        names.append("an empty cell")
    return f"{column}: {some(names, SHOWN)}" if names else ""
