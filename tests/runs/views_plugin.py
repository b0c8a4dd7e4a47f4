"""A plugin for tests: heads that compare the views of an image, its crops, or whichever of them there are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medkit.api import Channels, hookimpl


class Agree(nn.Module):
    """The features of an image's views resemble each other more than those of other images."""

    entry = "views"

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.layer = nn.Linear(channels[-1], 8)

    def view(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        views = batch["views"]
        return views.flatten(0, 1), torch.arange(len(views)).repeat_interleave(views.shape[1])

    def forward(self, features: list[Tensor]) -> Tensor:
        return F.normalize(self.layer(features[-1].mean((2, 3))), dim=1)

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        alike = target[:, None] == target
        return {"agree": F.binary_cross_entropy_with_logits(output @ output.T * 5, alike.to(output))}


class Local(Agree):
    """The same of crops."""

    def view(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        crops = batch["crops"]
        return crops.flatten(0, 1), torch.arange(len(crops)).repeat_interleave(crops.shape[1])


class Hidden(Agree):
    """Takes views in a way that its source does not show."""

    def view(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        name = "".join(["vie", "ws"])
        return batch[name].flatten(0, 1), torch.arange(len(batch[name])).repeat_interleave(batch[name].shape[1])


class Either(Agree):
    """Does without views where there are none."""

    def view(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if "views" in batch:
            views = batch["views"]
            return views.flatten(0, 1), torch.arange(len(views)).repeat_interleave(views.shape[1])
        return batch["image"], torch.arange(len(batch["image"]))


@hookimpl
def medkit_register(registry) -> None:
    for cls in (Agree, Local, Hidden, Either):
        registry.pretext(cls.__name__.lower(), f"views_plugin:{cls.__name__}", cls.__doc__)
