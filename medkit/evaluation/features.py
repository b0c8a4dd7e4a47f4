"""An encoder's features of prepared cases, computed once and kept beside them.

A record's key is that of the prepared case together with everything that the features come from: weights, architecture,
libraries, kind of device. So variants of a stage, fractions of a split, other runs and ``medkit embed`` share them.
Slices are encoded in batches of one size, the last one padded, so that what is kept of a case does not depend on the
cases that were encoded alongside it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medkit.data.cache import Cache
from medkit.data.code import code_of
from medkit.data.collate import with_channels
from medkit.data.dataset import Dataset
from medkit.data.keys import key_of
from medkit.data.sample import Sample
from medkit.engine.checkpoint import checksum, tensors_of
from medkit.engine.runtime import Runtime
from medkit.evaluation.prediction import ahead
from medkit.protocols import Case
from medkit.records import made_with

FORMAT = 1
LIBRARIES = ("torch", "timm")
FOLDER = "features"


@dataclass(frozen=True)
class Encoding:
    """How images become features.

    Attributes
    ----------
    encode:
        From images (N,C,H,W) to features (N,F), or maps (N,F,h,w).
    key:
        Changes with everything that ``encode`` depends on: :func:`encoding_key`.
    batch:
        Slices encoded at a time.
    whole:
        ``encode`` takes all slices of one case, and gives it one row: (D,C,H,W) to (1,F).
    """

    encode: Callable[[Tensor], Tensor]
    key: str
    batch: int = 32
    whole: bool = False


def encoding_key(encoder: nn.Module, how: str, batch: int, runtime: Runtime) -> str:
    """A key of everything that features come from; ``how`` says in words what is taken from the encoder's maps."""
    weights = {name: tensor.detach().cpu() for name, tensor in tensors_of(encoder).items()}
    where = f"{runtime.device.type} {runtime.precision} {batch}"
    # The repr of a network names its layers with their strides and kernels; its code is that of its class.
    cls: Any = type(encoder)
    made = [checksum(weights), repr(encoder), code_of(cls), made_with(LIBRARIES)["libraries"]]
    return key_of(FORMAT, how, where, *made)


@dataclass(frozen=True)
class Encoded:
    """Features of a case.

    Attributes
    ----------
    features:
        (D,F) or (D,F,h,w) float32, one per slice; (1,F) for a case that was encoded as a whole.
    positive:
        (D,) whether each slice's mask has a positive voxel on the source grid; None without a mask.
    """

    features: np.ndarray
    positive: np.ndarray | None = None


