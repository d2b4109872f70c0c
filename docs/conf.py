"""Sphinx: `pip install '.[docs]' && sphinx-build -W docs docs/_build`."""

project = "mcjax"
extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath"]
html_theme = "sphinx_book_theme"
html_title = "mcjax"
exclude_patterns = ["_build"]
