"""Linear connectivity through optimal transport (Ferbach et al. 2023)."""
