"""What losses are called with: five places in objectives, five contracts.

A loss is an ``nn.Module`` whose ``forward`` returns a scalar with a graph. Each place passes its own arguments,
those after the ``*`` by name; a loss takes those it needs by name and the rest in ``**context``. The first two
arguments of a loss are named after what it compares, as here. A loss in a place that calls it differently is refused
by ``medkit check``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    Scores = dict[str, Tensor]


@runtime_checkable
class Loss(Protocol):
    """``losses`` of a volume objective: logits (B,) with labels (B,), or (S,1,H,W) of real slices with their masks."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor: ...


@runtime_checkable
class TieLoss(Protocol):
    """``ties`` of a multitask objective: the raw outputs of the two heads in ``between``, in that order."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor: ...


@runtime_checkable
class RestorationLoss(Protocol):
    """``losses`` of a restoration objective: restored and target images (N,C,H,W), and the input they come from."""

    def forward(self, prediction: Tensor, target: Tensor, *, input: Tensor) -> Tensor: ...


@runtime_checkable
class GeneratorLoss(Protocol):
    """``generator_losses`` of an adversarial objective: as for restoration, and the discriminator's raw scores of the
    restored image by name."""

    def forward(self, prediction: Tensor, target: Tensor, *, scores: Scores, input: Tensor) -> Tensor: ...


@runtime_checkable
class DiscriminatorLoss(Protocol):
    """``discriminator_losses`` of an adversarial objective: raw scores by name of the target image (real) and of the
    restored one (fake, no graph to the generator); the three images; and the discriminator, for a second pass."""

    def forward(
        self,
        real: Scores,
        fake: Scores,
        *,
        input: Tensor,
        target: Tensor,
        output: Tensor,
        discriminator: Callable[[Tensor], Scores],
    ) -> Tensor: ...


CONTRACTS: tuple[type, ...] = (Loss, TieLoss, RestorationLoss, GeneratorLoss, DiscriminatorLoss)
