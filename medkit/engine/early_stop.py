"""An end before the last epoch: a listener that runs out of patience."""

from __future__ import annotations

from collections.abc import Callable

from medkit.engine.best import wanted_number
from medkit.engine.events import EpochEnded
from medkit.engine.settings import Patience
from medkit.engine.state import TrainingState


class EarlyStop:
    """Ends training when its validated number has not improved for some epochs; NaN is never an improvement.

    It is told of each epoch on every rank, with the same numbers.
    """

    def __init__(self, patience: Patience, state: TrainingState, say: Callable[[str], None]) -> None:
        self.patience, self.state, self.say = patience, state, say

    def epoch_ended(self, event: EpochEnded) -> None:
        wanted, state = self.patience.wanted, self.state
        value = wanted_number(event, wanted.key, "early_stop")
        if wanted.improves(value, state.judged, by=self.patience.min_delta):
            state.judged, state.waited = value, 0
            return
        state.waited += 1
        if state.waited >= self.patience.epochs and event.epoch < state.epochs:
            state.stopped = True
            best = "was never a number" if state.judged is None else f"was {state.judged:.4g} at its best"
            why = f"{wanted.key} {best} and has not improved for {state.waited} epochs"
            self.say(f"{event.stage}: ended after epoch {event.epoch} of {state.epochs}: {why}")