class Features:
    """Features of the cases of a data set, computed when first asked for.

    Without a cache (``cache: false``) they are kept in memory, as long as this object lives.
    """

    def __init__(self, dataset: Dataset, encoding: Encoding, runtime: Runtime) -> None:
        self.dataset, self.encoding, self.runtime = dataset, encoding, runtime
        self.cache = None if dataset.cache is None else Cache(dataset.cache.folder / FOLDER)
        self._kept: dict[str, Encoded] = {}

    def compute(self, cases: Sequence[Case], progress: Callable[..., None] | None = None) -> int:
        """Encode those of ``cases`` that are not there; returns how many were not."""
        missing = self._missing(cases)
        done = len(cases) - len(missing)
        with contextlib.ExitStack() as stack:
            writer = None if self.cache is None or not missing else stack.enter_context(self.cache.writer())
            for case, encoded in self._encoded(missing):
                if writer is None:
                    self._kept[case.id] = encoded
                else:
                    arrays = {"features": encoded.features}
                    arrays |= {} if encoded.positive is None else {"positive": encoded.positive}
                    writer.add(self._key(case), arrays, {})
                done += 1
                if progress is not None:
                    progress(done, len(cases))
        return len(missing)

    def of(self, case: Case) -> Encoded:
        """The features of one case."""
        for _ in range(2):
            found = self._read(case)
            if found is not None:
                return found
            self.compute([case])  # it was not there, or damaged
        raise AssertionError(f"the features of '{case.id}' cannot be read back")

    def _key(self, case: Case) -> str:
        return key_of(self.encoding.key, self.dataset.keys.of(case).hex())

    def _missing(self, cases: Sequence[Case]) -> list[Case]:
        if self.cache is None:
            return [case for case in cases if case.id not in self._kept]
        keys = np.array([list(bytes.fromhex(self._key(case))) for case in cases], np.uint8).reshape(-1, 16)
        there = {position for position, _ in self.cache.metas(keys)}
        return [case for i, case in enumerate(cases) if i not in there]

    def _read(self, case: Case) -> Encoded | None:
        if self.cache is None:
            return self._kept.get(case.id)
        found = self.cache.read(self._key(case))
        return None if found is None else Encoded(found[0]["features"], found[0].get("positive"))

    # -- encoding ----------------------------------------------------------------------------------------------------

    def _encoded(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Encoded]]:
        """Cases with their features, in order; the next case is read while one is encoded."""
        if self.encoding.whole:
            for sample in ahead(self._load, cases):
                yield sample.case, Encoded(self._made(with_channels(np.array(sample.image))), _positive(sample))
            return
        waiting: deque[_Waiting] = deque()
        pieces: list[np.ndarray] = []
        count = 0
        for sample in ahead(self._load, cases):
            images = sample.image
            if pieces and pieces[0].shape[1:] != images.shape[1:]:
                self._encode(pieces, waiting)
                pieces, count = [], 0
                yield from _finished(waiting)
            waiting.append(_Waiting(sample.case, len(images), _positive(sample)))
            pieces.append(images)
            count += len(images)
            if count >= self.encoding.batch:
                whole = count // self.encoding.batch * self.encoding.batch
                rest = count - whole
                left = images[len(images) - rest :]
                self._encode([*pieces[:-1], images[: len(images) - rest]], waiting)
                pieces, count = ([left] if rest else []), rest
                yield from _finished(waiting)
        if pieces:
            self._encode(pieces, waiting)
        yield from _finished(waiting)

    def _load(self, case: Case) -> Sample:
        sample = self.dataset.sample(case)
        _ = sample.native_mask  # unpacked here, ahead of the network
        return sample

    def _encode(self, pieces: Sequence[np.ndarray], waiting: deque[_Waiting]) -> None:
        """Encode slices (n,H,W) or (n,C,H,W) batch by batch, and give the features to the waiting cases in order."""
        size, owners = self.encoding.batch, iter([w for w in waiting if w.left])
        owner = next(owners)
        images = with_channels(np.concatenate(pieces))
        for part in images.split(size):
            given = len(part)
            if given < size:
                part = torch.cat([part, part[-1:].expand(size - given, *part.shape[1:])])
            features = self._made(part)[:given]
            while len(features):
                if not owner.left:
                    owner = next(owners)
                features = owner.take(features)

    def _made(self, images: Tensor) -> np.ndarray:
        with torch.inference_mode(), self.runtime.autocast():
            found = self.encoding.encode(images.to(self.runtime.device, torch.float32))
        return found.float().cpu().numpy()


@dataclass
class _Waiting:
    """A case some of whose slices are not encoded yet."""

    case: Case
    left: int
    positive: np.ndarray | None
    parts: list[np.ndarray] = field(default_factory=list)

    def take(self, features: np.ndarray) -> np.ndarray:
        """Take as many features as it waits for; returns those of others."""
        mine = features[: self.left]
        self.parts.append(mine)
        self.left -= len(mine)
        return features[len(mine) :]


def _finished(waiting: deque[_Waiting]) -> Iterator[tuple[Case, Encoded]]:
    while waiting and not waiting[0].left:
        done = waiting.popleft()
        yield done.case, Encoded(np.concatenate(done.parts), done.positive)


def _positive(sample: Sample) -> np.ndarray | None:
    mask = sample.native_mask
    return None if mask is None else np.asarray(mask.any((1, 2)), np.uint8)
