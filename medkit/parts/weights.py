"""Reading weight files: safetensors only, nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medkit.errors import InputError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    if not path.is_file():
        raise InputError("there is no such weight file", str(path))
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        hint = "convert pickled weights with safetensors.torch.save_file where you trust them"
        raise InputError(f"this is no safetensors file ({error})", str(path), hint) from error
