"""The conformance check of augmentations (:mod:`medkit.testing`)."""

from __future__ import annotations

from typing import Any

from medkit.protocols import Augmentation, offered


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
