"""Supervised image to image: a generator and losses against a paired target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from medkit.objectives.common import modules, restore_slices, trainable
from medkit.protocols import Batch, Turn
from medkit.protocols.losses import RestorationLoss
from medkit.registry.marks import Placed, Slot


class Restoration(nn.Module):
    """Train a generator on pairs, such as low-dose to normal-dose slices.

    Parameters
    ----------
    generator:
        Network from an image to an image of the same shape.
    losses:
        Losses by name, each with its weight.
    slices_at_once:
        Slices per forward pass in evaluation.
    tile:
        Side in pixels of the overlapping tiles that slices are restored in; default: a whole slice in one pass. For
        networks that take only one size, or whose results depend on it.
    overlap:
        Share of a tile that its neighbour covers too, in [0, 1).
    blend:
        How overlapping tiles are averaged: ``gaussian`` counts the middle of a tile most and hides seams; ``constant``
        is a plain mean, as in published evaluations.
    """

    unit = "patch"
    units = ("patch", "slice")

    def __init__(
        self,
        generator: Annotated[nn.Module, Slot("generator")],
        losses: Annotated[dict[str, Placed], Slot("loss", RestorationLoss, weight=1.0)],
        slices_at_once: Annotated[int, Field(gt=0)] = 1,
        tile: Annotated[int, Field(gt=0)] | None = None,
        overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25,
        blend: Literal["gaussian", "constant"] = "gaussian",
    ) -> None:
        super().__init__()
        self.generator = generator
        self.criteria = modules(losses)
        self.weights = {name: float(item["weight"]) for name, item in losses.items()}
        self.slices_at_once = slices_at_once
        self.tile, self.overlap, self.blend = tile, overlap, blend

    def turns(self) -> Sequence[Turn]:
        return [Turn("train", tuple(self.parts()))]

    def parts(self) -> Mapping[str, Any]:
        return {"generator": self.generator, **trainable(self.criteria, "losses")}

    def shared_parameters(self, turn: str) -> Sequence[nn.Parameter]:
        return list(self.generator.parameters())

    def reads(self, batch: Batch) -> set[str]:
        return {"image", "target"}

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        output = self.generator(batch["image"])
        return {
            name: self.weights[name] * loss(output, batch["target"], input=batch["image"])
            for name, loss in self.criteria.items()
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        how = (self.slices_at_once, self.tile, self.overlap, self.blend)
        return {"output": restore_slices(self.generator, batch["image"], *how)}
