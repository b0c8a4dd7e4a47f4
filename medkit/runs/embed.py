"""Features of many images by an encoder, as a Parquet file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import medkit
from medkit.data.dataset import Dataset
from medkit.data.folder import FolderSource
from medkit.data.ledger import digest, people, space_of
from medkit.data.source import ManifestSource
from medkit.data.source_columns import of_another
from medkit.data.whole import whole_file
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.evaluation.features import Encoded, Encoding, Features, encoding_key
from medkit.parts.window_means import dimensions_of, how, mean_over_windows, pooled
from medkit.paths import cache_folder
from medkit.protocols import Case
from medkit.recipe import DataBlock, Recipe, load_recipe
from medkit.runs.encoders import NamedEncoder, named_encoder
from medkit.runs.fitting import labels_of
from medkit.runs.origin import USE

ROWS = 4096  # in a row group
HOW = "mean of the deepest map"
Window = tuple[int, int, int]


@dataclass(frozen=True)
class EmbedRequest:
    """What is embedded, and how it is prepared.

    Attributes
    ----------
    input:
        A manifest, or a folder of images.
    split:
        In place of ``input``, a split of the data block.
    recipe:
        Whose data block says how images are prepared; default: the run's own.
    data:
        Which block, if there are several.
    batch:
        Slices, or windows of a volume, encoded at a time.
    window:
        Depth, height and width of the windows of an encoder of volumes; default: the patches it was trained on.
    """

    input: Path | None = None
    split: str | None = None
    recipe: str | None = None
    data: str | None = None
    batch: int = 32
    window: Window | None = None


def embed(
    what: str, output: Path, wanted: EmbedRequest, *, stage: str | None = None, device: str | None = None
) -> dict[str, Any]:
    """Write the features of every slice, or volume, to ``output``; returns what the file says about itself.

    One row per slice: ``case``, ``patient``, ``center``, ``slice``, ``label`` (null if not known) and ``features``, a
    list of F numbers; from an encoder of volumes one row per case, whose ``slice`` is null. The file's metadata have,
    under ``medkit``, the encoder, its weights, preparation and versions.

    Raises
    ------
    InputError
        if ``output`` exists, the encoder or the preparation is not known, or an image cannot be read; then nothing
        is written.
    """
    if output.suffix != ".parquet":
        raise InputError("features are written as Parquet", str(output), "name a file ending in .parquet")
    if (wanted.input is None) == (wanted.split is None):
        raise InputError("images come either from an input or from a split", "--input", "or --split")
    with whole_file(output) as temporary:
        runtime = Runtime.start(device=device)
        named = named_encoder(what, runtime, stage)
        block_name, block = _block(named, wanted)
        dataset, cases = _cases(wanted, block)
        encoding, said = _encoding(named, wanted, runtime)
        features = Features(dataset, encoding, runtime)
        with Progress() as progress:
            with progress.task("preparing", total=len(cases)) as advance:
                dataset.prepare_all(cases, advance)
            with progress.task("encoding", total=len(cases)) as advance:
                features.compute(cases, advance)
        told = _told(named, wanted, block_name, block, dataset, cases)
        told |= {"features": said, **({"window": list(_window(named, wanted) or ())} if encoding.whole else {})}
        told["volumes" if encoding.whole else "slices"] = _write(temporary, cases, features, told)
    return told


def _encoding(named: NamedEncoder, wanted: EmbedRequest, runtime: Runtime) -> tuple[Encoding, str]:
    """How images become features, and that in words."""
    encoder, window = named.encoder, _window(named, wanted)

    def of_slices(images: Tensor) -> Tensor:
        return pooled(encoder(images)[-1])

    def of_volume(images: Tensor) -> Tensor:
        assert window is not None
        return mean_over_windows(encoder, images.transpose(0, 1)[None], window, batch=wanted.batch)

    said = HOW if window is None else how(window)
    key = encoding_key(encoder, said, wanted.batch, runtime)
    return Encoding(of_slices if window is None else of_volume, key, wanted.batch, window is not None), said


def _window(named: NamedEncoder, wanted: EmbedRequest) -> Window | None:
    """The windows in which an encoder of volumes is asked; None for one of slices."""
    if dimensions_of(named.encoder) == 2:
        if wanted.window is not None:
            raise InputError("an encoder of slices has no windows", "--window", "leave it out")
        return None
    trained = named.stage.patch_size if named.stage is not None and named.stage.unit == "patch3d" else None
    size = wanted.window or trained
    if size is None:
        what = "an encoder of volumes is asked in windows, and how large its patches were is not known"
        raise InputError(what, "--window", "--window DEPTH,HEIGHT,WIDTH")
    return (size, size, size) if isinstance(size, int) else size


def _block(named: NamedEncoder, wanted: EmbedRequest) -> tuple[str, DataBlock]:
    """The data block that says how images are prepared."""
    recipe: Recipe | None = load_recipe(wanted.recipe) if wanted.recipe is not None else named.recipe
    if recipe is None:
        hint = "--recipe RECIPE prepares them as its data block says"
        raise InputError(f"how images are prepared for '{named.name}' is not known", "--recipe", hint)
    own = named.stage.data if named.stage is not None and wanted.recipe is None else None
    chosen = wanted.data or own or (next(iter(recipe.data)) if len(recipe.data) == 1 else None)
    if chosen not in recipe.data:
        what = "there are several data blocks" if chosen is None else f"there is no data block '{chosen}'"
        raise InputError(what, "--data", f"one of {', '.join(recipe.data)}")
    return chosen, recipe.data[chosen]


def _cases(wanted: EmbedRequest, block: DataBlock) -> tuple[Dataset, Sequence[Case]]:
    steps = [step.build() for step in block.prepare]
    cache = cache_folder() if block.cache else None
    if wanted.split is not None:
        dataset = Dataset(block.source.build(), block.splits, steps, cache, roles_known=True, classes=block.classes)
        return dataset, dataset.cases(wanted.split)
    assert wanted.input is not None
    source: Any = FolderSource(wanted.input) if wanted.input.is_dir() else _manifest(wanted.input, block)
    dataset = Dataset(source, {}, steps, cache, roles_known=True, classes=block.classes)
    return dataset, source.cases()


def _manifest(path: Path, block: DataBlock) -> ManifestSource:
    """A manifest with the columns of the block's own manifest, if it reads one too."""
    own = block.source.build()
    if not isinstance(own, ManifestSource):
        return ManifestSource(path)
    arguments = {name: value for name, value in block.source.arguments.items() if name != "path"}
    return ManifestSource(path, **of_another(arguments, path))


