"""Folds for a manifest: whole groups of rows (patients), with similar labels in every fold; a seed fixes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.alike import look_alikes_told
from medkit.data.fractions import draw, strata
from medkit.data.iterative import deal
from medkit.data.label_kinds import MOST, LabelKind, label_columns, label_kind
from medkit.data.manifest import as_number, read_manifest, refuse_decimal_commas, texts, write_rows
from medkit.errors import InputError, did_you_mean
from medkit.protocols.labels import SEPARATOR
from medkit.records import written_atomically

NAMES = ("train", "val", "test")
NONE, UNKNOWN = "none of them", "no label"
"""Strata of groups with none of several classes, and of those about which nothing is known."""


@dataclass(frozen=True)
class Dealt:
    """The folds that groups were assigned to.

    Attributes
    ----------
    folds:
        Their names.
    of_rows:
        The fold of each row.
    groups:
        Number of groups by fold.
    strata:
        Number of groups by stratum, in words, and fold; a group with several classes is in several strata.
    told:
        Messages for the user.
    """

    folds: Sequence[str]
    of_rows: list[str]
    groups: Counter[str]
    strata: dict[str, Counter[str]]
    told: list[str]


def split(
    path: Path,
    by: str = "patient",
    stratify: str | None = None,
    folds: int | None = None,
    shares: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    column: str = "fold",
    out: Path | None = None,
) -> Dealt:
    """Add a column of folds to a manifest, which otherwise stays as it is.

    Parameters
    ----------
    by:
        The column whose equal values stay together. Patients always stay together.
    stratify:
        A column with a similar distribution in all folds: classes, or a measurement in five ranges. A group's largest
        value counts. For several columns of 0 and 1 (``A,B``), or cells with several classes (``A;B``), every class
        that a group has in any row counts, each by itself (:mod:`medkit.data.iterative`).
    folds:
        The number of folds of equal size, named 1, 2, ...; default: train, val and test by ``shares``.
    out:
        The manifest to write; default: the same.

    Raises
    ------
    InputError
        if there are fewer groups than folds, or fewer of some class than folds; if a patient is in two groups; or if
        the column exists already.
    """
    path = Path(path)
    out = path if out is None else Path(out)
    table = read_manifest(path)
    names = table.column_names
    for name in (by, *_columns(stratify, names)):
        if name not in names:
            without = "; leave out --stratify where there are no labels" if name == "label" else ""
            hint = did_you_mean(name, names) or f"columns: {', '.join(names)}{without}"
            raise InputError(f"the manifest has no column '{name}'", str(path), hint)
    if column in names:
        raise InputError(f"the column '{column}' exists already", str(path), "--column NAME writes another one")
    if out != path and out.exists():
        raise InputError("the output exists already", str(out), "name a new one: nothing is overwritten")
    if out.suffix != path.suffix:
        raise InputError(f"the output keeps the manifest's format, so its name has to end in '{path.suffix}'", str(out))
    groups = _groups(table, by, path)
    wanted = _wanted(folds, shares)
    columns = _columns(stratify, names)
    dealing = Dealing(groups, wanted, seed, str(path), by)
    if columns and (len(columns) > 1 or _holds_several(table, columns[0])):
        found = label_kind(table, columns, path)
        dealt = dealing.by_classes(_flags(found, groups), found.names)
        dealt.told.extend(_each_class(found, dealt))
    else:
        dealt = dealing.by_strata(_words(table, stratify, groups, path))
    with written_atomically(out) as file:
        write_rows(table.append_column(column, [dealt.of_rows]), file, out.suffix)
    return dealt


def _wanted(folds: int | None, shares: Sequence[float]) -> dict[str, float]:
    if folds is not None:
        return {str(i + 1): 1 / folds for i in range(folds)}
    if len(shares) != len(NAMES) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"{', '.join(f'{share:g}' for share in shares)} are not shares of train, val and test",
                         "--shares", "three numbers that add up to 1, such as 0.7,0.1,0.2")  # fmt: skip
    return {name: share for name, share in zip(NAMES, shares, strict=True) if share > 0}


def _groups(table: Any, by: str, path: Path) -> list[str]:
    """The group of each row; refuses a row without one, and a patient with two."""
    cells = texts(table, by, str(path)).to_pylist()
    empty = next((row for row, text in enumerate(cells) if text is None), None)
    if empty is not None:
        raise InputError(f"no value in '{by}'", f"{path}:{empty + 2}", "every row needs one")
    patients = texts(table, "patient", str(path))
    if by != "patient" and patients is not None:
        known: dict[str, str] = {}
        for row, (patient, group) in enumerate(zip(patients.to_pylist(), cells, strict=True)):
            if patient is not None and known.setdefault(patient, group) != group:
                what = f"patient '{patient}' is in '{known[patient]}' and in '{group}'"
                raise InputError(what, f"{path}:{row + 2}", "a patient must not be in two folds: split by patient")
    return cells


def _columns(stratify: str | None, names: Sequence[str]) -> list[str]:
    """The columns by which folds are stratified: one, or several separated by commas."""
    return [] if stratify is None else label_columns(stratify, names)


def _holds_several(table: Any, name: str) -> bool:
    """Whether cells of a column name several classes."""
    return any(isinstance(cell, str) and SEPARATOR in cell for cell in table[name].to_pylist())


def _flags(found: LabelKind, groups: list[str]) -> dict[str, np.ndarray]:
    """Which classes each group has in any of its rows, as 0 and 1; nan if no row says."""
    flags: dict[str, np.ndarray] = {}
    for group, row in zip(groups, found.values, strict=True):
        flags[group] = np.fmax(flags.get(group, row), row)
    return flags


def _each_class(found: LabelKind, dealt: Dealt) -> list[str]:
    """How many rows of each fold have each class."""
    fold = np.array(dealt.of_rows)
    lines = []
    for number, name in enumerate(found.names):
        has = found.values[:, number] == 1
        lines.append(f"rows with {name}: " + ", ".join(f"{f} {int((has & (fold == f)).sum())}" for f in dealt.folds))
    return lines


def _words(table: Any, name: str | None, groups: list[str], path: Path) -> dict[str, str]:
    """The stratum of each group, in words; '' if it has no value."""
    order = list(dict.fromkeys(groups))
    if name is None:
        return dict.fromkeys(order, "all")
    cells = [None if text is None else str(text).strip() or None for text in table[name].to_pylist()]
    values = np.array([np.nan if text is None else as_number(text) for text in cells])
    if any(text is not None and np.isnan(value) for text, value in zip(cells, values, strict=True)):
        return _classes(cells, groups, order, name, path)
    largest = dict.fromkeys(order, np.nan)
    for group, value in zip(groups, values.tolist(), strict=True):
        largest[group] = np.fmax(largest[group], value)
    each = np.array(list(largest.values()))
    if np.isnan(each).all():
        raise InputError(f"'{name}' has no values", str(path), "leave out --stratify")
    codes, _, are_classes = strata(each, values)
    found = {}
    for group, value, code in zip(order, each.tolist(), codes.tolist(), strict=True):
        inside = each[codes == code]
        ends = f"{name} {np.min(inside):g} to {np.max(inside):g}" if not np.isnan(value) else ""
        found[group] = "" if np.isnan(value) else f"{name} = {value:g}" if are_classes else ends
    return found


def _classes(cells: list[str | None], groups: list[str], order: list[str], name: str, path: Path) -> dict[str, str]:
    distinct = sorted({text for text in cells if text is not None})
    refuse_decimal_commas(distinct, name, str(path))
    if len(distinct) > MOST:
        what = f"'{name}' has {len(distinct)} different values, such as '{distinct[0]}'"
        raise InputError(what, str(path), "stratify by classes or by a number")
    found = dict.fromkeys(order, "")
    for group, text in zip(groups, cells, strict=True):
        found[group] = max(found[group], "" if text is None else f"{name} = {text}")
    return found


@dataclass(frozen=True)
class Dealing:
    """Assigns groups to folds.

    Attributes
    ----------
    groups:
        The group of each row.
    shares:
        Share of the groups, by fold.
    path, by:
        The manifest, and the column of the groups, for messages.
    """

    groups: Sequence[str]
    shares: Mapping[str, float]
    seed: int
    path: str
    by: str

    @property
    def _groups(self) -> str:
        """What a message calls the groups."""
        return "patients" if self.by == "patient" else f"values of '{self.by}'"

    def by_strata(self, words: Mapping[str, str]) -> Dealt:
        """Assign each stratum's groups to the folds that lack most, but at least one to every fold.

        ``words`` has the stratum of each group, '' if it has no value.
        """
        members: dict[str, list[str]] = {}
        for group, stratum in words.items():
            members.setdefault(stratum, []).append(group)
        told = self._check({stratum: len(mine) for stratum, mine in members.items() if stratum}, words)
        shares, folds = self.shares, sorted(self.shares, key=lambda name: -self.shares[name])
        of_group: dict[str, str] = {}
        totals: Counter[str] = Counter()
        for stratum in sorted(members, key=lambda name: (len(members[name]), name)):
            mine = sorted(members[stratum], key=lambda name: draw(self.seed, name))
            here: Counter[str] = Counter()
            for i, group in enumerate(mine):
                lacking = [
                    (stratum != "" and not here[fold] and len(mine) - i <= sum(not here[f] for f in folds),
                     round(shares[fold] * (i + 1) - here[fold], 9),
                     round(shares[fold] * (len(of_group) + 1) - totals[fold], 9))
                    for fold in folds
                ]  # fmt: skip
                fold = folds[max(range(len(folds)), key=lambda k: (*lacking[k], -k))]
                of_group[group] = fold
                here[fold] += 1
                totals[fold] += 1
        return self._dealt(of_group, {group: [stratum or UNKNOWN] for group, stratum in words.items()}, told)

    def by_classes(self, flags: Mapping[str, np.ndarray], names: Sequence[str]) -> Dealt:
        """Assign groups so that every fold has its share of each class (:mod:`medkit.data.iterative`)."""
        words: dict[str, list[str]] = {}
        for group, known in flags.items():
            has = [f"with {name}" for name, flag in zip(names, known.tolist(), strict=True) if flag == 1]
            words[group] = has or [UNKNOWN if np.isnan(known).all() else NONE]
        counts = Counter(word for mine in words.values() for word in mine if word not in (UNKNOWN, NONE))
        told = self._check(counts, {group: "" if mine == [UNKNOWN] else "known" for group, mine in words.items()})
        # Groups with none of the classes come last, and fill the folds up to their sizes.
        labels = {group: [] if mine == [NONE] else mine for group, mine in words.items()}
        return self._dealt(deal(labels, self.shares, self.seed), words, told)

    def _check(self, counts: Mapping[str, int], words: Mapping[str, str]) -> list[str]:
        """Refuse fewer groups, or fewer of a class, than folds; return messages about the groups."""
        if len(words) < len(self.shares):
            what = f"{len(words)} {self._groups} are too few for {len(self.shares)} folds"
            raise InputError(what, self.path, "every fold needs one")
        for stratum, count in counts.items():
            if count < len(self.shares):
                what = f"'{stratum}' has too few {self._groups} for {len(self.shares)} folds: {count}"
                hint = f"--folds {count}, or " if count > 1 and "1" in self.shares else ""
                raise InputError(what, self.path, f"{hint}leave out --stratify")
        told = []
        if missing := sum(not word for word in words.values()):
            told.append(f"{missing} of {len(words)} {self._groups} have no label, and are their own stratum")
        if alike := look_alikes_told(list(words)):
            told.append(f"{alike} look alike and count as different {self._groups}")
        return told

    def _dealt(self, of_group: Mapping[str, str], words: Mapping[str, Sequence[str]], told: list[str]) -> Dealt:
        strata: dict[str, Counter[str]] = {}
        for group, mine in words.items():
            for word in mine:
                strata.setdefault(word, Counter())[of_group[group]] += 1
        ordered = {word: strata[word] for word in sorted(strata, key=lambda word: (strata[word].total(), word))}
        rows = [of_group[group] for group in self.groups]
        return Dealt(list(self.shares), rows, Counter(of_group.values()), ordered, told)
