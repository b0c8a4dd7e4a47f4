"""Cases that came after a run: its recipe with another manifest in place of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medkit.data.source import ManifestSource
from medkit.errors import InputError
from medkit.recipe import Recipe, Stage
from medkit.runs.origin import digest


@dataclass(frozen=True)
class NewCases:
    """A manifest of new cases, all of which are tested.

    ``space`` says whose patients these are if the names of the recipe's patients mean other people
    (:class:`medkit.data.source.ManifestSource`).
    """

    manifest: Path
    space: str | None = None

    def instead(self, recipe: Recipe, stages: Sequence[Stage], split: str) -> Recipe:
        """The recipe with these cases as ``split``, the only split of the data blocks of ``stages``.

        Columns, units and preparation stay as the recipe has them; relative paths are relative to the new manifest.

        Raises
        ------
        InputError
            if a stage's data block is not a manifest, or the recipe or one of its curves has a split of that name.
        """
        data = dict(recipe.data)
        for stage in stages:
            block, where = recipe.data[stage.data], f"data.{stage.data}"
            if not isinstance(block.source.build(), ManifestSource):
                what = f"stage '{stage.name}' reads '{block.source.name}', which a manifest cannot take the place of"
                raise InputError(what, where, "'--stage NAME' evaluates one stage; 'medkit predict' takes single scans")
            if split in block.splits or split in recipe.points(stage):
                what = f"'{split}' is a split of the recipe, and its numbers would be replaced"
                raise InputError(what, where, "give the new cases a name of their own: --split NAME")
            known = {key: value for key, value in block.source.arguments.items() if key != "root"}
            new = {**known, "path": str(self.manifest), **({} if self.space is None else {"space": self.space})}
            data[stage.data] = replace(block, source=replace(block.source, arguments=new), splits={split: {}})
        return replace(recipe, data=data)

    def notice(self, split: str) -> str:
        """What readers of the results must know."""
        made = digest(self.manifest)[:12]
        return f"'{split}' was measured after the run, on all cases of {self.manifest.name} (sha256 {made}...)."
