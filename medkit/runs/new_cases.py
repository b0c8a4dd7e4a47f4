"""Cases that came after a run: its recipe with another manifest in place of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medkit.data.source import ManifestSource
from medkit.errors import InputError
from medkit.names import fault
from medkit.recipe import Recipe, Stage
from medkit.runs.folder import RunFolder
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
            if a stage's data block is not a manifest, ``split`` is no name that a recipe can have, or one that this
            recipe has for a split or a point of a curve.
        """
        own = "give the new cases a name of their own: --split NAME"
        if wrong := fault(split):
            raise InputError(wrong, "--split", own)
        points = [point for stage in recipe.stages for point in recipe.points(stage)]
        if split in [*points, *(name for block in recipe.data.values() for name in block.splits)]:
            what = f"'{split}' is a split of the recipe, and one name would have two meanings"
            raise InputError(what, "--split", own)
        data = dict(recipe.data)
        for stage in stages:
            block, where = recipe.data[stage.data], f"data.{stage.data}"
            if not isinstance(block.source.build(), ManifestSource):
                what = f"stage '{stage.name}' reads '{block.source.name}', which a manifest cannot take the place of"
                raise InputError(what, where, "'--stage NAME' evaluates one stage; 'medkit predict' takes single scans")
            known = {key: value for key, value in block.source.arguments.items() if key != "root"}
            new = {**known, "path": str(self.manifest), **({} if self.space is None else {"space": self.space})}
            data[stage.data] = replace(block, source=replace(block.source, arguments=new), splits={split: {}})
        return replace(recipe, data=data)

    def tell(self, folder: RunFolder, stage: str, split: str) -> None:
        """Say above the results what these numbers of ``stage`` are, in place of what was said of earlier ones."""
        start = f"{stage} on '{split}' was measured after the run, on "
        made = f"{self.manifest.name} (sha256 {digest(self.manifest)[:12]}...)"
        names = "" if self.space is None else f"; its patients' names are taken as those of '{self.space}' (--space)"
        folder.add_notice(f"{start}all cases of {made}{names}.", instead_of=start)
