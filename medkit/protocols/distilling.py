"""What a student learns from its teacher: the contract of a distilling head (objective ``distillation``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from medkit.protocols.cases import Batch
from medkit.protocols.defaults import with_default

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Distiller(Protocol):
    """A task between a student and its teacher, which is the average of the student over the steps so far.

    It is an ``nn.Module``. ``projector`` is a module from a pyramid (a list of maps) to rows (n,D). The objective keeps
    an average of it beside that of the encoder, and calls both. ``predictor``, if there is one, is a module from rows
    to rows on the student's side only. ``momentum`` (float), if there is one, is the share of the average that the
    method's first step keeps, which the recipe may change.

    ``epoch_numbers()``, if there is such a method, is that of a pretext head.

    State that training changes (a centre) belongs in buffers. On several ranks it has to be equal on all of them:
    make it from the rows of all (:func:`medkit.parts.across_ranks.gather_rows`).
    """

    projector: Any

    @with_default
    def view(self, batch: Batch) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Images that the student and the teacher see: tensors (N,V,C,H,W) of V views of N items, each encoded in one
        pass. Inputs that are the same memory share it with those of other heads. Default: both see ``views``."""
        return [batch["views"]], [batch["views"]]

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor], progress: float) -> dict[str, Tensor]:
        """Terms by name, which are summed. Rows (N,V,D) come in the order of ``view``; the teacher's have no graph.
        ``progress`` is the share of the training's steps already taken, in [0,1)."""
        ...
