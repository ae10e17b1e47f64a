"""How the documentation is built: `make docs`, or ``sphinx-build -W docs OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

import cytovae  # noqa: E402

project = "cytovae"
author = "The cytovae developers"
copyright = author
version = release = cytovae.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "lookup",
    "notebook",
]
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
exclude_patterns = ["extensions", "figures"]
suppress_warnings = ["toc.empty_glob"]

html_theme = "furo"
html_title = f"cytovae {version}"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0B6E75", "color-brand-content": "#0B6E75"},
    "dark_css_variables": {"color-brand-primary": "#4FC3C7", "color-brand-content": "#6FD3D6"},
}

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
python_use_unqualified_type_names = True
