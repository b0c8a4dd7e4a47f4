"""Members of a protocol that a component may leave out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    pass


Method = TypeVar("Method", bound=Callable[..., Any])


def with_default(method: Method) -> Method:
    """Marks a method that a component may leave out: what stands in the protocol is done then."""
    method.has_default = True  # type: ignore[attr-defined]
    return method


def offered(protocol: type, component: Any, name: str) -> Callable[..., Any]:
    """A component's own method, or the default that its protocol has for it."""
    own = getattr(component, name, None)
    return own if own is not None else functools.partial(getattr(protocol, name), component)
