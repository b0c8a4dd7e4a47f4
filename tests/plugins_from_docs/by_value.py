"""Gradients bounded value by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry: Any) -> None:
    registry.clip("by_value", "by_value:ByValue", "every value of a gradient lies within limits")


@dataclass(frozen=True)
class ByValue:
    """Each value of a gradient is brought to the nearest one within limits.

    Parameters
    ----------
    limit:
        The largest size of a value.
    """

    limit: Annotated[float, Field(gt=0)]

    def clip(self, parameters: Sequence[Any]) -> None:
        for p in parameters:
            p.grad.clamp_(-self.limit, self.limit)
