"""Being asked to stop: a training saves at its next step before it ends; anything else ends at once.

Whoever handles signals calls :func:`request`; nothing here installs a handler.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_requested = False
_deferred = 0


def requested() -> bool:
    """Whether the process was asked to stop."""
    return _requested


def request() -> None:
    """Ask to stop. Inside :func:`deferred` the first request only sets the flag.

    Raises
    ------
    KeyboardInterrupt
        outside of it, and at any further request: who asks twice does not want to wait.
    """
    global _requested
    waits = _deferred > 0 and not _requested
    _requested = True
    if not waits:
        raise KeyboardInterrupt


def clear() -> None:
    """Forget a request; for a process that starts another run after an interrupted one."""
    global _requested
    _requested = False


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, whoever runs looks at :func:`requested` often and ends by itself, in order."""
    global _deferred
    _deferred += 1
    try:
        yield
    finally:
        _deferred -= 1
