"""Pins every direct dependency to the lowest series that pyproject.toml allows: constraints for pip, on stdout.

    python .ci/lowest.py > lowest.txt && pip install -c lowest.txt -e ".[test]"

Exit code 1, with the names, where a dependency has no lower bound.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("test",)


def constraints() -> tuple[list[str], list[str]]:
    """Lines for pip, and the dependencies without a lower bound."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    lines, without = [], []
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        bounds = [one.version for one in requirement.specifier if one.operator in (">=", "==", "~=")]
        if bounds:
            # A series, since there need not be a version of exactly that number: 4.9 of OpenCV is 4.9.0.80.
            lowest = bounds[0] if "." in bounds[0] else f"{bounds[0]}.0"
            lines.append(f"{requirement.name}=={lowest}.*")
        else:
            without.append(requirement.name)
    return lines, without


if __name__ == "__main__":
    pinned, unbound = constraints()
    print("\n".join(pinned))
    sys.exit(f"no lower bound: {', '.join(unbound)}" if unbound else 0)
