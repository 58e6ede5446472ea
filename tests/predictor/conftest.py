"""The published points and what is predicted of each with its series left out: seconds, so once for all tests."""

import pytest

from harness.predictor.calibration import read
from harness.predictor.evaluation import left_out, multiply_adds_only, plain_roofline, predictor_method
from harness.predictor.published import published_points
from harness.predictor.ratios import published_pairs


@pytest.fixture(scope="session")
def points():
    return published_points()


@pytest.fixture(scope="session")
def left_out_errors(points):
    """By method: the predictor and the two baselines."""
    methods = {
        "physics": predictor_method(published_pairs(), read().fitted),
        "macs": multiply_adds_only,
        "roofline": plain_roofline,
    }
    return {name: left_out(points, method) for name, method in methods.items()}
