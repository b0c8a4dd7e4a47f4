"""Conformance checks for authors of components: what every component of a kind must do.

Call one from a test; it raises ``AssertionError`` with a sentence that says which promise was broken::

    def test_head_keeps_every_promise_of_a_pretext():
        check_pretext(RotationHead, hidden=8)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medkit.errors import InputError
from medkit.protocols import KINDS
from medkit.registry.plugins import registry
from medkit.testing.augmentations import check_augmentation
from medkit.testing.common import build as _build
from medkit.testing.common import (
    check_construction,
    check_devices,
    check_dtype,
    check_gradients,
    check_schema,
    check_state,
)
from medkit.testing.data import check_source
from medkit.testing.distilling import check_distiller
from medkit.testing.events import check_tracker, example_events
from medkit.testing.heads import check_pretext
from medkit.testing.losses import check_loss
from medkit.testing.metric import check_on, example_cases
from medkit.testing.networks import check_discriminator, check_encoder, check_generator, check_operator
from medkit.testing.training import check_clip, check_objective, check_optimizer, check_schedule
from medkit.testing.transforms import check_transform

__all__ = [
    "check_augmentation",
    "check_clip",
    "check_component",
    "check_construction",
    "check_devices",
    "check_discriminator",
    "check_distiller",
    "check_dtype",
    "check_encoder",
    "check_generator",
    "check_gradients",
    "check_loss",
    "check_metric",
    "check_objective",
    "check_operator",
    "check_optimizer",
    "check_pretext",
    "check_schedule",
    "check_schema",
    "check_source",
    "check_state",
    "check_tracker",
    "check_transform",
    "example_cases",
    "example_events",
]


def check_metric(
    constructor: Callable[..., Any], cases: Sequence[Mapping[str, Any]] | None = None, **arguments: Any
) -> None:
    """Check that a metric does what :class:`medkit.protocols.Metric` promises, on evaluated cases.

    It declares name, unit, direction and the rule for empty cases; it does not change cases and rows, and gives the
    same result twice; rows stack; value, scores, extras and interval are floats; what it offers the bootstrap agrees
    with ``compute``. Without ``cases``, volumes and slices are tried (:func:`example_cases`).
    """
    given = [cases] if cases is not None else [example_cases(), example_cases(unit="slice")]
    for those in given:
        check_on(_build(constructor, arguments, "metric"), _build(constructor, arguments, "metric"), those)


def check_component(kind: str, component: str | Callable[..., Any], /, **arguments: Any) -> None:
    """Check a component of ``kind``, given by its class or its registered name; ``arguments`` go to its constructor.

    Parts of an objective are given as built modules (:func:`check_objective`).

    Raises
    ------
    InputError
        if the name is unknown.
    AssertionError
        if a promise is broken.
    """
    if kind not in KINDS:
        raise InputError(f"'{kind}' is not a kind of component", hint=f"kinds: {', '.join(KINDS)}")
    constructor = registry().resolve(kind, component).load() if isinstance(component, str) else component
    if kind in _CHECKS:
        _CHECKS[kind](constructor, **arguments)
    elif kind == "source":
        check_source(_build(constructor, arguments, "source"))
    elif kind == "transform":
        transform = _build(constructor, arguments, "transform")
        (check_transform if hasattr(transform, "apply") else check_augmentation)(transform)


_CHECKS: dict[str, Callable[..., None]] = {
    "encoder": check_encoder,
    "pretext": check_pretext,
    "operator": check_operator,
    "generator": check_generator,
    "discriminator": check_discriminator,
    "loss": check_loss,
    "metric": check_metric,
    "objective": check_objective,
    "optimizer": check_optimizer,
    "schedule": check_schedule,
    "clip": check_clip,
    "tracker": check_tracker,
    "distiller": check_distiller,
}
