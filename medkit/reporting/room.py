"""How much of a page its pictures may take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Drawn(Protocol):
    """A picture with a title."""

    @property
    def title(self) -> str: ...

    @property
    def image(self) -> str: ...


Item = TypeVar("Item", bound=Drawn)


class Room:
    """Bytes that are left for pictures; what does not fit is ``left_out``, by its title."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.left_out: list[str] = []

    def kept(self, found: Iterable[Item]) -> list[Item]:
        """The pictures that fit, in order."""
        kept = []
        for item in found:
            if len(item.image) > self.left:
                self.left_out.append(item.title)
            else:
                self.left -= len(item.image)
                kept.append(item)
        return kept
