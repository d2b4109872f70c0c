"""Reports of a run as one HTML file: what was run, tables, figures with the values under the
pointer; light and dark, for narrow and wide windows, without a network."""

from .charts import Chart, Line
from .pages import of_comparison, of_inputs, of_merging, of_pairs
from .report import Report

__all__ = ["Chart", "Line", "Report", "of_comparison", "of_inputs", "of_merging", "of_pairs"]
