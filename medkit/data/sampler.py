"""Which cases an epoch visits, in which order, and which of them each rank and step get."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medkit.errors import InputError


class Sampler:
    """The order of the cases of every epoch: a pure function of (seed, epoch).

    All ranks share one permutation, and each takes every ``ranks``-th item of it. If that would leave a rank with a
    single item although a batch holds more, cases are repeated, since batch statistics need two.

    Parameters
    ----------
    count:
        Number of cases.
    repeats:
        How often an epoch visits each case.
    positive:
        Returns (count,) booleans; if given, equally many positive and negative cases are visited, repeating the rarer
        kind.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        repeats: int = 1,
        positive: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self.rank, self.ranks = rank, ranks
        self.repeats, self.positive = repeats, positive
        self._latest: tuple[int, np.ndarray] | None = None
        items = len(self.order(0)) // ranks
        if items == 0:
            raise InputError(f"{count} training cases are too few for {ranks} ranks", hint="use fewer devices")
        # A shorter last batch would be a noisy step, so it is left out if there are others.
        self.steps = max(1, items // batch)

    def order(self, epoch: int) -> np.ndarray:
        """(n,) indices of the cases of an epoch, for all ranks together."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self._order(epoch)
        return self._latest[1]

    def _order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch, 0])
        if self.positive is None:
            order = rng.permutation(self.count * self.repeats) % self.count
            if self.batch > 1 and 1 < self.ranks <= len(order) < 2 * self.ranks:
                # A rank with only one item also gets the one after it.
                after = np.arange(len(order), 2 * self.ranks) - self.ranks + 1
                order = np.concatenate([order, order[after % len(order)]])
            return order
        positive = self.positive()
        yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
        if not len(yes) or not len(no):
            raise InputError("'balance' needs positive and negative cases", hint="leave out 'balance'")
        a_rank = -(-max(len(yes), len(no)) * self.repeats // self.ranks)  # visits of each kind, rounded up
        size = a_rank * self.ranks
        drawn = [rng.permutation(np.resize(rng.permutation(kind), size)) for kind in (yes, no)]
        # Every rank gets a positive case, then every rank a negative one, so that they alternate on each.
        return np.stack([kind.reshape(a_rank, self.ranks) for kind in drawn], axis=1).reshape(-1)

    def step(self, epoch: int, step: int) -> list[tuple[int, int]]:
        """Case index, and position in the epoch, of every item of this rank in a step."""
        order = self.order(epoch)
        first = step * self.batch * self.ranks + self.rank
        positions = range(first, min(first + self.batch * self.ranks, len(order)), self.ranks)
        return list(zip(order[positions.start : positions.stop : positions.step].tolist(), positions, strict=True))
