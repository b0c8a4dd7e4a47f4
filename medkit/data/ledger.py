"""Who was seen in training: digests of patients, kept with the weights that saw them.

An identity becomes 64 bits of a salted hash, so that a weights file can tell whether it has seen a given patient, but
lists nobody. The salt is public: anyone who knows an identity can ask for it, which is what a ledger is for. The
probability that any two of a million patients share a digest is 3e-8.
"""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from safetensors import SafetensorError, safe_open

from medkit.data.cases import encoded
from medkit.errors import InputError
from medkit.protocols import Case

FORMAT = 1
SALT = b"medkit ledger 1"
METADATA = "ledger"
"""Key of a ledger in the metadata of a safetensors file."""

HEADERS = "DICOM PatientID"
"""The namespace of digests of PatientIDs in headers of images, whatever a manifest calls their patients."""

Role = Literal["train", "select", "validate"]
ROLES: dict[Role, str] = {"train": "trained on", "select": "used to choose the weights", "validate": "validated on"}
"""What patients were used for: training, choosing which weights to keep, or only watching the training."""


def space_of(source: Any) -> str:
    """The namespace of a source's patients: equal names in one space are one patient.

    A source gives it as an attribute ``space``; one that wraps another source uses that one's. The default is ``""``,
    shared by all such sources, so that the same patient in two manifests is found.
    """
    while source is not None:
        space = getattr(source, "space", None)
        if space is not None:
            return str(space).strip()
        source = getattr(source, "source", None)
    return ""


def people(source: Any, cases: Sequence[Case]) -> list[str]:
    """The people that the cases show, each once: their patients, or what the method ``person(case)`` of the source (or
    of the one it wraps) returns.
    """
    if _person(source) is not None:
        return list(dict.fromkeys(person_of_each(source, cases)))
    return list(dict.fromkeys(str(patient).strip() for patient in encoded(cases, "patient")[1]))


def person_of_each(source: Any, cases: Sequence[Case]) -> list[str]:
    """The person that each case shows, named as by :func:`people`."""
    person = _person(source)
    if person is not None:
        return [str(person(case)).strip() for case in cases]
    codes, patients = encoded(cases, "patient")
    names = [str(patient).strip() for patient in patients]
    return [names[code] for code in codes.tolist()]


def _person(source: Any) -> Any:
    """The method ``person`` of a source, or of the one it wraps."""
    while source is not None:
        if (person := getattr(source, "person", None)) is not None:
            return person
        source = getattr(source, "source", None)
    return None


def space_of_scan(voxels: np.ndarray) -> str:
    """The namespace of a source whose cases are all made from one scan: a hash of its voxels, wherever its file is."""
    return f"scan {hashlib.blake2b(np.ascontiguousarray(voxels).data, digest_size=8).hexdigest()}"


def digest(space: str, name: str) -> int:
    """64 bits that stand for a patient of a namespace, the same however Unicode composes the letters of the name."""
    text = unicodedata.normalize("NFC", f"{space}\0{name}").encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, salt=SALT, person=b"patient").digest(), "little")


def digests(space: str, names: Iterable[str]) -> np.ndarray:
    """Digests of the names, sorted, each once: (n,) uint64."""
    made = (digest(space, name) for name in set(names))
    return np.sort(np.fromiter(made, np.uint64))


