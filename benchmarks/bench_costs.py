"""CPU time of images made on the fly: phantom radiographs, and slices distorted for Models Genesis.

OMP_NUM_THREADS=1 python benchmarks/bench_costs.py
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from medkit_baselines.genesis_transforms import distort
from medkit_benchmarks import script
from medkit_benchmarks.bench_data import head
from medkit_benchmarks.kept_table import keep
from medkit_phantoms.radiographs.source import Radiographs

ROUNDS, ITEMS = 7, 20


def milliseconds(make: Callable[[int], object]) -> float:
    """CPU time of one item: the median over rounds of ``ITEMS`` different ones."""
    found = []
    for turn in range(ROUNDS):
        start = time.process_time()
        for item in range(ITEMS):
            make(turn * ITEMS + item)
        found.append(1e3 * (time.process_time() - start) / ITEMS)
    return statistics.median(found)


def radiograph(*views: str) -> Callable[[int], object]:
    source = Radiographs(patients=ROUNDS * ITEMS, views=views or None)
    cases = source.cases()
    return lambda item: source.load(cases[item])


def distortion(blocks: int) -> Callable[[int], object]:
    image = head(1, 256).astype(np.float32)
    image = (image - image.min()) / np.ptp(image)
    return lambda item: distort(image, random.Random(item), np.random.default_rng(item), number=blocks)


THINGS: dict[str, Callable[[], Callable[[int], object]]] = {
    "a phantom radiograph of any view, 256 pixels": radiograph,
    "a phantom radiograph of a hand, 256 pixels": partial(radiograph, "Hand_PA"),
    "a phantom radiograph of a whole spine, 256 pixels": partial(radiograph, "Whole_Spine_AP"),
    "a slice of 256x256 distorted as by Models Genesis, 10,000 blocks": partial(distortion, 10_000),
    "a slice of 256x256 distorted as by Models Genesis, 1,000 blocks": partial(distortion, 1_000),
}


def main() -> None:
    script.parser(__doc__).parse_args()
    rows = [(what, milliseconds(make())) for what, make in THINGS.items()]
    note = f"CPU time of one thread; medians of {ROUNDS} rounds of {ITEMS} items."
    keep("costs", {"what": "", "ms": ",.0f"}, rows, note)


if __name__ == "__main__":
    main()
