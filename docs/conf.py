"""The documentation site, built without a network: ``pip install -e ".[docs]" && sphinx-build -W docs FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import reference_pages  # noqa: E402

import medkit  # noqa: E402

project, author, release = "medkit", "the medkit authors", medkit.__version__
copyright = author
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
exclude_patterns = ["_build", "notebooks/.ipynb_checkpoints"]
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]  # myst.header: pages that scripts write begin at ###

html_theme = "furo"
html_title = f"medkit {release}"
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

nb_execution_mode = os.environ.get("MEDKIT_NOTEBOOKS", "force")
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_preprocess_types = False

reference_pages.write(HERE / "reference")


def setup(app: Any) -> None:
    """Links of pages to files beside ``docs/`` lead to their copies in the site."""
    app.connect("source-read", lambda _, name, text: text.__setitem__(0, reference_pages.inside(name, text[0])))
