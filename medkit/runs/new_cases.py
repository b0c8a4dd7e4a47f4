"""Cases that came after a run: its recipe with another manifest in place of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medkit.data.source import ManifestSource
from medkit.data.source_columns import of_another
from medkit.errors import InputError
from medkit.names import fault
from medkit.paths import typed
from medkit.recipe import Recipe, Stage
from medkit.runs.file_digest import digest
from medkit.runs.folder import RunFolder
from medkit.runs.ledgers import recorded_ledger

FILE = "later.json"
"""``{stage: {split: {manifest, sha256, space}}}``: what was measured on new cases."""


@dataclass(frozen=True)
class NewCases:
    """A manifest of new cases, all of which are tested.

    ``space`` says whose patients these are if the names of the recipe's patients mean other people
    (:class:`medkit.data.source.ManifestSource`).
    """

    manifest: Path
    space: str | None = None

    def check(self, folder: RunFolder, stages: Sequence[Stage]) -> None:
        """Refuse stages of which it is not recorded to the end whom they have seen: their own cases are not at hand."""
        path = str(folder.path)
        for stage in stages:
            if not folder.done(stage.name):
                raise InputError(
                    f"stage '{stage.name}' is not finished", path, f"'medkit resume {typed(path)}' continues it"
                )
            if recorded_ledger(folder, stage.name) is None:
                what = f"nothing is recorded of whom stage '{stage.name}' has seen in training"
                raise InputError(what, path, "train it again with this version")

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
            known = of_another(known, Path(self.manifest))
            new = {**known, "path": str(self.manifest), **({} if self.space is None else {"space": self.space})}
            data[stage.data] = replace(block, source=replace(block.source, arguments=new), splits={split: {}})
        return replace(recipe, data=data)

    def record(self, folder: RunFolder, stage: str, split: str) -> None:
        """Write down which cases the numbers of ``stage`` are of, in place of what was said of earlier ones."""
        kept = folder.read_json(FILE, {})
        mine = {"manifest": self.manifest.name, "sha256": digest(self.manifest), "space": self.space}
        folder.write_json(FILE, {**kept, stage: {**kept.get(stage, {}), split: mine}})


def later(folder: RunFolder, base: str | None = None) -> list[str]:
    """What is shown above the results of cases that came after the run, a line for each stage and split.

    ``base`` picks a stage with its variants.
    """
    found = []
    for stage, split, of in folder.of_splits(FILE, base):
        space = of["space"]
        names = "" if space is None else f"; its patients' names are taken as those of '{space}' (--space)"
        cases = f"all cases of {of['manifest']} (sha256 {of['sha256'][:12]}...)"
        found.append(f"{stage} on '{split}' was measured after the run, on {cases}{names}.")
    return found


def labels(folder: RunFolder) -> dict[tuple[str, str], str]:
    """What tells new cases, by stage and split, from others of their name: the manifest beside it."""
    kept = folder.of_splits(FILE)
    return {(stage, split): f"{split} ({of['manifest']}, {of['sha256'][:8]})" for stage, split, of in kept}


def check_known(folder: RunFolder, stages: Sequence[Stage], split: str) -> None:
    """Refuse a split that only exists as new cases."""
    kept = folder.read_json(FILE, {})
    if any(split in kept.get(stage.name, {}) for stage in stages):
        what = f"'{split}' names cases that came after the run, not a split of the recipe"
        raise InputError(what, "--split", "give their manifest again: --data FILE")
