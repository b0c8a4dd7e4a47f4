"""Splits by columns, with no patient in two of them."""

from __future__ import annotations

from collections import Counter

import pytest

from medkit.data.splits import assign_folds, check_patients, select
from medkit.errors import InputError
from medkit.protocols import Case

CASES = [
    Case(f"c{i}", f"p{i // 2}", center="ABC"[i % 3], fold="train" if i < 8 else "test", label=float(i % 2),
         fields={"scanner": f"s{i % 2}", "visit": i % 4, "age": 50.5 if i == 3 else None})
    for i in range(12)
]  # fmt: skip


def ids(picks: dict) -> list[str]:
    return [case.id for case in select(CASES, picks)]


def test_no_picks_select_all() -> None:
    assert len(ids({})) == 12


def test_a_list_selects_any_of_its_values() -> None:
    assert ids({"center": ["B", "C"]}) == [c.id for c in CASES if c.center in "BC"]


def test_several_columns_must_all_agree() -> None:
    assert ids({"fold": "train", "center": "A"}) == ["c0", "c3", "c6"]


@pytest.mark.parametrize(
    ("picks", "found"),
    [
        ({"id": "c5"}, ["c5"]),
        ({"patient": "p0"}, ["c0", "c1"]),
        ({"label": 1, "fold": "test"}, ["c9", "c11"]),
        ({"visit": [3]}, ["c3", "c7", "c11"]),
        ({"scanner": "s0", "fold": "test"}, ["c8", "c10"]),
        ({"age": 50.5}, ["c3"]),
    ],
)
def test_every_column_can_be_selected_by(picks: dict, found: list[str]) -> None:
    assert ids(picks) == found


def test_an_unknown_column_is_named_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="did you mean 'center'"):
        select(CASES, {"centre": "A"}, "test")


def test_an_empty_split_is_refused_with_the_values_there_are() -> None:
    with pytest.raises(InputError, match=r"'val' is empty.*test, train"):
        select(CASES, {"fold": "val"}, "val")


def test_columns_that_exclude_each_other_are_an_empty_split() -> None:
    with pytest.raises(InputError, match="empty"):
        select(CASES, {"fold": "test", "id": "c0"}, "val")


def test_splits_whose_names_say_what_they_are_for_share_no_patient() -> None:
    splits = {"train": CASES, "val": [], "test": [Case(f"other{i}", f"p{i}") for i in range(6)]}
    with pytest.raises(InputError, match=r"'train' and 'test': p0, p1, p2, p3, p4 and 1 more"):
        check_patients(splits)
    check_patients({"train": CASES[:8], "test": CASES[8:], "both": CASES})


PATIENTS = [f"p{i // 3}" for i in range(300)]
LABELS = [int(i // 3 % 4 == 0) for i in range(300)]
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def test_assigned_folds_keep_patients_whole() -> None:
    folds = assign_folds(PATIENTS, LABELS, SHARES)
    assert all(len(set(folds[i : i + 3])) == 1 for i in range(0, 300, 3))


def test_assigned_folds_have_their_shares_of_both_labels() -> None:
    counts = Counter(zip(assign_folds(PATIENTS, LABELS, SHARES), LABELS, strict=True))
    for label, rows in ((0, 225), (1, 75)):
        for fold, share in SHARES.items():
            assert counts[fold, label] == pytest.approx(rows * share, abs=3)


def test_assigned_folds_depend_on_the_seed_only() -> None:
    assert assign_folds(PATIENTS, LABELS, SHARES, 1) == assign_folds(PATIENTS, LABELS, SHARES, 1)
    assert assign_folds(PATIENTS, LABELS, SHARES, 1) != assign_folds(PATIENTS, LABELS, SHARES, 2)


def test_assigned_folds_do_not_depend_on_the_order_of_rows() -> None:
    there = dict(zip(PATIENTS, assign_folds(PATIENTS, LABELS, SHARES), strict=True))
    back = dict(zip(PATIENTS[::-1], assign_folds(PATIENTS[::-1], LABELS[::-1], SHARES), strict=True))
    assert there == back


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InputError, match=r"0\.9"):
        assign_folds(PATIENTS, LABELS, {"train": 0.7, "test": 0.2})
