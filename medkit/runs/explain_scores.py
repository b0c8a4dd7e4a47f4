"""What can be explained of a stage: what a head or an operator says, for which classes, and the scores behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from medkit.errors import InputError, did_you_mean
from medkit.protocols.classes import Classes

CLASSES = ("class_probability", "label_probability")
MASK = "mask_probability"
KINDS = (*CLASSES, "probability", "value", MASK)
"""Predictions that can be explained; of several, the first."""
ALL = "all"


@dataclass(frozen=True)
class Subject:
    """A head or an operator, and which of its outputs is explained.

    Attributes
    ----------
    name:
        The head's; or ``operator``.
    said:
        From its raw output to its predictions by their standard names.
    kind:
        The prediction that is explained.
    names:
        Of its classes; none for one number or one mask.
    named:
        Whether these are names, and not numbers.
    """

    name: str
    said: Callable[[Tensor], Mapping[str, Tensor]]
    kind: str
    names: tuple[str, ...] = ()
    named: bool = False

    @property
    def signed(self) -> bool:
        """Whether a map shows both what raises and what lowers it: a value is not evidence for anything."""
        return self.kind == "value"

    def numbers(self, output: Tensor) -> dict[str, Any]:
        """What is said about the first item, as plain data."""
        found = {name: value.float().cpu().numpy()[0] for name, value in self.said(output).items() if name != MASK}
        numbers: dict[str, Any] = {}
        for name in KINDS:
            if name in ("probability", "value") and name in found:
                numbers[name] = round(float(found[name]), 6)
            elif name in CLASSES and name in found:
                each = [round(float(p), 6) for p in found[name]]
                numbers[name] = dict(zip(self.names, each, strict=True)) if self.named else each
        if self.kind in CLASSES:
            numbers["class"] = self.told(int(np.argmax(found[self.kind])))
        return numbers

    def told(self, number: int) -> int | str:
        """A class by its name, if it has one."""
        return self.names[number] if self.named else number

    def targets(self, output: Tensor, wanted: int | str | None) -> list[int | None]:
        """The classes whose maps are asked for; by default the most likely of each item, for masks the largest.

        Raises
        ------
        InputError
            if there is no such class.
        """
        if not self.names:
            if wanted not in (None, ALL):
                raise InputError(f"'{self.name}' has no classes", "--class", "leave it out")
            return [None]
        if wanted == ALL:
            return list(range(len(self.names)))
        if wanted is None:
            found = self.said(output)[self.kind].detach().float()
            scores = found.transpose(0, 1).flatten(1).sum(1) if self.kind == MASK else found[0]
            return [int(scores.argmax())]
        if isinstance(wanted, int) and 0 <= wanted < len(self.names):
            return [wanted]
        if wanted in self.names:
            return [self.names.index(str(wanted))]
        known = f"classes: {', '.join(self.names)}" if self.named else f"classes: 0 to {len(self.names) - 1}"
        raise InputError(f"there is no class {wanted}", "--class", did_you_mean(str(wanted), self.names) or known)

    def score(self, output: Tensor, number: int | None) -> Tensor:
        """What a map explains: a value, a logit, or the logits of a mask where it is predicted, summed (Vinogradova et
        al. 2020, "Towards interpretable semantic segmentation via Grad-CAM")."""
        if self.kind == MASK:
            return self._of_mask(output, number or 0)
        if number is None:
            return output.sum()
        if output.shape[-1] == len(self.names):
            return output[..., number].sum()
        # Ordered classes have logits of thresholds, not of classes.
        return self.said(output)[self.kind][:, number].clamp(min=1e-12).log().sum()

    def _of_mask(self, output: Tensor, number: int) -> Tensor:
        probability = self.said(output)[MASK]
        none = output.shape[1] - probability.shape[1]  # a channel for no class, if classes exclude each other
        there = output.argmax(1) == number + 1 if none else probability[:, number] > 0.5
        return (output[:, number + none] * there).sum()


def subject_of(name: str, part: Any, said: Callable[[Tensor], Mapping[str, Tensor]], output: Tensor) -> Subject | None:
    """What can be explained of a part, which is asked for its classes, from one of its outputs; None if nothing can."""
    found = said(output)
    kind = next((kind for kind in KINDS if kind in found), None)
    if kind is None:
        return None
    count = found[kind].shape[1] if kind in (*CLASSES, MASK) else 0
    if kind == MASK and count == 1:
        return Subject(name, said, kind)
    names = _names(part, kind)
    if len(names) == count:
        return Subject(name, said, kind, names, bool(names))
    return Subject(name, said, kind, tuple(map(str, range(count))))


def _names(part: Any, kind: str) -> tuple[str, ...]:
    """The classes of a part: those of declared labels, or for masks those of the data block."""
    if kind == MASK:
        classes = getattr(part, "classes", None)
        return classes.names if isinstance(classes, Classes) else ()
    return tuple(getattr(getattr(part, "labels", None), "names", ()))
