"""What an encoder of radiographs is asked for: the view, whether there is a fracture, the bone age."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError
from medkit.parts.convblocks import initialise_head

Dropout = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(gt=0)]
SMALLEST = 17  # side of the map that the auxiliary classifier can take: its 5x5 kernels are not padded


class ViewClass(nn.Module):
    """Classify the radiographic view: average pool, dropout, one linear layer; cross-entropy.

    Shapes: pyramid to (N,classes); in training with ``auxiliary`` to (N,2,classes), main and auxiliary logits.
    Source: thesis part A, 2.3.1; published code.

    Parameters
    ----------
    classes:
        How many there are: 7, 30 or 68.
    dropout:
        Before the linear layer.
    auxiliary:
        Weight of a second classifier on the second-deepest map, with which InceptionV3 is trained (published: 0.3); 0:
        none. Needs a map of 17x17 there, so images of about 299 pixels.
    """

    def __init__(
        self,
        channels: Channels,
        classes: Annotated[int, Field(gt=1)],
        dropout: Dropout = 0.5,
        auxiliary: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        super().__init__()
        self.classes, self.auxiliary = classes, auxiliary
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[-1], classes)
        initialise_head(self.fc)
        self.aux = Auxiliary(channels[-2], classes) if auxiliary else None

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["label"]

    def forward(self, features: list[Tensor]) -> Tensor:
        main = self.fc(self.dropout(features[-1].mean((2, 3))))
        if self.aux is None or not self.training:
            return main
        return torch.stack([main, self.aux(features[-2])], 1)

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        numbers = target.long()
        if numbers.min() < 0 or numbers.max() >= self.classes or not torch.equal(numbers.to(target.dtype), target):
            raise InputError(
                f"a label of this batch is not a class number from 0 to {self.classes - 1}",
                hint="'classes' has to match the level of the labels",
            )
        if output.dim() == 2:
            return {"ce": F.cross_entropy(output, numbers)}
        return {
            "ce": F.cross_entropy(output[:, 0], numbers),
            "auxiliary": self.auxiliary * F.cross_entropy(output[:, 1], numbers),
        }

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"class_probability": torch.softmax(output.float(), 1)}


class Auxiliary(nn.Module):
    """InceptionV3's second classifier (Szegedy et al. 2016): 5x5 pool of stride 3, 1x1 and 5x5 convolutions, linear."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        from torchvision.models.inception import BasicConv2d

        self.conv0 = BasicConv2d(channels, 128, kernel_size=1)
        self.conv1 = BasicConv2d(128, 768, kernel_size=5)
        self.fc = nn.Linear(768, classes)
        for layer in (self.conv0.conv, self.conv1.conv, self.fc):
            initialise_head(layer)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < SMALLEST:
            size = f"{x.shape[2]}x{x.shape[3]}"
            raise InputError(
                f"the auxiliary classifier needs a map of {SMALLEST}x{SMALLEST}, not {size}", hint="larger images"
            )
        x = self.conv1(self.conv0(F.avg_pool2d(x, kernel_size=5, stride=3)))
        return self.fc(x.mean((2, 3)))


class _Regressor(nn.Module):
    """Average pool, two hidden layers with dropout, one output; ``extra`` numbers are appended to the pooled map."""

    def __init__(self, channels: tuple[int, ...], hidden: int, dropout: float, extra: int = 0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(channels[-1] + extra, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 1)
        for layer in (self.fc1, self.fc2, self.head):
            initialise_head(layer)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["label"]

    def numbers(self, pooled: Tensor) -> Tensor:
        """(N,C) to (N,)."""
        hidden = self.dropout(torch.relu(self.fc1(pooled)))
        hidden = self.dropout(torch.relu(self.fc2(hidden)))
        return self.head(hidden)[:, 0]


class Fracture(_Regressor):
    """Is there a fracture? Average pool, two hidden layers with dropout, one logit; binary cross-entropy.

    Shapes: pyramid to (N,). Source: thesis part A, 2.3.2; published code.

    Parameters
    ----------
    hidden:
        Width of both hidden layers.
    dropout:
        After each of them.
    """

    binary_label = True

    def __init__(self, channels: Channels, hidden: Width = 1024, dropout: Dropout = 0.5) -> None:
        super().__init__(channels, hidden, dropout)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.numbers(features[-1].mean((2, 3)))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"bce": F.binary_cross_entropy_with_logits(output, target.to(output.dtype))}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"probability": torch.sigmoid(output.float())}


class BoneAge(_Regressor):
    """Bone age in months from image and sex: as :class:`Fracture`, with sex (0 or 1) appended to the pooled map; MSE.

    Shapes: pyramid and ``sex`` (N,) to (N,). Source: thesis part A, 2.3.2; published code (male is 1).

    Parameters
    ----------
    hidden:
        Width of both hidden layers.
    dropout:
        After each of them.
    start:
        Age in months that an untrained network roughly predicts, such as the mean of the training set; null starts at
        0, as published. With 0, many epochs of 1e-4 steps go into reaching the mean. This is our addition.
    """

    needs: ClassVar[tuple[str, ...]] = ("sex",)
    unit: ClassVar[str] = "months"

    def __init__(
        self,
        channels: Channels,
        hidden: Width = 1024,
        dropout: Dropout = 0.5,
        start: Annotated[float, Field(ge=0)] | None = None,
    ) -> None:
        super().__init__(channels, hidden, dropout, extra=1)
        if start is not None:
            nn.init.constant_(self.head.bias, start)

    def forward(self, features: list[Tensor], sex: Tensor) -> Tensor:
        pooled = features[-1].mean((2, 3))
        return self.numbers(torch.cat([pooled, sex.to(pooled.dtype)[:, None]], 1))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(output.float(), target.float())}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"value": output.float()}
