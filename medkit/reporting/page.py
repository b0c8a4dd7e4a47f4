"""Pages: filled-in templates of this package, each a self-contained file with the common style.

A page's scripts are joined into one, which its policy allows by its hash. Nothing else in the page is run, and it
requests nothing from a network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

SCRIPT_END = "</script"


def page(template: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """A template filled with values; texts are escaped. Its head gets ``style``, ``script`` and ``policy``.

    Parameters
    ----------
    scripts:
        Files of this package that run in the page, in this order.
    """
    from markupsafe import Markup

    script = "".join(_text(name) for name in scripts)
    if SCRIPT_END in script.lower():
        raise ValueError(f"a script may not hold {SCRIPT_END}")
    return (
        _engine()
        .get_template(template)
        .render(style=Markup(_text("style.css")), script=Markup(script), policy=policy(script), **values)
    )


def policy(script: str) -> str:
    """The page's content security policy: its own style and pictures, and this one script."""
    run = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        run = f"; script-src 'sha256-{digest}'"
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:{run}"


def inline_json(content: Any) -> Any:
    """JSON for a ``<script type="application/json">`` of a template, in which no text can end the element."""
    from markupsafe import Markup

    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


@cache
def _engine() -> Any:
    """What fills templates in; it compiles each once."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


def _text(name: str) -> str:
    return files("medkit.reporting").joinpath(name).read_text(encoding="utf-8")
