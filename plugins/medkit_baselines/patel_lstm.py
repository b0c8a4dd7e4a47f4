"""Patel et al. 2019b: a 2-D network for slices and a bidirectional LSTM over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError, Slot
from medkit.parts.recurrent import last_states

Count = Annotated[int, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class PatelCNN(nn.Module):
    """The slice network of Patel et al. (2019b): eleven 3x3 convolutions with batch norm in six levels.

    Shapes: (N,C,H,W) to six maps of 2, 4, 8, 16, 32 and 32 times ``width`` channels at strides 1 to 32.

    Parameters
    ----------
    in_channels:
        Channels of the slices.
    width:
        Channels of the first convolution (published: 16).
    """

    def __init__(self, in_channels: Count = 1, width: Count = 16) -> None:
        super().__init__()
        w = width
        self.channels, self.strides = (2 * w, 4 * w, 8 * w, 16 * w, 32 * w, 32 * w), (1, 2, 4, 8, 16, 32)
        layers = [(in_channels, w, 2 * w)]
        layers += [(2**i * w, 2**i * w, 2 ** (i + 1) * w) for i in range(1, 5)]
        layers += [(32 * w, 32 * w)]
        self.levels = nn.ModuleList(_level(widths) for widths in layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for i, level in enumerate(self.levels):
            # Rounded up, as pyramids are: the same as the published pooling for sides that are multiples of 32.
            x = level(F.max_pool2d(x, 2, ceil_mode=True) if i else x)
            maps.append(x)
        return maps

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(f"level{i}", level) for i, level in enumerate(self.levels)]


def _level(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class _Code(nn.Module):
    """Pooled features (N,C) to a slice's code (N,hidden): dropout, linear and ReLU, twice."""

    def __init__(self, inputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear1, self.linear2 = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.linear1(self.dropout(x)))
        return torch.relu(self.linear2(self.dropout(x)))


class PatelHead(nn.Module):
    """The first phase of Patel et al. (2019b): does a slice show a bleed? Two hidden layers; binary cross-entropy.

    Shapes: pyramid to (N,). :class:`PatelLSTM` continues with the hidden layers.

    Parameters
    ----------
    hidden:
        Width of both hidden layers.
    dropout:
        Dropout probability before each of them.
    """

    binary_label = True

    def __init__(self, channels: Channels, hidden: Count = 512, dropout: Dropout = 0.5) -> None:
        super().__init__()
        self.inputs, self.hidden = channels[-1], hidden
        self.code = _Code(channels[-1], hidden, dropout)
        self.linear = nn.Linear(hidden, 1)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["label"]

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.linear(self.code(features[-1].mean((2, 3))))[:, 0]

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"bce": F.binary_cross_entropy_with_logits(output, target.to(output.dtype))}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"probability": torch.sigmoid(output.float())}


class PatelLSTM(nn.Module):
    """The second phase of Patel et al. (2019b): a bidirectional LSTM over the codes of the slices.

    Slice codes (B,D,hidden) to one logit per volume (B,), from the last layer's final states, backward first.

    Parameters
    ----------
    head:
        A trained ``baselines:patel_head``, whose hidden layers make the codes; null draws them anew.
    hidden:
        Width of the codes, if they are drawn anew, and of the LSTM.
    layers:
        Layers of the LSTM.
    dropout:
        Dropout probability before each layer of the codes, if they are drawn anew.
    """

    task: ClassVar[str] = "classification"
    binary_label = True

    def __init__(
        self,
        channels: Channels,
        head: Annotated[nn.Module, Slot("pretext")] | None = None,
        hidden: Count = 512,
        layers: Count = 3,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__()
        if head is not None and (not isinstance(head, PatelHead) or head.inputs != channels[-1]):
            raise InputError(
                f"'head' has to be a baselines:patel_head on {channels[-1]} channels, which this {_words(head)} is not",
                hint="take it from the stage that the encoder is taken from",
            )
        self.code = head.code if isinstance(head, PatelHead) else _Code(channels[-1], hidden, dropout)
        self.lstm = nn.LSTM(self.code.linear2.out_features, hidden, layers, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, 1)

    def slices(self, features: list[Tensor]) -> Tensor:
        return self.code(features[-1].mean((2, 3)))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return self.linear(last_states(self.lstm, features, lengths))[:, 0]


def _words(head: nn.Module) -> str:
    return f"{type(head).__name__} on {head.inputs}" if isinstance(head, PatelHead) else type(head).__name__
