"""Curves and surfaces drawn as figures; matplotlib is loaded on use."""
