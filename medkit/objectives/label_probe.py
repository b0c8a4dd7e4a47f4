"""A probe of the labels that a data block declares."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from medkit.errors import InputError
from medkit.objectives.probe import Probe
from medkit.parts.encoder_volumes import Count
from medkit.parts.label_losses import declared
from medkit.parts.label_probe_heads import PerClass
from medkit.parts.probes import PROBES, Items
from medkit.parts.window_means import OVERLAP
from medkit.protocols import Batch
from medkit.registry.marks import CaseLabels, Slot

Classifier = Literal["knn", "logistic", "linear", "ridge"]


class LabelProbe(Probe):
    """A simple classifier of declared labels on the features of a frozen encoder: ``probe`` for ``labels``.

    Of ``one_of`` several classes and of ``ordered`` ones it tells which it is, of ``any_of`` it has a classifier for
    each class, fitted to the items of which that class is known, and a measurement is regressed by ridge. Every slice
    has the label of its case; with ``unit: volume`` a case is one item.

    Parameters
    ----------
    encoder:
        Feature pyramid, usually taken from a pretext stage.
    classifier:
        ``knn``, ``logistic`` (L-BFGS), ``linear`` (gradient descent), or ``ridge`` for measurements; null:
        ``logistic``, or ``ridge``, as the labels are.
    grid:
        Values to choose from by name, as in ``probe``.
    steps:
        Steps of ``linear``, of 256 items each.
    slices_at_once:
        Slices an encoder pass takes.
    window:
        Of an encoder of volumes: depth, height and width of the windows.
    overlap:
        Share of a window that its neighbour covers too, in [0, 1).
    """

    label_kinds: ClassVar[tuple[str, ...]] = ("one_of", "any_of", "ordered", "unit")

    def __init__(
        self,
        encoder: Annotated[Any, Slot("encoder")],
        classifier: Classifier | None = None,
        grid: dict[str, list[float]] = {},  # noqa: B006
        steps: Annotated[int, Gt(0)] = 1000,
        slices_at_once: Annotated[int, Gt(0)] = 32,
        window: tuple[Count, Count, Count] | None = None,
        overlap: Annotated[float, Ge(0), Lt(1)] = OVERLAP,
        labels: CaseLabels = None,
    ) -> None:
        found = declared(labels, "label_probe")
        values = found.kind == "unit"
        chosen: Classifier = classifier or ("ridge" if values else "logistic")
        if (chosen == "ridge") != values:
            what = f"'{chosen}' does not take {found.in_words}"
            raise InputError(what, "classifier", "'ridge' is for measurements, all others are for classes")
        super().__init__(
            encoder, chosen, grid=grid, steps=steps, slices_at_once=slices_at_once, window=window, overlap=overlap
        )
        self.labels, self.target = found, "labels"
        width, options = encoder.channels[-1], {"steps": steps} if chosen == "linear" else {}
        if found.kind == "any_of":
            self.head = PerClass(found.names, [PROBES[chosen](width, 2, grid, **options) for _ in found.names])
        elif not values:
            self.head = PROBES[chosen](width, len(found), grid, **options)

    def reads(self, batch: Batch) -> set[str]:
        return {"image", "labels"}

    def items(self, features: np.ndarray, label: np.ndarray) -> Items:
        """As in ``probe``; ``label`` is (D,), or (D,K) of ``any_of``."""
        if self.unit == "volume":
            features, label = features.mean(0, keepdims=True), label[:1]
        known = ~(np.isnan(label).all(1) if label.ndim == 2 else np.isnan(label))
        return Items(np.ascontiguousarray(features[known], np.float32), np.asarray(label[known], np.float64))

    def said(self, found: Tensor) -> dict[str, Tensor]:
        if self.labels.kind == "unit":
            return {"value": found[:, 0]}
        if self.labels.kind == "any_of":
            return {"label_probability": found}
        return {"class_probability": found if found.shape[1] > 1 else torch.cat([1 - found, found], 1)}
