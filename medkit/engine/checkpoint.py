"""Checkpoints and weights: one safetensors file each, written whole or not at all, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medkit.errors import InputError, RunError, did_you_mean

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON state with a checksum: temporary name, flush to disk, rename.

    Raises
    ------
    RunError
        if the disk refuses (full, read-only); what was there before is untouched.
    """
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"medkit": json.dumps(dict(state)), "checksum": checksum(plain)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary, metadata=metadata)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            os.replace(path, path.with_name(PREVIOUS))
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot be written: {reason}", str(path), "free some space, then 'medkit resume'") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote (or any safetensors file; its state is {} then).

    Raises
    ------
    InputError
        if the file is no safetensors file (a pickle, say), cut short or changed.
    """
    good = path.with_name(PREVIOUS)
    hint = "it is not loaded: pickled files can run code; medkit reads safetensors only"
    if path.name == LAST and good.exists():
        hint = f"the one before it, {good}, is kept: delete this file to go on from there"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"this is no whole safetensors file ({error})", str(path), hint) from error
    if "checksum" in metadata and metadata["checksum"] != checksum(tensors):
        raise InputError("the checkpoint is corrupt: its checksum does not fit", str(path), hint)
    return tensors, json.loads(metadata.get("medkit", "{}"))


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pack(
    module: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and optimizer states as flat tensors and plain numbers."""
    tensors = {f"weights.{name}": tensor for name, tensor in module.state_dict().items()}
    numbers: dict[str, Any] = {}
    for turn, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optim.{turn}.{index}.{key}"] = value
                elif value is not None:
                    numbers[f"optim.{turn}.{index}.{key}"] = value
    return tensors, numbers


def unpack(
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
    module: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    where: str,
) -> None:
    """Put a packed state back; a state of another model is an :class:`InputError`."""
    weights = {name[8:]: tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    _load(module, weights, where, False)
    for turn, optimizer in optimizers.items():
        state: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *numbers.items()]:
            if name.startswith(f"optim.{turn}."):
                index, key = name.removeprefix(f"optim.{turn}.").split(".", 1)
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights and buffers."""
    write_tensors(path, module.state_dict(), {})


def load_weights(path: Path, module: nn.Module, *, allow_missing: bool = False) -> None:
    """Load weights written by :func:`save_weights`.

    Raises
    ------
    InputError
        if keys or shapes do not fit (they are listed), unless ``allow_missing`` lets absent ones keep their values.
    """
    tensors, _ = read_tensors(path)
    _load(module, tensors, str(path), allow_missing)


def _load(module: nn.Module, weights: Mapping[str, Tensor], where: str, allow_missing: bool) -> None:
    own = module.state_dict()
    missing = [] if allow_missing else [name for name in own if name not in weights]
    extra = [name for name in weights if name not in own]
    shapes = [n for n, t in weights.items() if n in own and own[n].shape != t.shape]
    if missing or extra or shapes:
        parts = []
        for label, names in (("missing", missing), ("unknown", extra), ("of another shape", shapes)):
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                parts.append(f"{label}: {', '.join(names[:3])}{more}")
        hint = did_you_mean(missing[0], extra) if missing and extra else None
        raise InputError(f"the weights do not fit the model ({'; '.join(parts)})", where, hint)
    module.load_state_dict(dict(weights), strict=not allow_missing)
