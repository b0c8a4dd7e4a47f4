"""What 3-D encoders share: sizes in three directions, and files of weights by their published names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError, some
from medkit.parts.weights import read_safetensors, tell, tell_prefix, under_prefix

Count = Annotated[int, Field(gt=0)]
COUNTER = "num_batches_tracked"
"""Of batch norms; files from before torch 0.4.1 lack it, and nothing of ours depends on it."""
Triple = tuple[int, int, int]
"""Depth, height and width."""


def triples(value: Sequence[Triple] | int, count: int, what: str) -> list[Triple]:
    """``count`` triples; a single number is for all directions and stages.

    Raises
    ------
    InputError
        if there are more or fewer.
    """
    found = [(value, value, value)] * count if isinstance(value, int) else [(a, b, c) for a, b, c in value]
    if len(found) != count:
        raise InputError(f"{len(found)} {what} for {count} stages", hint="each stage has one: [depth, height, width]")
    return found


def check_volumes(x: Tensor) -> None:
    """Refuse images of slices: torch would take their batch for channels."""
    if x.dim() != 5:
        raise InputError(f"an encoder of volumes takes (N,C,D,H,W), not {tuple(x.shape)}")


def load_published(net: nn.Module, path: Path, prefix: str | None = None) -> None:
    """Load a safetensors file with the weights of ``net``, whose names are the published ones.

    Names may have a prefix (``encoder.``, ``module.``), which is found by the best match and reported. Tensors that
    the network does not have (a decoder, a classifier) are left out, and reported if they have the same prefix.

    Raises
    ------
    InputError
        if tensors are missing or of another shape, or the file has several such networks.
    """
    own = net.state_dict()
    try:
        content = read_safetensors(path)
    except InputError as error:
        # The error for a pickle comes with a way to convert it; these weights need another one.
        hint = "'medkit convert-weights FILE --of NAME' converts it: docs/volumes.md" if error.hint else None
        raise InputError(error.what, error.where, hint) from error
    tensors, before = under_prefix(content, {name: name for name in own}, path, prefix)
    tell_prefix(path, before, prefix)
    check_fits(tensors, own, str(path))
    unused = [name for name in tensors if name not in own]
    if unused:
        tell(path, f"{counted(len(unused))} left out, which this encoder does not have ({some(unused)})")
    net.load_state_dict({name: tensors.get(name, mine) for name, mine in own.items()})


def check_fits(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors among which the encoder's ``own`` are missing or have other shapes."""
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTER)]
    if missing:
        what = f"the file lacks {counted(len(missing))} of the {len(own)} of this encoder ({some(missing)})"
        hint = "are stages, blocks and widths those of the file? 'medkit convert-weights' finds them"
        raise InputError(what, where, hint)
    wrong = [name for name, mine in own.items() if name in tensors and tensors[name].shape != mine.shape]
    if wrong:
        shown = [f"{name} {list(tensors[name].shape)}, not {list(own[name].shape)}" for name in wrong]
        hint = "are widths and kernels those of the file? 'medkit convert-weights' finds them"
        raise InputError(f"the file has another shape for {counted(len(wrong))} ({some(shown)})", where, hint)


def counted(number: int) -> str:
    return "1 tensor" if number == 1 else f"{number} tensors"
