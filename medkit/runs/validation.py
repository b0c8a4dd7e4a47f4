"""How a stage is validated after each epoch: by its metrics, and by its losses on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from medkit.engine.held_out import HeldOutLosses
from medkit.evaluation.evaluate import Request, evaluate
from medkit.protocols import Batch
from medkit.recipe import Stage
from medkit.runs.checks import loss_key
from medkit.runs.workbench import Workbench


class Validation:
    """Maps an epoch to the numbers of the validation split: ``SPLIT/LOSS``, and on the main rank ``SPLIT/METRIC``.

    Parameters
    ----------
    needed:
        Whether the end or the weights of the training depend on a loss.
    """

    def __init__(
        self,
        bench: Workbench,
        stage: Stage,
        objective: Any,
        metrics: Sequence[Any],
        say: Callable[[str], None],
        needed: bool = False,
    ) -> None:
        assert stage.validate is not None
        self.bench, self.stage, self.objective, self.metrics = bench, stage, objective, metrics
        self.split: str = stage.validate
        self.cases = bench.dataset(stage).cases(self.split)
        self.loader = bench.held_out_loader(stage)
        on_device = self.loader.device_augment
        self.learnable = bench.cases.learnable(stage, self.split)  # no loss is known for the others
        self.losses = HeldOutLosses(objective, self.batches, bench.recipe.seed, bench.runtime, say, needed, on_device)

    def __call__(self, epoch: int) -> dict[str, float]:
        losses = {loss_key(name, self.split, self.metrics): value for name, value in self.losses().items()}
        return {**self._measured(), **losses}

    def _measured(self) -> dict[str, float]:
        if not self.metrics:
            return {}
        dataset, stage = self.bench.dataset(self.stage), self.stage
        request = Request(dataset, self.cases, self.metrics, stage.name, self.split, stage.unit, intervals=False)
        found = evaluate(self.objective, request, self.bench.runtime)
        values = {} if found is None else found.values
        return {f"{self.split}/{name}": value.value for name, value in values.items()}

    def batches(self) -> Iterator[tuple[int, Batch, int]]:
        """Batches as in training except for augmentation, the same ones in each epoch, each on one of the ranks."""
        loader, runtime = self.loader, self.bench.runtime
        count = len(self.learnable) * self.stage.slices
        chunks = -(-count // self.stage.batch)
        for number in range(runtime.rank, chunks, runtime.world_size):
            # Of about the same size: losses that compare the items of a batch need more than a single one left over.
            positions = range(number * count // chunks, (number + 1) * count // chunks)
            items = [loader.item(position % len(self.learnable), 0, position) for position in positions]
            for _, same in groupby(items, key=lambda item: item.arrays["image"].shape[1:]):
                group = list(same)
                yield number, loader.collate(group), len(group)
