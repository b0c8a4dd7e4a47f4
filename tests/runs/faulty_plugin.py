"""A plugin for tests: a pretext head that raises where it is told to."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medkit.api import Channels, hookimpl

When = Literal["training", "one rank", "backward", "always", "never"]


def refuse(gradient: Tensor) -> Tensor:
    raise ValueError("shape trouble in a plugin")


class Faulty(nn.Module):
    """Tells slices with a bleed from others, until it fails.

    Parameters
    ----------
    when:
        ``training``: in its first step; ``one rank``: there on rank 1 only; ``backward``: in its first backward pass;
        ``always``: whatever it is asked for. Nowhere if the environment has ``MENDED``.
    """

    def __init__(self, channels: Channels, when: When = "never") -> None:
        super().__init__()
        self.fc = nn.Linear(channels[-1], 1)
        self.when = when

    def view(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["label"]

    def forward(self, features: list[Tensor]) -> Tensor:
        here = self.when == "always" or (self.training and self.when == "training")
        here = here or (self.training and self.when == "one rank" and os.environ.get("RANK") == "1")
        if here and "MENDED" not in os.environ:
            raise ValueError("shape trouble in a plugin")
        output = self.fc(features[-1].mean((2, 3)))[:, 0]
        if self.when == "backward" and output.requires_grad and "MENDED" not in os.environ:
            output.register_hook(refuse)
        return output

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"bce": nn.functional.binary_cross_entropy_with_logits(output, target)}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"probability": torch.sigmoid(output)}


@hookimpl
def medkit_register(registry: Any) -> None:
    registry.pretext("faulty", "faulty_plugin:Faulty", "raises where it is told to")
