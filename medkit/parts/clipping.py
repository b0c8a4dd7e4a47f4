"""Bounds on gradients (``clip`` of a stage)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt


@dataclass(frozen=True)
class Norm:
    """Clips the norm of the gradient of all of a turn's parameters together (Pascanu et al. 2013).

    Parameters
    ----------
    limit:
        Largest Euclidean norm; a shorter gradient stays as it is.
    """

    limit: Annotated[float, Gt(0)]

    def clip(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, self.limit)
