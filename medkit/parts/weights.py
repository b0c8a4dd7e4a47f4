"""Reading weight files: safetensors only, nothing is unpickled. Names may have a prefix."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medkit.errors import InputError

PICKLES = (b"PK\x03\x04", b"\x80")
"""How files of ``torch.save`` begin: as archives, and as bare pickles before torch 1.6."""
OWN = ("", "net.", "net.model.")
"""Prefixes of names in files from a network's authors and from us: nothing to report."""
SHOWN = 3
CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "found = torch.load('{0}', map_location='cpu', weights_only=True); "
    "save_file({{k: v.contiguous() for k, v in found.get('state_dict', found).items()}}, '{1}.safetensors')\""
)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises
    ------
    InputError
        if it is not one; for a pickle, which may run anything that its author likes, with the way to convert it.
    """
    if not path.is_file():
        raise InputError("there is no such weight file", str(path))
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        with path.open("rb") as file:
            begin = file.read(4)
        if begin.startswith(PICKLES):
            what = (
                "this is a torch pickle and not a safetensors file: it is not opened, because a pickle may run anything"
            )
            raise InputError(what, str(path), f"if you trust it, {CONVERT.format(path, path.stem)}") from error
        hint = "was it copied or downloaded whole?"
        raise InputError(f"this is not a safetensors file ({error})", str(path), hint) from error


def under_prefix(
    content: Mapping[str, Tensor], known: Mapping[str, str], path: Path, wanted: str | None = None
) -> tuple[dict[str, Tensor], str]:
    """Tensors of a network by the names that ``known`` has for those of a file, and the prefix that these had.

    The prefix is the one with which most names are known. A network that appears twice with the same tensors (such as
    once more as a decoder's part) counts once, with the shorter prefix.

    Raises
    ------
    InputError
        if nothing has the ``wanted`` prefix, or there are several such networks.
    """
    votes = Counter(
        name[:i] for name in content for i in [0, *(m.end() for m in re.finditer(r"\.", name))] if name[i:] in known
    )
    if wanted is not None:
        best = wanted
        if wanted not in votes:
            there = ", ".join(repr(p) for p, _ in votes.most_common(SHOWN) if p) or "none"
            raise InputError(f"no tensor of this backbone has the prefix '{wanted}'", str(path), f"found: {there}")
    else:
        ranked = votes.most_common(2)
        best = ranked[0][0] if ranked else ""
        if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
            best = min((name for name, _ in ranked), key=len)
        if len(ranked) == 2 and ranked[0][1] == ranked[1][1] and not _alike(content, known, [p for p, _ in ranked]):
            first, second = sorted(name for name, _ in ranked)
            what = f"the file has this network twice, with the prefixes '{first}' and '{second}'"
            raise InputError(what, str(path), f"say which one: 'prefix: {first}' or 'prefix: {second}'")
    found: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if name.startswith(best):
            short = name.removeprefix(best)
            found[known.get(short, short)] = tensor
    return found, best


def _alike(content: Mapping[str, Tensor], known: Mapping[str, str], prefixes: Sequence[str]) -> bool:
    """Whether the same tensors have two prefixes."""
    first, second = ({name: content[p + name] for name in known if p + name in content} for p in prefixes)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def tell_prefix(path: Path, prefix: str, wanted: str | None) -> None:
    """Warn that names had a prefix that was not asked for."""
    if wanted is None and prefix not in OWN:
        tell(path, f"names have the prefix '{prefix}' there, which was stripped")


def tell(path: Path, text: str) -> None:
    """Warn about what was done with a file."""
    warnings.warn(f"{path}: {text}", stacklevel=4)
