"""Networks made ready to predict: batch norm folded into convolutions, channels last, no gradients."""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medkit.parts.convblocks import conv3d_as_2d

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d, conv3d_as_2d)


def prepare_for_inference(module: nn.Module, run: Callable[[nn.Module], Any]) -> nn.Module:
    """A copy of ``module`` that predicts the same, up to rounding, faster and in less memory.

    The copy is in evaluation mode and without gradients, its weights are stored channels last, and every batch norm
    that is the only reader of a convolution is folded into it. Which ones are is observed in one pass, not guessed from
    names, so any network may be given; what cannot be folded is left as it is.

    Parameters
    ----------
    run:
        Calls the module it is given on a small example, in the way it will be used, and returns what it gives.
    """
    copied = copy.deepcopy(module).eval().requires_grad_(False)
    watch = _Watch(copied)
    with torch.no_grad():
        with watch:
            result = run(copied)
        watch.read(result)
        replaced = {id(norm): _fold(conv, norm) for conv, norm in watch.pairs()}
        for parent in list(copied.modules()):
            for name, child in list(parent.named_children()):
                if id(child) in replaced:
                    setattr(parent, name, replaced[id(child)])
        for parameter in copied.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            elif parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return copied


def _norms_of_timm() -> tuple[type[Any], ...]:
    """timm's batch norm with an activation in it. Nothing has one before timm is imported, which takes seconds."""
    layers = sys.modules.get("timm.layers")
    return (layers.BatchNormAct2d,) if layers else ()


ELSE = 0
"""In place of a convolution or a batch norm: anything else."""


class _Watch(TorchFunctionMode):
    """Who reads the outputs of convolutions, and what each batch norm reads.

    Functions are given tensors, not modules, so a convolution is known by the ``id`` of its weight and a batch norm by
    that of its running mean.

    Attributes
    ----------
    convs, norms:
        The modules that are watched.
    outputs:
        For each map that a convolution gave, by its ``id``: the map and the convolution. References are weak, as
        intermediate maps must not outlive the pass; then an ``id`` may be that of a later tensor.
    readers:
        For each convolution, the batch norms that read an output of it, and ``ELSE`` for any other reader.
    sources:
        For each batch norm, the convolutions whose outputs it read, and ``ELSE`` for anything else.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.convs = {id(m.weight): m for m in module.modules() if isinstance(m, Conv)}
        known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, *_norms_of_timm())
        norms: list[Any] = [m for m in module.modules() if type(m) in known]
        self.norms: dict[int, Norm] = {id(m.running_mean): m for m in norms if m.running_mean is not None}
        self.outputs: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self.readers: dict[int, set[int]] = {}
        self.sources: dict[int, set[int]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {**(kwargs or {})}
        read = [conv for tensor in tensors_in([*args, *given.values()]) if (conv := self._conv_of(tensor)) != ELSE]
        norm = self._norm_of(func, args, given)
        source = self._conv_of(args[0] if args else given["input"]) if norm != ELSE else ELSE
        result = func(*args, **given)
        if norm != ELSE:
            self.sources.setdefault(norm, set()).add(source)
        # Asking for a shape or a type reads nothing.
        if result is None or any(True for _ in tensors_in(result)):
            for conv in read:
                self.readers.setdefault(conv, set()).add(norm)
        if func in CONVOLUTIONS:
            weight = id(args[1] if len(args) > 1 else given["weight"])
            if weight in self.convs:
                self.outputs[id(result)] = (weakref.ref(result), weight)
        return result

    @staticmethod
    def _norm_of(func: Any, args: Sequence[Any], given: Mapping[str, Any]) -> int:
        """The batch norm that is called, by its running mean, or ``ELSE``."""
        if func is not F.batch_norm:
            return ELSE
        return id(args[1] if len(args) > 1 else given["running_mean"])

    def _conv_of(self, tensor: Tensor) -> int:
        """The convolution that made ``tensor``, or ``ELSE``."""
        reference, conv = self.outputs.get(id(tensor), (None, ELSE))
        return conv if reference is not None and reference() is tensor else ELSE

    def read(self, result: Any) -> None:
        """Count a map that leaves the network as read."""
        for tensor in tensors_in(result):
            if (conv := self._conv_of(tensor)) != ELSE:
                self.readers.setdefault(conv, set()).add(ELSE)

    def pairs(self) -> Iterator[tuple[Conv, Norm]]:
        """Convolutions that only one batch norm reads, which reads nothing else."""
        for conv, readers in self.readers.items():
            (reader, *others) = readers
            if not others and reader in self.norms and self.sources[reader] == {conv}:
                yield self.convs[conv], self.norms[reader]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a nested value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def _fold(conv: Conv, norm: Norm) -> nn.Module:
    """Put what ``norm`` does into ``conv``; return what is left to do after it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # In double precision, as the rounding of the fold should not add to that of the network.
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    shift = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
    bias = shift * factor
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    dtype = conv.weight.dtype
    weight = conv.weight.double() * factor.reshape(-1, *[1] * (conv.weight.dim() - 1))
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    if isinstance(norm, _norms_of_timm()):
        return nn.Sequential(norm.drop, norm.act)
    return nn.Identity()
