"""Patients by the PatientID of DICOM headers, as digests: whether a manifest names them otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from medkit.data.ledger import HEADERS, digest, person_of_each
from medkit.data.mend import Mend
from medkit.data.volume import Volume
from medkit.protocols import Case

if TYPE_CHECKING:
    from medkit.data.dicom_header import Header

Part = TypeVar("Part")


def patient_of(volume: Volume) -> str | None:
    """The patient's number in the header of a DICOM image, for looking up in a ledger; it is written nowhere."""
    if volume.header.get("format") != "dicom" or not volume.header.get("files"):
        return None
    return str(first_header(volume).get("PatientID") or "").strip() or None


def first_header(volume: Volume) -> Header:
    """The header of the first file that a volume was read from, as it was read."""
    from medkit.data.dicom_header import read_header

    return read_header(Path(volume.header["files"][0]), Mend.of(volume.mended))


def person_of(volume: Volume) -> int | None:
    """A salted digest of :func:`patient_of`; None for an image that names nobody."""
    patient = patient_of(volume)
    return None if patient is None else digest(HEADERS, patient)


def contradiction(
    splits: Mapping[str, Sequence[Case]], people: Mapping[str, int], place: Callable[[Case], str]
) -> str | None:
    """Where headers give one PatientID to cases of different patients in different splits, in words; else None.

    Parameters
    ----------
    people:
        The digest of the PatientID of each case that has one (:func:`person_of`), by the case's id.
    place:
        What a message calls a case. The PatientID is never told.
    """
    if not people:
        return None
    found: dict[int, dict[str, tuple[Case, set[str]]]] = {}  # a person's patients, with a case and the splits of each
    for split, cases in splits.items():
        for case in cases:
            if (person := people.get(case.id)) is not None:
                found.setdefault(person, {}).setdefault(case.patient, (case, set()))[1].add(split)
    names: set[str] = set()
    parted: set[str] = set()
    pair: tuple[Case, Case] | None = None
    for patients in found.values():
        (first, mine), *others = patients.values()
        other = next((case for case, theirs in others if theirs != mine), None)
        if other is not None:
            pair = pair or (first, other)
            names.update(patients)
            parted.update(*(inside for _, inside in patients.values()))
    if pair is None:
        return None
    where = ", ".join(split for split in splits if split in parted)
    what = f"{len(names)} patients in different splits ({where}) share a PatientID in their DICOM headers"
    hint = "if they are the same people, results are too optimistic: name each person alike in all rows"
    return f"{what}, such as {place(pair[0])} and {place(pair[1])}; {hint}"


def comparable_headers(
    source: Any, parts: Mapping[Part, Sequence[Case]], people: Mapping[str, int]
) -> dict[Part, tuple[np.ndarray, bool]]:
    """For each part of a data set: the sorted digests of its cases' PatientIDs, (n,) uint64, without those that stand
    for several patients (``ANONYMOUS``) and tell nobody apart; and whether all its cases have one that does.
    """
    if not people:
        return {}
    names: dict[int, set[str]] = {}
    each: dict[Part, list[int | None]] = {}
    for part, cases in parts.items():
        each[part] = [people.get(case.id) for case in cases]
        for person, name in zip(each[part], person_of_each(source, cases), strict=True):
            if person is not None:
                names.setdefault(person, set()).add(name)
    several = {person for person, mine in names.items() if len(mine) > 1}
    found = {}
    for part, mine in each.items():
        sure = {person for person in mine if person is not None} - several
        found[part] = np.sort(np.array([*sure], np.uint64)), several.isdisjoint(mine) and None not in mine
    return found
