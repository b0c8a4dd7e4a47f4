"""What can be said about features without a task: how many directions they use, how they spread, how alike they are.

Every function takes (n,F) arrays. :func:`jackknife` gives an interval by leaving out groups of patients, since a
bootstrap that draws patients twice would find fewer directions than there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

GROUPS = 10


def rankme(features: np.ndarray) -> float:
    """The exponential of the entropy of singular values as shares of their sum, from 1 to min(n, F).

    Garrido et al., RankMe, ICML 2023: features are not centred, and 1e-7 is added to each share. A number near 1
    says that all images have about the same features: the encoder has collapsed.
    """
    return _entropy_rank(np.linalg.svd(np.asarray(features, np.float64), compute_uv=False))


def effective_rank(features: np.ndarray) -> float:
    """The effective rank (Roy and Vetterli, EUSIPCO 2007) of centred features, so that their mean does not count."""
    centred = features - features.mean(0, dtype=np.float64)
    return _entropy_rank(np.linalg.svd(centred, compute_uv=False))


def _entropy_rank(values: np.ndarray) -> float:
    if not values.sum():
        return 1.0
    shares = values / values.sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance between two views' features on the unit sphere, 0 if they agree, at most 4.

    Wang and Isola, ICML 2020, with alpha = 2. Rows are paired.
    """
    return float(np.square(_on_sphere(first) - _on_sphere(second)).sum(1).mean())


def uniformity(features: np.ndarray) -> float:
    """Logarithm of the mean of exp(-2 d^2) over all pairs on the unit sphere: 0 if all are equal, at least -8.

    Wang and Isola, ICML 2020, with t = 2. The lower, the more evenly features fill the sphere.
    """
    sphere = _on_sphere(features)
    likeness = (sphere @ sphere.T)[np.triu_indices(len(sphere), 1)]
    return float(np.log(np.exp(-2 * (2 - 2 * likeness)).mean()))


def _on_sphere(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    found: np.ndarray = np.asarray(features, np.float64) / np.maximum(lengths, 1e-12)
    return found


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """How alike two encoders see the same images, from 0 to 1: linear centred kernel alignment.

    Kornblith et al., ICML 2019. Rows are paired; rotation and scale of features are ignored.
    nan if one of them is constant.
    """
    x, y = (features - features.mean(0, dtype=np.float64) for features in (first, second))
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.square(np.linalg.norm(x.T @ y)) / scale) if scale else float("nan")


def jackknife(
    statistic: Callable[..., float], arrays: Sequence[np.ndarray], patients: Sequence[str], seed: int = 0
) -> tuple[float, float, float]:
    """A statistic of arrays with rows in common, and its 95 % interval from leaving out each tenth of the patients.

    With g groups the squared standard error is (g - 1) / g times the sum of squared deviations of the g values left.
    The ends are nan with fewer than six patients.
    """
    value = statistic(*arrays)
    names = np.unique(patients)
    count = min(GROUPS, len(names))
    if len(names) < 6:
        return value, float("nan"), float("nan")
    groups = np.array_split(np.random.default_rng(seed).permutation(names), count)
    kept = [~np.isin(patients, group) for group in groups]
    left = np.array([statistic(*(array[rows] for array in arrays)) for rows in kept])
    error = float(np.sqrt((count - 1) / count * np.square(left - left.mean()).sum()))
    return value, value - 1.96 * error, value + 1.96 * error
