"""The mutations that `python -m tests.mutations` makes, a file for a part of the package."""

from . import alignment, evaluation, networks, training
from .mutation import Mutation

MUTATIONS = [
    *evaluation.MUTATIONS, *networks.MUTATIONS, *alignment.MUTATIONS, *training.MUTATIONS,
]  # fmt: skip

__all__ = ["MUTATIONS", "Mutation"]
