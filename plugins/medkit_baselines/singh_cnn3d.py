"""Singh et al. 2020: a shallow 3-D network that classifies volumes, with a normalised intensity profile."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Channels
from medkit.parts.depths import depths

Count = Annotated[int, Field(gt=0)]


class IntensityProfile(nn.Module):
    """Intensities as quantiles of the training volumes: any (...) in [0,1] to [0,1], the same shape.

    During training, the histograms of the inputs are averaged, without zeros (air below the window). The map is the
    cumulative sum of that profile, linear between its bins. Common intensities are spread and rare ones compressed, so
    that contrast grows where training volumes have most of their tissue. Before the first volume the map is the
    identity.

    Parameters
    ----------
    bins:
        Number of bins of the histogram.
    """

    profile: Tensor
    volumes: Tensor

    def __init__(self, bins: int = 64) -> None:
        super().__init__()
        self.register_buffer("profile", torch.full((bins,), 1 / bins))
        self.register_buffer("volumes", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def _see(self, x: Tensor) -> None:
        tissue = x[x > 0].float()
        if len(tissue):
            found = torch.histc(tissue.clamp(max=1), len(self.profile), 0, 1).to(self.profile)
            self.volumes += 1
            self.profile.lerp_(found / found.sum(), 1 / int(self.volumes))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._see(x)
        edges = F.pad(self.profile.cumsum(0), (1, 0)).to(x.dtype)
        place = x.clamp(0, 1) * len(self.profile)
        below = place.detach().floor().clamp(max=len(self.profile) - 1)
        index = below.long()
        return edges[index] + (place - below) * (edges[index + 1] - edges[index])


class SinghCNN3D(nn.Module):
    """A shallow 3-D network after Singh et al. (2020), over raw slices: with the encoder ``medkit:identity``.

    Slices (B,D,C,H,W) to one logit per volume (B,). Each volume is normalised by the training volumes' intensity
    profile and resampled to ``size``. We do not know all of the paper's layers; this is our reading of it: four
    convolutions with batch norm, ReLU and pooling, then two linear layers.

    Parameters
    ----------
    size:
        Depth, height and width that every volume is resampled to.
    widths:
        Channels of the convolutions. The first pooling keeps the depth, the others halve it.
    hidden:
        Width of the linear layer before the last.
    dropout:
        Dropout probability before the last layer.
    bins:
        Number of bins of the intensity profile; null leaves intensities unchanged.
    """

    task: ClassVar[str] = "classification"
    binary_label = True

    def __init__(
        self,
        channels: Channels,
        size: tuple[Count, Count, Count] = (32, 128, 128),
        widths: tuple[Count, Count, Count, Count] = (16, 32, 64, 128),
        hidden: Count = 64,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        bins: Annotated[int, Field(gt=1)] | None = 64,
    ) -> None:
        super().__init__()
        if size[0] < 8 or min(size[1:]) < 16:
            raise ValueError(f"four poolings leave nothing of {list(size)}: 8 slices of 16x16 are the minimum")
        self.size = tuple(size)
        self.profile = nn.Identity() if bins is None else IntensityProfile(bins)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(inputs, outputs, 3, padding=1),
                nn.BatchNorm3d(outputs),
                nn.ReLU(),
                nn.MaxPool3d((2 if i else 1, 2, 2)),
            )
            for i, (inputs, outputs) in enumerate(zip([channels[0], *widths], widths, strict=False))
        )
        self.linear, self.dropout, self.head = nn.Linear(widths[-1], hidden), nn.Dropout(dropout), nn.Linear(hidden, 1)

    def slices(self, features: list[Tensor]) -> Tensor:
        return features[0]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        volumes = []
        for volume, depth in zip(features, depths(lengths, features.shape[1]), strict=True):
            x = self.profile(volume[:depth].transpose(0, 1)[None])
            volumes.append(F.interpolate(x, self.size, mode="trilinear", align_corners=False))
        x = torch.cat(volumes)
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(torch.relu(self.linear(x.mean((2, 3, 4))))))[:, 0]
