"""State that no checkpoint holds: each check finds it, also where it is used only after several steps."""

from __future__ import annotations

from typing import Any

import pytest
from seam.test_conformance_broken import SoundGenerator

from medkit.api import Placed
from medkit.objectives.restoration import Restoration
from medkit.parts.losses import L1
from medkit.testing import check_objective


class Queue(Restoration):
    """Keeps past batches in a list, and uses them once it is full."""

    def losses(self, turn: str, batch: Any) -> Any:
        mean = self.generator(batch["image"]).mean()
        self.past = [*getattr(self, "past", []), mean.detach()][-4:]
        more = (mean - sum(self.past) / 4).square() if len(self.past) == 4 else 0
        return {name: value + more for name, value in super().losses(turn, batch).items()}


class Every(Restoration):
    """Counts its steps in an attribute; every so many weigh more."""

    period = 0

    def losses(self, turn: str, batch: Any) -> Any:
        self.asked = getattr(self, "asked", 0) + 1
        weight = 4 if self.asked % self.period == 0 else 1
        return {name: value * weight for name, value in super().losses(turn, batch).items()}


@pytest.mark.parametrize(
    "objective", [Queue, *(type(f"Every{n}", (Every,), {"period": n, "__doc__": "."}) for n in range(2, 6))]
)
def test_an_objective_s_state_that_is_used_after_several_steps_is_found(objective: Any) -> None:
    with pytest.raises(AssertionError, match="steps from saved weights differ"):
        check_objective(objective, generator=SoundGenerator(), losses={"l1": Placed(L1(), {"weight": 1.0})})
