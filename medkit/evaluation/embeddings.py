"""An encoder's features of each image, kept for a picture of how classes lie relative to each other."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from medkit.evaluation import files
from medkit.protocols import Case
from medkit.protocols.labels import Labels
from medkit.records import write_atomically

MOST = 1000  # images kept per split: enough to see clusters, few enough for a t-SNE map in seconds


@dataclass
class Embedding:
    """Features of some images of one split.

    Attributes
    ----------
    features:
        (N,C) averages of the encoder's deepest maps.
    label:
        (N,) class numbers.
    ids:
        (N,) case ids, as in ``cases.csv``.
    groups:
        Coarser and finer names of what each image shows, (N,) each, from the fields that the source names in its
        attribute ``groups``.
    """

    features: np.ndarray
    label: np.ndarray
    ids: np.ndarray
    groups: dict[str, np.ndarray] = field(default_factory=dict)


class Embedded:
    """Makes the embedding of a split from its cases, which are evaluated one after another.

    Parameters
    ----------
    cases:
        Those that will be evaluated; if there are more than ``MOST``, evenly spaced ones are kept.
    groups:
        Fields to keep as :class:`Embedding`'s ``groups``.
    """

    def __init__(self, cases: Sequence[Case], groups: Sequence[str]) -> None:
        chosen = np.linspace(0, len(cases) - 1, min(MOST, len(cases))).round().astype(int)
        self.wanted, self.groups = {cases[i].id for i in chosen}, tuple(groups)

    @contextmanager
    def watching(self, objective: Any, case: Case) -> Iterator[list[np.ndarray]]:
        """While the block runs, every pass of the encoder adds (N,C) averages of its deepest map to the list."""
        found: list[np.ndarray] = []
        encoder = objective.parts().get("encoder")
        if encoder is None or case.id not in self.wanted:
            yield found
            return

        def keep(module: nn.Module, inputs: Any, features: list[Tensor]) -> None:
            deepest = features[-1].float()
            found.append(deepest.mean(tuple(range(2, deepest.dim()))).cpu().numpy())

        handle = encoder.register_forward_hook(keep)
        try:
            yield found
        finally:
            handle.remove()

    def rows(self, items: Sequence[Mapping[str, Any]], found: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """What is kept of a case's items; for a volume that is one item, the features' mean over slices."""
        if not found:
            return []
        features = np.concatenate(found)
        if len(items) != len(features):
            features = features.mean(0, keepdims=True)
        return [
            {
                "feature": feature,
                "label": item["labels"] if _classed(item) else item["label"],
                "id": str(item["id"]),
                "groups": self._groups(item),
            }
            for item, feature in zip(items, features, strict=True)
        ]

    def _groups(self, item: Mapping[str, Any]) -> dict[str, str]:
        """Names of what an item shows: of its declared class, and of the source's fields."""
        own = {"class": item["declared"].told(item["labels"]) or "unlabelled"} if _classed(item) else {}
        return {**own, **{name: str(item.get(name, "")) for name in self.groups}}

    def embedding(self, rows: Sequence[Mapping[str, Any]]) -> Embedding | None:
        """The embedding of the rows of all cases, or None if there are none."""
        if not rows:
            return None
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int))
        rows = [rows[i] for i in chosen]
        return Embedding(
            np.stack([row["feature"] for row in rows]),
            np.array([row["label"] for row in rows], np.float32),
            np.array([row["id"] for row in rows]),
            {name: np.array([row["groups"][name] for row in rows]) for name in rows[0]["groups"]},
        )


def _classed(item: Mapping[str, Any]) -> bool:
    """Whether the item's declared label is one class."""
    declared = item.get("declared")
    return isinstance(declared, Labels) and declared.kind in ("one_of", "ordered")


def write_embedding(path: Path, embedding: Embedding) -> None:
    """Write an embedding as one ``.npz``, features in half precision."""
    data = io.BytesIO()
    groups: dict[str, Any] = {f"group.{name}": values for name, values in embedding.groups.items()}
    features = embedding.features.astype(np.float16)
    np.savez_compressed(data, features=features, label=embedding.label, ids=embedding.ids, **groups)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, data.getvalue())


def read_embedding(path: Path) -> Embedding:
    """What :func:`write_embedding` wrote."""
    found = files.read_arrays(path)
    groups = {name.removeprefix("group."): array for name, array in found.items() if name.startswith("group.")}
    return files.guarded(
        path, lambda: Embedding(found["features"].astype(np.float32), found["label"], found["ids"], groups)
    )
