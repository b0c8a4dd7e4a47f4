"""The random generators of a batch's items, all at once.

``numpy.random.default_rng([seed, epoch, 1, position])`` takes as long as reading a small sample. Here the hashing of
``numpy.random.SeedSequence`` (O'Neill's seed_seq, with the constants that NumPy documents as stable) is done for all
positions together, and one PCG64 is set to each state in turn. The numbers are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

WORD = 2**32
POOL = 4
INIT_A, MULT_A = 0x43B0D7E5, 0x931E8875
INIT_B, MULT_B = 0x8B51F9DD, 0x58F38DED
MIX_LEFT, MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
SHIFT = np.uint32(16)
PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
MASK = 2**128 - 1


def generators(seed: int, epoch: int, positions: Sequence[int]) -> Iterator[np.random.Generator]:
    """What ``default_rng([seed, epoch, 1, position])`` is for each position: one object, good until the next."""
    if not positions or max(seed, epoch, *positions) >= WORD:
        for position in positions:
            yield np.random.default_rng([seed, epoch, 1, position])
        return
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    for high, low, sequence_high, sequence_low in _words(seed, epoch, positions).tolist():
        increment = (((sequence_high << 64 | sequence_low) << 1) | 1) & MASK
        state = (increment + (high << 64 | low)) & MASK
        state = (state * PCG_MULTIPLIER + increment) & MASK
        bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        yield generator


def _words(seed: int, epoch: int, positions: Sequence[int]) -> np.ndarray:
    """(n,4) uint64: ``SeedSequence([seed, epoch, 1, position]).generate_state(4, uint64)``."""
    hashed = _Hash(INIT_A, MULT_A)
    entropy = np.empty((POOL, len(positions)), np.uint32)
    entropy[0], entropy[1], entropy[2], entropy[3] = seed, epoch, 1, positions
    pool = [hashed(word) for word in entropy]
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                mixed = MIX_LEFT * pool[target] - MIX_RIGHT * hashed(pool[source])
                pool[target] = mixed ^ (mixed >> SHIFT)
    hashed = _Hash(INIT_B, MULT_B)
    words = [hashed(pool[i % POOL]).astype(np.uint64) for i in range(2 * POOL)]
    return np.stack([words[2 * i] | (words[2 * i + 1] << np.uint64(32)) for i in range(POOL)], axis=1)


class _Hash:
    """Mixes values by constants that follow one another: each call uses one to mix by and the next to multiply by."""

    def __init__(self, first: int, factor: int) -> None:
        self.constant, self.factor = first, factor

    def __call__(self, values: np.ndarray) -> np.ndarray:
        mixed = values ^ np.uint32(self.constant)
        self.constant = self.constant * self.factor % WORD
        mixed = mixed * np.uint32(self.constant)
        return mixed ^ (mixed >> SHIFT)
