"""Maps of single slices, and of whole volumes: what each place of an encoder's deepest map adds to a score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medkit.errors import InputError, did_you_mean
from medkit.evaluation.maps import contributions
from medkit.objectives.common import in_chunks
from medkit.protocols import Batch, PretextHead, offered
from medkit.runs.explain_scores import Subject, subject_of


@dataclass(frozen=True)
class Explained:
    """One slice.

    Attributes
    ----------
    numbers:
        What is said about it.
    activation:
        (1,C,h,w) the encoder's deepest map.
    maps:
        (1,1,h,w) what each place adds to the score, of either sign, by class; None stands for a single number.
    """

    numbers: dict[str, Any]
    activation: Tensor
    maps: Mapping[int | None, Tensor]


class OfSlices:
    """A head's maps of slices, each on its own."""

    whole = False

    def __init__(self, objective: Any, stage: str, batch: Batch, head: str | None) -> None:
        self.objective, self.batch = objective, batch
        with torch.no_grad():
            features = objective.encoder(batch["image"][:1])
        self.subject, self.head = _head(objective, stage, head, lambda _, one: one(features, **_given(one, batch)))

    def explained(self, target: int | str | None) -> Iterator[Explained]:
        given = _given(self.head, self.batch)
        for image in self.batch["image"].split(1):
            with torch.no_grad():
                features = self.objective.encoder(image)
                output = self.head(features, **given)
            numbers, maps = self.subject.numbers(output), {}
            for number in self.subject.targets(output, target):
                maps[number] = contributions(features, partial(self._score, given, number))
            yield Explained(numbers, features[-1], maps)

    def _score(self, given: Mapping[str, Tensor], number: int | None, features: list[Tensor]) -> Tensor:
        return self.subject.score(self.head(features, **given), number)


class OfVolume:
    """An operator's maps of all slices of a volume: what each place of each slice adds to what is said of the whole."""

    whole = True

    def __init__(self, objective: Any, batch: Batch) -> None:
        self.objective, self.lengths = objective, batch["lengths"]
        with torch.no_grad():
            self.features: list[Tensor] = in_chunks(objective.encoder, batch["image"], objective.slices_at_once)
            self.output = self._output(self.features)
        found = subject_of("operator", objective.operator, self._said, self.output)
        assert found is not None  # a volume's task gives a probability or declared labels
        self.subject = found
        self.numbers = found.numbers(self.output)

    def explained(self, target: int | str | None) -> Iterator[Explained]:
        maps = {
            number: contributions(self.features, partial(self._score, number))
            for number in self.subject.targets(self.output, target)
        }
        yield from _slices(self.subject, self.features[-1], maps)

    def _said(self, output: Tensor) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = self.objective.said(output.float(), self.lengths)
        if self.objective.operator.task == "segmentation":
            return {name: value for name, value in found.items() if name == "mask_probability"}
        return found

    def _score(self, number: int | None, features: list[Tensor]) -> Tensor:
        return self.subject.score(self._output(features), number)

    def _output(self, features: list[Tensor]) -> Tensor:
        """Logits of the volume; intermediate values are recomputed for gradients, some slices at a time."""
        operator, size = self.objective.operator, self.objective.slices_at_once
        parts = zip(*(maps.split(size) for maps in features), strict=True)
        slices = [checkpoint(operator.slices, list(part), use_reentrant=False) for part in parts]
        found: Tensor = self.objective.over_depth(torch.cat(slices), self.lengths)
        return found


class OfWindows:
    """A head's maps of a volume that is seen in windows: what each place adds to what is said of its windows.

    Maps of the windows are enlarged to their size and blended as predictions are, and so is the activation, the mean
    over channels of the encoder's deepest map.
    """

    whole = True

    def __init__(self, objective: Any, stage: str, batch: Batch, head: str | None) -> None:
        self.objective, self.volume = objective, batch["image"].transpose(0, 1)[None]
        self.given = objective.fields_of(batch)

        def output(name: str, _: Any) -> Tensor:
            found: Tensor = objective.outputs(self.volume, self.given, [name])[name]
            return found

        self.subject, self.head = _head(objective, stage, head, output)
        with torch.no_grad():
            self.output = output(self.subject.name, self.head)
        self.numbers = self.subject.numbers(self.output)

    def explained(self, target: int | str | None) -> Iterator[Explained]:
        targets = self.subject.targets(self.output, target)

        def maps(windows: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.objective.encoder(windows)
            found = [features[-1].mean(1, keepdim=True)]
            found += [contributions(features, partial(self._score, number)) for number in targets]
            return F.interpolate(torch.cat(found, 1), windows.shape[2:], mode="trilinear", align_corners=False)

        slices = self.objective.in_windows(maps, self.volume)[0].transpose(0, 1)
        each = {number: slices[:, k : k + 1] for k, number in enumerate(targets, 1)}
        yield from _slices(self.subject, slices[:, :1], each)

    def _score(self, number: int | None, features: list[Tensor]) -> Tensor:
        needs = getattr(self.head, "needs", ())
        given = {name: self.given[name].expand(len(features[0])) for name in needs}
        return self.subject.score(self.head(features, **given), number)


def _slices(subject: Subject, activation: Tensor, maps: Mapping[int | None, Tensor]) -> Iterator[Explained]:
    """The slices of a volume's maps (D,1,h,w), each with what it adds."""
    for z in range(len(activation)):
        each = {number: one[z : z + 1] for number, one in maps.items()}
        added = {number: round(float(one.sum()), 6) for number, one in each.items()}
        told = {str(subject.told(number)): value for number, value in added.items() if number is not None}
        yield Explained({"adds": told or added[None]}, activation[z : z + 1], each)


def _head(objective: Any, stage: str, name: str | None, output: Callable[[str, Any], Tensor]) -> tuple[Subject, Any]:
    """The head to ask: the first that gives numbers or classes, else the first that gives a mask.

    ``output`` gives what a head puts out for the image.
    """
    heads = dict(getattr(objective, "heads", {}).items())
    if name is not None and name not in heads:
        hint = did_you_mean(name, heads) or f"heads: {', '.join(heads)}"
        raise InputError(f"stage '{stage}' has no head '{name}'", hint=hint)
    known: list[tuple[Subject, Any]] = []
    with torch.no_grad():
        for other, head in heads.items():
            if hasattr(head, "predict") and name in (None, other):
                found = subject_of(other, head, _said(head), output(other, head))
                known += [(found, head)] if found is not None else []
    if not known:
        raise InputError(f"stage '{stage}' has no head that gives a number, a class or a mask for an image")
    return min(known, key=lambda pair: pair[0].kind == "mask_probability")


def _said(head: Any) -> Any:
    return offered(PretextHead, head, "predict")


def _given(head: Any, batch: Batch) -> dict[str, Tensor]:
    """The fields a head needs, for one slice."""
    needs = getattr(head, "needs", ())
    missing = [name for name in needs if name not in batch]
    if missing:
        raise InputError(f"the head needs '{missing[0]}'", "--field", f"--field {missing[0]}=VALUE")
    return {name: batch[name] for name in needs}
