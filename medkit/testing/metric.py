"""The conformance check of metrics, on cases made by the evaluator itself (:mod:`medkit.testing`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkit.data.dataset import Sample, prepare_record
from medkit.data.transforms import Resize
from medkit.data.volume import Volume
from medkit.errors import RunError
from medkit.evaluation.evaluate import stack
from medkit.evaluation.items import check_predictions, items_of
from medkit.evaluation.own_interval import checked_ends
from medkit.evaluation.results import RESERVED
from medkit.protocols import Case, Record

SOURCE, PREPARED, DEPTH = (20, 18), (16, 16), 3


def example_cases(number: int = 6, unit: str = "volume") -> list[dict[str, Any]]:
    """Evaluated cases with every standard prediction, half of them positive, as the evaluator passes them to metrics.

    The source has voxels of about 5 x 1.1 x 0.4 mm, tilted, and 20 rows of 18; prepared slices have 16 of 16, so that a
    metric that confuses the two grids fails. Slices of the last case are unevenly spaced.
    """
    rng = np.random.default_rng(6)
    return [item for i in range(number) for item in _evaluated(rng, i, unit, uneven=i == number - 1)]


def _evaluated(rng: np.random.Generator, i: int, unit: str, uneven: bool) -> list[dict[str, Any]]:
    sample = _sample(rng, i, uneven)
    one = DEPTH if unit == "slice" else 1
    maps = {name: rng.random((DEPTH, 1, *PREPARED), np.float32) for name in ("mask_probability", "output")}
    numbers = {name: rng.random(one).astype(np.float32) for name in ("probability", "value")}
    arrays = {**maps, **numbers, "class_probability": rng.dirichlet(np.ones(3), one).astype(np.float32)}
    check_predictions(arrays, sample, "example")
    return items_of(sample, arrays, unit)


def _sample(rng: np.random.Generator, i: int, uneven: bool) -> Sample:
    shape = (DEPTH, *SOURCE)
    mask = np.zeros(shape, np.uint8)
    mask[:2, 4:9, 4:9] = i % 2
    affine = np.array([[0, 0, 0.4, -3], [1, 0.5, 0, 2], [5, 0, 0, 1], [0, 0, 0, 1.0]])
    heights = np.array([0.0, 5.0, 12.5 if uneven else 10.0])
    positions = affine[:3, 3] + np.stack([heights * 0, heights / 5, heights], 1) if uneven else None
    image, target = (rng.random(shape, np.float32) for _ in range(2))
    volumes = (Volume(voxels, affine, positions) for voxels in (image, mask, target))
    image_, mask_, target_ = volumes
    case = Case(f"case{i}", f"patient{i}", center="A")
    return prepare_record(Record(image_, mask=mask_, target=target_), case, [Resize(PREPARED)])


def check_on(metric: Any, other: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    """Check that a metric, with ``other`` built like it, keeps its promises on ``cases``."""
    for attribute in ("name", "unit", "higher_is_better", "empty"):
        assert hasattr(metric, attribute), f"the metric does not declare '{attribute}'"
    assert metric.name, "the metric has no name to be recorded under"
    assert isinstance(metric.higher_is_better, bool), "higher_is_better must be True or False"
    assert metric.empty, "say in 'empty' which cases are left out ('none' if none are)"
    for key in getattr(metric, "needs", ()):
        assert all(key in case for case in cases), f"the metric needs '{key}', which no evaluation gives"
    kept, patients = [], []
    # In the other order: what is remembered of earlier cases would be the same for both in the same one.
    others = [_per_case(other, copy.deepcopy(dict(case))) for case in reversed(cases)][::-1]
    for i, case in enumerate(cases):
        before = copy.deepcopy(dict(case))
        row = _per_case(metric, case)
        assert equal(before, case), "per_case() changes the case, which other metrics see too"
        assert equal(row, others[i]), (
            "per_case() differs for the same case: a metric must not be random, nor remember other cases"
        )
        if row is not None:
            assert isinstance(row, Mapping), f"per_case() must return a dictionary, or None, not a {type(row).__name__}"
            kept.append(row)
            patients.append(str(case.get("patient", i)))
    assert kept, "every one of these cases is empty for this metric: give others"
    keys = set(kept[0])
    assert all(set(row) == keys for row in kept), "rows have different keys, so they do not stack"
    rows = stack(kept)
    before = copy.deepcopy(rows)
    value = metric.compute(rows)
    assert isinstance(value, float), f"compute() must return a float, not a {type(value).__name__}"
    assert not math.isinf(value), f"compute() gives {value}: return nan for an undefined number"
    assert equal(before, rows), "compute() changes its rows, from which the bootstrap draws again"
    assert same(value, metric.compute(rows)), "compute() differs for the same rows"
    backwards = {name: column[::-1] for name, column in rows.items()}
    assert same(value, metric.compute(backwards)), "the number depends on the order of the cases"
    one = {name: column[:1] for name, column in rows.items()}
    assert isinstance(metric.compute(one), float), "compute() of one row must be a float (nan if it is undefined)"
    assert isinstance(metric.score(kept[0]), float), "score() must return a float (nan if there is none)"
    _check_extras(metric, rows, patients)
    _check_resampled(metric, rows, len(kept))


def _per_case(metric: Any, case: Mapping[str, Any]) -> Any:
    try:
        return metric.per_case(case)
    except KeyError as error:
        given = ", ".join(sorted(case))
        raise AssertionError(f"per_case() needs {error}, which no evaluation gives; one gives: {given}") from error


def _check_extras(metric: Any, rows: Mapping[str, np.ndarray], patients: Sequence[str]) -> None:
    extras = metric.extras(rows) if hasattr(metric, "extras") else {}
    for name, number in extras.items():
        assert isinstance(number, float), f"extras: '{name}' must be a float, not a {type(number).__name__}"
        assert name not in RESERVED, f"extras: '{name}' would replace the metric's own"
    ends = metric.interval(rows, patients) if hasattr(metric, "interval") else None
    if ends is not None:
        try:
            checked_ends(metric.name, ends, metric.compute(rows))
        except RunError as error:
            raise AssertionError(str(error)) from error


def _check_resampled(metric: Any, rows: Mapping[str, np.ndarray], count: int) -> None:
    picks = np.random.default_rng(0).integers(count, size=count)
    picked = {name: column[picks] for name, column in rows.items()}
    if hasattr(metric, "weighted"):
        times = np.bincount(picks, minlength=count)
        assert same(metric.compute(picked), float(metric.weighted(rows)(times))), "weighted() differs from compute()"
    if hasattr(metric, "of_sums"):
        sums = np.asarray(metric.terms(rows), float)[picks].sum(0)
        found = metric.of_sums(np.stack([sums, sums]))
        assert np.shape(found) == (2,), f"of_sums() of (2,k) sums has shape {np.shape(found)}, not (2,)"
        assert same(metric.compute(picked), float(found[0])), "of_sums() of sums of terms() differs from compute()"


def same(a: float, b: float) -> bool:
    """Whether two numbers are equal up to rounding; nan equals nan."""
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def equal(a: Any, b: Any) -> bool:
    """Whether two rows or cases are equal, including arrays and nan."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray) and a.dtype.kind == "O":
        return bool(all(x is y or equal(x, y) for x, y in zip(a, b, strict=True)))
    if isinstance(a, (np.ndarray, float, np.floating)):
        return np.shape(a) == np.shape(b) and bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"))
    if hasattr(a, "__dict__"):
        return equal(vars(a), vars(b))
    return bool(a == b)