NOTHING = np.zeros(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Entry:
    """The patients that one stage of a recipe has seen in one role.

    ``patients`` are sorted digests, (n,) uint64; ``images`` those of some of their slices (:mod:`medkit.data.copies`),
    empty if unknown (another program trained, or the ledger was written by hand). ``headers`` are digests of PatientIDs
    in the headers of the images, where they stand for one patient each; ``comparable`` says that all images have one,
    so that another PatientID is that of another patient.
    """

    role: Role
    patients: np.ndarray
    images: np.ndarray = field(default_factory=lambda: NOTHING)
    recipe: str = ""
    stage: str = ""
    data: str = ""
    split: str = ""
    space: str = ""
    headers: np.ndarray = field(default_factory=lambda: NOTHING)
    comparable: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for entries that differ at most in what is known of their images."""
        return (*(getattr(self, name) for name in WORDS), self.patients.tobytes())

    def among(self, patients: np.ndarray) -> np.ndarray:
        """Which of ``patients`` (digests) were seen: booleans."""
        return np.isin(patients, self.patients, assume_unique=True)


WORDS = ("role", "recipe", "stage", "data", "split", "space")


@dataclass(frozen=True, eq=False)
class Ledger:
    """What is known about the patients that some weights have seen.

    ``unknown`` names weights among their ancestors about which nothing is known.
    """

    entries: tuple[Entry, ...] = ()
    unknown: tuple[str, ...] = field(default=())

    def __add__(self, other: Ledger) -> Ledger:
        """Both ledgers, each entry once."""
        entries: dict[tuple[Any, ...], Entry] = {}
        for entry in (*self.entries, *other.entries):
            before = entries.get(entry.key)
            if before is not None:
                images, headers = (np.union1d(getattr(before, n), getattr(entry, n)) for n in ("images", "headers"))
                comparable = before.comparable or entry.comparable
                entry = replace(entry, images=images, headers=headers, comparable=comparable)
            entries[entry.key] = entry
        return Ledger(tuple(entries.values()), tuple(dict.fromkeys((*self.unknown, *other.unknown))))

    def text(self) -> str:
        """JSON; equal ledgers give equal text. Patients that several entries share are written once."""
        sets: dict[str, str] = {}
        entries = []
        for entry in self.entries:
            plain_entry: dict[str, Any] = {word: getattr(entry, word) for word in WORDS}
            kinds = [("patients", entry.patients), ("images", entry.images)]
            if len(entry.headers):
                kinds.append(("headers", entry.headers))
                plain_entry["comparable"] = entry.comparable
            for kind, seen in kinds:
                data = seen.astype("<u8").tobytes()
                name = plain_entry[kind] = hashlib.blake2b(data, digest_size=8).hexdigest()
                sets[name] = base64.b64encode(data).decode()
            entries.append(plain_entry)
        plain = {METADATA: FORMAT, "entries": entries, "sets": sets, "unknown": list(self.unknown)}
        return json.dumps(plain, indent=None, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str, where: str) -> Ledger:
        """Read what :meth:`text` wrote, or a ledger written by hand, with patients as a list of names.

        Raises
        ------
        InputError
            naming ``where``, if it is not a ledger.
        """
        try:
            plain = _mapping(json.loads(text), (METADATA, "entries", "sets", "unknown"), "a ledger")
            if plain[METADATA] != FORMAT:
                hint = f"this medkit reads {FORMAT}"
                raise InputError(f"ledger format {plain[METADATA]!r} is not known here", where, hint)
            sets = {name: _unpacked(data) for name, data in _mapping(plain.get("sets", {}), None, "sets").items()}
            entries = tuple(_entry(item, sets) for item in _listed(plain["entries"], dict, "entries"))
            return cls(entries, tuple(_listed(plain.get("unknown", []), str, "unknown")))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
            hint = "docs/recipes.md shows what a ledger looks like"
            raise InputError(f"this is not a ledger: {said}", where, hint) from error


def _unpacked(data: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(data, validate=True), "<u8").astype(np.uint64)


def _mapping(plain: Any, known: Iterable[str] | None, what: str) -> dict[str, Any]:
    """A mapping with only ``known`` keys, because a misspelt one would be ignored."""
    if not isinstance(plain, dict):
        raise TypeError(f"{what} is a mapping in braces, not {plain!r:.40}")
    if known is not None and (strange := [key for key in plain if key not in known]):
        raise ValueError(f"{what} has no key '{strange[0]:.40}', but {', '.join(known)}")
    return plain


def _listed(plain: Any, kind: type, what: str) -> list[Any]:
    """A list with items of ``kind`` only."""
    wrong = [plain] if not isinstance(plain, list) else [item for item in plain if not isinstance(item, kind)]
    if wrong:
        items = "texts in quotes" if kind is str else "mappings in braces"
        raise TypeError(f"'{what}' is a list of {items}, not {wrong[0]!r:.40}")
    return cast(list[Any], plain)


def _entry(plain: Any, sets: Mapping[str, np.ndarray]) -> Entry:
    _mapping(plain, (*WORDS, "patients", "images", "headers", "comparable"), "an entry")
    if wrong := [word for word in WORDS if not isinstance(plain.get(word, ""), str)]:
        raise TypeError(f"'{wrong[0]}' is a text in quotes, not {plain[wrong[0]]!r:.40}")
    words = {word: plain.get(word, "").strip() for word in WORDS}
    said, patients = words.pop("role") or "train", plain["patients"]
    role: Role | None = next((known for known in ROLES if known == said), None)
    if role is None:
        raise ValueError(f"role '{said}' is not one of {', '.join(ROLES)}")
    if isinstance(patients, str) and "images" in plain:
        headers = sets[plain["headers"]] if "headers" in plain else NOTHING
        comparable = plain.get("comparable") is True
        return Entry(role, sets[patients], sets[plain["images"]], **words, headers=headers, comparable=comparable)
    names = _listed(patients, str, "patients")  # a number would have lost its leading zeros
    return Entry(role, digests(words["space"], (name.strip() for name in names)), NOTHING, **words)


def ledger_of(path: Path) -> Ledger:
    """The ledger in a separate file.

    Raises
    ------
    InputError
        if it cannot be read, or is not a ledger.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InputError(f"the ledger cannot be read: {said}", str(path)) from error
    return Ledger.from_text(text, str(path))


def read_ledger(path: Path) -> Ledger | None:
    """The ledger of a weights file: in its metadata, or beside it as ``NAME.ledger.json``; None without either.

    Raises
    ------
    InputError
        if there is a ledger that cannot be read.
    """
    found = None
    beside = path.with_suffix(".ledger.json")
    if beside.is_file():
        found = ledger_of(beside)
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(METADATA)
    except (OSError, SafetensorError):  # loading the weights will report what is wrong with them
        text = None
    if text is not None:
        own = Ledger.from_text(text, str(path))
        found = own if found is None else own + found
    return found
