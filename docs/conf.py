"""The documentation site: Markdown pages, and the API from docstrings; warnings are errors."""

from structmat._version import __version__

project = "structmat"
author = "the structmat authors"
copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass field is documented once, where it is defined
suppress_warnings = ["ref.python"]  # `n` names a dimension in many classes

html_theme = "furo"
html_title = f"structmat {release}"
