"""Reading weight files: safetensors only, nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medkit.errors import InputError

PICKLES = (b"PK\x03\x04", b"\x80")
"""How files of ``torch.save`` begin: as archives, and as bare pickles before torch 1.6."""
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
