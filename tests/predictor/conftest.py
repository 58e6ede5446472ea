"""The published points, a calibration to them and what is predicted of each with its series left out: seconds, so once
for all tests."""

import pytest

from harness.predictor.calibration import calibrate_and_test, read
from harness.predictor.evaluation import left_out, multiply_adds_only, plain_roofline
from harness.predictor.published import published_points
from harness.predictor.ratios import published_pairs


@pytest.fixture(scope="session")
def points():
    return published_points()


@pytest.fixture(scope="session")
def calibrated_and_tested(points):
    return calibrate_and_test(points, published_pairs(), fitted_on=read().fitted_on)


@pytest.fixture(scope="session")
def left_out_errors(points, calibrated_and_tested):
    """By method: the predictor and the two baselines."""
    methods = {"macs": multiply_adds_only, "roofline": plain_roofline}
    return {"physics": calibrated_and_tested[1], **{name: left_out(points, of) for name, of in methods.items()}}
