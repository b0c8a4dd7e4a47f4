"""What is installed is all there is: every package of the checkout is among those that a wheel takes."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_is_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {}
    for name in settings["packages"]:
        known, _, rest = name.partition(".")
        folders[settings["package-dir"].get(name, f"{settings['package-dir'][known]}/{rest.replace('.', '/')}")] = name
    roots = [ROOT / "medkit", *(ROOT / "plugins").glob("medkit_*")]
    there = {str(path.parent.relative_to(ROOT)) for root in roots for path in root.rglob("__init__.py")}
    assert sorted(there - {folder.rstrip("/") for folder in folders}) == []
