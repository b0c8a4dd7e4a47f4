"""The suites as they are installed: names that tell their cases apart, sizes of the thesis, curves."""

from __future__ import annotations

import pytest

from medkit.bench import Case
from medkit.bench.child import load
from medkit.bench.runner import suites

CASES: dict[str, list[Case]] = {name: load(path).cases() for name, path in suites().items()}


@pytest.mark.parametrize("suite", CASES)
def test_no_two_cases_of_a_suite_have_one_name(suite: str) -> None:
    names = [case.name for case in CASES[suite]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("suite", CASES)
def test_every_suite_has_a_quick_case(suite: str) -> None:
    assert any(case.quick for case in CASES[suite])


@pytest.mark.parametrize("suite", ["fftconv", "spectral", "conv3d"])
def test_every_group_of_a_sweep_is_a_curve(suite: str) -> None:
    sizes: dict[str, set[int]] = {}
    for case in CASES[suite]:
        if case.group:
            sizes.setdefault(case.group, set()).add(case.size)
    assert {group: len(found) for group, found in sizes.items() if len(found) < 2} == {}


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("fftconv", ["over pixels", "over channels", "over width", "over images", "float64", "channels last"]),
        ("spectral", ["over side", "over channels", "over width", "float64", "channels last"]),
        ("conv3d", ["over depth", "over side", "over channels", "float64"]),
    ],
)
def test_the_sweeps_go_over_every_size_type_and_layout(suite: str, words: list[str]) -> None:
    groups = " | ".join(case.group for case in CASES[suite])
    assert [word for word in words if word not in groups] == []


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        ("fftconv", "inference 160x32x64x64"),
        ("fftconv", "inference 1x96x512x512"),
        ("conv3d", "forward 16 to 1 channels 28x256x256"),
        ("volume", "8 slices of 256x256"),
        ("data", "waiting for batches, 20 slices of 256x256"),
    ],
)
def test_the_sizes_of_the_thesis_are_among_the_cases(suite: str, name: str) -> None:
    assert name in [case.name for case in CASES[suite]]


def test_variants_of_lower_precision_are_held_against_their_own_roof() -> None:
    variants = [v for cases in CASES.values() for case in cases for v in case.variants]
    assert {v.dtype for v in variants if v.name.endswith("bf16")} == {"bfloat16"}
    assert {v.dtype for v in variants if v.name.endswith("tf32")} == {"tf32"}
