"""Adversarial inputs."""

from .pgd import PGD

__all__ = ["PGD"]
