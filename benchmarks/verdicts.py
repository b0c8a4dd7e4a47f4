"""How often verdicts are right: simulated studies of two methods whose true difference is known.

For every number of seeds and patients and every split of the variance, it measures how often the 95 % interval contains
the true difference, how often a new training on new patients falls where the verdict says, whether methods win as often
as its probability says, and how often a study shows its smallest difference. Beside it are the usual tests, a paired
t-test over patients with one seed and with the mean over seeds: how often they find a difference where there is none.

    OMP_NUM_THREADS=1 python benchmarks/verdicts.py [--studies 20000] [--into docs/verdicts.md]
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from medkit_benchmarks import script
from scipy import special

from medkit.bench.table import fill
from medkit.evaluation.verdict_power import smallest_difference
from medkit.evaluation.verdict_variance import JOINED, WELCH, Spread, paired_spread, unpaired_spread

RESULTS = Path("benchmarks/results/verdicts.json")
STUDIES, CHUNK = 20_000, 1_000
AREAS = 4_000  # studies of areas under curves, whose pseudo-values take longer
SEEDS, PATIENTS = (3, 5, 10), (10, 30, 100)
SPLITS = {
    "rest only": (0.0, 0.0, 1.0),
    "patients and rest": (0.5, 0.0, 0.5),
    "patients": (0.9, 0.0, 0.1),
    "some of seeds": (0.6, 0.1, 0.3),
    "equal": (1 / 3, 1 / 3, 1 / 3),
    "seeds": (0.1, 0.8, 0.1),
    "worst": (math.nan, math.nan, math.nan),
}
"""Variance of patients, seeds and rest. In the worst split, patients and seeds have equal parts in the mean's variance."""
KINDS = ("normal", "unpaired", "skewed patients", "bad trainings", "uneven rest", "yes or no", "auc")
SOME = ("patients and rest", "equal", "seeds")
BINS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1])
WIDTHS = (5.0, 1.0, 0.0)
"""Spread of the true differences of many studies, in standard deviations of a new training's difference."""


@dataclass(frozen=True)
class Cell:
    """Studies of one design, split and kind."""

    seeds: int
    patients: int
    split: str
    kind: str = "normal"

    @property
    def variances(self) -> tuple[float, float, float]:
        if self.split != "worst":
            return SPLITS[self.split]
        both = 0.95 / (self.seeds + self.patients)
        return both * self.patients, both * self.seeds, 0.05

    @property
    def has_truth(self) -> bool:
        """Whether variances of the values themselves are known, not only those of scores behind them."""
        return self.kind not in ("yes or no", "auc")

    @property
    def truth(self) -> Spread:
        """The true spread."""
        patients, seeds, rest = self.variances
        groups = 2 if self.kind == "unpaired" else 1
        trainings, apart = (seeds + rest / self.patients) / groups, rest / groups
        return Spread(0.0, (trainings,) * groups, patients, (apart,) * groups, (self.seeds,) * groups, self.patients)


def cells() -> Iterator[Cell]:
    """All that is simulated: every split with normal effects, three splits of every other kind."""
    for kind in KINDS:
        for split in SPLITS if kind in ("normal", "unpaired") else SOME:
            for seeds in SEEDS:
                for patients in PATIENTS:
                    yield Cell(seeds, patients, split, kind)


