"""Fréchet inception distance (FID) of all outputs to all targets."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from medkit.parts.features import RANDOM, Remembered, digest, network, slices_at_once
from medkit.parts.metrics_image import blank_slices
from medkit.registry.marks import Weights

Rows = Mapping[str, np.ndarray]
REMEMBERED = 8192


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the normal distributions fitted to (n,d) and (m,d) features (Heusel et al. 2017).

    |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) with the unbiased covariances A and B, in float64. The trace of the
    root is the sum of the singular values of X Y^T for any X^T X = A and Y^T Y = B. No matrix is squared, which would
    lose small eigenvalues: the distance of features to themselves is 0 up to rounding whether or not the covariance
    has full rank. nan with fewer than two features on a side.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    x, y = _root(a), _root(b)
    shift = np.mean(a, 0, np.float64) - np.mean(b, 0, np.float64)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return max(0.0, float(np.sum(shift * shift) + np.sum(x * x) + np.sum(y * y) - 2 * root))


def _root(features: np.ndarray) -> Any:
    """A matrix X, of at most d rows, with X^T X the unbiased covariance of (n,d) features."""
    centred = (features - np.mean(features, 0, np.float64)) / np.sqrt(len(features) - 1)
    return np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred


@dataclass(frozen=True, eq=False)
class SliceFeatures:
    """Features (D,d) of a case's slices, and which of them are blank (D,)."""

    output: np.ndarray
    target: np.ndarray
    image: np.ndarray
    blank: np.ndarray


class Embedder:
    """Features of slices by one network; slices seen before, such as targets, are remembered by their content."""

    def __init__(self, features: nn.Module) -> None:
        self.features = features
        self.device = next(features.parameters()).device
        self.known = Remembered(REMEMBERED)

    def __call__(self, slices: np.ndarray) -> np.ndarray:
        """(D,H,W) in [0,1] to (D,d) float32."""
        found = self.known.all([digest(image) for image in slices], lambda new: self._embed(slices[new]))
        return np.stack(found)

    @torch.inference_mode()
    def _embed(self, slices: np.ndarray) -> list[np.ndarray]:
        # Every slice becomes 299x299, whatever it was.
        step = 4 * slices_at_once(slices.shape[1:])
        found: list[np.ndarray] = []
        for start in range(0, len(slices), step):
            x = torch.from_numpy(np.asarray(slices[start : start + step], np.float32))[:, None]
            found += list(self.features(x.to(self.device)).float().cpu().numpy())
        return found


_shared = functools.cache(Embedder)


class FID:
    """Fréchet inception distance between the outputs' slices and the targets', exact in float64.

    It depends on how many slices there are: only FIDs from the same number compare. With random_test_features the
    metric is named ``fid_random``.

    Parameters
    ----------
    weights:
        PATH.safetensors, hub:pt_inception-2015-12-05 (downloaded) or random_test_features (for tests only).
    """

    unit = ""
    higher_is_better = False
    interval_method = "jackknife"
    empty = (
        "blank slices (input and target equal to 60 dB) are left out and counted; 'plain' is the distance with them; "
        "the interval is a jackknife's over patients"
    )

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.name = "fid_random" if weights == RANDOM else "fid"
        self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> None:
        """Compute on ``device`` from now on."""
        self.embedder = _shared(network("fid_inception", self.weights, device))

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        output, target, image = (self.embedder(np.asarray(case[name])) for name in ("output", "target", "image"))
        return {"features": SliceFeatures(output, target, image, blank_slices(case["image"], case["target"]))}

    def compute(self, rows: Rows) -> float:
        return _distance(rows["features"], "output")

    def extras(self, rows: Rows) -> dict[str, float]:
        """What goes with the value: the input's own, the distance with blank slices, how many of either there are."""
        blank = sum(float(case.blank.sum()) for case in rows["features"])
        return {
            "input": _distance(rows["features"], "image"),
            "target": 0.0,
            "plain": _distance(rows["features"], "output", blank=True),
            "counted_slices": sum(float(len(case.blank)) for case in rows["features"]) - blank,
            "blank_slices": blank,
        }

    def interval(self, rows: Rows, patients: Sequence[str]) -> tuple[float, float]:
        """95 % interval by the jackknife over patients (Efron and Stein 1981), not below 0; nan if it is not defined.

        FID grows as the number of different slices falls. A bootstrap sample has about two thirds of them, the set
        without one patient nearly all, and there are as many sets as patients, not a thousand. How often intervals of
        either kind cover the true value: benchmarks/bench_fid_interval.py.
        """
        owners = np.asarray(patients)
        names = np.unique(owners)
        count = len(names)
        if count < 2:
            return float("nan"), float("nan")
        without = np.array([_distance(rows["features"][owners != name], "output") for name in names])
        error = np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2))
        half = float(stats.t.ppf(0.975, count - 1) * error)
        if not np.isfinite(half):  # without one of the patients too few slices are left
            return float("nan"), float("nan")
        value = self.compute(rows)
        return max(0.0, value - half), value + half

    def score(self, row: Mapping[str, Any]) -> float:
        """nan: a distance between distributions has no value for one case."""
        return float("nan")


def _distance(cases: Iterable[SliceFeatures], name: str, blank: bool = False) -> float:
    found, wanted = [], []
    for case in cases:
        kept = slice(None) if blank else ~case.blank
        found.append(getattr(case, name)[kept])
        wanted.append(case.target[kept])
    return frechet_distance(np.concatenate(found), np.concatenate(wanted)) if found else float("nan")
