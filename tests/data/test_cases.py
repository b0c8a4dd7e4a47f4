"""Cases kept as columns are the same cases as a list of them."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pyarrow
import pytest

from medkit.data.cases import CaseTable, column, encoded, union
from medkit.protocols import Case

LISTED = [
    Case("a", "p1", "X", "train", 1.0, {"age": 40, "kernel": "soft"}),
    Case("b", "p1", "", "train", None, {"age": None, "kernel": "sharp"}),
    Case("c", "p2", "Y", "val", 0.0, {"age": 7, "kernel": None}),
    Case("d", "p3", "X", "test", None, {"age": 40, "kernel": "soft"}),
]


@pytest.fixture
def table() -> CaseTable:
    columns = {
        "id": pyarrow.chunked_array([["a", "b"], ["c", "d"]]),
        "patient": ["p1", "p1", "p2", "p3"],
        "center": pyarrow.array(["X", None, "Y", "X"]).dictionary_encode(),
        "fold": ["train", "train", "val", "test"],
        "label": np.array([1.0, np.nan, 0.0, np.nan]),
    }
    return CaseTable(columns, {"age": pyarrow.array([40, None, 7, 40]), "kernel": ["soft", "sharp", None, "soft"]})


def test_rows_are_made_into_cases(table: CaseTable) -> None:
    assert list(table) == LISTED
    assert table[-1] == LISTED[-1]
    assert len(table) == 4


def test_slices_and_selections_are_tables(table: CaseTable) -> None:
    assert list(table[1:3]) == LISTED[1:3]
    assert list(table.take([3, 0])) == [LISTED[3], LISTED[0]]
    assert list(table[1:].take(np.array([False, True, True]))) == LISTED[2:]


@pytest.mark.parametrize("name", ["id", "patient", "center", "fold", "label", "age", "kernel", "nothing"])
def test_a_column_of_a_table_equals_that_of_a_list(table: CaseTable, name: str) -> None:
    for few, listed in ((table, LISTED), (table[1:], LISTED[1:])):
        a, b = column(few, name), column(listed, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [list, lambda table: table])
def test_distinct_values_are_those_that_occur(table: CaseTable, kind: type) -> None:
    codes, values = encoded(kind(table[2:]), "patient")
    assert sorted(values) == ["p2", "p3"]
    assert [values[code] for code in codes] == ["p2", "p3"]


def test_a_missing_value_has_no_code(table: CaseTable) -> None:
    codes, values = encoded(table, "age")
    assert [None if code < 0 else values[code] for code in codes] == [40, None, 7, 40]


def test_one_and_true_are_two_values() -> None:
    cases = [Case(str(i), "p", fields={"q": value}) for i, value in enumerate((1, True, 1.0, "1"))]
    assert len(encoded(cases, "q")[1]) == 4


def test_a_union_has_each_case_once(table: CaseTable) -> None:
    assert list(union([table[1:3], table[:2]])) == [LISTED[1], LISTED[2], LISTED[0]]
    assert list(union([LISTED[1:3], LISTED[:2]])) == [LISTED[1], LISTED[2], LISTED[0]]
    assert list(union([])) == []


def test_a_case_is_found_by_its_name(table: CaseTable) -> None:
    assert [table[2:].row_of(name) for name in "abcd"] == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        table.row_of("e")


def test_a_table_survives_a_process_boundary(table: CaseTable) -> None:
    assert list(pickle.loads(pickle.dumps(table))) == LISTED


def test_cases_of_a_table_are_plain_cases(table: CaseTable) -> None:
    assert dataclasses.replace(table[0], label=None).fields == {"age": 40, "kernel": "soft"}
