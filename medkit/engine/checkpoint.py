"""Checkpoints and weights: one safetensors file each, written whole or not at all, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medkit.data.ledger import METADATA
from medkit.engine.divided import divided_like
from medkit.errors import InputError, RunError, did_you_mean, some
from medkit.records import room

Whole = Callable[[Tensor], Tensor]
LAST, PREVIOUS = "last.safetensors", "previous.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], ledger: str = "") -> None:
    """Write tensors and a JSON state with a checksum: temporary name, flush to disk, rename.

    ``ledger`` says whom the weights have seen (:mod:`medkit.data.ledger`).

    Raises
    ------
    RunError
        if the disk refuses (full, read-only); what was there before is untouched.
    """
    plain = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    metadata = {"medkit": json.dumps(dict(state)), "checksum": checksum(plain)}
    if ledger:
        metadata[METADATA] = ledger
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary, metadata=metadata)
        with temporary.open("rb+") as file:
            _sort_metadata(file)
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            os.replace(path, path.with_name(PREVIOUS))
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = ", then ".join(text for text in (room(error), "'medkit resume' continues") if text)
        raise RunError(f"cannot be written: {reason}", str(path), hint) from error
    finally:
        with suppress(OSError):  # renamed, or never made
            temporary.unlink()


def _sort_metadata(file: BinaryIO) -> None:
    """Sort the metadata of a safetensors file by key, so that equal content gives equal bytes.

    The library writes them in a different order each time. A header is JSON, preceded by its length.
    """
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    sorted_header = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    if len(sorted_header) == length:  # otherwise it was written in another way; nothing depends on the order
        file.seek(8)
        file.write(sorted_header)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote (or any safetensors file; its state is then {}).

    Raises
    ------
    InputError
        if the file is not a safetensors file (a pickle, say), is cut short or has been changed.
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
        raise InputError(f"this is not a complete safetensors file ({error})", str(path), hint) from error
    if "checksum" in metadata and metadata["checksum"] != checksum(tensors):
        raise InputError("the checkpoint is corrupt: its checksum does not match", str(path), hint)
    try:
        state = json.loads(metadata.get("medkit", "{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"its metadata are damaged ({error})", str(path), hint) from error
    if not isinstance(state, dict):
        raise InputError("its metadata are damaged (not a mapping)", str(path), hint)
    return tensors, state


def checksum_in(path: Path) -> str:
    """The checksum that a file of weights states for its tensors; only its header is read."""
    with safe_open(path, framework="pt") as file:
        return str((file.metadata() or {}).get("checksum", ""))


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def tensors_of(module: nn.Module, whole: Whole = as_it_is) -> dict[str, Tensor]:
    """A module's weights and buffers by name; ``whole`` puts together those that are divided among ranks.

    Raises
    ------
    RunError
        if the module keeps anything else among them, which no file of tensors could restore.
    """
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            what = f"'{name}' is a {type(value).__name__} among the weights, which a file of tensors cannot hold"
            raise RunError(what, hint="keep it in a buffer (register_buffer) instead of get_extra_state")
    return {name: whole(value) for name, value in state.items()}


def save_weights(path: Path, module: nn.Module, ledger: str = "") -> None:
    """Write a module's weights and buffers, with the ledger of the patients they have seen."""
    write_tensors(path, tensors_of(module), {}, ledger)


def load_weights(path: Path, module: nn.Module, *, allow_missing: bool = False) -> None:
    """Load weights written by :func:`save_weights`.

    Raises
    ------
    InputError
        if keys or shapes do not match (they are listed), unless ``allow_missing`` lets absent ones keep their values.
    """
    tensors, _ = read_tensors(path)
    load_tensors(module, tensors, str(path), allow_missing=allow_missing)


def load_tensors(module: nn.Module, weights: Mapping[str, Tensor], where: str, *, allow_missing: bool = False) -> None:
    """Copy tensors into a module's own, whose memory layout is kept; errors as in :func:`load_weights`.

    A module whose shapes depend on what it has learned from has a method ``make_room(weights)``, which is called first.
    """
    if (make_room := getattr(module, "make_room", None)) is not None:
        make_room(weights)
    own = module.state_dict()
    missing = [] if allow_missing else [name for name in own if name not in weights]
    extra = [name for name in weights if name not in own]
    shapes = [n for n, t in weights.items() if n in own and own[n].shape != t.shape]
    if missing or extra or shapes:
        parts = []
        for label, names in (("missing", missing), ("unknown", extra), ("of another shape", shapes)):
            if names:
                parts.append(f"{label}: {some(names)}")
        hint = did_you_mean(missing[0], extra) if missing and extra else None
        raise InputError(f"the weights do not fit the model ({'; '.join(parts)})", where, hint)
    mine = {name: divided_like(tensor, own[name]) for name, tensor in weights.items()}
    module.load_state_dict(mine, strict=not allow_missing)
