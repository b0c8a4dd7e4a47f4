"""The conformance check of sources (:mod:`medkit.testing`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medkit.data.identities import require_same_voxels
from medkit.errors import InputError
from medkit.protocols import Case


def check_source(source: Any) -> None:
    """Cases are unique, have patients and come in the same order every time; loading is repeatable, masks and targets
    are on the image's grid. The first case and the last are loaded, and cases that share an ``identity``: these have to
    be copies of one image, since the cache gives all of them one sample."""
    cases = list(source.cases())
    again = [case.id for case in source.cases()]
    assert [case.id for case in cases] == again, "cases() gives other cases, or another order, when called again"
    assert cases, "the source has no cases"
    assert len({case.id for case in cases}) == len(cases), "two cases share an id"
    assert all(case.patient for case in cases), "a case has no patient"
    for case in dict.fromkeys((0, len(cases) - 1)):
        _check_record(source, cases[case], "first" if case == 0 else "last")
    assert source.identity(cases[0]) == source.identity(cases[0]), "identity() changes between two calls"
    _check_identities(source, cases)


def _check_identities(source: Any, cases: Sequence[Case]) -> None:
    """Only copies of an image may share an identity."""
    first: dict[str, Case] = {}
    for case in cases:
        identity = source.identity(case)
        assert isinstance(identity, str), f"identity() must return a string, not a {type(identity).__name__}"
        other = first.setdefault(identity, case)
        if other is not case:
            try:
                require_same_voxels(source, other, case)
            except InputError as error:
                raise AssertionError(f"two cases share an identity: {error}") from error
    assert len(cases) == 1 or len(first) > 1, "all cases share an identity: put the case's id into it"


def _check_record(source: Any, case: Any, which: str) -> None:
    try:
        record, again = source.load(case), source.load(case)
    except Exception as error:
        raise AssertionError(f"the {which} case cannot be loaded: {type(error).__name__}: {error}") from error
    promised = getattr(source, "channels", 1)
    found = 1 + len(record.channels)
    assert found == promised, f"its attribute channels says {promised}, but a case has {found} images"
    assert np.isfinite(record.image.voxels).all(), f"voxels of the {which} case are not finite (NaN or infinite)"
    assert np.array_equal(record.image.voxels, again.image.voxels), "loading a case twice gives different voxels"
    if record.mask is not None:
        values = np.unique(record.mask.voxels).tolist()
        assert set(values) <= {0, 1}, f"a mask holds 0 and 1, not {values[:5]}"
    for name in ("mask", "target"):
        other = getattr(record, name)
        if other is not None:
            assert record.image.same_grid(other) is None, f"the {name} lies on another grid than the image"
    for other in record.channels:
        assert record.image.same_grid(other) is None, "its images lie on different grids"
