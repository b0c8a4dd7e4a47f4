"""How long a device waited, and in which part of the host's work, from a trace of torch's profiler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Span = tuple[float, float]  # begin and end, in microseconds
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(frozen=True)
class Waits:
    """Seconds from the first to the last step of a trace.

    ``busy`` is the time in which the device computed or copied anything, ``waited`` all the rest; ``waited_in`` divides
    the waiting by what the host was doing meanwhile, as named by ``torch.profiler.record_function``.
    """

    seconds: float
    busy: float
    waited: float
    waited_in: dict[str, float] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """The share of the time in which the device waited."""
        return self.waited / self.seconds if self.seconds else 0.0


def waits(path: Path, names: Sequence[str], kinds: Sequence[str] = DEVICE) -> Waits:
    """Read a trace that ``profile.export_chrome_trace`` wrote.

    Parameters
    ----------
    names:
        Of the host's named work, outermost spans that do not overlap; their first begin and last end bound the time.
    kinds:
        Categories of events that keep the device busy; ``cpu_op`` for a CPU.
    """
    events = [event for event in json.loads(path.read_bytes())["traceEvents"] if event.get("ph") == "X"]
    named: dict[str, list[Span]] = {name: [] for name in names}
    for event in events:
        if event.get("cat") == "user_annotation" and event["name"] in named:
            named[event["name"]].append(_span(event))
    every = [span for spans in named.values() for span in spans]
    if not every:
        return Waits(0.0, 0.0, 0.0)
    whole = min(begin for begin, _ in every), max(end for _, end in every)
    busy = _cut(union(_span(event) for event in events if event.get("cat") in kinds), [whole])
    idle = gaps(busy, whole)
    shares = {name: _length(_cut(idle, union(spans))) / 1e6 for name, spans in named.items()}
    return Waits((whole[1] - whole[0]) / 1e6, _length(busy) / 1e6, _length(idle) / 1e6, shares)


def union(spans: Iterable[Span]) -> list[Span]:
    """Sorted spans that do not touch, covering the same time."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def gaps(spans: Sequence[Span], whole: Span) -> list[Span]:
    """The parts of ``whole`` that sorted spans inside it leave free."""
    edges = [whole[0], *(edge for span in spans for edge in span), whole[1]]
    return [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if end > begin]


def _cut(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """The time covered by both lists of sorted spans that do not touch."""
    found, i, j = [], 0, 0
    while i < len(spans) and j < len(others):
        begin, end = max(spans[i][0], others[j][0]), min(spans[i][1], others[j][1])
        if begin < end:
            found.append((begin, end))
        if spans[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return found


def _length(spans: Sequence[Span]) -> float:
    return sum(end - begin for begin, end in spans)


def _span(event: dict[str, Any]) -> Span:
    return event["ts"], event["ts"] + event["dur"]
