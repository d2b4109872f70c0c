"""A folder as a user has it."""

from ..cli.conftest import here

__all__ = ["here"]
