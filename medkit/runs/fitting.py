"""Stages that are fitted to features of a frozen encoder: features computed once, settings chosen, the choice kept."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medkit.data.cases import column
from medkit.data.collate import with_channels
from medkit.engine.agreement import together
from medkit.engine.progress import Progress
from medkit.errors import InputError
from medkit.evaluation.features import Encoded, Encoding, Features, encoding_key
from medkit.parts.probes import Choice, Items
from medkit.protocols import Case
from medkit.recipe import Stage
from medkit.runs.folder import RunFolder
from medkit.runs.workbench import Workbench

FILE = "choices.json"
"""``{stage: {split, settings, error, tried, items}}``: the settings of each probe, and what they were chosen from."""


class Fitting:
    """Fits the objective of a stage, on all ranks alike."""

    def __init__(self, bench: Workbench, stage: Stage, objective: Any) -> None:
        self.bench, self.stage, self.objective = bench, stage, objective
        self._features: Features | None = None

    @property
    def where(self) -> str:
        return f"stage {self.stage.name}"

    @property
    def features(self) -> Features:
        """Features of the stage's data by its encoder."""
        if self._features is None:
            objective, runtime = self.objective, self.bench.runtime
            objective.eval()
            key = encoding_key(objective.encoder, objective.how, objective.slices_at_once, runtime)
            whole = objective.window is not None
            encoding = Encoding(objective.encode, key, objective.slices_at_once, whole)
            self._features = Features(self.bench.dataset(self.stage), encoding, runtime)
        return self._features

    def check(self) -> None:
        """Refuse what is known before any voxel is read: nothing to choose by, labels that are not classes."""
        where = f"stages.{self.stage.name}"
        if self.objective.window is not None and self.stage.unit != "volume":
            raise InputError("an encoder of volumes has features of volumes alone", where, "write 'unit: volume'")
        if self.objective.target == "labels":
            self.bench.cases.check_labels(self.stage)
        if self.stage.validate is None and self.objective.head.chooses:
            what = "settings of the probe are chosen by validation, and the stage has no split for it"
            hint = "write 'validate: SPLIT', or a 'grid' with one value of each setting"
            raise InputError(what, f"stages.{self.stage.name}.validate", hint)
        classes = self.objective.head.classes
        if self.objective.target != "label" or not classes:
            return
        for split in (self.stage.train, self.stage.validate):
            labels = column(self.bench.dataset(self.stage).cases(split), "label") if split else np.zeros(0)
            known = labels[~np.isnan(labels)]
            if (wrong := known[(known != np.floor(known)) | (known < 0) | (known >= classes)]).size:
                what = f"a label of split '{split}' is {wrong[0]:g}, which is not a class from 0 to {classes - 1}"
                hint = "write how many 'classes' there are, or 'classifier: ridge' for values"
                raise InputError(what, f"stages.{self.stage.name}.objective", hint)

    def compute(self, split: str, cases: Sequence[Case], progress: Progress) -> int:
        """Compute this rank's share of the features of a split's cases; returns how many cases had none yet."""
        runtime = self.bench.runtime
        mine = cases[runtime.rank :: runtime.world_size]
        with progress.task(f"{self.stage.name}: encoding {split}", total=len(mine)) as advance:
            return self.features.compute(mine, advance)

    def of(self, case: Case) -> np.ndarray:
        """The features of a case."""
        return self.features.of(case).features

    def fit(self, progress: Progress, say: Callable[[str], None]) -> Choice:
        """Fit the objective; every rank has the same afterwards."""
        bench, stage, runtime = self.bench, self.stage, self.bench.runtime
        train = self._items(stage.train, progress, say)
        validate = self._items(stage.validate, progress, say) if stage.validate else None
        choice: Choice | None = None
        with together(runtime, f"the fit of {self.where}"):
            if runtime.is_main:
                assert train is not None
                choice = self.objective.fit(train, validate, bench.seed(stage))
                say(_told(choice, stage.validate, len(train)))
                self._keep(choice, train, validate)
        state = {name: tensor.cpu() for name, tensor in self.objective.head.state_dict().items()}
        what = f"what {self.where} has learned"
        choice, state = runtime.strategy.share((choice, state), what)
        if not runtime.is_main:
            self.objective.head.make_room(state)
            self.objective.head.load_state_dict(state)
        assert choice is not None
        return choice

    def _items(self, split: str, progress: Progress, say: Callable[[str], None]) -> Items | None:
        """All items of a split, in the order of its cases, on the main rank; None on others."""
        runtime, what = self.bench.runtime, f"the features of {self.where}, {split}"
        with together(runtime, what):
            cases = self.bench.cases.learnable(self.stage, split)
            new = self.compute(split, cases, progress)
            mine = list(self.items_of(split, cases))
        count = int(runtime.strategy.sum([new])[0])
        total = len(cases)
        say(f"features of {total} cases of '{split}': {count} encoded, {total - count} there already")
        shares = runtime.strategy.gather(mine, what)
        if not runtime.is_main:
            return None
        return Items.joined([items for _, items in sorted((one for share in shares for one in share), key=_position)])

    def items_of(self, split: str, cases: Sequence[Case]) -> Iterator[tuple[int, Items]]:
        """Position and items of this rank's share of the cases."""
        dataset, runtime, objective = self.bench.dataset(self.stage), self.bench.runtime, self.objective
        mine = range(runtime.rank, len(cases), runtime.world_size)
        most = max(2, objective.cells // len(cases))
        for position in mine:
            case = cases[position]
            encoded = self.features.of(case)
            if objective.target == "mask":
                mask = dataset.sample(case).mask
                if mask is None:
                    hint = "give it one, or leave it out of the split"
                    raise InputError(f"case '{case.id}' of split '{split}' has no mask to segment", self.where, hint)
                seed = [self.bench.seed(self.stage), zlib.crc32(case.id.encode())]
                yield position, objective.cells_of(encoded.features, mask, most, seed)
                continue
            yield position, objective.items(encoded.features, self._labels(case, encoded))

    def _labels(self, case: Case, encoded: Encoded) -> np.ndarray:
        """What each row of a case's features is labelled with: (D,), or (D,K) of several classes at once."""
        declared = self.bench.dataset(self.stage).declared
        if self.objective.target != "labels" or declared is None:
            return labels_of(case, encoded)
        return np.repeat(declared.of_case(case)[None], len(encoded.features), 0)

    def _keep(self, choice: Choice, train: Items, validate: Items | None) -> None:
        """Record what was chosen, and from what."""
        folder, stage = self.bench.folder, self.stage
        assert folder is not None
        counts = {stage.train: len(train), **({} if validate is None else {str(stage.validate): len(validate)})}
        kept: dict[str, Any] = {"split": stage.validate, "settings": choice.settings, "error": choice.error}
        kept |= {"tried": list(choice.tried), "items": counts}
        folder.write_json(FILE, {**read_choices(folder), stage.name: kept})

    def first(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the first training case's images and of their features, for a dry run."""
        sample = self.bench.dataset(self.stage).sample(self.bench.dataset(self.stage).cases(self.stage.train)[0])
        slices = slice(None) if self.objective.window is not None else slice(self.objective.slices_at_once)
        images = with_channels(np.array(sample.image[slices]))
        with torch.inference_mode():
            found = self.objective.eval().encode(images.to(self.bench.runtime.device))
        return tuple(images.shape), tuple(found.shape)


def labels_of(case: Case, encoded: Encoded) -> np.ndarray:
    """(D,) the label of each slice: whether its mask is positive, else the case's own; nan if neither is known. One
    for a case that was encoded as a whole: whether any slice is positive."""
    if encoded.positive is not None:
        found = np.asarray(encoded.positive, np.float64)
        return found if len(found) == len(encoded.features) else found.max(keepdims=True)
    return np.full(len(encoded.features), np.nan if case.label is None else float(case.label))


def _position(one: tuple[int, Items]) -> int:
    return one[0]


def _told(choice: Choice, split: str | None, items: int) -> str:
    if choice.tried:
        return f"{choice.told()} of {len(choice.tried)} settings, by '{split}'; fitted to {items} items"
    return f"{choice.told()}; fitted to {items} items"


def read_choices(folder: RunFolder) -> dict[str, Mapping[str, Any]]:
    """What the probes of a run have chosen, by stage."""
    found: dict[str, Mapping[str, Any]] = folder.read_json(FILE, {})
    return found


def choice_told(kept: Mapping[str, Any]) -> str:
    """A choice in a sentence: what was kept, out of what, and by what."""
    settings = ", ".join(f"{name} = {value:g}" for name, value in kept["settings"].items())
    items = " and ".join(f"{count} of '{split}'" for split, count in kept["items"].items())
    if not kept["tried"]:
        return f"{settings} was given; items: {items}"
    grid = {name: list(dict.fromkeys(one[name] for one in kept["tried"])) for name in kept["settings"]}
    tried = "; ".join(f"{name} of {', '.join(f'{value:g}' for value in values)}" for name, values in grid.items())
    return (
        f"{settings} was chosen on '{kept['split']}' by the least mean squared error of what is predicted there "
        f"({kept['error']:.4g}), from {tried}; items: {items}"
    )
