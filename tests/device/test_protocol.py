"""The protocol refuses what cannot be measured, and the numbers it lets through are the arithmetic's."""

import math
import statistics

import numpy as np
import pytest

from harness.device.benchmark import disagreement, drift, measured, psnr_db, stable
from harness.device.request import BenchmarkProtocol
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.quantity import Failed, Measured

PROTOCOL = BenchmarkProtocol(iterations=15)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"iterations": 14}, "iterations must be at least 15, not 14"),
        ({"warm_up_most": 9}, "must hold two windows .*not 9 for windows of 5"),
        ({"drift_limit": 0}, "drift_limit must be above 0"),
        ({"parity_db": -1}, "parity_db must be above 0"),
        ({"cool_down_s": -1}, "cool_down_s must be at least 0"),
        ({"engine_share": 0}, "engine_share is above 0 and at most 1, not 0"),
        ({"engine_share": 1.01}, "engine_share is above 0 and at most 1, not 1.01"),
        ({"compute_unit": "ANE"}, "unknown value for .*compute_unit.*CPU_AND_NE"),
        ({"iteration": 20}, "unknown setting 'iteration'; choose one of: iterations"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        from_plain(BenchmarkProtocol, wrong)


def test_every_value_is_part_of_the_identity():
    changed = {"compute_unit": "ALL", "iterations": 61, "warm_up_window": 6, "warm_up_tolerance": 0.1,
               "warm_up_most": 101, "drift_limit": 0.2, "parity_db": 40.0, "engine_share": 0.5,
               "cool_down_s": 1.0}  # fmt: skip
    assert changed.keys() == to_plain(BenchmarkProtocol()).keys()
    prints = {from_plain(BenchmarkProtocol, {name: value}).fingerprint for name, value in changed.items()}
    assert len(prints | {BenchmarkProtocol().fingerprint}) == len(changed) + 1


def test_the_number_is_the_median_with_its_quartiles():
    times = [10.0, 12, 11, 10, 12, 11, 10, 12, 11, 10, 12, 11, 10, 12, 11]
    latency = measured(times, PROTOCOL, {"device": "iPhone"})
    assert isinstance(latency, Measured)
    assert (latency.value, latency.low, latency.high) == (statistics.median(times), 10.0, 12.0)
    assert latency.conditions["minimum_ms"] == 10
    assert latency.conditions["device"] == "iPhone"


@pytest.mark.parametrize(("last", "passes"), [(10.9, True), (11.1, False), (9.1, True), (8.9, False)])
def test_a_drift_beyond_the_limit_is_no_number(last, passes):
    times = [10.0] * 10 + [last] * 5
    assert drift(times) == pytest.approx((last - 10) / 10)
    latency = measured(times, PROTOCOL, {})
    assert isinstance(latency, Measured if passes else Failed)
    assert passes or "drifted by" in latency.message


def test_fewer_times_than_runs_are_no_number():
    assert isinstance(measured([10.0] * 14, PROTOCOL, {}), Failed)
    assert isinstance(measured([0.0] * 15, PROTOCOL, {}), Failed)


def test_warm_up_is_stable_when_two_windows_agree():
    assert not stable([10.0] * 9, PROTOCOL)
    assert stable([50.0] * 5 + [10.0] * 10, PROTOCOL)
    assert stable([10.0] * 5 + [10.4] * 5, PROTOCOL)
    assert not stable([10.0] * 5 + [10.6] * 5, PROTOCOL)


def test_psnr_is_the_formulas():
    reference = np.array([1.0, -2.0, 0.5])
    assert psnr_db(reference + 0.02, reference) == pytest.approx(20 * math.log10(2 / 0.02))
    assert psnr_db(reference, reference) == math.inf
    assert psnr_db(reference, np.zeros(3)) == -math.inf


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ({"out": np.array([1.0, -2.0])}, ""),
        ({"out": np.array([1.05, -2.05])}, r"reaches 32.0 dB .* below 35 dB"),
        ({"out": np.array([np.nan, -2.0])}, "not finite"),
        ({"out": np.array([1.0])}, r"shape \(1,\), not \(2,\)"),
        ({"other": np.array([1.0, -2.0])}, "no output 'out', only other"),
    ],
)
def test_outputs_are_compared_before_anything_is_timed(outputs, sentence):
    import re

    _, problem = disagreement(outputs, {"out": np.array([1.0, -2.0])}, 35.0)
    assert (problem == "") == (sentence == "")
    assert re.search(sentence, problem)


def test_a_reference_of_zeros_proves_nothing():
    zeros = {"out": np.zeros(3)}
    assert "all zeros" in disagreement(zeros, zeros, 35.0)[1]
