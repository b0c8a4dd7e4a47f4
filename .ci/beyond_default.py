"""Prints the installed distributions that medkit's default install does not ask for, one a line.

Without them a virtual environment that has every extra is what ``pip install medkit-imaging`` makes, at the same
versions, and a second download and unpacking of torch is saved.
"""

from __future__ import annotations

from importlib.metadata import distribution, distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

KEPT = {"medkit-imaging", "pip", "setuptools", "packaging"}


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Add a distribution, and what it needs with these extras, to those seen."""
    if (key := (canonicalize_name(name), extras)) in seen:
        return
    seen.add(key)
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            needed(wanted.name, frozenset(wanted.extras), seen)


def main() -> None:
    seen: set[tuple[str, frozenset[str]]] = set()
    needed("medkit-imaging", frozenset(), seen)
    kept = KEPT | {name for name, _ in seen}
    print("\n".join(sorted({canonicalize_name(found.name) for found in distributions()} - kept)))


if __name__ == "__main__":
    main()
