"""The conformance checks of sources, transforms and augmentations (:mod:`medkit.testing`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medkit.data.identities import require_same_voxels
from medkit.errors import InputError
from medkit.protocols import Augmentation, Case, offered


def check_augmentation(augmentation: Any) -> None:
    """There is a form for the CPU or the device, which returns something; a missing one says why."""
    forms = 0
    for form in ("cpu", "device"):
        try:
            assert offered(Augmentation, augmentation, form)() is not None, f"{form}() returns nothing"
            forms += 1
        except NotImplementedError as error:
            if not str(error):
                raise AssertionError(f"{form}() raises NotImplementedError without saying why") from error
    assert forms, "an augmentation needs a form for the CPU, the device or both"


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


def check_transform(transform: Any, image: np.ndarray | None = None) -> None:
    """Keys and depth stay; the same input gives the same output; ``restore`` restores the shape.

    A transform that makes channels makes as many as it says.
    """
    rng = np.random.default_rng(0)
    voxels = rng.normal(30, 30, (3, 40, 36)).astype(np.int16) if image is None else image
    mask = (rng.random(voxels.shape) > 0.5).astype(np.uint8)
    given = voxels.copy()
    first = transform.apply({"image": given, "mask": mask.copy()})
    assert np.array_equal(given, voxels), (
        "apply() changes the voxels it was given, which the source may keep: copy them"
    )
    second = transform.apply({"image": voxels.copy(), "mask": mask.copy()})
    assert set(first) == {"image", "mask"}, "a transform must keep the keys"
    assert all(len(array) == len(voxels) for array in first.values()), "a transform must keep the number of slices"
    image = first["image"]
    assert image.dtype.kind in "fiu", f"the image holds {image.dtype} afterwards, not numbers"
    assert np.isfinite(image).all(), "the image is not finite afterwards (NaN or infinite)"
    if hasattr(transform, "channels"):
        promised, made = transform.channels(1), image.shape[1] if image.ndim == 4 else 1
        assert made == promised, f"channels(1) says {promised}, but apply() makes {made}"
        image = image[:, 0] if image.ndim == 4 else image
    assert image.shape == first["mask"].shape, "image and mask have different shapes afterwards"
    assert np.array_equal(first["image"], second["image"]), "a transform must be deterministic"
    assert set(np.unique(first["mask"])) <= {0, 1}, "the mask is no longer 0 and 1"
    back = transform.restore(image.astype(np.float32), voxels.shape[1:])
    assert back.shape == voxels.shape, f"restore() gives {back.shape}, but the source was {voxels.shape}"
