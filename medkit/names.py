"""One rule for names in recipes, since they become files, folders and keys, here and on other systems."""

from __future__ import annotations

import re

LONGEST = 64  # bytes of UTF-8; two names and an ending fit into the 255 of a file name
NAME = re.compile(r"[\w@+-]+")
VERSIONED = re.compile(r"[\w@+-][\w@+.~-]*")
TOTAL = "loss"
"""What the sum of a stage's losses is recorded as, by which epochs can be judged."""
# Attributes of nn.ModuleDict, which it refuses as keys; a test compares them with the installed torch.
_TAKEN = """
T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches eval
extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys load_state_dict
modules mtia named_buffers named_children named_modules named_parameters parameters pop register_backward_hook
register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
set_submodule share_memory state_dict to to_empty train training type update values xpu zero_grad
"""
MODULE_ATTRIBUTES = frozenset(_TAKEN.split())


def fault(name: str) -> str | None:
    """What is wrong with a name, or None.

    A name may have letters and digits of any script and ``_ @ + -``, at most 64 bytes.
    """
    return _fault(name, NAME, "_ @ + -")


def recipe_fault(name: str) -> str | None:
    """The same for a recipe's own name, which becomes a folder but not a key: it may have ``.`` and ``~`` inside."""
    return _fault(name, VERSIONED, "_ @ + -, and . ~ after the first,")


def _fault(name: str, rule: re.Pattern[str], marks: str) -> str | None:
    if not name:
        return "the name is empty"
    if not rule.fullmatch(name):
        return f"the name {name!r} may have only letters, digits and {marks}"
    if len(name.encode()) > LONGEST:
        return f"the name '{name}' is longer than {LONGEST} bytes"
    return None


def part_fault(name: str) -> str | None:
    """The same for a head, a loss or another named part, which torch keeps as a module of that name.

    Its loss is recorded by that name too, beside the sum of all.
    """
    if name in MODULE_ATTRIBUTES or name.startswith("_"):
        return f"torch uses the name '{name}' itself; choose another"
    if name == TOTAL:
        return f"the sum of a stage's losses is recorded as '{TOTAL}'; choose another name"
    return fault(name)
