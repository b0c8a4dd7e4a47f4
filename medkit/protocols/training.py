"""What is trained, and by which optimizers, schedules and bounds on gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


from medkit.protocols.cases import Batch
from medkit.protocols.defaults import with_default


@dataclass(frozen=True)
class Turn:
    """One optimizer step of a batch: which parts it trains, and how its task gradients become one.

    ``combine`` is ``"sum"`` (one backward of the weighted sum) or ``"pcgrad"`` over ``shared`` parameters.
    ``steps`` says how often the turn is taken on each batch; its losses are asked for anew each time.
    """

    name: str
    parts: tuple[str, ...]
    combine: str = "sum"
    steps: int = 1


@runtime_checkable
class Objective(Protocol):
    """A stage's task: an ``nn.Module`` whose direct children are the named parts (``encoder``, ``heads.seg``...).

    ``unit`` is the batch unit it trains on, and the only one unless a tuple ``units`` names several; then ``unit``
    becomes that of the stage. For every batch
    the engine goes through ``turns`` in order, asks ``losses(turn, batch)`` for the named task losses (weights already
    applied, each a scalar with a graph), turns them into gradients as the turn says and steps that turn's optimizer.
    ``predict`` takes a batch of either unit in eval mode. One whose parts are of volumes has a class attribute
    ``dimensions = 3``.
    ``parts()`` names what is saved as ``weights/STAGE.PART.safetensors``, what ``unfreeze`` may name and what a later
    stage may take by ``from: stage.part``. One that makes copies of parts names them in a class constant
    ``copied_parts`` (copy to part), so that recipes may name them too.
    """

    unit: str

    def turns(self) -> Sequence[Turn]: ...

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]: ...

    def predict(self, batch: Batch) -> dict[str, Tensor]: ...

    def parts(self) -> Mapping[str, Any]: ...

    @with_default
    def reads(self, batch: Batch) -> set[str] | None:
        """The entries of a batch that losses take, from an example: it decides which slices are drawn (``draw``) and
        whether views are made. Default: it is not known; slices are drawn evenly, and all views made."""
        return None

    @with_default
    def shared_parameters(self, turn: str) -> Sequence[Any]:
        """The parameters that several tasks of ``turn`` train, for PCGrad. Default: there are none."""
        return ()

    @with_default
    def before_step(self, turn: str, step: int, steps: int) -> None:
        """Told of an optimizer step of ``turn`` before its losses: it is the ``step``-th, from 0, of ``steps`` in the
        whole training. For what changes with time: what is kept of it belongs into a buffer. Default: nothing is done.
        """

    @with_default
    def after_step(self, turn: str) -> None:
        """Told of every optimizer step of ``turn``. Default: nothing is done."""

    @with_default
    def epoch_numbers(self) -> Mapping[str, float]:
        """Numbers that say how the training goes beside its losses, asked for at the end of every epoch and told as
        ``train/NAME``. What they are made from belongs into buffers. Default: there are none."""
        return {}


@runtime_checkable
class Optimizer(Protocol):
    """Settings of an optimizer; the optimizer itself is made once the parameters are known.

    ``lr`` is the learning rate that the schedule multiplies or lowers; the engine sets it anew before every epoch or
    step, times the ``lr_scale`` of each group.
    """

    lr: float

    def build(self, parameters: Iterable[Any]) -> Any:
        """A ``torch.optim.Optimizer`` over ``parameters``: a flat list; with ``no_decay`` or ``layer_decay`` in the
        recipe, groups as torch takes them (``params``, ``weight_decay``, ``lr_scale``), to be handed on."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """The learning rate of each epoch, a pure function of its number, so that a resumed run needs no state of it.

    With ``by: step`` in the recipe, optimizer steps are counted in the place of epochs.
    """

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        """Learning rate of ``epoch`` (from 0) of ``epochs``, where ``lr`` is the optimizer's own."""
        ...


@runtime_checkable
class Clip(Protocol):
    """A bound on the gradient of an optimizer step.

    It is asked right before the optimizer has the gradient, which is whole then: accumulated over batches, combined
    over tasks and averaged over ranks, so the same on all of them.
    """

    def clip(self, parameters: Sequence[Any]) -> None:
        """Change the ``grad`` of these parameters in place: those of the turn that have one, at least one of them."""
        ...
