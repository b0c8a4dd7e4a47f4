"""Losses that compare rows are computed in full precision, even where networks are not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def precise(method: Callable[..., Any]) -> Callable[..., Any]:
    """A loss outside autocast, whose 16-bit arguments become float32: cosines have three digits in bfloat16."""

    @functools.wraps(method)
    def computed(self: Any, *arguments: Any) -> Any:
        device = next(self.parameters()).device.type
        with torch.autocast(device, enabled=False):
            return method(self, *map(_float, arguments))

    return computed


def _float(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    return [_float(item) for item in value] if isinstance(value, list | tuple) else value
