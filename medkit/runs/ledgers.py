"""Ledgers of runs: where that of a stage is recorded, which weights bring one along, and whether one knows an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.data.copies import image_digests
from medkit.data.header_patients import patient_of
from medkit.data.ledger import HEADERS, NOTHING, Ledger, digest, ledger_of, read_ledger
from medkit.data.volume import Volume
from medkit.recipe import Stage
from medkit.recipe.blocks import Block
from medkit.runs.folder import RunFolder

FOLDER = "ledgers"
"""Of a run: ``STAGE.json`` for each stage."""


def recorded_ledger(folder: RunFolder | None, stage: str) -> Ledger | None:
    """What was recorded when a stage of a run trained, or else went into its weights; None if nothing was."""
    if folder is None:
        return None
    path = folder.file(f"{FOLDER}/{stage}.json")
    if path.is_file():
        return ledger_of(path)
    kept = [
        known for file in sorted(folder.file("weights").glob(f"{stage}.*.safetensors")) if (known := read_ledger(file))
    ]
    return sum(kept, Ledger()) if kept else None


def weights_of(stage: Stage) -> list[str]:
    """Weights that a stage starts from: files and tags of the hub, in any argument of its objective's components.

    Networks that only measure (``metrics``) play no part in what is learned.
    """
    return list(dict.fromkeys(_weights(stage.objective)))


def _weights(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("hub:") or value.endswith(".safetensors") or (key == "weights" and Path(value).is_file()):
            yield value
    elif isinstance(value, Block):
        yield from _weights(value.arguments)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _weights(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _weights(item, key)


def seen_in_training(ledger: Ledger | None, volume: Volume) -> bool | Literal["unknown"]:
    """Whether a ledger knows an image or its patient, by the PatientID of its header or by the image itself.

    ``unknown`` if it is not found, and the patient cannot be compared (the image, or one of those trained on, has no
    PatientID), or nothing is known about some weights of the chain or about their images.
    """
    if ledger is None:
        return "unknown"
    patient = patient_of(volume)
    for entry in ledger.entries if patient is not None else ():
        if digest(entry.space, str(patient)) in entry.patients or digest(HEADERS, str(patient)) in entry.headers:
            return True
    mine, known = np.array(image_digests(volume.voxels), np.uint64), images_of(ledger)
    if len(mine) and np.isin(mine, known).all():
        return True
    images_known = len(mine) and not ledger.unknown and all(len(e.images) for e in ledger.entries if e.role == "train")
    compared = not ledger.entries or (patient is not None and all(entry.comparable for entry in ledger.entries))
    return False if images_known and compared else "unknown"


def images_of(ledger: Ledger) -> np.ndarray:
    """Digests of all images that a ledger knows, (n,) uint64."""
    return np.unique(np.concatenate([NOTHING, *(entry.images for entry in ledger.entries)]))
