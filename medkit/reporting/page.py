"""Pages: templates of this package filled in, each one self-contained file with the style that all have."""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def page(template: str, **values: Any) -> str:
    """A template with its values; texts are escaped, and ``style`` is there for its head."""
    import jinja2
    from markupsafe import Markup

    folder = files("medkit.reporting")
    engine = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = Markup(folder.joinpath("style.css").read_text(encoding="utf-8"))
    return engine.from_string(folder.joinpath(template).read_text(encoding="utf-8")).render(style=style, **values)
