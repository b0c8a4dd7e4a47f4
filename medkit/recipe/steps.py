"""Whether a step belongs where a recipe has it: under ``prepare``, or under ``augment`` with a form for the place.

Read from the step's source where that settles it; else the step is imported, built and asked.
"""

from __future__ import annotations

import ast
from typing import Any

from medkit.errors import InputError, MedkitError
from medkit.recipe.blocks import Block
from medkit.registry.source_text import Unsure, lineage, source

WORDS = {"cpu": "the CPU", "device": "the training device"}


def check_prepare(block: Block) -> None:
    """A step of preparation; one that only changes training images at random is an :class:`InputError`."""
    if missing(block, "apply") is not None:
        random = missing(block, "cpu") is None or missing(block, "device") is None
        hint = "it changes training images at random: write it under 'augment'" if random else None
        raise InputError(f"'{block.name}' is not a step of preparation (it has no 'apply')", str(block.mark), hint)


def check_augment(block: Block, where: str) -> None:
    """A random change with a form for ``where``, ``cpu`` or ``device``; any other is an :class:`InputError`."""
    reason = missing(block, where)
    if reason is None:
        return
    other = "cpu" if where == "device" else "device"
    if missing(block, other) is None:
        what = f"'{block.name}' has no form for {WORDS[where]}" + (f" ({reason})" if reason else "")
        raise InputError(what, str(block.mark), f"write 'augment_on: {other}', or leave the step out")
    hint = "it changes all images in the same way: write it under 'prepare'" if not missing(block, "apply") else None
    raise InputError(
        f"'{block.name}' is not an augmentation (it has neither 'cpu' nor 'device')", str(block.mark), hint
    )


def missing(block: Block, method: str) -> str | None:
    """None if the component has ``method``; else why not (an empty text where nothing says why).

    A method that only raises ``NotImplementedError`` counts as missing, and its message says why.
    """
    try:
        return from_source(block.entry.target, method)
    except Unsure:
        return _asked(block, method)


def from_source(target: str, method: str) -> str | None:
    """As :func:`missing`, from the source alone; :class:`Unsure` where that leaves it open."""
    module, _, name = target.partition(":")
    for owner in lineage(source(module).named(name)):
        if owner.foreign:
            raise Unsure(owner.foreign)
        assert isinstance(owner.node, ast.ClassDef)
        for item in owner.node.body:
            if isinstance(item, ast.FunctionDef) and item.name == method:
                return _why_not(item)
            if not isinstance(item, ast.FunctionDef | ast.AnnAssign | ast.Expr | ast.Pass):
                bound = [n.id for n in ast.walk(item) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
                if method in bound or not isinstance(item, ast.Assign):
                    raise Unsure(f"{method} may be bound by {type(item).__name__}")
    return ""


def _why_not(method: ast.FunctionDef) -> str | None:
    """None for a method that works, as far as its source shows."""
    raised = [node for node in ast.walk(method) if isinstance(node, ast.Raise) and _unimplemented(node)]
    if not raised:
        return None
    body = method.body[1:] if ast.get_docstring(method) is not None else method.body
    if body != raised or method.decorator_list:
        raise Unsure(f"{method.name} raises NotImplementedError under some condition")
    call = raised[0].exc
    words = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return words.value if isinstance(words, ast.Constant) and isinstance(words.value, str) else ""


def _unimplemented(node: ast.Raise) -> bool:
    error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(error, ast.Name) and error.id == "NotImplementedError"


def _asked(block: Block, method: str) -> str | None:
    try:
        step: Any = block.build()
    except MedkitError:
        return None  # reported when the step is built
    found = getattr(step, method, None)
    if found is None:
        return ""
    if method == "apply":
        return None
    try:
        found()
    except NotImplementedError as error:
        return str(error)
    except Exception:
        return None  # reported when it is used
    return None
