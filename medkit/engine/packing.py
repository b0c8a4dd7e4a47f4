"""What training needs to continue bit for bit, as flat tensors and plain data: weights, buffers, optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medkit.engine.checkpoint import Whole, as_it_is, load_tensors, tensors_of
from medkit.engine.divided import divided_like, is_divided
from medkit.errors import InputError, RunError

FORMAT = 3
"""Raised when a stage that was begun by an earlier version could not be continued to the numbers of either."""

WEIGHTS = "weights."

Optimizers = Mapping[str, torch.optim.Optimizer]
Packed = tuple[dict[str, Tensor], dict[str, Any]]


def pack(module: nn.Module, optimizers: Optimizers, whole: Whole = as_it_is) -> Packed:
    """Weights, buffers and all that the optimizers keep, as flat tensors and plain data for JSON.

    Each optimizer's whole ``state_dict()`` is kept: moments, and what some (Prodigy, schedule-free ones) write into
    their parameter groups. Tensors keep their strides, for fused steps walk through memory without looking at them.
    ``whole`` puts together tensors that are divided among ranks.

    Raises
    ------
    RunError
        if an optimizer keeps anything but tensors, numbers and texts: it could not be resumed exactly.
    """
    tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in tensors_of(module, whole).items()}
    tensors |= {f"buffers.{name}": buffer for name, buffer in _unsaved_buffers(module).items()}
    kept: dict[str, Any] = {}
    for turn, optimizer in optimizers.items():
        found = dict(optimizer.state_dict())
        parameters = _parameters(optimizer)
        packer = _Packer(tensors, whole)
        states = [
            [key, packer.encode(values, f"optim.{turn}.{key}", parameters[key] if isinstance(key, int) else None)]
            for key, values in found.pop("state", {}).items()
        ]
        kept[turn] = {"state": states, "rest": packer.encode(found, f"optim.{turn}")}
    return tensors, {"format": FORMAT, "optimizers": kept}


def unpack(
    tensors: Mapping[str, Tensor], plain: Mapping[str, Any], module: nn.Module, optimizers: Optimizers, where: str
) -> None:
    """Restore a packed state; a state of another model or optimizer is an :class:`InputError`."""
    if plain.get("format") != FORMAT:
        hint = "train it again; a stage that was begun and ended by two versions would have the numbers of neither"
        raise InputError("this checkpoint was written by another version of medkit", where, hint)
    load_tensors(module, weights_in(tensors), where)
    with torch.no_grad():
        for name, buffer in _unsaved_buffers(module).items():
            kept = tensors.get(f"buffers.{name}")
            if kept is not None and kept.shape == buffer.shape:
                buffer.copy_(kept)
    for turn, optimizer in optimizers.items():
        parameters = _parameters(optimizer)
        state = {
            key: _decode(values, tensors, parameters[key] if isinstance(key, int) else None)
            for key, values in plain["optimizers"][turn]["state"]
        }
        try:
            optimizer.load_state_dict({"state": state, **_decode(plain["optimizers"][turn]["rest"], tensors)})
        except (ValueError, KeyError) as error:
            raise InputError(f"the optimizer of '{turn}' does not fit its state ({error})", where) from error
        # torch casts states to the type of their parameter and leaves their strides to chance.
        for key, values in state.items():
            if isinstance(key, int) and parameters[key] in optimizer.state:
                parameter = parameters[key]
                optimizer.state[parameter] = _as_saved(values, optimizer.state[parameter])


def weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's own weights and buffers among packed tensors."""
    return {name.removeprefix(WEIGHTS): tensor for name, tensor in tensors.items() if name.startswith(WEIGHTS)}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters in the order in which a ``state_dict`` numbers them."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _unsaved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Buffers left out of ``state_dict``: not part of the weights, but training may change them too."""
    saved = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name not in saved}


class _Packer:
    """Encodes nested values for JSON; tensors go to ``tensors`` under their path."""

    def __init__(self, tensors: dict[str, Tensor], whole: Whole) -> None:
        self.tensors, self.whole = tensors, whole

    def encode(self, value: Any, path: str, parameter: Tensor | None = None) -> Any:
        if isinstance(value, Tensor):
            while path in self.tensors:  # "a.b" beside the b of a
                path += "'"
            self.tensors[path] = self.whole(value)
            return {"tensor": path, "strides": _strides(value, parameter)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Mapping):
            items = [[key, self.encode(item, f"{path}.{key}", parameter)] for key, item in value.items()]
            if all(isinstance(key, str | int) for key in value):
                return {"items": items}
        if isinstance(value, list | tuple):
            items = [self.encode(item, f"{path}.{i}", parameter) for i, item in enumerate(value)]
            return {"tuple": items} if isinstance(value, tuple) else items
        raise RunError(
            f"the optimizer keeps a {type(value).__name__}, which a checkpoint cannot hold, so the stage could not be "
            "resumed",
            path,
            "an optimizer's state is tensors, numbers and texts, in lists, tuples or dictionaries",
        )


def _strides(tensor: Tensor, parameter: Tensor | None) -> list[int] | str | None:
    """Strides to restore: those of the parameter, whatever they will be; others as numbers; None: contiguous."""
    if parameter is not None and tensor.shape == parameter.shape and tensor.stride() == parameter.stride():
        return "parameter"
    plain = torch.empty(tensor.shape, device="meta").stride()
    return None if tensor.stride() == plain else list(tensor.stride())


def _decode(value: Any, tensors: Mapping[str, Tensor], parameter: Tensor | None = None) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors, parameter) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return _laid_out(tensors[value["tensor"]], value["strides"], parameter)
    if "tuple" in value:
        return tuple(_decode(item, tensors, parameter) for item in value["tuple"])
    return {key: _decode(item, tensors, parameter) for key, item in value["items"]}


def _laid_out(tensor: Tensor, strides: list[int] | str | None, parameter: Tensor | None) -> Tensor:
    if parameter is not None and is_divided(parameter) and tensor.shape == parameter.shape:
        return divided_like(tensor, parameter)
    if strides is None:
        return tensor
    if isinstance(strides, str):  # "parameter"
        assert parameter is not None
        return torch.empty_like(parameter, dtype=tensor.dtype, device="cpu", requires_grad=False).copy_(tensor)
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _as_saved(saved: Any, loaded: Any) -> Any:
    """``saved`` on the devices that the optimizer has chosen for it."""
    if isinstance(saved, Tensor) and isinstance(loaded, Tensor):
        return saved.to(loaded.device)
    if isinstance(saved, dict) and isinstance(loaded, Mapping):
        return {key: _as_saved(item, loaded.get(key)) for key, item in saved.items()}
    if isinstance(saved, list | tuple) and isinstance(loaded, list | tuple) and len(saved) == len(loaded):
        return type(saved)(_as_saved(a, b) for a, b in zip(saved, loaded, strict=True))
    return saved
