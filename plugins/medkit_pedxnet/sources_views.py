"""Radiographs labelled by their view: a balanced sample of a large manifest, or any other source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow
from pydantic import Field

from medkit.api import Case, InputError, Record, Slot
from medkit.data.manifest import texts
from medkit.data.sampling import ByDate, Sampled, encoded, sample_manifest
from medkit.data.whereabouts import below
from medkit.errors import did_you_mean
from medkit_pedxnet.listed import Listed, ListedSource
from medkit_pedxnet.views import Views

GROUPS = ("anatomy", "sub_anatomy", "view")
"""Fields with the names at levels 7, 30 and 68; maps in the report are coloured by them."""


class ViewManifest(ListedSource):
    """Radiographs of a manifest with one row per image: a class-balanced sample for training, and all later ones.

    Each class of the level is drawn equally often, without replacement, as in the thesis (part A, 2.1). The total is
    the same for all three levels: the most that each can give. The manifest may have millions of rows. Folds are
    ``train`` and, from ``split_date`` on, ``val``, with its natural balance. A run keeps the sample in its folder, as
    ``sampled_BLOCK.parquet``.

    Parameters
    ----------
    path:
        Parquet or CSV.
    level:
        7, 30 or 68 classes.
    seed:
        Of the sample.
    total:
        Images in the training sample; default: the most that every level can give.
    view:
        Column with the name of one of the 68 views; rows with an empty cell are left out.
    image:
        Column with a DICOM, PNG or NIfTI file.
    patient:
        Column with the patient.
    date:
        Column with the date; only with ``split_date``.
    split_date:
        First day (YYYY-MM-DD) of the images of fold ``val``.
    straddling:
        ``error`` for patients on both sides of the date, or ``leave_out``: their earlier images are not drawn.
    hip_in:
        Where the hip, and so every view of the pelvis, belongs at level 7 (uncertain).
    moved:
        Other parents for views (an area each) or areas (a part of the body each), such as
        ``{Chest_Clavicle: Shoulder}``.
    root:
        Folder that relative paths start from; default: the manifest's own.
    space:
        Whose patients these are, as for ``manifest``.
    """

    groups = GROUPS

    def __init__(
        self,
        path: Path,
        level: Literal[7, 30, 68] = 7,
        seed: int = 0,
        total: Annotated[int, Field(gt=0)] | None = None,
        view: str = "view",
        image: str = "image",
        patient: str = "patient",
        date: str | None = None,
        split_date: str | None = None,
        straddling: Literal["error", "leave_out"] = "error",
        hip_in: Literal["Pelvis", "Lower_Extremity"] = "Pelvis",
        moved: dict[str, str] | None = None,
        root: Path | None = None,
        space: str | None = None,
    ) -> None:
        self.space = space
        self.path, self.level, self.seed, self.total = path, level, seed, total
        self.view, self.image, self.patient, self.date, self.split_date = view, image, patient, date, split_date
        self.straddling: Literal["error", "leave_out"] = straddling
        self.views = Views(hip_in, moved)
        self.root = Path(path).parent if root is None else Path(root)
        self._listed: Listed | None = None

    def sample(self) -> Sampled:
        """Draw the samples of all three levels."""
        return sample_manifest(
            self.path,
            self.views.hierarchy(),
            column=self.view,
            patient=self.patient,
            seed=self.seed,
            total=self.total,
            by_date=ByDate.of(self.date, self.split_date, self.straddling, str(self.path)),
        )

    def write_sample(self, path: str | Path) -> None:
        """Write the chosen rows as a manifest: the columns there were, ``fold`` and ``label``."""
        write_chosen(self.sample(), self.views, self.level, self.seed, Path(path))

    @property
    def listed(self) -> Listed:
        if self._listed is None:
            chosen = chosen_rows(self.sample(), self.views, self.level)
            if self.image not in chosen.column_names:
                hint = did_you_mean(self.image, chosen.column_names) or f"columns: {', '.join(chosen.column_names)}"
                raise InputError(f"the manifest has no column '{self.image}'", str(self.path), hint)
            where = str(self.path)
            images, patients = texts(chosen, self.image, where), texts(chosen, self.patient, where)
            own = (self.image, self.patient, "fold", "label")
            fields = {name: chosen[name] for name in chosen.column_names if name not in own}
            codes, views = encoded(chosen[self.view])
            words = {code: named(self.views, views[code]) for code in np.unique(codes).tolist()}
            for name in GROUPS:
                every = [words[code][name] if code in words else None for code in range(len(views))]
                fields[name] = pyarrow.array(every, pyarrow.string()).take(pyarrow.array(codes))
            columns = {"id": images, "patient": patients, "fold": chosen["fold"]}
            columns["label"] = chosen["label"].to_numpy().astype(np.float64)
            self._listed = Listed(where, columns, fields, below(str(self.root), images))
        return self._listed


class ByView:
    """Cases of another source with their view's class number as label; cases without a view are left out.

    Parameters
    ----------
    source:
        Its cases have a field with the name of one of the 68 views.
    level:
        7, 30 or 68 classes.
    field:
        That field.
    hip_in:
        Where the hip, and so every view of the pelvis, belongs at level 7 (uncertain).
    moved:
        Other parents for views (an area each) or areas (a part of the body each).
    """

    groups = GROUPS

    def __init__(
        self,
        source: Annotated[Any, Slot("source")],
        level: Literal[7, 30, 68] = 7,
        field: str = "view",
        hip_in: Literal["Pelvis", "Lower_Extremity"] = "Pelvis",
        moved: dict[str, str] | None = None,
    ) -> None:
        self.source, self.level, self.field = source, level, field
        self.views = Views(hip_in, moved)
        self._cases: dict[str, Case] | None = None

    def cases(self) -> Sequence[Case]:
        if self._cases is None:
            self._cases = {case.id: case for case in self.source.cases()}
        found = []
        for case in self._cases.values():
            view = case.fields.get(self.field)
            if view in (None, ""):
                continue
            number = self.views.number(str(view), self.level)
            found.append(replace(case, label=float(number), fields={**case.fields, **named(self.views, str(view))}))
        if not found:
            raise InputError(f"no case has a field '{self.field}' with its view")
        return found

    def load(self, case: Case) -> Record:
        return Record(self.source.load(self.own(case)).image)

    def identity(self, case: Case) -> str:
        return f"by_view of {self.source.identity(self.own(case))}"

    def own(self, case: Case) -> Case:
        """The case as the wrapped source knows it."""
        if self._cases is None:
            self.cases()
        assert self._cases is not None
        return self._cases[case.id]


def named(views: Views, view: str) -> dict[str, Any]:
    """The fields ``anatomy``, ``sub_anatomy`` and ``view`` of a view."""
    return {"anatomy": views.at(view, 7), "sub_anatomy": views.at(view, 30), "view": view}


def chosen_rows(sampled: Sampled, views: Views, level: int) -> Any:
    """The rows of a level's training sample and all later ones as a table, with ``fold`` and ``label``."""
    import pyarrow

    train = sampled.train[str(level)]
    rows = np.concatenate([train, sampled.later])
    labels = views.hierarchy().of_finest[str(level)][sampled.codes[rows]]
    folds = pyarrow.array(["train"] * len(train) + ["val"] * len(sampled.later))
    table = sampled.table.drop_columns([n for n in ("fold", "label") if n in sampled.table.column_names])
    table = table.take(pyarrow.array(rows))
    return table.append_column("fold", folds).append_column("label", pyarrow.array(labels, pyarrow.int16()))


def write_chosen(sampled: Sampled, views: Views, level: int, seed: int, path: Path) -> Mapping[str, int]:
    """Write :func:`chosen_rows` as Parquet with seed and level in its metadata; returns the rows per class."""
    import pyarrow.parquet

    from medkit.data.whole import whole_file

    table = chosen_rows(sampled, views, level)
    about = {"medkit.seed": str(seed), "medkit.level": str(level), "medkit.total": str(sampled.total)}
    with whole_file(path) as temporary:
        pyarrow.parquet.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), **about}), temporary
        )
    names = views.names[level]  # type: ignore[index]
    counts = np.bincount(table["label"].to_numpy()[: len(sampled.train[str(level)])], minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))
