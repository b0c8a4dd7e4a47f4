"""The conformance check of losses (:mod:`medkit.testing`)."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from medkit.testing.common import build, generators_rest, python_and_numpy_rest, same


def check_loss(
    constructor: Callable[..., Any],
    prediction: Tensor | None = None,
    target: Tensor | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> None:
    """A loss is a finite scalar with a gradient for the prediction; by default logits (3,1,16,16) against zeros and
    ones.

    It is the same for the same arguments, which it does not change; accepts context that it does not need; is finite if
    nothing is positive; and, by default, is smaller for a right prediction than for a wrong one.
    """
    loss = build(constructor, arguments, "loss")
    usual = prediction is None and target is None and not context
    made = torch.Generator().manual_seed(5)
    if prediction is None:
        prediction = torch.randn(3, 1, 16, 16, generator=made)
    if target is None:
        target = (torch.rand(prediction.shape, generator=made) > 0.5).float()
    more = dict(context or {})
    assert any(p.kind is p.VAR_KEYWORD for p in inspect.signature(loss.forward).parameters.values()), (
        "forward() has no **context: objectives pass more than it needs, such as 'input'"
    )
    kept = copy.deepcopy([prediction, target])
    with python_and_numpy_rest("the loss"):
        value = _value(loss, prediction, target, more)
    # In its first call a loss may make the network that it compares features of, under a seed that it puts back.
    same(
        value,
        _value(loss, prediction, target, more, rest=True),
        "the loss differs for the same arguments under one seed",
    )
    same(kept, [prediction, target], "the loss changes its arguments, which other losses see too")
    if set(target.unique().tolist()) <= {0.0, 1.0}:
        _value(loss, prediction, torch.zeros_like(target), more, "where nothing is positive ")
    if usual:
        pairs = ((target, 1 - target), (20 * target - 10, 10 - 20 * target))  # for a distance, and for logits
        values = [[float(_value(loss, p, target, more)) for p in pair] for pair in pairs]
        assert any(right < wrong for right, wrong in values), (
            "the loss is not smaller for a right prediction than for a wrong one: is it upside down?"
        )


def _value(
    loss: Any, prediction: Tensor, target: Tensor, context: Mapping[str, Any], when: str = "", rest: bool = False
) -> Tensor:
    """The loss, with its gradient checked."""
    torch.manual_seed(6)
    leaf = prediction.clone().requires_grad_()
    with generators_rest("the loss") if rest else nullcontext():
        value: Tensor = loss(leaf, target, **context)
    assert isinstance(value, Tensor), f"a loss must be a tensor, not a {type(value).__name__}"
    assert value.dim() == 0, f"a loss must be a scalar, not {tuple(value.shape)}"
    assert torch.isfinite(value), f"{when}the loss is {value}"
    assert value.requires_grad, f"{when}no gradient reaches the prediction: the loss would train nothing"
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    assert gradient is not None, f"{when}no gradient reaches the prediction: the loss would train nothing"
    assert torch.isfinite(gradient).all(), f"{when}the gradient is not finite"
    return value.detach()
