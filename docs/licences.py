"""What medkit depends on, under which licence, from the metadata of what is installed here.

    python docs/licences.py          # the page of the site; exit code 1 where a licence is not known or not allowed

Followed are the requirements of the default install and of those extras whose packages are installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "medkit-imaging"
COPYLEFT = re.compile(r"\b(A?GPL|Affero|GNU General Public)", re.I)
UNSAID = {"cuda-toolkit": "NVIDIA's licence (not in its metadata)"}
"""Of packages whose metadata say nothing, what their publisher says."""
TROVE = "License :: OSI Approved :: "


@dataclass(frozen=True)
class Package:
    """An installed package: ``extra`` is the one it comes with, ``""`` if all have it; ``by`` asks for it."""

    name: str
    version: str
    licence: str
    extra: str
    by: str

    @property
    def allowed(self) -> bool:
        """Whether medkit may depend on it: of several licences one suffices; LGPL and MPL leave users alone."""
        return any(not COPYLEFT.search(one.replace("LGPL", "")) for one in re.split(r", | OR ", self.licence) if one)


def packages(root: str = ROOT) -> list[Package]:
    """All that is installed of what ``root`` needs, each once: what the default install has is of no extra."""
    found: dict[str, Package] = {}
    own = metadata.distribution(root)
    for extra in ("", *sorted(own.metadata.get_all("Provides-Extra", []))):
        waiting = [(requirement, root) for requirement in _needs(own, extra, only=True)]
        while waiting:
            requirement, by = waiting.pop(0)
            name = canonicalize_name(requirement.name)
            try:
                installed = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            if name not in found:
                found[name] = Package(installed.name, installed.version, licence(installed), extra, by)
                inner = [need for one in ("", *requirement.extras) for need in _needs(installed, one)]
                waiting += [(need, installed.name) for need in inner]
    return sorted(found.values(), key=lambda one: (one.extra, one.name.lower()))


def _needs(one: metadata.Distribution, extra: str, only: bool = False) -> Iterator[Requirement]:
    """Requirements here with ``extra``; with ``only``, those alone that there would not be without."""
    for text in one.requires or []:
        requirement = Requirement(text)
        plain = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        here = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if here and not (only and extra and plain):
            yield requirement


def licence(one: metadata.Distribution) -> str:
    """In short: the expression, else the classifiers, else the first line of what stands as licence."""
    if expression := one.metadata.get("License-Expression"):
        return str(expression)
    named = [text.removeprefix(TROVE) for text in one.metadata.get_all("Classifier", []) if text.startswith(TROVE)]
    written = str(one.metadata.get("License") or "").strip().splitlines()
    return ", ".join(named) or (written[0][:60] if written else UNSAID.get(canonicalize_name(one.name), ""))


def page() -> str:
    """A table of all of them."""
    found = packages()
    rows = [f"| {one.name} | {one.version} | {one.licence or 'not said'} | {one.extra} | {one.by} |" for one in found]
    text = (
        "medkit itself is under Apache-2.0. What it depends on, as installed where this page was made: the default "
        "install, and the extras that were installed there. *Needed by* is one of those that ask for it."
    )
    head = ["| package | version | licence | extra | needed by |", "|---|---|---|---|---|"]
    return "\n".join(["# Licences", "", text, "", *head, *rows, ""])


if __name__ == "__main__":
    print(page())
    wrong = [f"{one.name}: {one.licence or 'no licence in its metadata'}" for one in packages() if not one.allowed]
    sys.exit(("not allowed, or not known:\n" + "\n".join(wrong)) if wrong else 0)
