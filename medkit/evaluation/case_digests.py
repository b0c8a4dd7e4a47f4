"""Digests of a case's image and truth in ``cases.csv``, by which :mod:`medkit.evaluation.same_cases` knows it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from medkit.data.copies import image_digests
from medkit.data.sample import Sample
from medkit.evaluation.same_cases import IMAGE, TRUTH


def known_by(sample: Sample) -> dict[str, str]:
    """Columns of ``cases.csv`` by which a case is known again, whatever it is called and however it is prepared.

    ``image`` are digests of the source's slices (:mod:`medkit.data.copies`); ``truth`` is one of the mask on the
    source's grid, or those of the target's slices. "" where there is nothing to know it by.
    """
    truth: Sequence[int] = ()
    if sample.native_mask is not None:
        digest = hashlib.blake2b(np.ascontiguousarray(sample.native_mask).data, digest_size=8).digest()
        truth = [int.from_bytes(digest, "little")]
    elif sample.target is not None:
        truth = image_digests(sample.target if sample.target.ndim == 3 else sample.target[:, 0])
    return {IMAGE: _told(sample.digests), TRUTH: _told(truth)}


def _told(digests: Iterable[int]) -> str:
    """Digests as text that no reader takes for a number."""
    return " ".join(f"x{digest:016x}" for digest in digests)
