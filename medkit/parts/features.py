"""Networks whose features image metrics compare: VGG19, the Inception of FID, or a small random one for tests.

There is one network per kind, weights and device in the process; metrics that ask for the same one get the same one.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.inception import FIDInception
from medkit.parts.weights import read_safetensors

RANDOM = "random_test_features"
Kind = Literal["vgg19", "fid_inception"]
HUB: Mapping[str, Mapping[str, str]] = {
    "vgg19": {"IMAGENET1K_V1": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"},
    "fid_inception": {
        "pt_inception-2015-12-05": "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth"
    },
}
FID_CLASSES = 1008
PIXELS_AT_ONCE = 512 * 512


class VGG19(nn.Module):
    """The convolutions of VGG19 up to relu5_1 (Simonyan and Zisserman 2015), tensors named as torchvision names them.

    From grey slices (N,1,H,W) in [0,1], repeated to three channels and not normalised, the maps relu1_1, relu2_1,
    relu3_1, relu4_1 and relu5_1 at strides 1, 2, 4, 8 and 16, one after another: only one of the five is in memory.
    """

    stride = 16

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps = []
        channels = 3
        for level, (width, convolutions) in enumerate(zip(widths, (2, 2, 4, 4, 1), strict=True)):
            if level:
                layers.append(nn.MaxPool2d(2))
            self.taps.append(len(layers) + 1)
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        x = x.expand(-1, 3, -1, -1)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                yield x


class RandomTestFeatures(nn.Module):
    """Five small convolutions with untrained weights, the same in every process, for tests and phantoms.

    It stands in for VGG19, at stride 1 throughout. Its numbers say that software works and mean nothing else.
    """

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList()
        for channels, width in ((1, 4), (4, 4), (4, 8), (8, 8), (8, 8)):
            layer = nn.utils.skip_init(nn.Conv2d, channels, width, 3, padding=1)
            with torch.no_grad():
                layer.weight.normal_(0, (2 / (9 * channels)) ** 0.5, generator=made)
                layer.bias.normal_(0, 0.1, generator=made)
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        for layer in self.layers:
            x = layer(x).relu()
            yield x


class RandomTestEmbedding(RandomTestFeatures):
    """The means over the image of the random maps, (N,1,H,W) to (N,32), standing in for the Inception of FID."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.cat([maps.mean((2, 3)) for maps in super().forward(x)], 1)


def check_weights(weights: str) -> None:
    """Refuse what is neither a file, nor on the hub, nor the random network, before anything is read."""
    if weights != RANDOM and not weights.startswith("hub:") and not weights.endswith(".safetensors"):
        hint = f"PATH.safetensors, hub:NAME or {RANDOM}; docs/metrics.md says how to convert weights"
        raise InputError(f"'{weights}' names no weights of a feature network", hint=hint)


_NETWORKS: dict[tuple[str, str, str], nn.Module] = {}


def network(kind: Kind, weights: str, device: torch.device | str = "cpu") -> nn.Module:
    """The feature network of ``kind`` with ``weights`` on ``device``, in evaluation mode, read once per process.

    Parameters
    ----------
    weights:
        ``PATH.safetensors``: tensors under the names of torchvision's VGG19 or of pt_inception-2015-12-05;
        ``hub:NAME``: downloaded by torch.hub, checked against the hash in its name and read as weights only;
        ``random_test_features``: the small random network.

    Raises
    ------
    InputError
        if there are no such weights, they cannot be fetched, or they belong to another network.
    """
    check_weights(weights)
    place = str(Path(weights).resolve()) if weights.endswith(".safetensors") else weights
    key = (kind, place, str(torch.device(device)))
    if key not in _NETWORKS:
        made = _read(kind, weights).eval().requires_grad_(False).to(device)
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
        _NETWORKS[key] = made
    return _NETWORKS[key]


