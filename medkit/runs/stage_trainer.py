"""How a stage is trained and predicts, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from medkit.engine.events import Events
from medkit.engine.progress import Progress
from medkit.protocols import Case, Record
from medkit.recipe import Stage
from medkit.runs.cost import Meter
from medkit.runs.inference import Accepts, ImagePrediction
from medkit.runs.workbench import Workbench

Predicted = Callable[[Case], Mapping[str, np.ndarray]]
"""Reads the predictions of a case, on the source's grid, where they were made beforehand."""
FeaturesOf = Callable[[Case], np.ndarray]
"""Reads what an encoder has made of a case: (D,F), or maps (D,F,h,w)."""


@dataclass(frozen=True)
class Trial:
    """What became of one batch: what it was, what the stage predicts, and how many weights train and do not."""

    batch: str
    predicts: str
    trainable: str = "–"
    frozen: str = "–"


class StageTrainer(Protocol):
    """Trains a stage's objective and predicts with it.

    ``meter`` measures the memory that it takes.
    """

    bench: Workbench
    stage: Stage
    objective: Any
    meter: Meter

    def check(self) -> None:
        """Refuse what this way of training cannot do; nothing has been written then."""
        ...

    def rehearse(self) -> None:
        """Try on one case what comes after the training."""
        ...

    def prepared(self, tested: Sequence[str]) -> list[str]:
        """The splits whose cases have to be prepared, if the stage is tested on ``tested``."""
        ...

    def look(self) -> None:
        """Take down what the images that the stage is trained on look like, so that copies of them are found."""
        ...

    def train(self, progress: Progress, events: Events) -> None:
        """Train the objective to its end, going on where an earlier attempt was interrupted."""
        ...

    def predicted(self, cases: Sequence[Case], split: str, progress: Progress) -> Predicted | None:
        """Predictions of cases that are made all at once; None where the objective predicts case by case."""
        ...

    def features(self, cases: Sequence[Case], split: str, progress: Progress) -> FeaturesOf | None:
        """What the encoder makes of cases, where that is kept; None where it is computed as they are predicted."""
        ...

    def predict_image(
        self, record: Record, fields: Mapping[str, float], accepts: Accepts, progress: Progress
    ) -> ImagePrediction:
        """Predict a new image, of which ``fields`` are known."""
        ...

    def try_out(self) -> Trial:
        """Train on one batch and predict one case, for a dry run."""
        ...
