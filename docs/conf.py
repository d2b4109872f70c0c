"""Sphinx: `pip install '.[docs]' && sphinx-build -W -c docs . docs/_build/html` runs every page.

The repository is the source, so that README.md and the experiments' results are pages, and links
lead to the same places here and where the sources are read. `-D nb_execution_mode=off` runs
nothing. What has not changed since is not run again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "mcjax"
extensions = ["myst_nb", "executed", "results", "mathml", "pictures", "api", "spaces", "terms"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "experiments/*/results/*.md"]
exclude_patterns = ["docs/_build"]

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 1200
nb_execution_show_tb = True
nb_merge_streams = True
# Pages that start from nothing, as a reader does; others have what docs/index.md promises.
pages_from_nothing = ["README", "docs/first-five-minutes", "docs/gallery"]
# Pages that need packages which are no dependencies.
pages_need = {
    "docs/pytorch": ["torchax"],
    "docs/other-frameworks": ["keras", "transformers", "haiku"],
}

python_maximum_signature_line_length = 120
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "mcjax"
html_static_path = ["_static"]
html_extra_path = ["_root"]
html_css_files = ["mcjax.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "footer_content_items": [],
}
html_show_copyright = False
html_copy_source = False
