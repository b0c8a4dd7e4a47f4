"""A data block: a source, its splits and preparation, with prepared samples kept on disk."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medkit.data.splits as splitting
from medkit.data.binary import check_binary
from medkit.data.cache import Cache
from medkit.data.cases import column, encoded, take, union
from medkit.data.header_patients import contradiction
from medkit.data.keys import KeyTable, preparation_of
from medkit.data.labels import LabelColumn
from medkit.data.manifest import as_number
from medkit.data.remarks import Remarks, has_remarks
from medkit.data.sample import LAYOUT, Sample, check_label, pack, prepare_record, remarks, unpack
from medkit.data.transforms import VERSION
from medkit.data.units import SAY_SO
from medkit.data.unselected import unselected
from medkit.errors import InputError, did_you_mean
from medkit.protocols import Case, Source
from medkit.protocols.classes import Classes
from medkit.protocols.labels import Labels

IN_MEMORY = 2 << 30  # bytes of prepared samples that a data set without a cache keeps in memory


class Dataset:
    """Cases of a source in named splits, prepared on demand.

    Parameters
    ----------
    source:
        Where cases come from.
    splits:
        Name to column selection.
    prepare:
        Deterministic steps.
    cache_dir:
        Where prepared samples are kept; if None, the latest ``IN_MEMORY`` bytes of them are kept in memory.
    fields:
        Numeric case fields that batches carry.
    classes:
        Classes of masks that have several.
    labels:
        The declared labels of cases, if any.
    roles_known:
        The caller knows which splits train, validate and test, and compares their patients. Otherwise their names
        decide: ``train``, ``val`` and ``test`` must not share patients.
    binary:
        What reads the cases' own label as 0 or 1, in words; None: nothing does.

    Raises
    ------
    InputError, Problems
        for splits, labels and fields that the cases do not have, or that contradict each other.
    """

    def __init__(
        self,
        source: Source,
        splits: Mapping[str, Mapping[str, Any]],
        prepare: Sequence[Any] = (),
        cache_dir: Path | None = None,
        fields: Sequence[str] = (),
        roles_known: bool = False,
        classes: Classes | None = None,
        labels: Labels | None = None,
        binary: str | None = None,
    ) -> None:
        self.classes = classes
        if hasattr(source, "classes"):
            source.classes = classes
        self.source, self.steps, self.fields = source, list(prepare), tuple(fields)
        self.cache = Cache(cache_dir) if cache_dir is not None else None
        self.memory = Memory(IN_MEMORY)
        self.remarks = Remarks()
        cases = source.cases()
        if not len(cases):
            raise InputError(f"the source {type(source).__name__} has no cases")
        if self.cache is not None:
            about = f"{preparation_of(source, self.steps, VERSION)} {LAYOUT}"
            # The names too: a DICOM Segmentation is read by the labels of its segments, whatever source reads it.
            self.keys = KeyTable(source, about if classes is None else f"{about} {json.dumps(classes.plain())}")
        self._digests: dict[str, Sequence[int]] = {}  # only if there is no cache
        self.splits = {name: splitting.select(cases, picks, name) for name, picks in splits.items()}
        # Splits of what medkit makes or lists itself leave cases out on purpose; rows of a table are typed by people.
        written = hasattr(source, "where")
        self.unselected = unselected(cases, self.splits, splits.values()) if written else None
        splitting.tell_look_alikes(cases)
        splitting.check_images(self.splits)
        if not roles_known:
            splitting.check_patients(self.splits)
        for name in self.fields:
            _check_numbers(cases, name)
        if binary is not None:
            said = str(getattr(source, "label", None) or "label")
            check_binary(union([*self.splits.values()]), said, binary, self._place)
        self.declared = None if labels is None else LabelColumn(labels, cases, self._place)

    def _place(self, case: Case) -> str:
        """Where a case is listed: file and row, if the source knows them."""
        where = getattr(self.source, "where", None)
        return f"case '{case.id}'" if where is None else str(where(case))

    def cases(self, split: str) -> Sequence[Case]:
        if split not in self.splits:
            hint = did_you_mean(split, self.splits) or f"splits: {', '.join(self.splits)}"
            raise InputError(f"no split is named '{split}'", hint=hint)
        return self.splits[split]

    def check_identities(self, cases: Sequence[Case]) -> None:
        """Refuse cases that would get each other's voxels from the cache; a run needs the keys that this takes anyway.

        Raises
        ------
        InputError
            naming two of them.
        """
        if self.cache is not None and not self.keys.trusted:
            self.keys.all(cases)

    def sample(self, case: Case, *, check: bool = True) -> Sample:
        """The prepared case, from the cache if possible; ``check`` as for :meth:`Cache.read`."""
        sample = self._sample(case, check)
        if self.declared is not None:
            sample.declared, sample.labels = self.declared.labels, self.declared.of_case(case)
        self.remarks.add(case.id, remarks(sample))
        return sample

    def told(self) -> list[str]:
        """What has to go with every number: about the table, and what is doubtful about the cases prepared so far."""
        return [*self.about_table(), *self.remarks.told()]

    def about_table(self) -> list[str]:
        """What may be wrong with the table: cases in no split, patients whom the headers read so far name otherwise."""
        return [text for text in (self.unselected, contradiction(self.splits, self.remarks.people, self._row)) if text]

    def _row(self, case: Case) -> str:
        """What a notice calls a case: its row, if the source has rows."""
        line = getattr(self.source, "line", None)
        return f"case '{case.id}'" if line is None else f"row {line(case) + 2}"

    def _sample(self, case: Case, check: bool) -> Sample:
        if self.cache is None:
            return self._from_memory(case)
        key = self.keys.of(case).hex()
        found = self.cache.read(key, check=check)
        if found is None:
            sample = self.prepared(case)
            self.cache.write(key, *pack(sample))
            found = self.cache.read(key)
            if found is None:
                return sample
        sample = unpack(case, *found, self.steps, self.classes)
        check_label(case, sample.any_positive)  # again, since the manifest may have changed
        return sample

    def prepared(self, case: Case) -> Sample:
        """Read and prepare the case anew, for the cache to keep under its key.

        Raises
        ------
        InputError
            if its files have changed since the key was computed.
        """
        self.keys.of(case)
        sample = prepare_record(self.source.load(case), case, self.steps, self.classes)
        self.keys.confirm(case)
        return sample

    def _from_memory(self, case: Case) -> Sample:
        sample = self.memory.get(case.id)
        if sample is None:
            sample = prepare_record(self.source.load(case), case, self.steps, self.classes)
            self.memory.put(sample)
            self._digests[case.id] = sample.digests
        return dataclasses.replace(sample)  # a copy, so that a mask unpacked by its user is not kept

    def prepare_all(self, cases: Sequence[Case], progress: Callable[..., None] | None = None, jobs: int = 1) -> None:
        """Prepare many cases in advance, by ``jobs`` processes of one thread each; calls ``progress(done, total)``.

        Without a cache, processes could not share samples, so cases are prepared one after the other.

        Raises
        ------
        InputError, RunError
            for the first case that cannot be prepared; samples that are done are kept.
        """
        from medkit.data.prepare import fill

        for failure in fill(self, cases, jobs, progress, stop=True):
            raise failure.error

    def missing(self, cases: Sequence[Case], progress: Callable[..., None] | None = None) -> list[int]:
        """Positions of cases that are not in the cache; those that are have their labels checked, without reading
        voxels.
        """
        assert self.cache is not None
        there = np.zeros(len(cases), bool)
        for position, meta in self.cache.metas(self.keys.all(cases)):
            there[position] = True
            if meta["any_positive"] is not None or has_remarks(meta):
                case = cases[position]
                check_label(case, meta["any_positive"])
                self.remarks.add(case.id, meta)
        return np.flatnonzero(~there).tolist()

    def positive(self, cases: Sequence[Case]) -> np.ndarray:
        """(n,) booleans: which cases are positive; masks are read only for cases without a label.

        Raises
        ------
        InputError
            if it is unknown for some.
        """
        labels = self.labels(cases)
        missing = np.flatnonzero(np.isnan(labels))
        if len(missing):
            what = f"{len(missing)} of {len(cases)} cases have no label, such as '{cases[int(missing[0])].id}'"
            raise InputError(f"{what}: they are neither positive nor negative", hint="leave out 'balance'")
        return labels != 0

    def labels(self, cases: Sequence[Case], jobs: int = 1) -> np.ndarray:
        """(n,) labels of cases, their own or from their masks, nan for none; ``jobs`` processes read masks that have
        not been read.
        """
        labels = column(cases, "label")
        unknown = take(cases, np.isnan(labels))
        have_masks = getattr(self.source, "have_masks", None)
        if have_masks is not None:
            unknown = take(unknown, np.asarray(have_masks(unknown), bool)) if len(unknown) else unknown
        if not len(unknown):
            return labels
        if self.cache is not None and jobs > 1:
            self.prepare_all(unknown, jobs=jobs)
        found = dict(zip((case.id for case in unknown), self._of_masks(unknown).tolist(), strict=True))
        for i in np.flatnonzero(np.isnan(labels)).tolist():
            labels[i] = found.get(cases[i].id, np.nan)
        return labels

    def labelled(self, cases: Sequence[Case], by: Collection[str] = ("label",)) -> np.ndarray:
        """(n,) booleans: which cases have everything that ``by`` names: a ``label`` (their own or from a mask), a
        ``mask``, declared ``labels``.
        """
        if "labels" in by and self.declared is not None:
            known = self.declared.known(cases)
            if rest := set(by) - {"labels"}:
                known[known] = self.labelled(take(cases, known), rest)
            return known
        have_masks = getattr(self.source, "have_masks", None)
        if have_masks is None:
            known = ~np.isnan(column(cases, "label")) if "mask" not in by else np.zeros(len(cases), bool)
            known[~known] = ~np.isnan(self._of_masks(take(cases, ~known)))
            return known
        with_mask = np.asarray(have_masks(cases), bool)
        return with_mask if "mask" in by else with_mask | ~np.isnan(column(cases, "label"))

    def _of_masks(self, cases: Sequence[Case]) -> np.ndarray:
        """(n,) whether each case's mask has a positive voxel, as 0 and 1; nan if it has no mask."""
        found, left = np.full(len(cases), np.nan), np.ones(len(cases), bool)
        if self.cache is not None and len(cases):
            for i, meta in self.cache.metas(self.keys.all(cases)):
                found[i], left[i] = np.nan if meta["any_positive"] is None else meta["any_positive"], False
        for i in np.flatnonzero(left).tolist():
            any_positive = self.sample(cases[i]).any_positive
            found[i] = np.nan if any_positive is None else any_positive
        return found

    def digests(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Sequence[int]]]:
        """The cases in order, with the digests of their slices; cases that are not prepared yet are."""
        found: dict[int, Sequence[int]] = {}
        if self.cache is not None:
            for position, meta in self.cache.metas(self.keys.all(cases)):
                found[position] = meta["digests"]
                if has_remarks(meta):  # of cases that other processes have prepared too
                    self.remarks.add(cases[position].id, meta)
        for position, case in enumerate(cases):
            known = found.get(position) if self.cache is not None else self._digests.get(case.id)
            yield case, self.sample(case, check=False).digests if known is None else known


