"""The Inception-v3 that FID is defined by: TensorFlow's graph of 2015-12-05 up to its third pool.

It differs from torchvision's Inception-v3, whose names it uses: average pools leave padding out of the mean, and the
last block pools by maximum. Sources: Szegedy et al. 2016; Heusel et al. 2017; the port in torch-fidelity, whose input
handling this follows (8-bit values, TensorFlow 1 resize, (x - 128) / 128). The tests compare it with torchvision's with
those two changes made, on random weights; with the published weights it has not been compared with torch-fidelity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299
Step = tuple[str, int, int | tuple[int, int]]
"""Name, output channels and kernel of a convolution."""

AVERAGE, MAXIMUM = "average", "maximum"


class Unit(nn.Module):
    """Convolution, batch norm, ReLU. At stride 1 the size stays unless ``padded`` is false; at 2 nothing is padded."""

    def __init__(
        self, channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(channels, out, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, joined on the channel axis.

    Parameters
    ----------
    branches:
        Each a chain of steps; a step that is a list forks: its convolutions read the same map and are joined.
    pool:
        What the last branch does before its convolution.
    halves:
        The last convolution of each branch has stride 2, and a maximum pool of stride 2 is one more branch.
    """

    def __init__(
        self, channels: int, branches: Sequence[Sequence[Step | list[Step]]], pool: str = "", halves: bool = False
    ) -> None:
        super().__init__()
        self.pool, self.halves = pool, halves
        self.chains: list[list[list[str]]] = []
        for branch in branches:
            width, chain = channels, []
            for place, step in enumerate(branch):
                fork = step if isinstance(step, list) else [step]
                stride = 2 if halves and place == len(branch) - 1 else 1
                for name, out, kernel in fork:
                    setattr(self, name, Unit(width, out, kernel, stride))
                width = sum(out for _, out, _ in fork)
                chain.append([name for name, _, _ in fork])
            self.chains.append(chain)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for place, chain in enumerate(self.chains):
            y = self._pooled(x) if place == len(self.chains) - 1 else x
            for names in chain:
                made = [getattr(self, name)(y) for name in names]
                y = made[0] if len(made) == 1 else torch.cat(made, 1)
            found.append(y)
        if self.halves:
            found.append(F.max_pool2d(x, 3, 2))
        return torch.cat(found, 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == AVERAGE:
            return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
        return F.max_pool2d(x, 3, 1, padding=1) if self.pool == MAXIMUM else x


def _a(channels: int, pooled: int) -> Mixed:
    five: list[Step | list[Step]] = [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]
    three: list[Step | list[Step]] = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    return Mixed(channels, [[("branch1x1", 64, 1)], five, three, [("branch_pool", pooled, 1)]], AVERAGE)


def _b(channels: int) -> Mixed:
    three: list[Step | list[Step]] = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    return Mixed(channels, [[("branch3x3", 384, 3)], three], halves=True)


def _c(channels: int, width: int) -> Mixed:
    seven: list[Step | list[Step]] = [
        ("branch7x7_1", width, 1),
        ("branch7x7_2", width, (1, 7)),
        ("branch7x7_3", 192, (7, 1)),
    ]
    twice: list[Step | list[Step]] = [
        ("branch7x7dbl_1", width, 1),
        ("branch7x7dbl_2", width, (7, 1)),
        ("branch7x7dbl_3", width, (1, 7)),
        ("branch7x7dbl_4", width, (7, 1)),
        ("branch7x7dbl_5", 192, (1, 7)),
    ]
    return Mixed(channels, [[("branch1x1", 192, 1)], seven, twice, [("branch_pool", 192, 1)]], AVERAGE)


def _d(channels: int) -> Mixed:
    seven: list[Step | list[Step]] = [
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3),
    ]
    return Mixed(channels, [[("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)], seven], halves=True)


def _e(channels: int, pool: str) -> Mixed:
    three: list[Step | list[Step]] = [
        ("branch3x3_1", 384, 1),
        [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))],
    ]
    twice: list[Step | list[Step]] = [
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
    ]
    return Mixed(channels, [[("branch1x1", 320, 1)], three, twice, [("branch_pool", 192, 1)]], pool)


class FIDInception(nn.Module):
    """Grey slices (N,1,H,W) in [0,1], of any size, to the 2048 features (N,2048) that FID compares.

    Values are rounded to 8 bits, resized to 299x299, mapped to [-1,1) and repeated to three channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, padded=False)
        self.Mixed_5b = _a(192, 32)
        self.Mixed_5c = _a(256, 64)
        self.Mixed_5d = _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b = _c(768, 128)
        self.Mixed_6c = _c(768, 160)
        self.Mixed_6d = _c(768, 160)
        self.Mixed_6e = _c(768, 192)
        self.Mixed_7a = _d(768)
        self.Mixed_7b = _e(1280, AVERAGE)
        self.Mixed_7c = _e(2048, MAXIMUM)

    def forward(self, x: Tensor) -> Tensor:
        x = (resize_tf1(x.clamp(0, 1).mul(255).round(), SIZE) - 128) / 128
        return self.features(x.expand(-1, 3, -1, -1))

    def features(self, x: Tensor) -> Tensor:
        """From colour images (N,3,299,299) in [-1,1) to (N,2048)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


def resize_tf1(x: Tensor, size: int) -> Tensor:
    """Bilinear resize of (N,C,H,W) to (N,C,size,size) as TensorFlow 1 does it.

    Output i is read at i * H / size, so the first pixels coincide and nothing is averaged when shrinking.
    """
    rows, columns = (_taps(n, size).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.T


def _taps(n: int, size: int) -> Tensor:
    """(size,n) weights of the two neighbours that each output is read between."""
    at = torch.arange(size, dtype=torch.float64) * (n / size)
    low = at.long()
    high = (low + 1).clamp(max=n - 1)
    weights = torch.zeros(size, n, dtype=torch.float64)
    weights.scatter_add_(1, low[:, None], (1 - (at - low))[:, None])
    weights.scatter_add_(1, high[:, None], (at - low)[:, None])
    return weights
