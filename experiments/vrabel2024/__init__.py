"""Figures of vrabel2024: mode connectivity in input space."""
