"""Radiographic views of children at three levels: 7 parts of the body, 30 anatomical areas, 68 protocols.

Names and their order, so the class numbers, are those of the published code, misspellings included
(``Pevis_coccyx_sacrum``, ``C_spine_*``). Which class belongs to which was never published: it is inferred here from
the names, and uncertain in places. The 30 areas have no pelvis, so the 68's pelvis views can only belong to ``Hip``;
the thesis (part A, Fig. 2) assigns the hip to the lower extremity, which would leave ``Pelvis`` of the 7 without views
(``hip_in``). ``Chest_Clavicle`` and ``Chest_Rib`` might belong to the shoulder (``moved``).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from medkit.api import InputError
from medkit.data.sampling import Hierarchy
from medkit.errors import did_you_mean

Level = Literal[7, 30, 68]
HipIn = Literal["Pelvis", "Lower_Extremity"]
LEVELS: tuple[Level, ...] = (7, 30, 68)
UNCERTAIN = ("Hip", "Chest_Clavicle", "Chest_Rib")
"""Classes whose parent is a guess that might well be wrong."""


@functools.cache
def published() -> dict[str, Any]:
    """The packaged table: ``levels`` (level to names) and ``parents`` (level to name to the coarser level's name)."""
    return json.loads(files("medkit_pedxnet").joinpath("views.json").read_text(encoding="utf-8"))


class Views:
    """The three levels and the links between them.

    Parameters
    ----------
    hip_in:
        Where the area ``Hip``, and so all views of the pelvis, belongs at level 7.
    moved:
        Other parents for views (an area each) or areas (a part of the body each), by name.
    """

    def __init__(self, hip_in: HipIn = "Pelvis", moved: Mapping[str, str] | None = None) -> None:
        self.names: dict[Level, tuple[str, ...]] = {level: tuple(published()["levels"][str(level)]) for level in LEVELS}
        areas: dict[str, str] = dict(published()["parents"]["68"])
        parts: dict[str, str] = {**published()["parents"]["30"], "Hip": hip_in}
        for name, parent in (moved or {}).items():
            if name in areas and parent in self.names[30]:
                areas[name] = parent
            elif name in parts and parent in self.names[7]:
                parts[name] = parent
            else:
                known = [*areas, *parts]
                what = f"'{name}' cannot be moved to '{parent}'"
                raise InputError(what, hint=did_you_mean(name, known) if name not in known else "not a coarser class")
        self._up: dict[str, dict[Level, str]] = {
            view: {7: parts[area], 30: area, 68: view} for view, area in areas.items()
        }

    def at(self, view: str, level: Level) -> str:
        """The class of a view (one of the 68) at a level."""
        if view not in self._up:
            raise InputError(f"'{view}' is not a radiographic view", hint=did_you_mean(view, self._up))
        return self._up[view][level]

    def number(self, view: str, level: Level) -> int:
        """The class number of a view at a level."""
        return self.names[level].index(self.at(view, level))

    def hierarchy(self) -> Hierarchy:
        """The levels as the sampler takes them."""
        numbers = {str(level): np.array([self.number(v, level) for v in self.names[68]]) for level in LEVELS}
        return Hierarchy({str(level): self.names[level] for level in LEVELS}, numbers)
