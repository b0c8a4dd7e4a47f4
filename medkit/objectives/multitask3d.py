"""Heads on one shared encoder of volumes: trained on patches, predicting in overlapping windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.multitask import Multitask, merge
from medkit.parts.encoder_volumes import Count, Triple
from medkit.parts.sliding import Blend, sliding_window
from medkit.protocols import Batch
from medkit.protocols.losses import TieLoss
from medkit.registry.marks import PatchSize, Placed, Slot


class Multitask3d(Multitask):
    """Heads trained together on a shared encoder of volumes, like those of ``multitask`` on one of slices.

    Training takes patches of volumes (N,C,d,h,w). Whole volumes are predicted in overlapping windows: the raw outputs
    of heads are averaged voxel by voxel, and predictions made from that.

    Parameters
    ----------
    encoder:
        The shared feature pyramid of volumes.
    heads:
        Heads by name, each with the weight of its loss. One that predicts gives a map at the size of its input.
    ties:
        Losses between the raw outputs of two heads.
    window:
        Depth, height and width of the windows; null: those of the training's patches.
    overlap:
        Share of a window that its neighbour covers too, in [0, 1).
    blend:
        How overlapping windows are averaged: ``gaussian`` counts the middle of a window most; ``constant`` is a plain
        mean.
    windows_at_once:
        Windows per forward pass in evaluation.
    combine:
        How the losses' gradients of the encoder become one: their ``sum``, or ``pcgrad``, without their conflicts.
    """

    dimensions: ClassVar[int] = 3
    unit = "patch3d"

    def __init__(
        self,
        encoder: Annotated[nn.Module, Slot("encoder")],
        heads: Annotated[dict[str, Placed], Slot("pretext", weight=1.0)],
        ties: Annotated[list[Placed], Slot("loss", TieLoss, weight=1.0, between=[])] = [],  # noqa: B006
        window: tuple[Count, Count, Count] | None = None,
        overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        blend: Blend = "gaussian",
        windows_at_once: Annotated[int, Field(gt=0)] = 1,
        combine: Literal["sum", "pcgrad"] = "sum",
        patch_size: PatchSize = None,
    ) -> None:
        super().__init__(encoder, heads, ties, combine=combine)
        self.window: Triple | None = window or patch_size
        self.overlap, self.blend, self.windows_at_once = overlap, blend, windows_at_once

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        images = batch["image"]
        fields = self._fields({key: value for key, value in batch.items() if key != "lengths"}, self.needs)
        if images.dim() == 5:
            volumes = list(images.split(1))
        else:
            volumes = [slices.transpose(0, 1)[None] for slices in images.split(batch["lengths"].tolist())]
        found = [self._of_volume(x, {k: v[i : i + 1] for k, v in fields.items()}) for i, x in enumerate(volumes)]
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    def _of_volume(self, volume: Tensor, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions for one volume (1,C,D,H,W): maps as for its slices, (D,K,H,W), anything else (1,...)."""
        heads = {name: head for name, head in self.heads.items() if hasattr(head, "predict")}
        if not heads:
            return {}
        if self.window is None:
            raise InputError("the size of windows is not known", hint="write 'window: [DEPTH, HEIGHT, WIDTH]'")
        sizes: list[int] = []

        def outputs(windows: Tensor) -> Tensor:
            features = self.encoder(windows)
            found = [self._output(name, features, fields) for name in heads]
            sizes[:] = [output.shape[1] for output in found]
            return torch.cat(found, 1)

        blended = sliding_window(
            outputs, volume, self.window, overlap=self.overlap, blend=self.blend, batch=self.windows_at_once
        )
        merged: dict[str, Tensor] = {}
        for (name, head), output in zip(heads.items(), blended.split(sizes, 1), strict=True):
            merge(merged, name, head.predict(output))
        return {key: value[0].transpose(0, 1) if value.dim() == 5 else value for key, value in merged.items()}

    def _output(self, name: str, features: list[Tensor], fields: Mapping[str, Tensor]) -> Tensor:
        head, count = self.heads[name], len(features[0])
        output: Tensor = head(features, **{key: fields[key].expand(count) for key in getattr(head, "needs", ())})
        if output.dim() != 5:
            what = f"head '{name}' makes {list(output.shape[1:])} of a window, and only maps can be put together"
            raise InputError(what, hint="a head that predicts gives (N,K,D,H,W); leave 'predict' out of any other")
        return output
