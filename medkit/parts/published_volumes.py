"""Published weights of 3-D encoders: what their files hold, and which of our encoders they load into."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medkit.errors import InputError
from medkit.parts.encoder_volumes import Triple, check_fits
from medkit.parts.resnet3d import BLOCKS
from medkit.parts.weights import under_prefix
from medkit.registry.build import build

HOLDERS = ("network_weights", "state_dict", "model_state_dict", "model")
"""Keys of a checkpoint under which the tensors are found: nnU-Net and OpenMind, Med3D and Models Genesis, others."""
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A kind of published weights.

    Parameters
    ----------
    what:
        Whose they are.
    encoder:
        The encoder that they load into, which uses their names.
    first:
        A tensor that every such network has.
    read:
        Arguments of the encoder that its tensors show.
    arguments:
        Those that no tensor shows, as published.
    unknown:
        Arguments that neither shows, to be taken from the training's plans.
    axes:
        Where depth, height and width are among the directions of the published kernels.
    """

    what: str
    encoder: str
    first: str
    read: Callable[[Tensors], dict[str, Any]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    axes: Triple = (0, 1, 2)


def of_resenc(tensors: Tensors) -> dict[str, Any]:
    """Stages, blocks, widths and kernels of a residual encoder."""
    counts: dict[int, int] = {}
    for name in tensors:
        if found := re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.conv1\.conv\.weight", name):
            stage, block = map(int, found.groups())
            counts[stage] = max(counts.get(stage, 0), block + 1)
    first = [tensors.get(f"stages.{stage}.blocks.0.conv1.conv.weight") for stage in range(len(counts))]
    kept = [tensor for tensor in first if tensor is not None]
    return {
        "in_channels": tensors["stem.convs.0.conv.weight"].shape[1],
        "widths": [len(tensor) for tensor in kept],
        "blocks": [counts[stage] for stage in sorted(counts)],
        "kernels": [list(tensor.shape[2:]) for tensor in kept],
    }


def of_resnet(tensors: Tensors) -> dict[str, Any]:
    """Depth, channels and shortcut of a ResNet of basic blocks."""
    if any(name.endswith(".conv3.weight") for name in tensors):
        raise InputError("this is a ResNet of bottlenecks", hint=f"those of depth {_listed(BLOCKS)} can be taken")
    found = tuple(
        len([name for name in tensors if re.fullmatch(rf"layer{layer}\.\d+\.conv1\.weight", name)])
        for layer in range(1, 5)
    )
    depth = next((depth for depth, blocks in BLOCKS.items() if blocks == found), None)
    if depth is None:
        raise InputError(f"a ResNet with {list(found)} blocks is not one of depth {_listed(BLOCKS)}")
    first = tensors["conv1.weight"]
    shortcut = "B" if any(".downsample." in name for name in tensors) else "A"
    return {"depth": depth, "in_channels": first.shape[1], "width": len(first), "shortcut": shortcut}


def of_genesis(tensors: Tensors) -> dict[str, Any]:
    """Width and channels of Models Genesis' network."""
    first = tensors["down_tr64.ops.0.conv1.weight"]
    return {"in_channels": first.shape[1], "width": len(first)}


RESENC, RESNET, GENESIS = "stem.convs.0.conv.weight", "layer1.0.conv1.weight", "down_tr64.ops.0.conv1.weight"
PUBLISHED: dict[str, Published] = {
    "openmind": Published("OpenMind's ResEnc-L (Wald et al. 2025)", "medkit:resenc", RESENC, of_resenc),
    "nnunet": Published(
        "nnU-Net's networks with a residual encoder (Isensee et al. 2024)",
        "medkit:resenc",
        RESENC,
        of_resenc,
        unknown=("strides",),
    ),
    "med3d": Published(
        "Med3D's ResNets (Chen et al. 2019)",
        "medkit:resnet3d",
        RESNET,
        of_resnet,
        {"stem_stride": [2, 2, 2], "dilated": True},
    ),
    "kinetics": Published("3-D ResNets of films (Hara et al. 2018)", "medkit:resnet3d", RESNET, of_resnet),
    "genesis": Published(
        "Models Genesis' 3-D U-Net (Zhou et al. 2021)",
        "baselines:genesis3d",
        GENESIS,
        of_genesis,
        axes=(2, 1, 0),  # its cubes go from left to right, front to back, and then from slice to slice
    ),
}
"""What can be converted, by name."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of ``torch.save``, read without running anything in it (``weights_only``).

    Raises
    ------
    InputError
        if there is no such file, it is not one of torch's, or it holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise InputError("there is no such weight file", str(path))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = f"the file holds more than tensors and plain values, and nothing else in it is run ({_first(error)})"
        hint = "if you trust its author, save only its tensors: torch.save(checkpoint['network_weights'], NEW)"
        raise InputError(what, str(path), hint) from error
    except (RuntimeError, EOFError, ValueError, OSError, LookupError) as error:
        hint = "was it copied or downloaded whole?"
        raise InputError(f"this is not a torch.save file ({_first(error)})", str(path), hint) from error
    held = next((found[key] for key in HOLDERS if isinstance(found, dict) and isinstance(found.get(key), dict)), found)
    if not isinstance(held, dict):
        hint = "save the network's state_dict()"
        raise InputError(f"the file holds a {type(held).__name__}, not tensors by name", str(path), hint)
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError("the file holds no tensors by name", str(path), f"looked for under {', '.join(HOLDERS)}")
    return tensors


def encoder_of(
    tensors: Tensors, published: Published, where: Path, prefix: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """The arguments of the encoder whose weights are among ``tensors``, these by its own names, and their prefix.

    Raises
    ------
    InputError
        if there is no such encoder, there are several, or some of its tensors are missing.
    """
    places = [name.removesuffix(published.first) for name in tensors if name.endswith(published.first)]
    places = [place for place in places if place in ("", prefix) or place.endswith(".")]
    if prefix is not None:
        places = [place for place in places if place == prefix]
    if not places:
        behind = "" if prefix is None else f" after '{prefix}'"
        what = f"there is no tensor '{published.first}'{behind}, so these are not {published.what}"
        raise InputError(what, str(where), f"the file begins with {', '.join(list(tensors)[:3])}")
    place = min(places, key=len)
    inside = {name.removeprefix(place): tensor for name, tensor in tensors.items() if name.startswith(place)}
    try:
        arguments = {**published.read(inside), **published.arguments}
    except InputError as error:
        raise InputError(error.what, str(where), error.hint) from error
    with torch.device("meta"):
        own = build("encoder", published.encoder, **arguments).net.state_dict()
    found, before = under_prefix(tensors, {name: name for name in own}, where, prefix)
    check_fits(found, own, str(where))
    return arguments, {name: _turned(found[name], published.axes) for name in own if name in found}, before


def _turned(tensor: Tensor, axes: Triple) -> Tensor:
    """Kernels of volumes with their directions as ours, (depth, height, width)."""
    return tensor.permute(0, 1, *(2 + axis for axis in axes)) if tensor.dim() == 5 else tensor


def _listed(values: Mapping[int, Any]) -> str:
    *some, last = map(str, values)
    return f"{', '.join(some)} and {last}"


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
