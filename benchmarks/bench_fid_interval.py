"""How often 95 % intervals of the Fréchet distance contain its mean: jackknife over patients against bootstrap.

Each simulated patient has its own level of features and its own strength of the denoiser. The true value is the mean
distance over 200 test sets of the same size. For three sizes it counts how many of 60 test sets' intervals contain it.

    OMP_NUM_THREADS=1 python benchmarks/bench_fid_interval.py
"""

from __future__ import annotations

import numpy as np
from medkit_benchmarks import script
from medkit_benchmarks.kept_table import keep

from medkit.evaluation.evaluate import stack
from medkit.evaluation.statistics import bootstrap_interval
from medkit.parts.features import RANDOM
from medkit.parts.metrics_fid import FID, SliceFeatures

TRUTH, SETS, DRAWS = 200, 60, 100


def simulate(rng: np.random.Generator, patients: int, slices: int, spectrum: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of one test set."""
    rows = []
    for _ in range(patients):
        level, strength = rng.normal(size=len(spectrum)), 1 + 0.2 * rng.normal()
        target = 0.7 * spectrum * (level + rng.normal(size=(slices, len(spectrum))))
        noise = 0.2 * spectrum * rng.normal(size=target.shape)
        output = 0.9 * target + 0.3 * strength * spectrum + noise
        rows.append({"features": SliceFeatures(output, target, target, np.zeros(slices, bool))})
    return stack(rows)


def main() -> None:
    script.parser(__doc__).parse_args()
    metric, found = FID(RANDOM), []
    for patients, slices, features in ((15, 8, 64), (15, 8, 512), (10, 20, 256)):
        rng = np.random.default_rng(1)
        spectrum = np.arange(1.0, features + 1) ** -0.5
        truth = np.mean([metric.compute(simulate(rng, patients, slices, spectrum)) for _ in range(TRUTH)])
        names = [f"p{i}" for i in range(patients)]
        held = np.zeros(2)
        for _ in range(SETS):
            rows = simulate(rng, patients, slices, spectrum)
            intervals = (metric.interval(rows, names), bootstrap_interval(metric.compute, rows, names, draws=DRAWS))
            held += [low <= truth <= high for low, high in intervals]
        found.append((patients, slices, features, *(100 * held / SETS).tolist()))
    counts = dict.fromkeys(("patients", "slices each", "features"), "d")
    note = f"Percent of {SETS} simulated test sets whose 95 % interval contains the mean distance; {DRAWS} bootstrap draws."
    keep("fid_interval", {**counts, "jackknife": ".0f", "bootstrap": ".0f"}, found, note)


if __name__ == "__main__":
    main()
