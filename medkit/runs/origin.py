"""What a prediction says about where it comes from: network, training data, settings and input."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medkit
from medkit.data.files import files_of
from medkit.data.header_patients import first_header
from medkit.data.ledger import ROLES, Ledger
from medkit.data.volume import Volume
from medkit.protocols import Record
from medkit.recipe import Recipe, Stage
from medkit.runs.file_digest import digest, digest_of_all
from medkit.runs.folder import RunFolder

USE = "for research only, not for clinical use"

SLICES = "axial slices of the image as medkit reads it, from 0, inferior to superior; a file may have another order"
"""What slices are counted by, in files beside a prediction."""


def origin(folder: RunFolder, recipe: Recipe, stage: Stage, parts: Iterable[str]) -> dict[str, Any]:
    """Version of medkit, date, run, stage, digests of the weights, and what the run's training data are.

    Parameters
    ----------
    parts:
        Names of the parts of the stage's objective; those without a weights file (external programs) are left out.
    """
    weights = {part: folder.weights(stage.name, part) for part in parts}
    return {
        "medkit": medkit.__version__,
        "date": now(),
        "use": USE,
        "notices": folder.read_json("environment.json", {}).get("notices", []),
        "run": folder.path.resolve().name,
        "recipe": recipe.name,
        "stage": stage.name,
        "weights": {part: f"sha256:{digest(path)}" for part, path in weights.items() if path.is_file()},
    }


def now() -> str:
    """The time, with its time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def ledger_in_short(ledger: Ledger | None) -> dict[str, Any] | str:
    """How many patients and images the chain of a stage has seen, by what was done with them; nobody is named.

    ``unknown_weights`` names weights it started from of which nothing is known; ``unknown`` if there is no ledger.
    """
    if ledger is None:
        return "unknown"
    found: dict[str, Any] = {}
    for role, words in ROLES.items():
        entries = [entry for entry in ledger.entries if entry.role == role]
        if entries:
            patients = np.unique(np.concatenate([entry.patients for entry in entries]))
            images = np.unique(np.concatenate([entry.images for entry in entries]))
            found[words] = {"patients": len(patients), "image_digests": len(images)}
    unknown = [name if name.startswith("hub:") else Path(name).name for name in ledger.unknown]
    return found | ({"unknown_weights": unknown} if unknown else {})


def inputs_named(record: Record, paths: Sequence[Path]) -> dict[str, Any]:
    """``input``, what was read as a case's image, and ``channels``, the further ones, if there are any."""
    first, *others = (_named(*one) for one in zip((record.image, *record.channels), paths, strict=True))
    return {"input": first} | ({"channels": others} if others else {})


def _named(volume: Volume, path: Path) -> dict[str, Any]:
    """UIDs of a DICOM series and how its headers were mended, else name and digest of the file, of a pair (.hdr, .img)
    that of both. No patient names."""
    files = volume.header.get("files")
    if volume.header.get("format") != "dicom" or not files:
        return {"file": path.name, **({"digest": f"sha256:{digest_of_all(files_of(path))}"} if path.is_file() else {})}
    first = first_header(volume)
    found = {"images": len(files), "study": first.get("StudyInstanceUID"), "series": first.get("SeriesInstanceUID")}
    if len(files) == 1:
        found["instance"] = first.get("SOPInstanceUID")
    said = {name: value if isinstance(value, int) else str(value or "unknown") for name, value in found.items()}
    return said | ({"mended": list(volume.mended)} if volume.mended else {})
