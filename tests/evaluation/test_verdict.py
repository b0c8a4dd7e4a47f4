"""Verdicts over seeds and patients: worked by hand, mirrored, and refused where nothing could be said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from scipy import stats

import medkit
from medkit.errors import InputError
from medkit.evaluation.verdict import Verdict, verdict, verdicts
from medkit.evaluation.verdict_power import designs, smallest_difference

Rows = list[dict[str, Any]]


def rows(gain: float = 1.0, seeds: int = 4, patients: int = 12, methods: tuple[str, ...] = ("a", "b")) -> Rows:
    """Values of methods that share patients; the first has ``gain`` more."""
    rng = np.random.default_rng(0)
    level = rng.normal(0, 2, patients)
    return [
        {"method": method, "seed": seed, "patient": f"p{patient}", "value": value}
        for method in methods
        for seed in range(seeds)
        for shift in (rng.normal(0, 0.1),)
        for patient, value in enumerate(level + shift + gain * (method == "a") + rng.normal(0, 0.3, patients))
    ]


def numbers(found: Verdict) -> list[float]:
    """All that a verdict has in numbers."""
    plain = found.json()
    return [v for v in [*plain.values(), *plain["shares"].values()] if isinstance(v, float | int)]


def without(table: Rows, **cell: Any) -> Rows:
    return [row for row in table if any(row[name] != value for name, value in cell.items())]


def test_the_interval_is_that_of_the_mean_squares_worked_out_by_hand() -> None:
    table = rows()
    d = {(r["seed"], r["patient"]): r["value"] for r in table if r["method"] == "a"}
    for r in table:
        if r["method"] == "b":
            d[r["seed"], r["patient"]] -= r["value"]
    mean = sum(d.values()) / 48
    of_seed = [sum(d[s, f"p{p}"] for p in range(12)) / 12 for s in range(4)]
    of_patient = [sum(d[s, f"p{p}"] for s in range(4)) / 4 for p in range(12)]
    seeds = 12 * sum((m - mean) ** 2 for m in of_seed) / 3
    patients = 4 * sum((m - mean) ** 2 for m in of_patient) / 11
    rest = sum((d[s, f"p{p}"] - of_seed[s] - of_patient[p] + mean) ** 2 for s in range(4) for p in range(12)) / 33
    more = max(patients - rest, 0)
    variance = (seeds + more) / 48
    share = seeds / (seeds + more)
    degrees = 1 / (share**1.25 / 3 + (1 - share) ** 1.25 / 11)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(variance)
    found = verdict(table, "a", "b")
    assert (found.estimate, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / math.sqrt(variance), degrees))
    parts = np.array([more / 4, max(seeds - rest, 0) / 12, rest])
    assert list(found.shares.values()) == pytest.approx(list(parts / parts.sum()))


def test_what_is_said_of_b_mirrors_what_is_said_of_a() -> None:
    one, other = verdict(rows(), "a", "b"), verdict(rows(), "b", "a")
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))
    assert one.probability == pytest.approx(1 - other.probability)
    assert one.better == other.better == "a"


def test_with_lower_is_better_the_other_one_wins() -> None:
    high, low = verdict(rows(), "a", "b"), verdict(rows(), "a", "b", higher_is_better=False)
    assert (high.better, low.better) == ("a", "b")
    assert low.probability == pytest.approx(1 - high.probability)
    assert low.estimate == high.estimate


def test_the_sentence_has_the_numbers_of_the_verdict() -> None:
    found = verdict(rows(), "a", "b")
    for text in (f"{found.estimate:.3g}", f"{found.low:.3g} to {found.high:.3g}", "4 seeds, 12 patients", "12 new"):
        assert text in found.sentence
    assert found.sentence.startswith("'a' is better than 'b'")


def test_a_difference_that_is_not_shown_is_not_called_one() -> None:
    found = verdict(rows(0.0), "a", "b")
    assert found.low < 0 < found.high
    assert found.better is None
    assert found.sentence.startswith("No difference between 'a' and 'b' is shown")


def test_the_same_table_says_the_same_in_any_form_and_order(tmp_path: Path) -> None:
    table = rows()
    frame = pandas.DataFrame(table)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    wanted = verdict(table, "a", "b")
    forms: list[Any] = [frame, frame.sample(frac=1, random_state=0), dict(frame), tmp_path / "t.parquet"]
    for form in (*forms, str(tmp_path / "t.csv")):
        assert numbers(verdict(form, "a", "b")) == pytest.approx(numbers(wanted))


def test_cases_of_a_patient_are_averaged_so_that_patients_count_alike() -> None:
    table = [row | {"case": "x"} for row in rows()]
    apart = [
        row | {"case": case, "value": row["value"] + more} for row in table for case, more in (("x", 1), ("y", -1))
    ]
    several = [row for row in apart if row["patient"] == "p0"] + [row for row in table if row["patient"] != "p0"]
    assert numbers(verdict(several, "a", "b")) == pytest.approx(numbers(verdict(table, "a", "b")))


def test_seeds_that_both_have_are_paired_and_others_are_not() -> None:
    table = rows()
    apart = [row | {"seed": f"{row['method']}{row['seed']}"} for row in table]
    assert verdict(table, "a", "b").paired
    found = verdict(apart, "a", "b")
    assert not found.paired
    assert numbers(found) == pytest.approx(numbers(verdict(table, "a", "b", paired=False)))


def test_pairing_takes_away_what_seeds_do_to_both_methods() -> None:
    table = [row | {"value": row["value"] + 10 * row["seed"]} for row in rows()]
    assert numbers(verdict(table, "a", "b")) == pytest.approx(numbers(verdict(rows(), "a", "b")))
    assert verdict(table, "a", "b", paired=False).better is None


def test_unpaired_methods_may_have_different_numbers_of_seeds() -> None:
    found = verdict([row for row in rows() if row["method"] == "a" or row["seed"] < 3], "a", "b", paired=False)
    assert (found.seeds, found.seeds_b) == (4, 3)
    assert "4 and 3 seeds" in found.sentence


def test_several_methods_are_corrected_by_holm() -> None:
    found = verdicts(rows(methods=("a", "b", "c", "d")), "b")
    assert [one.a for one in found] == ["a", "c", "d"]
    least = min(found, key=lambda one: one.p)
    assert least.p_holm == pytest.approx(3 * least.p)
    assert all(one.comparisons == 3 for one in found)


@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_where_the_difference_never_varies_there_is_no_interval(gain: float) -> None:
    same = [row | {"method": "b", "value": row["value"] - gain} for row in rows() if row["method"] == "a"]
    found = verdict([row for row in rows() if row["method"] == "a"] + same, "a", "b")
    assert found.estimate == pytest.approx(gain)
    assert math.isnan(found.low)
    assert math.isnan(found.probability)
    assert found.better is None
    assert "nothing varies" in found.sentence
    assert found.json()["shares"]["seeds"] is None


REFUSED: dict[str, tuple[Rows, str]] = {
    "two seeds": ([row for row in rows() if row["seed"] < 2], "'a' has 2 seeds, a verdict needs 3"),
    "five patients": (rows(patients=5), "5 patients, a verdict needs 6"),
    "no such method": ([row | {"method": row["method"].replace("b", "bb")} for row in rows()], "no method 'b'"),
    "other patients": (
        without(without(rows(), method="b", patient="p3"), method="b", patient="p4"),
        "'b' has no patient p3",
    ),
    "a missing cell": (without(rows(), method="a", patient="p3", seed=2), "'a' has no patient p3 under seed 2"),
    "other seeds": (without(rows(), method="a", seed=3), "different seeds: 3 only of 'b'"),
    "twice": ([*rows(), rows()[0]], "two values of patient 'p0' under seed 0"),
    "no number": (
        [row | {"value": math.nan if row["patient"] == "p1" else row["value"]} for row in rows()],
        "no number for patient 'p1' under seed 0",
    ),
    "infinite": (
        [row | {"value": math.inf if row["patient"] == "p1" else row["value"]} for row in rows()],
        "not a finite number",
    ),
    "no column": (
        [{k if k != "value" else "vlaue": v for k, v in row.items()} for row in rows()],
        "no column 'value'; did you mean 'vlaue'",
    ),
    "no name": (
        [row | {"patient": "" if row["patient"] == "p1" else row["patient"]} for row in rows()],
        "'patient' is empty in row 2",
    ),
    "one training thrice": (
        [row | {"value": (row["method"] == "a") * float(row["patient"][1:])} for row in rows()],
        "the same values under every seed",
    ),
    "out of reach": ([row | {"value": row["value"] * 1e200} for row in rows()], "cannot be squared"),
    "nothing": ([], "no rows"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_judged_is_refused(kind: str) -> None:
    table, message = REFUSED[kind]
    with pytest.raises(InputError) as error:
        verdict(table, "a", "b")
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["other patients", "a missing cell", "other seeds"])
def test_what_both_have_can_be_compared(kind: str) -> None:
    found = verdict(REFUSED[kind][0], "a", "b", common=True)
    assert (found.seeds, found.patients) == {"other patients": (4, 10), "other seeds": (3, 12)}.get(kind, (4, 11))
    assert any("left out" in note for note in found.notes) == (kind != "other seeds")


def test_cases_that_are_left_out_of_patients_who_stay_are_told() -> None:
    table = [row | {"case": "x"} for row in rows()]
    extra = table[0] | {"case": "y"}
    (note,) = (n for n in verdict([*table, extra], "a", "b", common=True).notes if "left out" in n)
    assert note.startswith("1 cases of other patients")


def test_one_training_under_two_seeds_is_told() -> None:
    table = rows()
    table += [row | {"seed": 9} for row in table if row["seed"] == 0]
    assert any("Only 4 of 5 seeds differ" in note for note in verdict(table, "a", "b").notes)


def test_a_method_is_not_compared_with_itself() -> None:
    with pytest.raises(InputError, match="compared with itself"):
        verdict(rows(), "a", "a")


def test_a_design_for_the_smallest_difference_is_the_design_itself() -> None:
    found: Verdict = verdict(rows(patients=30), "a", "b")
    (design,) = designs(found.spread, found.smallest_difference, [4])
    assert design.patients is not None
    assert smallest_difference(found.spread.planned([4], design.patients)) == pytest.approx(
        found.smallest_difference, rel=0.05
    )


def test_more_seeds_need_fewer_patients() -> None:
    needed = [design.patients or math.inf for design in designs(verdict(rows(), "a", "b").spread, 0.1)]
    assert needed == sorted(needed, reverse=True)


def test_no_design_shows_a_difference_of_nothing() -> None:
    with pytest.raises(InputError, match="cannot be planned for"):
        designs(verdict(rows(), "a", "b").spread, 0.0)


def test_medkit_itself_has_the_function() -> None:
    assert medkit.verdict is verdict
