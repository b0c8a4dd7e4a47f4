"""Files of weights for timm networks: whatever comes before or after their names, and for other image sizes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import adapt_input_conv
from torch import Tensor, nn

from medkit.errors import InputError, some
from medkit.parts.encoder_models import REFUSED, Design, names_in
from medkit.parts.weights import OWN, read_safetensors, tell, tell_prefix, under_prefix


def statistics_of(model: str, tag: str | None, channels: int) -> tuple[Any, Any]:
    """Mean and deviation of the images that timm's weights ``tag`` were trained with, by channel or for all.

    Raises
    ------
    InputError
        if timm does not say.
    """
    found: Any = timm.get_pretrained_cfg(f"{model}.{tag}" if tag else model, allow_unregistered=True)
    if found is None or found.mean is None or found.std is None:
        what = f"timm does not say with what mean and deviation '{model}' was trained"
        raise InputError(what, hint="write them: 'normalize: [0.449, 0.226]'")
    if channels == len(found.mean):
        return found.mean, found.std
    return sum(found.mean) / len(found.mean), sum(found.std) / len(found.std)


def load_backbone(encoder: nn.Module, design: Design, path: Path, prefix: str | None = None) -> None:
    """Load a safetensors file with the weights of an encoder's network.

    Names may have a prefix (``module.``, ``backbone.``, ``student.backbone.``), which is found by the best match and
    reported. Colour weights of the first convolution are summed for one channel, or spread over others, and
    positions resampled for another image size, as timm does. Classifiers and blocks after the pyramid's last level
    are left out; tensors that the model does not have are reported.

    Raises
    ------
    InputError
        if tensors are missing or of another shape, or the file has several such networks.
    """
    net: Any = encoder.net
    whole = design.whole()
    own = net.state_dict()
    names = names_in(net, whole)
    content = read_safetensors(path)
    flat = {mine.removeprefix("model."): name for name, mine in names.items()}
    tensors, before = under_prefix(content, {**flat, **{name: name for name in whole.state_dict()}}, path, prefix)
    tell_prefix(path, before, prefix)
    _check_normalized(encoder, content, before, path)
    tensors = _colours(tensors, own, names)
    lacking, wrong = _faults(tensors, own, names)
    if lacking or wrong:
        tensors, resampled = _converted(tensors, whole)
        lacking, wrong = _faults(tensors, own, names)
        if resampled and not lacking and not wrong:
            size = " x ".join(map(str, design.own_size))
            tell(path, f"{some(resampled)} resampled for images of {size}")
    if lacking or wrong:
        what = "lacks" if lacking else "has another shape for"
        found = lacking or [f"{n} {tuple(tensors[n].shape)}, not {tuple(own[names[n]].shape)}" for n in wrong]
        hint = _size_hint(wrong) if wrong and not lacking else None
        raise InputError(f"the file {what} {len(found)} tensors of this backbone ({some(found)})", str(path), hint)
    unused = [name for name in tensors if name not in names and name not in whole.state_dict()]
    if unused:
        left = "1 tensor" if len(unused) == 1 else f"{len(unused)} tensors"
        tell(path, f"{left} left out, which timm's '{design.model}' does not have ({some(unused)})")
    net.load_state_dict({mine: tensors[name] for name, mine in names.items()})


def _check_normalized(encoder: nn.Module, content: Mapping[str, Tensor], before: str, path: Path) -> None:
    """Refuse weights of one of our encoders that saw images with another mean and deviation."""
    if before not in OWN[1:]:
        return
    for name in ("mean", "deviation"):
        theirs: Any = content.get(name)
        mine: Any = getattr(encoder, name, None)
        if (theirs is None) != (mine is None) or (theirs is not None and not theirs.allclose(mine)):
            said = "as they are" if theirs is None else f"of {name} {[round(float(v), 4) for v in theirs]}"
            hint = "leave 'normalize' out" if theirs is None else "set 'normalize' as it was for them"
            raise InputError(
                f"these weights were trained on images {said}, and 'normalize' says otherwise", str(path), hint
            )


def _colours(tensors: dict[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights of three colours fitted to the encoder's channels as timm does; some networks have none."""
    first = next((name for name, mine in names.items() if own[mine].dim() == 4), None)
    if first is None:
        return tensors
    channels = own[names[first]].shape[1]
    if first in tensors and tensors[first].dim() == 4 and tensors[first].shape[1] == 3 != channels:
        return {**tensors, first: adapt_input_conv(channels, tensors[first])}
    return tensors


def _faults(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Names of this network that are missing, and those of another shape."""
    missing = [name for name in names if name not in tensors]
    return missing, [name for name, mine in names.items() if name in tensors and tensors[name].shape != own[mine].shape]


def _converted(tensors: dict[str, Tensor], whole: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors as timm itself converts those of the model's authors or of other sizes; and what was resampled."""
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors, []
    try:
        made: dict[str, Tensor] = dict(convert(dict(tensors), whole))
    except REFUSED:
        return tensors, []
    return made, [name for name, t in made.items() if name in tensors and t.shape != tensors[name].shape]


def _size_hint(names: list[str]) -> str | None:
    if any("pos" in name for name in names):
        return "'image_size' is the size of images that positions are for: set the one that the file was trained with"
    return None
