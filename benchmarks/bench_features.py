"""Features of many slices, computed and kept, against a bare loop of the same encoder over torch's DataLoader.

Writes benchmarks/results/ratio-features.json. Prepared samples are in the cache; the bare loop keeps nothing.

python benchmarks/bench_features.py [--slices 10000] [--rounds 3] [--model resnet18] [--side 96]
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from medkit_benchmarks import script
from torch.utils.data import DataLoader

from medkit.bench.ratio import Ratio, save, take_turns
from medkit.data.dataset import Dataset
from medkit.data.volume import Volume
from medkit.engine.runtime import Runtime
from medkit.evaluation.features import Encoding, Features, encoding_key
from medkit.parts.encoders import TimmEncoder
from medkit.protocols import Case, Record

DEPTH, BATCH = 20, 32


class Noise:
    """Cases of ``DEPTH`` slices of noise."""

    def __init__(self, cases: int, side: int) -> None:
        self.count, self.side = cases, side

    def cases(self) -> list[Case]:
        return [Case(f"c{i}", f"p{i}") for i in range(self.count)]

    def load(self, case: Case) -> Record:
        rng = np.random.default_rng(int(case.id[1:]))
        return Record(Volume(rng.random((DEPTH, self.side, self.side), np.float32)))

    def identity(self, case: Case) -> str:
        return f"{case.id} {self.side}"


class Slices(torch.utils.data.Dataset[Any]):
    """The slices of all cases, one per item, as one would write it; a case stays open while its slices are read."""

    def __init__(self, data: Dataset, cases: list[Case]) -> None:
        self.data, self.cases = data, cases
        self.open: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return DEPTH * len(self.cases)

    def __getitem__(self, i: int) -> torch.Tensor:
        index, z = divmod(i, DEPTH)
        if self.open[0] != index:
            self.open = index, self.data.sample(self.cases[index]).image
        return torch.from_numpy(np.array(self.open[1][z]))[None]


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--slices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--side", type=int, default=96)
    arguments = parser.parse_args()
    runtime = Runtime(torch.device("cpu"))
    encoder = TimmEncoder(arguments.model).eval()
    key = encoding_key(encoder, "mean", BATCH, runtime)

    def encode(images: torch.Tensor) -> torch.Tensor:
        return encoder(images)[-1].mean((2, 3))

    with tempfile.TemporaryDirectory() as name:
        data = Dataset(Noise(arguments.slices // DEPTH, arguments.side), {}, cache_dir=Path(name))
        cases = data.source.cases()
        data.prepare_all(cases)
        made = 0

        def bare() -> None:
            with torch.inference_mode():
                torch.cat([encode(images) for images in DataLoader(Slices(data, list(cases)), batch_size=BATCH)])

        def kept() -> None:
            nonlocal made
            made += 1  # a key of its own, so that nothing is there yet
            assert Features(data, Encoding(encode, f"{key}{made}", BATCH), runtime).compute(cases) == len(cases)

        times = take_turns({"DataLoader": bare, "medkit": kept}, arguments.rounds, "wall")
    note = f"{arguments.slices} slices of {arguments.side}x{arguments.side} by {arguments.model}, batches of {BATCH}."
    note += f" When it began, {os.getloadavg()[0]:.1f} processes were at work on {os.cpu_count()} cores."
    save(
        "features",
        [Ratio.of("features: a bare loop over features kept", times, "DataLoader", "medkit", at_least=0.9, note=note)],
    )


if __name__ == "__main__":
    main()
