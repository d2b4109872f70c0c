"""Curves and surfaces drawn as figures in one style; matplotlib is loaded on use."""

from .colours import METHOD_COLOURS, colours_of, shade
from .style import (
    AFTER,
    BEFORE,
    FAINT,
    GREY,
    along_path,
    band,
    beside,
    colour_bar,
    end_labels,
    house_style,
    line,
    new_panels,
    readable,
    save_figure,
)

__all__ = [
    "AFTER",
    "BEFORE",
    "FAINT",
    "GREY",
    "METHOD_COLOURS",
    "along_path",
    "band",
    "beside",
    "colour_bar",
    "colours_of",
    "end_labels",
    "house_style",
    "line",
    "new_panels",
    "readable",
    "save_figure",
    "shade",
]
