"""`python -m experiments.symmetry.gpt`: two small GPTs on Tiny Shakespeare, joined."""

from __future__ import annotations

import dataclasses

import tyro

from . import endpoints
from .study import Options, Study


@dataclasses.dataclass
class GPTOptions(Options):
    """Barriers between two small GPTs on the characters of Tiny Shakespeare."""

    width: int = endpoints.WIDTH
    """Of the residual stream (not with --smoke or --quick)."""
    depth: int = endpoints.DEPTH
    """Blocks (not with --smoke or --quick)."""


def study_of(options: GPTOptions) -> Study:
    size = options.width, options.depth
    return Study(options, endpoints.gpt(options, options.epochs or 8, options.data_dir, *size))


def main(options: GPTOptions) -> None:
    study_of(options).run()


if __name__ == "__main__":
    main(tyro.cli(GPTOptions))