def _read(kind: Kind, weights: str) -> nn.Module:
    if weights == RANDOM:
        return RandomTestFeatures() if kind == "vgg19" else RandomTestEmbedding()
    tensors = read_tensors(kind, weights)
    if kind == "fid_inception" and ("fc.weight" not in tensors or len(tensors["fc.weight"]) != FID_CLASSES):
        raise InputError(
            f"this is not the Inception-v3 of FID, which is recognised by its {FID_CLASSES} classes (fc.weight)",
            weights,
            "convert pt_inception-2015-12-05 (docs/metrics.md)",
        )
    # No weights are drawn: building a metric must not move the random state of a training run.
    with torch.device("meta"):
        module = VGG19() if kind == "vgg19" else FIDInception()
    load_by_name(module, tensors, weights)
    return module


def read_tensors(kind: Kind, weights: str) -> dict[str, Tensor]:
    """The tensors of a weight file, or from the hub, under the names that the network of ``kind`` uses for them."""
    tensors = _fetch(kind, weights) if weights.startswith("hub:") else read_safetensors(Path(weights))
    if kind == "vgg19" and not any(name.startswith("features.") for name in tensors):
        tensors = {f"features.{name}": tensor for name, tensor in tensors.items()}
    return tensors


def load_by_name(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put ``tensors`` in place of the module's own as float32; names it lacks, such as a classifier's, are left out.

    Raises
    ------
    InputError
        if one is missing or has another shape.
    """
    # A count of training batches is in some files and not in others; nothing reads it.
    counts = {name: torch.zeros((), dtype=torch.long) for name in module.state_dict() if name.endswith("_tracked")}
    own = {name: tensor for name, tensor in module.state_dict().items() if name not in counts}
    missing = [name for name in own if name not in tensors]
    wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing or wrong:
        what = "lacks" if missing else "has another shape for"
        names = ", ".join((missing or wrong)[:3])
        raise InputError(
            f"it {what} {len(missing or wrong)} tensors of {type(module).__name__} ({names})",
            where,
            "docs/metrics.md says which weights are meant and how to convert them",
        )
    module.load_state_dict({name: tensors[name].float() for name in own} | counts, assign=True)


def _fetch(kind: Kind, weights: str) -> dict[str, Tensor]:
    name = weights.removeprefix("hub:")
    if name not in HUB[kind]:
        raise InputError(f"'{weights}' is not on the hub", hint=f"there is hub:{', hub:'.join(HUB[kind])}")
    try:
        tensors: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            HUB[kind][name], map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"weights '{weights}' cannot be fetched: {reason}",
            HUB[kind][name],
            "convert them once where there is a network and give the path of the safetensors file (docs/metrics.md)",
        ) from error
    return tensors


class Remembered:
    """The last ``capacity`` values by key; the least recently used goes first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.values: OrderedDict[Hashable, Any] = OrderedDict()

    def all(self, keys: Sequence[Hashable], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """The values of ``keys``; ``make`` is given the positions of unknown ones and returns their values in order."""
        new: dict[Hashable, int] = {}
        for position, key in enumerate(keys):
            if key not in self.values:
                new.setdefault(key, position)
        made = dict(zip(new, make(list(new.values())) if new else (), strict=True))
        found = [made[key] if key in made else self.values[key] for key in keys]
        for key, value in zip(keys, found, strict=True):
            self.values[key] = value
            self.values.move_to_end(key)
        while len(self.values) > self.capacity:
            self.values.popitem(last=False)
        return found


def digest(image: np.ndarray) -> bytes:
    """A key for what an image shows: equal for equal pixels and shape."""
    shown = np.ascontiguousarray(image, np.float32)
    return hashlib.blake2b(shown.data, digest_size=16, salt=repr(shown.shape).encode()[:16]).digest()


def slices_at_once(shape: Sequence[int]) -> int:
    """How many slices of ``shape`` (H,W) one pass takes: more gain nothing on a CPU and cost memory."""
    return max(1, PIXELS_AT_ONCE // int(np.prod(shape)))
