"""Whether results shown side by side are of the same cases: otherwise their numbers compare cases, not methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medkit.evaluation.case_table import CaseTable, Key

Cases = Mapping[Key, frozenset[tuple[str, str]]]


def cases_of(table: CaseTable) -> Cases:
    """The cases, each with its patient, by stage and split."""
    return {key: frozenset((row["patient"], row["case"]) for row in table.of(*key)) for key in table.evaluations()}


def different(runs: Mapping[str, Cases]) -> Iterator[str]:
    """A sentence for each stage and split that two or more runs have, if not all of them have the same cases in it."""
    for key in dict.fromkeys(key for cases in runs.values() for key in cases):
        having = {name: cases[key] for name, cases in runs.items() if key in cases}
        if len(having) < 2 or len(set(having.values())) == 1:
            continue
        counts = ", ".join(f"{len(cases)} in {name}" for name, cases in having.items())
        shared = len(frozenset.intersection(*having.values()))
        yield f"'{key[1]}' of stage '{key[0]}' has different cases ({counts}, {shared} in common)"
