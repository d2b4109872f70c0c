"""Scales of normalisations moved into the weights beside them, so that a group grows."""
