"""Reading weight files: safetensors only, nothing is unpickled. Names may stand behind a prefix."""

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
"""What stands before names in files of a network's authors and of ours: nothing to tell."""
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
        if it is none; of a pickle, which may run anything that its author likes, with the way to convert it.
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
                "this is a pickle of torch's and no safetensors file: it is not opened, for a pickle may run anything"
            )
            raise InputError(what, str(path), f"where you trust it, {CONVERT.format(path, path.stem)}") from error
        raise InputError(f"this is no safetensors file ({error})", str(path)) from error


def under_prefix(
    content: Mapping[str, Tensor], known: Mapping[str, str], path: Path, wanted: str | None = None
) -> tuple[dict[str, Tensor], str]:
    """Tensors of a network by the names that ``known`` has for those of a file, and the prefix that these stood behind.

    The prefix is the one behind which most names are known. A network that stands there twice with the same tensors (as
    a decoder's part, too) counts once, behind the shorter prefix.

    Raises
    ------
    InputError
        if nothing stands behind the ``wanted`` prefix, or several such networks are there.
    """
    votes = Counter(
        name[:i] for name in content for i in [0, *(m.end() for m in re.finditer(r"\.", name))] if name[i:] in known
    )
    if wanted is not None:
        best = wanted
        if wanted not in votes:
            there = ", ".join(repr(p) for p, _ in votes.most_common(SHOWN) if p) or "none"
            raise InputError(f"no tensor of this backbone stands behind '{wanted}'", str(path), f"found: {there}")
    else:
        ranked = votes.most_common(2)
        best = ranked[0][0] if ranked else ""
        if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
            best = min((name for name, _ in ranked), key=len)
        if len(ranked) == 2 and ranked[0][1] == ranked[1][1] and not _alike(content, known, [p for p, _ in ranked]):
            first, second = sorted(name for name, _ in ranked)
            what = f"the file has this network twice, behind '{first}' and behind '{second}'"
            raise InputError(what, str(path), f"say which one: 'prefix: {first}' or 'prefix: {second}'")
    found: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if name.startswith(best):
            short = name.removeprefix(best)
            found[known.get(short, short)] = tensor
    return found, best


def _alike(content: Mapping[str, Tensor], known: Mapping[str, str], prefixes: Sequence[str]) -> bool:
    """Whether the same tensors stand behind two prefixes."""
    first, second = ({name: content[p + name] for name in known if p + name in content} for p in prefixes)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def tell_prefix(path: Path, prefix: str, wanted: str | None) -> None:
    """Warn that names stood behind a prefix that nobody had named."""
    if wanted is None and prefix not in OWN:
        tell(path, f"names stand behind '{prefix}' there, which was stripped")


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def tell(path: Path, text: str) -> None:
    """Warn of what was done with a file."""
    warnings.warn(f"{path}: {text}", stacklevel=4)
