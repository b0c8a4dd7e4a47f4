"""The random generators of items, many at once.

``numpy.random.default_rng([seed, epoch, 1, position])`` takes as long as reading a small sample. Here the hashing of
``numpy.random.SeedSequence`` (O'Neill's seed_seq, which NumPy promises to keep) is done for all positions of a block
together, and one PCG64 is set to each state in turn. The numbers are the same bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

WORD = 2**32
POOL = 4
BLOCK = 1024  # positions that are hashed together
INIT_A, MULT_A = 0x43B0D7E5, 0x931E8875
INIT_B, MULT_B = 0x8B51F9DD, 0x58F38DED
MIX_LEFT, MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
SHIFT = np.uint32(16)
PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
MASK = 2**128 - 1


def generators(seed: int, epoch: int, positions: Iterable[int]) -> Iterator[np.random.Generator]:
    """``default_rng([seed, epoch, 1, position])`` for each position: one object, valid until the next is requested."""
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    numbers: dict[str, int] = {}
    state: Any = {"bit_generator": "PCG64", "state": numbers, "has_uint32": 0, "uinteger": 0}
    current, words = -1, []
    for position in positions:
        if max(seed, epoch, position) >= WORD:
            yield np.random.default_rng([seed, epoch, 1, position])
            continue
        block, place = divmod(position, BLOCK)
        if block != current:
            current, words = block, _block(seed, epoch, block)
        high, low, sequence_high, sequence_low = words[place]
        numbers["inc"] = increment = (sequence_high << 65 | sequence_low << 1 | 1) & MASK
        numbers["state"] = ((increment + (high << 64 | low)) * PCG_MULTIPLIER + increment) & MASK
        bits.state = state
        yield generator


@functools.lru_cache(maxsize=4)
def _block(seed: int, epoch: int, block: int) -> list[list[int]]:
    """:func:`_words` for the ``BLOCK`` positions of a block."""
    first = block * BLOCK
    return _words(seed, epoch, np.arange(first, min(first + BLOCK, WORD)).astype(np.uint32)).tolist()  # type: ignore[no-any-return]


def _words(seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """(n,4) uint64: ``SeedSequence([seed, epoch, 1, position]).generate_state(4, uint64)``."""
    hashed = _Hash(INIT_A, MULT_A)
    entropy = np.empty((POOL, len(positions)), np.uint32)
    entropy[0], entropy[1], entropy[2], entropy[3] = seed, epoch, 1, positions
    pool = [hashed(word) for word in entropy]
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                mixed: np.ndarray = MIX_LEFT * pool[target] - MIX_RIGHT * hashed(pool[source])
                pool[target] = mixed ^ (mixed >> SHIFT)
    hashed = _Hash(INIT_B, MULT_B)
    words = [hashed(pool[i % POOL]).astype(np.uint64) for i in range(2 * POOL)]
    return np.stack([words[2 * i] | (words[2 * i + 1] << np.uint64(32)) for i in range(POOL)], axis=1)


class _Hash:
    """Mixes values with a sequence of constants: each call XORs with one and multiplies by the next."""

    def __init__(self, first: int, factor: int) -> None:
        self.constant, self.factor = first, factor

    def __call__(self, values: np.ndarray) -> np.ndarray:
        mixed = values ^ np.uint32(self.constant)
        self.constant = self.constant * self.factor % WORD
        mixed = mixed * np.uint32(self.constant)
        return mixed ^ (mixed >> SHIFT)
