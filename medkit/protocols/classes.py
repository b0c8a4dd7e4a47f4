"""Classes of masks: what their numbers, or their bits, stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit.errors import InputError

MOST = 64
MOST_OVERLAPPING = 8


@dataclass(frozen=True)
class Classes:
    """Names of the classes of a data block's masks.

    A mask is (D,H,W) uint8. For classes that exclude each other it holds 0 (none) or the number of one, from 1 in the
    order of ``names``; for ``overlapping`` ones the sum of 1, 2, 4 ... of those that a voxel has.
    """

    names: tuple[str, ...]
    overlapping: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def largest(self) -> int:
        """The largest value of a mask."""
        return 2 ** len(self) - 1 if self.overlapping else len(self)

    @property
    def outputs(self) -> int:
        """Channels that a network outputs for them: including one for no class if they exclude each other."""
        return len(self) if self.overlapping else len(self) + 1

    @property
    def bits(self) -> int:
        """Bits that the largest value of a mask takes."""
        return self.largest.bit_length()

    def value(self, number: int) -> int:
        """What stands in a mask for a single class, by its place in ``names``."""
        return 1 << number if self.overlapping else number + 1

    def planes(self, mask: np.ndarray) -> np.ndarray:
        """(K,...) bool, where each class is, from a mask (...)."""
        values = [self.value(number) for number in range(len(self))]
        return np.stack([(mask & value) > 0 if self.overlapping else mask == value for value in values])

    def said(self, probabilities: np.ndarray) -> np.ndarray:
        """The mask (...) uint8 from probabilities (K,...): the likeliest of classes that exclude each other, or none if
        none of them is likelier than that; for overlapping ones all above 0.5."""
        if self.overlapping:
            values = np.array([self.value(number) for number in range(len(self))], np.uint8)
            return np.tensordot(values, (probabilities > 0.5).astype(np.uint8), 1).astype(np.uint8)
        best = probabilities.argmax(0)
        likeliest = np.take_along_axis(probabilities, best[None], 0)[0]
        return np.where(likeliest > 1 - probabilities.sum(0), best + 1, 0).astype(np.uint8)

    def any_of(self, probabilities: np.ndarray) -> np.ndarray:
        """(...) in [0,1], above 0.5 exactly where :meth:`said` has a class, from probabilities (K,...): the largest; of
        classes that exclude each other how probable the likeliest is against none.

        Their sum would be above 0.5 where none of them is likelier than none, so that nothing is predicted there.
        """
        largest = np.asarray(probabilities.max(0))
        if self.overlapping:
            return largest
        none = np.clip(1 - probabilities.sum(0), 0, 1)
        share = largest / np.maximum(largest + none, np.finfo(largest.dtype).tiny)
        half = largest.dtype.type(0.5)
        # Rounding must not move a voxel to the other side.
        return np.where(self.said(probabilities) > 0, np.maximum(share, np.nextafter(half, 1)), np.minimum(share, half))

    def plain(self) -> dict[str, str] | list[str]:
        """As a recipe writes them: names by number, or a list of overlapping ones."""
        if self.overlapping:
            return list(self.names)
        return {str(number): name for number, name in enumerate(self.names, 1)}


def classes_of(said: Any) -> Classes:
    """The classes that a recipe declares: a mapping of 1 to K to their names, or a list of overlapping ones.

    Raises
    ------
    InputError
        for numbers with gaps, names that occur twice, and too many classes.
    """
    if isinstance(said, Mapping):
        names: Sequence[Any] = list(said.values())
        if [str(number) for number in said] != [str(number) for number in range(1, len(names) + 1)]:
            hint = "0 stands for no class; masks with other numbers have to be rewritten"
            raise InputError(f"classes are numbered from 1 without gaps, not {', '.join(map(str, said))}", hint=hint)
    elif isinstance(said, Sequence) and not isinstance(said, str):
        names = list(said)
    else:
        raise InputError("classes are a mapping of numbers to names, or a list of overlapping ones")
    overlapping = not isinstance(said, Mapping)
    most = MOST_OVERLAPPING if overlapping else MOST
    if not 1 <= len(names) <= most:
        raise InputError(f"{len(names)} classes are given, and there may be 1 to {most}")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InputError(f"two classes are named '{twice[0]}'")
    return Classes(tuple(map(str, names)), overlapping)


def check_mask(values: np.ndarray, classes: Classes | None, case: str, where: str | None = None) -> None:
    """Refuse a mask with ``values`` that stand for no class; without classes it holds 0 and 1."""
    largest = 1 if classes is None else classes.largest
    whole = values.dtype.kind in "iub" or bool(np.equal(values, np.floor(values)).all())
    if whole and values.size and values.min() >= 0 and values.max() <= largest:
        return
    shown = values[:6].tolist()
    if classes is None:
        hint = "'classes: {1: NAME, 2: NAME}' in the data block names those of a mask with several"
        raise InputError(f"case '{case}': the mask holds {shown}, not only 0 and 1", where, hint)
    what = f"case '{case}': the mask holds {shown}, and classes have 0 to {largest}"
    raise InputError(what, where, f"classes of the data block: {', '.join(classes.names)}")
