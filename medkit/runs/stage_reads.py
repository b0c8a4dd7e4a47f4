"""What the objective of a stage reads from a batch, and what follows: which slices are drawn, which views are made.

A head need declare nothing: it is shown a batch that records what is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medkit.data.draws import Draw, draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.sampler import Sampler
from medkit.data.views import CROPS, NAMES, Views, crops
from medkit.engine.step import to_device
from medkit.errors import InputError, MedkitError
from medkit.protocols import Batch, Case
from medkit.recipe import Stage
from medkit.recipe.views import lacking

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench


class StageReads:
    """What the objectives of a recipe's stages read, each asked once."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._read: dict[str, set[str] | None] = {}

    def draw(self, stage: Stage, objective: Any = None) -> Draw | None:
        """Which slices ``stage`` trains on: as its recipe says; else by positive voxels if what is trained reads masks
        or labels, and as they occur in the data if not. None if whole volumes are trained on.

        What a pretext reads is found by asking it for its view of two slices, so that a head need declare nothing.
        """
        if stage.draw is None and stage.unit != "volume":
            # Patches are cut out of any slice, as published for the denoisers.
            read = self.of(stage, objective) if stage.unit in ("slice", "patch3d") else None
            return "positive" if read is not None and read & {"mask", "label"} else "uniform"
        return stage.draw

    def views(self, stage: Stage) -> list[Views]:
        """The views that batches of ``stage`` hold: those of its data block, if what is trained reads them."""
        made = self._made(stage)
        read = self.of(stage) if made else None
        return [view for view in made if read is None or view.name in read]

    def check_views(self, stage: Stage, objective: Any) -> None:
        """Refuse an objective that reads views which the data block of ``stage`` does not make."""
        block = self.bench.recipe.data[stage.data]
        if stage.unit != "slice" and block.views is None and block.crops is None:
            return  # no case is read just to ask about what hardly anybody does on this unit
        read = self.of(stage, objective) or set()
        if stage.unit == "patch3d" and CROPS in read:
            what = "a head reads crops, which are squares made from slices and not from patches of volumes"
            raise InputError(what, f"stages.{stage.name}", "train it on 'unit: slice'")
        for name in NAMES:
            if name in read and getattr(block, name) is None:
                what, hint = lacking(stage.name, name, stage.data)
                raise InputError(what, f"stages.{stage.name}", hint)

    def _made(self, stage: Stage) -> list[Views]:
        """All views that the data block of ``stage`` makes."""
        found: list[Views] = []
        block = self.bench.recipe.data[stage.data]
        if (told := block.views) is not None:
            found.append(Views(told.count, [step.build() for step in told.augment], block.augment_on))
        if (squares := block.crops) is not None and stage.unit != "patch3d":  # they are made from slices
            steps = [step.build() for step in squares.augment]
            found.append(crops(squares.count, squares.size, squares.scale, steps, block.augment_on))
        return found

    def of(self, stage: Stage, objective: Any = None) -> set[str] | None:
        """The entries of a batch that the objective of ``stage`` takes; None if it does not say so.

        It is shown a batch of one case that has a mask, if there is one.
        """
        if stage.name not in self._read:
            self._read[stage.name] = self._asked(stage, objective or self.bench.fresh(stage))
        return self._read[stage.name]

    def _asked(self, stage: Stage, objective: Any) -> set[str] | None:
        if not hasattr(objective, "reads"):
            return None  # no case has to be read
        cases = self.bench.dataset(stage).cases(stage.train)
        example = self._with_mask(stage, cases)
        state = torch.get_rng_state()
        try:
            found: set[str] | None = objective.reads(self._example(stage, example))
        except MedkitError:
            # A head may refuse a case without a mask; if another case has one, it is shown that.
            other = next((case for case in cases if self.bench.dataset(stage).sample(case).mask is not None), None)
            if other is None or other.id == example.id:
                raise
            found = objective.reads(self._example(stage, other))
        finally:
            torch.set_rng_state(state)
        return found

    def _with_mask(self, stage: Stage, cases: Sequence[Case]) -> Case:
        """A case that has a mask, if the source knows of one without reading voxels; else the first."""
        have_masks = getattr(self.bench.dataset(stage).source, "have_masks", None)
        if have_masks is not None and (there := np.flatnonzero(have_masks(cases))).size:
            return cases[int(there[0])]
        return cases[0]

    def _example(self, stage: Stage, case: Case) -> Batch:
        """Two items of a case as one batch of the stage, not augmented."""
        augmentation = Augmentation(views=self._made(stage))
        draw, sampler = draw_of(stage.unit, patch_size=stage.patch_size), Sampler(1, 1, self.bench.seed(stage))
        loader = Loader(self.bench.dataset(stage), [case], sampler, draw, augmentation)
        batch = loader.collate([loader.item(0, 0, position) for position in range(2)])
        batch = to_device(batch, self.bench.runtime.device)
        return batch if loader.device_augment is None else loader.device_augment(batch)
