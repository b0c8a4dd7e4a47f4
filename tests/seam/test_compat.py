"""What medkit 0.1 called its modules still works, with a warning, until 0.3."""

import importlib
import sys
import warnings

import pytest

from medkit.compat import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_name_gives_the_moved_module_and_says_its_new_name(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MOVED[old])


def test_a_moved_module_keeps_its_own_name():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.import_module("medkit.recipe_model")
    assert (found.__name__, found.__spec__.name) == ("medkit.recipe.model", "medkit.recipe.model")


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="recipe_modell"):
        importlib.import_module("medkit.recipe_modell")


@pytest.mark.parametrize("name", ["CPUChain", "DeviceChain"])
def test_a_class_that_left_its_module_is_found_there_and_says_its_new_name(name):
    from medkit.data import augment, augment_chains

    with pytest.warns(DeprecationWarning, match=rf"medkit\.data\.augment\.{name} is now medkit\.data\.augment_chains"):
        found = getattr(augment, name)
    assert found is getattr(augment_chains, name)
