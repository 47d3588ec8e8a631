"""The documentation's build: ``python -m sphinx -W docs out/docs``."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

project = "pnp_ros"
copyright = "the pnp_ros authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
html_theme = "furo"
html_title = "pnp_ros"
html_show_sphinx = False
exclude_patterns = ["_ext"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["moderngl"]  # the reference builds where nothing can be rendered
napoleon_google_docstring = True
napoleon_numpy_docstring = False
