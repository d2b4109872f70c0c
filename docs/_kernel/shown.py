"""How the kernels of the pages show things: figures as pictures, warnings as a line."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from IPython.core.getipython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def _picture(shown: Any) -> Any:
    """Of a figure, of axes, of an array of axes; None of what is none of these."""
    if isinstance(shown, np.ndarray):
        if not (shown.size and isinstance(shown.flat[0], Axes)):
            return None
        shown = shown.flat[0]
    figure = shown if isinstance(shown, Figure) else shown.figure
    return print_figure(figure, dpi=140)


shell = get_ipython()
if shell is not None:
    pictures = shell.display_formatter.formatters["image/png"]
    for kind in (Axes, Figure, np.ndarray):
        pictures.for_type(kind, _picture)

np.set_printoptions(precision=4, threshold=40, edgeitems=4, suppress=True)
warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