def values(cell: Cell, seeds: int, studies: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Values of two methods without a difference, each (studies, seeds, patients), on new patients."""
    shape = (studies, seeds, cell.patients)
    of_patients, of_seeds, of_rest = (math.sqrt(variance) for variance in cell.variances)
    if cell.kind == "auc":
        return areas(cell, seeds, studies, rng), areas(cell, seeds, studies, rng)
    if cell.kind == "yes or no":  # a threshold over scores; each method's scores have all of the effects
        level = rng.normal(size=(studies, 1, cell.patients))
        a, b = (
            level
            + of_patients * rng.normal(size=(studies, 1, cell.patients))
            + of_seeds * rng.normal(size=(studies, seeds, 1))
            + of_rest * rng.normal(size=shape)
            for _ in range(2)
        )
        return (a > -0.8).astype(float), (b > -0.8).astype(float)
    patient = rng.normal(size=(studies, 1, cell.patients))
    if cell.kind == "skewed patients":  # log-normal, skewness 6.2
        patient = (np.exp(patient) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
    seed = rng.normal(size=(studies, seeds, 1))
    if cell.kind == "bad trainings":  # exponential, skewness -2: most trainings are alike, some are much worse
        seed = 1 - rng.exponential(size=seed.shape)
    rest = rng.normal(size=shape)
    if cell.kind == "uneven rest":  # trainings differ more in some patients: by a factor of 5 between quartiles
        rest = rest * np.exp(1.2 * rng.normal(size=patient.shape) - 1.44)
    if cell.kind == "unpaired":
        half = math.sqrt(0.5)
        a = of_patients * patient + half * (of_seeds * seed + of_rest * rest)
        return a, half * (of_seeds * rng.normal(size=seed.shape) + of_rest * rng.normal(size=shape))
    return of_patients * patient + of_seeds * seed + of_rest * rest, np.zeros(shape)


def areas(cell: Cell, seeds: int, studies: int, rng: np.random.Generator) -> np.ndarray:
    """Pseudo-values (studies, seeds, patients) of a method's AUC, about 0.86; half of the patients are positive.

    Patients and the rest have the variance of scores in their proportion; trainings differ in how far they separate the
    classes, by a third where seeds have all of the variance.
    """
    patients, of_seeds, rest = cell.variances
    of_patients, of_rest = math.sqrt(patients / (patients + rest)), math.sqrt(rest / (patients + rest))
    n, found = cell.patients // 2, []
    for _ in range(studies):
        parted = 1.5 + 0.5 * math.sqrt(of_seeds) * rng.normal(size=(seeds, 1))
        noise = of_patients * rng.normal(size=cell.patients) + of_rest * rng.normal(size=(seeds, cell.patients))
        positive, negative = parted + noise[:, :n], noise[:, n:]
        over = (positive[:, :, None] > negative[:, None]).astype(float)
        area = over.mean((1, 2), keepdims=True)[..., 0]
        # Leaving out one of n positives changes the mean over them only.
        times = (2 * n - 1) / (n - 1)
        found.append(np.concatenate([area + times * (over.mean(2) - area), area + times * (over.mean(1) - area)], 1))
    return np.array(found)


def _wrong(differences: np.ndarray) -> np.ndarray:
    """Whether a paired t-test over patients (studies, patients) finds a difference where there is none."""
    n = differences.shape[-1]
    error = differences.std(-1, ddof=1) / math.sqrt(n)
    return np.abs(differences.mean(-1)) > special.stdtrit(n - 1, 0.975) * error


def measured(cell: Cell, studies: int = STUDIES, seed: int = 0) -> dict[str, Any]:
    """Results of many studies of a cell, as fractions of them."""
    rng = np.random.default_rng([seed, *cell_number(cell)])
    studies = min(studies, AREAS) if cell.kind == "auc" else studies
    least = smallest_difference(cell.truth) if cell.has_truth else math.nan
    deviation = math.sqrt(float(cell.truth.of_new().variance) - float(cell.truth.of_estimate().variance))
    sums: dict[str, Any] = {}
    said = np.zeros((len(WIDTHS), len(BINS) - 1, 3))
    for start in range(0, studies, CHUNK):
        count = min(CHUNK, studies - start)
        a, b = values(cell, cell.seeds, count, rng)
        spread = unpaired_spread(a, b) if cell.kind == "unpaired" else paired_spread(a - b)
        half, new = spread.of_estimate().within(), spread.of_new()
        again = np.subtract(*(v.mean((-2, -1)) for v in values(cell, 1, count, rng)))
        away = np.abs(again - spread.estimate)
        told = {
            "held": np.abs(spread.estimate) <= half,
            "shown": spread.estimate + least > half,
            "within_80": away <= new.within(0.8),
            "within_95": away <= new.within(0.95),
            "wrong_one_seed": _wrong(a[:, 0] - b[:, 0]),
            "wrong_mean_of_seeds": _wrong((a - b).mean(1)),
            "undefined": np.isnan(half),
        }
        for name, value in told.items():
            sums[name] = sums.get(name, 0) + int(value.sum())
        for i, width in enumerate(WIDTHS if cell.kind == "normal" else ()):
            true = width * deviation * rng.normal(size=count)
            probability = new.below(spread.estimate + true)
            known = ~np.isnan(probability)
            at = np.clip(np.searchsorted(BINS, probability[known], "right") - 1, 0, len(BINS) - 2)
            for k, column in enumerate((np.ones(count), probability, again + true > 0)):
                said[i, :, k] += np.bincount(at, column[known], len(BINS) - 1)
    found = {**asdict(cell), "studies": studies, **{name: total / studies for name, total in sums.items()}}
    if found["undefined"]:  # nothing varied, so there was no verdict
        found["held"] /= 1 - found["undefined"]
    if not cell.has_truth:
        del found["shown"]
    return found | ({"said": said.tolist()} if cell.kind == "normal" else {})


def extremes(seeds: int, patients: int, exponent: float, draws: int = 6_000) -> tuple[float, float]:
    """Lowest and highest coverage of intervals over all splits of the variance, with normal effects and paired seeds.

    Mean squares are drawn, the rest is calculated: the error of an estimate is normal and independent of them.
    """
    rng = np.random.default_rng([seeds, patients])
    few, many = seeds - 1, patients - 1
    of_seeds, of_patients, rest = (rng.chisquare(d, draws) / d for d in (few, many, few * many))
    ratios = (1, 1.2, 1.5, 2, 3, 5, 10, 30, 100, 1000)  # expected mean squares to that of the rest
    held = []
    for r in ratios:
        for q in ratios:
            more = np.maximum(q * of_patients - rest, 0)
            total = r * of_seeds + more
            share = r * of_seeds / total
            degrees = 1 / (share**exponent / few + (1 - share) ** exponent / many)
            half = special.stdtrit(degrees, 0.975) * np.sqrt(total / (r + q - 1))
            held.append(float(np.mean(2 * special.ndtr(half) - 1)))
    return min(held), max(held)


def _of_extremes() -> str:
    heads = ["exponent", *(f"{m} seeds, {n} patients" for m in SEEDS for n in PATIENTS)]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for name, exponent in (("2 (Satterthwaite)", WELCH), ("5/4", JOINED)):
        lines.append(_line([name, *(_range(list(extremes(m, n, exponent))) for m in SEEDS for n in PATIENTS)]))
    return "\n".join(lines)


def cell_number(cell: Cell) -> tuple[int, int, int, int]:
    """A cell's own random stream, so that it has the same studies whatever else is simulated."""
    return KINDS.index(cell.kind), list(SPLITS).index(cell.split), cell.seeds, cell.patients


def markdown(found: list[dict[str, Any]]) -> str:
    """The tables of docs/verdicts.md."""
    titles = (
        "How many of 100 intervals contain the true difference, with normal effects, by the split of variance:",
        "Other kinds of values, and how often the usual tests find a difference where there is none (5 of 100 is right):",
        "Fewest and most of 100 intervals that contain it over all splits of the variance, calculated, by the exponent in ν:",
        "How many of 100 new trainings were won, by the probability that the verdict gave (and its mean):",
    )
    tables = (_of_splits(found), _of_kinds(found), _of_extremes(), _of_probability(found))
    return "\n\n".join(part for both in zip(titles, tables, strict=True) for part in both)


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _of_splits(found: list[dict[str, Any]]) -> str:
    names = list(SPLITS)
    heads = ["seeds", "patients", *names, "unpaired, all splits", "new trainings in their 80 %", "power of 80 %"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for seeds in SEEDS:
        for patients in PATIENTS:
            of = {(c["kind"], c["split"]): c for c in found if (c["seeds"], c["patients"]) == (seeds, patients)}
            normal = [of["normal", name] for name in names]
            lines.append(
                _line(
                    [
                        seeds,
                        patients,
                        *(_percent(c["held"]) for c in normal),
                        _range([of["unpaired", name]["held"] for name in names]),
                        _range([c["within_80"] for c in normal]),
                        _range([c["shown"] for c in normal]),
                    ]
                )
            )
    return "\n".join(lines)


def _range(shares: list[float]) -> str:
    return f"{_percent(min(shares))} to {_percent(max(shares))}"


def _of_kinds(found: list[dict[str, Any]]) -> str:
    sizes = ", ".join(map(str, PATIENTS))
    heads = ["values", "variance", "verdict holds", f"wrong with one seed ({sizes} patients)"]
    heads += [f"wrong with the mean of {n} seeds" for n in SEEDS]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for kind in KINDS:
        for split in SOME:
            of = {(c["seeds"], c["patients"]): c for c in found if (c["kind"], c["split"]) == (kind, split)}
            cells = [kind, split, _range([c["held"] for c in of.values()])]
            cells.append(", ".join(f"{100 * of[5, n]['wrong_one_seed']:.0f}" for n in PATIENTS))
            cells += [", ".join(f"{100 * of[m, n]['wrong_mean_of_seeds']:.0f}" for n in PATIENTS) for m in SEEDS]
            lines.append(_line(cells))
    return "\n".join(lines)


def _of_probability(found: list[dict[str, Any]]) -> str:
    heads = ["true differences", *(f"{BINS[i]:g} to {BINS[i + 1]:g}" for i in range(len(BINS) // 2, len(BINS) - 1))]
    lines = [_line(heads), _line(["---"] * len(heads))]
    total = sum(np.array(c["said"]) for c in found if c["kind"] == "normal")
    for i, name in enumerate(("wide (5 sd)", "as wide as chance (1 sd)", "none at all")):
        row = total[i, len(BINS) // 2 :]
        lines.append(_line([name, *(f"{_percent(won / n)} (said {_percent(told / n)})" for n, told, won in row)]))
    return "\n".join(lines)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="simulated studies per cell (%(default)s)")
    parser.add_argument("--into", type=Path, help="a page with the lines '<!-- bench verdicts -->' and '<!-- end -->'")
    parser.add_argument("--again", action="store_true", help="simulate again instead of showing the kept results")
    arguments = parser.parse_args()
    if arguments.again or not RESULTS.is_file():
        found = [measured(cell, arguments.studies) for cell in cells()]
        RESULTS.write_text(json.dumps(found, indent=None).replace("}, {", "},\n{") + "\n", encoding="utf-8")
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    print(markdown(found)) if arguments.into is None else fill(arguments.into, "verdicts", markdown(found))


if __name__ == "__main__":
    main()