class Memory:
    """The latest samples, up to ``most`` bytes; the oldest are dropped first."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._samples: dict[str, Sample] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"most": self.most}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["most"])  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._samples)

    def get(self, case_id: str) -> Sample | None:
        return self._samples.get(case_id)

    def put(self, sample: Sample) -> None:
        with self._lock:
            self._take(sample.case.id)
            self._samples[sample.case.id] = sample
            self.size += sample.nbytes
            while self.size > self.most and len(self._samples) > 1:
                self._take(next(iter(self._samples)))

    def clear(self) -> None:
        with self._lock:
            self._samples, self.size = {}, 0

    def _take(self, case_id: str) -> None:
        gone = self._samples.pop(case_id, None)
        if gone is not None:
            self.size -= gone.nbytes


def input_case(fields: Mapping[str, float] | None) -> Case:
    """A case for an image outside any data set; raises :class:`InputError` for a field that is not a finite number."""
    case = Case("input", "input", fields=fields or {})
    for name in case.fields:
        _check_numbers([case], name)
    return case


def _check_numbers(cases: Sequence[Case], name: str) -> None:
    """Refuse cases whose field is not a finite number; text counts too, since all cells of a CSV file are text."""
    codes, values = encoded(cases, name)
    wrong = np.array([*(not math.isfinite(as_number(value)) for value in values), True])[codes]
    if wrong.any():
        found = take(cases, wrong)
        without = [found[i].id for i in range(min(len(found), 8))]
        others = f"; nor have {len(found) - 1} others: {', '.join(without[1:])}" if without[1:] else ""
        value = found[0].fields.get(name)
        said = "" if value is None else f", but '{value}'"
        raise InputError(f"case '{without[0]}' has no number in field '{name}'{said}{others}")


def doubts_told(sample: Sample, place: str | None) -> list[str]:
    """Warn that an input may not be CT in HU, and return the sentence for the outputs."""
    if not sample.doubt:
        return []
    text = f"this may not be CT in HU ({sample.doubt}); {SAY_SO}"
    warnings.warn(f"{place or 'the input'}: {text}", stacklevel=3)
    return [text]
