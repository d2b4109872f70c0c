"""Connectivity in input space: attacks on inputs."""

from .attack import PGD

__all__ = ["PGD"]
