"""Claims written down before a study: supported, contradicted or undecided, by verdicts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies.conftest import Write, study

from medkit.errors import Problems
from medkit.evaluation.verdict import verdicts
from medkit.evaluation.verdict_change import ChangeVerdict
from medkit.evaluation.verdict_spread import SpreadVerdict
from medkit.studies.claim import judged_claim
from medkit.studies.judge import BesideMeans, Judged
from medkit.studies.reader import bundled, load_study

SAID = {"says": "A is better.", "better": ["a"], "source": "a table"}


def compared(**gains: float) -> Judged:
    """Methods against ``b`` on twenty patients and five seeds, each better by its gain."""
    rng, rows = np.random.default_rng(0), []
    patients = rng.normal(0, 0.1, 20)
    for method, gain in {"b": 0.0, **gains}.items():
        for seed in range(5):
            for patient, level in enumerate(patients):
                value = level + gain + rng.normal(0, 0.02)
                rows.append({"method": method, "seed": seed, "patient": f"p{patient}", "value": value})
    return Judged(("all",), verdicts(rows, "b"))


@pytest.mark.parametrize(
    ("gains", "found"), [((0.2, 0.2), "supported"), ((0.2, -0.2), "contradicted"), ((0.2, 0.0), "undecided")]
)
def test_it_takes_every_point_to_support_and_one_to_contradict(gains: tuple[float, float], found: str) -> None:
    assert judged_claim(SAID, [compared(a=gain) for gain in gains]).found == found


def test_methods_that_nobody_claims_anything_of_do_not_count() -> None:
    assert judged_claim(SAID, [compared(a=0.2, other=-0.2)]).found == "supported"


@pytest.mark.parametrize(("gain", "found"), [(-0.2, "supported"), (0.2, "contradicted"), (0.0, "undecided")])
def test_methods_that_are_said_to_be_worse_have_to_lose(gain: float, found: str) -> None:
    said = {"says": "B is better.", "worse": ["a"]}
    assert judged_claim(said, [compared(a=gain)]).found == found


def spread(ratio: float, p: float) -> BesideMeans:
    one = SpreadVerdict("a", "b", ratio, ratio / 2, ratio * 2, p, p, (ratio, 1.0), 10, 10, 20, True)
    return BesideMeans("spread", (), [one])


@pytest.mark.parametrize(
    ("ratio", "p", "found"), [(0.3, 0.01, "supported"), (3.0, 0.01, "contradicted"), (0.3, 0.2, "undecided")]
)
def test_steadier_methods_have_to_differ_less_by_their_seed(ratio: float, p: float, found: str) -> None:
    said = {"says": "A is steadier.", "steadier": ["a"]}
    judged = judged_claim(said, [compared(a=-0.2)], [spread(ratio, p)])
    assert judged.found == found
    assert judged.numbers[0]["ratio"] == ratio


@pytest.mark.parametrize(
    ("estimate", "p", "found"), [(0.1, 0.01, "supported"), (-0.1, 0.01, "contradicted"), (0.1, 0.2, "undecided")]
)
def test_methods_that_lose_less_have_to_keep_more(estimate: float, p: float, found: str) -> None:
    said = {"says": "A keeps more.", "loses_less": ["a"]}
    change = BesideMeans(
        "change", (), [ChangeVerdict("a", "b", estimate, estimate - 0.05, estimate + 0.05, p, p, 5, 20, 30)]
    )
    assert judged_claim(said, [compared(a=0.0)], changes=[change]).found == found


def test_a_spread_that_could_not_be_judged_supports_nothing() -> None:
    found = judged_claim(
        {"says": "A is steadier.", "steadier": ["a"]}, [compared(a=0.2)], [BesideMeans("spread", (), [])]
    )
    assert (found.found, found.why) == ("undecided", "shown in 0 of 1 comparisons; 1 could not be judged")


def test_undecided_says_what_a_study_of_this_size_would_have_shown() -> None:
    why = judged_claim(SAID, [compared(a=0.0)]).why
    assert why.startswith("shown in 0 of 1 comparisons; 'a' minus 'b' is")
    assert "shows differences from 0.0" in why


def test_what_could_not_be_judged_supports_nothing() -> None:
    found = judged_claim(SAID, [compared(a=0.2), Judged(("few",), [], "fewer than 3 seeds")])
    assert (found.found, found.why) == (
        "undecided",
        "shown in 1 of 2 comparisons; 1 could not be judged: fewer than 3 seeds",
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"better": ["clss"]}, r"study\.yaml:\d+:\d+: claim\.better: 'clss' is not one of them; did you mean 'cls'"),
        ({"better": ["scratch"]}, "'scratch' is not one of them"),
        ({"better": []}, "no method is said to be better, worse, steadier, loses less"),
        ({"better": [], "worse": ["clss"]}, r"claim\.worse: 'clss' is not one of them; did you mean 'cls'"),
        ({"better": [], "loses_less": ["cls"], "than_on": "external1"}, "than on 'external1', which is not compared"),
        ({"better": [], "loses_less": ["cls"]}, "than on 'nothing', which is not compared"),
        ({"says": " "}, "claim.says: no reason is given"),
        ({"says": None}, "claim"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(
    change: dict[str, Any], told: str, write_study: Write, tmp_path: Path
) -> None:
    said = study() | {"claim": {"says": "It helps.", "better": ["cls"], **change}}
    with pytest.raises(Problems, match=told):
        load_study(write_study(tmp_path, said))


def test_a_claim_needs_a_reference(write_study: Write, tmp_path: Path) -> None:
    said = study() | {"claim": {"says": "It helps.", "better": ["cls"]}}
    said["compare"].pop("reference")
    with pytest.raises(Problems, match="nothing says better than which"):
        load_study(write_study(tmp_path, said))


def test_bundled_claims_are_written_down_with_five_seeds() -> None:
    claims = [load_study(name) for name, _ in bundled() if name.startswith("claims/")]
    assert len(claims) >= 5
    for one in claims:
        assert one.claim is not None, one.name
        assert one.claim.source, one.name
        assert len(one.axis("seed").values) >= (10 if one.claim.steadier else 5), one.name
