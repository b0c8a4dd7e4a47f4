"""Heads on one shared encoder of volumes: trained on patches, predicting in overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    Training takes patches of volumes (N,C,d,h,w). Whole volumes are predicted in overlapping windows, and predictions
    made from the mean of what heads put out: of maps voxel by voxel, of numbers (N,K) over all windows alike.

    Parameters
    ----------
    encoder:
        The shared feature pyramid of volumes.
    heads:
        Heads by name, each with the weight of its loss. One that predicts gives a map at the size of its input, or
        numbers.
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
        fields = self.fields_of(batch)
        if images.dim() == 5:
            volumes = list(images.split(1))
        else:
            volumes = [slices.transpose(0, 1)[None] for slices in images.split(batch["lengths"].tolist())]
        found = [self._of_volume(x, {k: v[i : i + 1] for k, v in fields.items()}) for i, x in enumerate(volumes)]
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    def _of_volume(self, volume: Tensor, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions for one volume (1,C,D,H,W): maps as for its slices, (D,K,H,W), anything else (1,...)."""
        heads = [name for name, head in self.heads.items() if hasattr(head, "predict")]
        merged: dict[str, Tensor] = {}
        for name, output in self.outputs(volume, fields, heads).items():
            merge(merged, name, self.heads[name].predict(output))
        return {key: value[0].transpose(0, 1) if value.dim() == 5 else value for key, value in merged.items()}

    def fields_of(self, batch: Batch) -> dict[str, Tensor]:
        """The fields that heads ask for, one value a volume."""
        return self._fields({key: value for key, value in batch.items() if key != "lengths"}, self.needs)

    def outputs(self, volume: Tensor, fields: Mapping[str, Tensor], heads: Sequence[str]) -> dict[str, Tensor]:
        """Raw outputs of heads for a volume (1,C,D,H,W), put together from its windows: (1,K,D,H,W) or (1,K)."""
        if not heads:
            return {}
        sizes: dict[str, int] = {}
        numbers: dict[str, list[Tensor]] = {}

        def maps(windows: Tensor) -> Tensor:
            features = self.encoder(windows)
            found = {name: self._output(name, features, fields) for name in heads}
            for name, output in found.items():
                if output.dim() == 2:
                    numbers.setdefault(name, []).append(output)
                else:
                    sizes[name] = output.shape[1]
            # Heads of numbers alone leave a map without channels, which goes the same way.
            return torch.cat([found[name] for name in sizes], 1) if sizes else windows[:, :0]

        blended = self.in_windows(maps, volume)
        found = dict(zip(sizes, blended.split(list(sizes.values()), 1), strict=True)) if sizes else {}
        found |= {name: torch.cat(each).mean(0, keepdim=True) for name, each in numbers.items()}
        return {name: found[name] for name in heads}

    def in_windows(self, network: Callable[[Tensor], Tensor], volume: Tensor) -> Tensor:
        """What a network makes of the windows of a volume, blended."""
        if self.window is None:
            raise InputError("the size of windows is not known", hint="write 'window: [DEPTH, HEIGHT, WIDTH]'")
        return sliding_window(
            network, volume, self.window, overlap=self.overlap, blend=self.blend, batch=self.windows_at_once
        )

    def _output(self, name: str, features: list[Tensor], fields: Mapping[str, Tensor]) -> Tensor:
        head, count = self.heads[name], len(features[0])
        output: Tensor = head(features, **{key: fields[key].expand(count) for key in getattr(head, "needs", ())})
        if output.dim() not in (2, 5):
            what = f"head '{name}' makes {list(output.shape[1:])} of a window, and maps or numbers can be put together"
            hint = "a head that predicts gives (N,K,D,H,W) or (N,K); leave 'predict' out of any other"
            raise InputError(what, hint=hint)
        return output
