"""Labels that are read as 0 and 1: any other number is refused before it is trained on or counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medkit.data.cases import column
from medkit.errors import InputError, Problems
from medkit.protocols import Case

SHOWN = 10  # problems reported at once


def check_binary(cases: Sequence[Case], name: str, reader: str, place: Callable[[Case], str]) -> None:
    """Refuse cases whose own label is neither 0 nor 1 nor unknown.

    A loss of logits would follow a target of -1 or 2 beyond all bounds, and metrics would count -1 as negative.

    Parameters
    ----------
    name:
        The label's column.
    reader:
        What reads the label as 0 or 1.
    place:
        Where a case is listed, for errors: file and row.

    Raises
    ------
    Problems
        for each of them, up to ten: file, row, column and value.
    """
    labels = column(cases, "label")
    wrong = np.flatnonzero(~np.isnan(labels) & (labels != 0) & (labels != 1))
    if not len(wrong):
        return
    hint = (
        "leave the cell empty where the label is unknown, and write other codes as 0 and 1; classes and measurements "
        f"are declared with 'labels:' of the data block ('column: {name}'), without 'label: {name}' of the source"
    )
    more = f" ({len(wrong)} of {len(cases)} cases have such a label)" if len(wrong) > 1 else ""
    raise Problems(
        [
            InputError(
                f"{name}: {labels[row]:g} is neither 0 nor 1, as {reader} reads it{'' if i else more}",
                place(cases[row]),
                None if i else hint,
            )
            for i, row in enumerate(wrong[:SHOWN].tolist())
        ]
    )
