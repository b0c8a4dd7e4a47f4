"""The source of phantom radiographs: which children and images there are, and their pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from scipy.special import ndtr, ndtri

from medkit.api import Case, InputError, Record
from medkit.data.volume import Volume
from medkit_phantoms.radiographs.projection import Order, image, kinds_of
from medkit_phantoms.radiographs.views import REGIONS, VIEWS

VERSION = 1
"""Part of every identity: raise it whenever the pixels change."""

YOUNGEST, OLDEST = 12.0, 216.0
MEAN, SPREAD = 127.0, 41.0
"""Age in months, as in the RSNA bone age challenge of 2017."""

TASKS = ("views", "bone_age", "fracture")


class Radiographs:
    """Phantom radiographs of children in stored units (0 to 4095, bone bright), one image per case.

    The label follows ``task``: the view's number among PedXnet's 68 classes (``views``), the age in months
    (``bone_age``), or 1 if a bone is broken (``fracture``). Images are not square and not all of one size.

    Parameters
    ----------
    patients:
        Children in all.
    size:
        Longest side in pixels of the largest images; every image's own is 80 to 100 % of it.
    seed:
        Seed of everything. The same arguments always give the same pixels, in any order of loading.
    task:
        What the label is, and which views there are unless said otherwise: all of them, ``Hand_PA``, or those in
        which bones can break.
    regions:
        Keep only views of these classes of PedXnet-7C.
    views:
        Only these views, by their names in PedXnet-68C.
    images_per_patient:
        Images of each child, dealt from shuffled decks of the views, so nearly always of different ones.
    folds:
        Shares of train, val and test among the children; all images of a child are in one fold.
    fracture_share:
        Share of images with a fracture in the task ``fracture``, kept in every view of every fold as well as whole
        images can; the other tasks have none. The default is that of the thesis's data, 1010 of 1772.
    seen_at:
        Longest side in pixels that images will have once they are prepared (``pad_resize``): fractures are drawn wide
        enough to be seen at it. Without it they are seen in the image as drawn, and may be lost when it is shrunk.
    """

    notice = "All images are synthetic phantoms: the numbers compare methods and say nothing about patients."

    def __init__(
        self,
        patients: Annotated[int, Field(ge=1)] = 120,
        size: Annotated[int, Field(ge=32, le=2048)] = 256,
        seed: int = 0,
        task: Literal["views", "bone_age", "fracture"] = "views",
        regions: tuple[str, ...] | None = None,
        views: tuple[str, ...] | None = None,
        images_per_patient: Annotated[int, Field(ge=1)] = 1,
        folds: tuple[float, float, float] = (0.7, 0.1, 0.2),
        fracture_share: Annotated[float, Field(ge=0, le=1)] = 0.57,
        seen_at: Annotated[int, Field(ge=16, le=2048)] | None = None,
    ) -> None:
        if task not in TASKS:
            raise InputError(f"task '{task}' is not known", hint=f"tasks: {', '.join(TASKS)}")
        if min(folds) < 0 or abs(sum(folds) - 1) > 1e-6:
            raise InputError(f"folds {list(folds)} are not shares that add up to 1", hint="e.g. [0.7, 0.1, 0.2]")
        self.patients, self.size, self.seed, self.task = patients, int(size), seed, task
        self.space = f"phantoms:radiographs {seed}"
        self.images_per_patient, self.folds, self.fracture_share = images_per_patient, tuple(folds), fracture_share
        self.regions, self.views, self.seen_at = regions, views, seen_at
        self.names = _chosen(task, regions, views)
        self._cases: list[Case] | None = None

    def cases(self) -> Sequence[Case]:
        """All cases, without drawing a pixel; fields: view, region, age_months, sex, side, fracture, fracture_kind."""
        if self._cases is None:
            self._cases = self._make()
        return self._cases

    def _make(self) -> list[Case]:
        rng = np.random.default_rng([self.seed, 0])
        each = self.images_per_patient
        folds = self._fold_names()
        low, high = ndtr((np.array((YOUNGEST, OLDEST)) - MEAN) / SPREAD)
        cases: list[Case] = []
        start = 0
        for fold in dict.fromkeys(folds):
            count = folds.count(fold)
            # Stratified within each fold, so that few children still span all ages, views and both sexes.
            ages = MEAN + SPREAD * ndtri(low + (high - low) * (rng.permutation(count) + rng.random(count)) / count)
            sexes = rng.permutation(np.arange(count) % 2)
            views = self._deal(count * each, rng)
            broken = self._broken(views, rng)
            for i in range(count):
                for j in range(each):
                    k = i * each + j
                    kinds = kinds_of(VIEWS[views[k]])
                    kind = str(rng.choice(kinds)) if self.task == "fracture" and broken[k] else ""
                    fields = {
                        "view": views[k],
                        "region": VIEWS[views[k]].region,
                        "age_months": round(float(ages[i]), 1),
                        "sex": int(sexes[i]),
                        "side": "LR"[int(rng.integers(2))],
                        "fracture": int(bool(kind)),
                        "fracture_kind": kind,
                    }
                    patient = f"P{start + i:05d}"
                    cases.append(Case(f"{patient}_{j}", patient, "", fold, self._label(fields), fields))
            start += count
        return cases

    def _deal(self, number: int, rng: np.random.Generator) -> list[str]:
        """``number`` views from shuffled decks of all: each occurs as often as the others."""
        rounds = -(-number // len(self.names))
        return [str(name) for _ in range(rounds) for name in rng.permutation(self.names)][:number]

    def _broken(self, views: Sequence[str], rng: np.random.Generator) -> np.ndarray:
        """Which images have a fracture, as a share of each view: the view must not give away a fracture."""
        images = rng.permutation(len(views))
        turn = {view: k for k, view in enumerate(dict.fromkeys(views[i] for i in images))}
        ranked = np.array(sorted(images, key=lambda i: turn[views[i]]), int)
        broken = np.zeros(len(views), bool)
        broken[ranked] = np.diff(np.round(self.fracture_share * np.arange(len(views) + 1))) > 0
        return broken

    def _label(self, fields: dict[str, Any]) -> float:
        if self.task == "bone_age":
            return float(fields["age_months"])
        return float(fields["fracture"] if self.task == "fracture" else VIEWS[fields["view"]].index)

    def _fold_names(self) -> list[str]:
        least = 1 if self.patients >= 3 else 0
        val, test = (max(least if share else 0, round(share * self.patients)) for share in self.folds[1:])
        test = min(test, self.patients)
        val = min(val, self.patients - test)
        return ["train"] * (self.patients - val - test) + ["val"] * val + ["test"] * test

    def identity(self, case: Case) -> str:
        """Hash of the code version, the arguments that pixels depend on, and the case."""
        seen = [] if self.seen_at is None else [self.seen_at]
        key = json.dumps([VERSION, self.seed, self.size, *seen, case.id, dict(case.fields)], sort_keys=True)
        return "phantoms:radiographs:" + hashlib.sha256(key.encode()).hexdigest()[:24]

    def load(self, case: Case) -> Record:
        """Draw one case: image (1,H,W) float32, whole numbers from 0 to 4095; no mask."""
        fields = case.fields
        patient, number = case.id[1:].split("_")
        order = Order(
            view=VIEWS[fields["view"]], age=float(fields["age_months"]), sex=int(fields["sex"]), side=fields["side"],
            size=self.size, fracture=fields["fracture_kind"], seen_at=self.seen_at,
        )  # fmt: skip
        stored, pixel = image(order, [self.seed, int(patient), int(number)])
        return Record(Volume(stored[None], np.diag((1.0, pixel, pixel, 1.0)), units="stored", spacing_known=False))


def _chosen(task: str, regions: Sequence[str] | None, views: Sequence[str] | None) -> tuple[str, ...]:
    """The views that a source deals out, in the table's order."""
    for name, known, what in ((views, VIEWS, "views"), (regions, REGIONS, "regions")):
        unknown = [one for one in name or () if one not in known]
        if unknown:
            raise InputError(f"{what} {unknown} cannot be drawn", hint=f"{what}: {', '.join(known)}")
    wanted = views or (("Hand_PA",) if task == "bone_age" else tuple(VIEWS))
    names = [name for name in VIEWS if name in wanted and (regions is None or VIEWS[name].region in regions)]
    if task == "fracture":
        unbreakable = [name for name in views or () if not VIEWS[name].breaks]
        if unbreakable:
            breakable = ", ".join(name for name, view in VIEWS.items() if view.breaks)
            raise InputError(f"no bone can break in {unbreakable}", hint=f"views with fractures: {breakable}")
        names = [name for name in names if VIEWS[name].breaks]
    if not names:
        raise InputError(
            f"no view is left for the task '{task}' with regions {list(regions or ())} and views {list(views or ())}",
            hint="give views of these regions, or leave one of the two out",
        )
    return tuple(names)
