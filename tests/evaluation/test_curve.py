"""What a curve says of itself."""

from __future__ import annotations

import numpy as np
import pytest

import mcjax


def test_a_metric_of_unknown_direction_has_no_worst_value():
    curve = mcjax.evaluation.Curve(
        np.array([0.0, 0.5, 1.0]), {"mse": np.array([0.5, 7.0, 0.25])}, np.ones(2)
    )
    assert "lowest 0.2500, highest 7.0000" in curve.summary()
    assert "worst" not in curve.summary()
    with pytest.raises(ValueError, match=r"whether 'mse' should be high or low"):
        curve.worst("mse")


def test_summary_of_a_part_of_the_path_names_its_ends():
    curve = mcjax.evaluation.Curve(
        np.array([0.25, 0.5]), {"loss": np.array([1.0, 2.0])}, np.ones(1)
    )
    assert "1.0000 at t=0.25, 2.0000 at t=0.5" in curve.summary()