def _told(
    named: NamedEncoder, wanted: EmbedRequest, name: str, block: DataBlock, dataset: Dataset, cases: Sequence[Case]
) -> dict[str, Any]:
    """What the file says about itself."""
    space = space_of(dataset.source)
    persons = people(dataset.source, cases)
    seen: int | None = None
    if named.ledger is not None:
        mine = np.array([digest(space, person) for person in persons], np.uint64)
        known = np.zeros(len(mine), bool)
        for entry in named.ledger.entries:
            known |= entry.among(mine)
        seen = int(known.sum()) if known.any() or not named.ledger.unknown else None
    source = getattr(dataset.source, "notice", "")
    return {
        "medkit": medkit.__version__,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "use": USE,
        "encoder": named.name,
        "weights": named.weights,
        "data": name,
        "prepare": [step.plain() for step in block.prepare],
        "split": wanted.split,
        "notices": [text for text in dict.fromkeys([*named.notices, source]) if text],
        "cases": len(cases),
        "patients": len(persons),
        "patients_seen_in_training": "unknown" if seen is None else seen,
    }


def _write(path: Path, cases: Sequence[Case], features: Features, told: dict[str, Any]) -> int:
    """Write all rows, some cases at a time; returns how many there are."""
    import pyarrow
    import pyarrow.parquet

    width = features.of(cases[0]).features.shape[1]
    fields = [("case", pyarrow.string()), ("patient", pyarrow.string()), ("center", pyarrow.string())]
    fields += [("slice", pyarrow.int32()), ("label", pyarrow.float64())]
    fields += [("features", pyarrow.list_(pyarrow.float32(), width))]
    schema = pyarrow.schema(fields, metadata={"medkit": json.dumps(told)})
    rows = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(cases, features):
            labels = np.concatenate([labels_of(case, encoded) for case, encoded in group])
            found = np.concatenate([encoded.features for _, encoded in group])
            counts = [len(encoded.features) for _, encoded in group]
            columns = [
                pyarrow.array(np.repeat([getattr(case, name) for case, _ in group], counts), pyarrow.string())
                for name in ("id", "patient", "center")
            ]
            numbers = np.concatenate([np.arange(n) for n in counts])
            whole = np.full(len(numbers), features.encoding.whole)
            columns.append(pyarrow.array(numbers, pyarrow.int32(), mask=whole))
            columns.append(pyarrow.array(labels, pyarrow.float64(), mask=np.isnan(labels)))
            flat = pyarrow.array(found.reshape(-1), pyarrow.float32())
            columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, width))
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            rows += len(found)
    return rows


def _groups(cases: Sequence[Case], features: Features) -> Iterator[list[tuple[Case, Encoded]]]:
    """Cases with their features, as many at a time as make a row group."""
    group: list[tuple[Case, Encoded]] = []
    rows = 0
    for case in cases:
        encoded = features.of(case)
        group.append((case, encoded))
        rows += len(encoded.features)
        if rows >= ROWS:
            yield group
            group, rows = [], 0
    if group:
        yield group
