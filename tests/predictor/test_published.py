"""How good the predictor is on the published latencies, each series left out, and what may not be among them."""

import re
from collections import Counter
from dataclasses import replace
from math import log
from time import process_time

import numpy as np
import pytest

from harness.architecture.catalogue import catalogue_names
from harness.measure.cost import count
from harness.predictor.calibration import FEW_POINTS, calibrate_and_test, read, total_macs
from harness.predictor.chips import CHIPS
from harness.predictor.direct import published_direct
from harness.predictor.evaluation import (
    judged,
    left_out,
    left_out_half_widths,
    predictor_method,
    score,
)
from harness.predictor.fit import fit
from harness.predictor.memory import weights_mb
from harness.predictor.networks import catalogue_network, published_network
from harness.predictor.operators import operators_of
from harness.predictor.predict import predict_operators
from harness.predictor.published import published_points, published_rows, read_counts
from harness.predictor.ratios import predicted_ratios, published_pairs, published_ratios
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.reporting.published import Published
from harness.trials.studies import read_study

LADDER = from_plain(Published, read_study("reports/published", "fig3"))


def test_every_row_calibrates_or_says_why_not(points):
    rows = published_rows()
    excluded = [row.exclusion for row in rows if row.exclusion is not None]
    assert len(points) + len(excluded) == len(rows)
    assert all(excluded)
    assert {row.network for row in rows if row.exclusion is None} == set(read_counts())


def test_a_series_is_left_out_with_all_its_models_chips_and_sizes(points):
    predicted = []

    def spy(seen, unseen):
        assert not {point.series for point in seen} & {point.series for point in unseen}
        assert not {point.model for point in seen} & {point.model for point in unseen}
        assert len(seen) + len(unseen) == len(points)
        predicted.extend(unseen)
        return np.zeros(len(unseen))

    errors = left_out(points, spy)
    assert Counter(map(id, predicted)) == Counter(map(id, points))
    assert errors == pytest.approx([-log(point.latency_ms) for point in points])
    kin = {point.model for point in points if point.series == "stable diffusion"}
    assert len(kin) == 2  # versions 1 and 2


def test_better_than_multiply_adds_and_than_a_plain_roofline(points, left_out_errors):
    scores = {name: score(points, errors) for name, errors in left_out_errors.items()}
    for baseline in ("macs", "roofline"):
        assert scores["physics"].median_error < scores[baseline].median_error
        assert scores["physics"].tau > scores[baseline].tau
    assert scores["physics"].tau >= 0.85
    assert scores["physics"].median_error <= 0.15


def test_intervals_hold_their_share(points, left_out_errors):
    """As many points as 90% would, by the binomial, of 95 such shares in 100."""
    scored = score(points, left_out_errors["physics"])
    assert scored.band[0] <= scored.coverage <= scored.band[1]


def test_intervals_half_as_wide_would_be_seen_not_to_cover(points, left_out_errors):
    errors = left_out_errors["physics"]
    held = np.abs(errors) <= left_out_half_widths(points, errors, nominal=0.5)
    assert held.mean() < score(points, errors).band[0]


def test_sources_that_differ_are_a_range():
    """700 and 760 ms of one network on one chip: 730 is no error, 800 is one against 760; other bits stand alone."""
    point = published_points()[0]
    two = [replace(point, latency_ms=ms) for ms in (700.0, 760.0)]
    other = replace(two[0], weight_bits=4.0)
    for predicted, error in ((730, 0.0), (800, log(800 / 760)), (650, log(650 / 700))):
        errors = np.array([log(predicted / one.latency_ms) for one in (*two, other)])
        assert judged([*two, other], errors) == pytest.approx([error, error, log(predicted / 700)])


def test_tau_is_over_all_networks_of_a_chip_and_two_sources_are_no_pair():
    """Four pairs are predicted in order and one is not; within a family both that there are."""
    point = published_points()[0]
    several = [("a", "x", 1.0, 1.1), ("a", "x", 1.2, 1.1), ("b", "x", 2.0, 3.0), ("c", "y", 1.5, 4.0)]
    points = [replace(point, network=name, series=name, family=of, latency_ms=ms) for name, of, ms, _ in several]
    scored = score(points, np.array([log(predicted / ms) for *_, ms, predicted in several]))
    assert scored.tau == pytest.approx((4 - 1) / 5)
    assert scored.tau_in_family == 1


def test_a_prediction_of_a_fitted_network_says_so():
    fitted, other = (operators_of(count(*catalogue_network("snapgen_t2i", latent)).rows) for latent in (128, 64))
    assert "274 ms on the A18 Pro" in predict_operators(fitted, chip="A18 Pro").conditions["fitted_to"]
    assert predict_operators(fitted[::-1], chip="A15").conditions["fitted_to"]  # in any order, for any chip
    assert predict_operators(other, chip="A18 Pro").conditions["fitted_to"] == ""


def test_latencies_that_belong_to_other_models_are_not_predicted(points, left_out_errors):
    """The scores measure something: with shuffled latencies the same code falls below the baselines."""
    order = np.random.default_rng(0).permutation(len(points))
    shuffled = [replace(points[i], latency_ms=points[j].latency_ms) for i, j in enumerate(order)]
    five_folds = left_out(shuffled, predictor_method(start=read().fitted), lambda point: str(len(point.model) % 5))
    broken = score(shuffled, five_folds)
    honest = score(points, left_out_errors["macs"])
    assert broken.median_error > honest.median_error
    assert broken.tau < honest.tau


def test_kendalls_tau_against_scipy(points, left_out_errors):
    from scipy.stats import kendalltau

    group = [i for i, p in enumerate(points) if (p.chip, p.family) == ("A15", "backbone")]
    one_source = {points[i].network: i for i in group}.values()
    inside = list({points[i].latency_ms: i for i in one_source}.values())
    measured = np.array([points[i].latency_ms for i in inside])
    expected = kendalltau(measured * np.exp(left_out_errors["physics"][inside]), measured, variant="b").statistic
    assert len(set(measured)) == len(measured)  # without ties all of Kendall's variants agree
    scored = score(points, left_out_errors["physics"], np.isin(np.arange(len(points)), inside))
    assert scored.tau == pytest.approx(expected)


def test_no_rung_of_the_ladder_is_among_the_points(points):
    """The printed changes are compared with, so none of their networks at its published latent may be fitted to."""
    names = {row.model for row in published_rows()}
    assert not names & set(LADDER.rows)
    fitted = [point.operators for point in points]
    for name in LADDER.rows:
        operators = operators_of(count(*catalogue_network(name, 128)).rows)
        assert not any(np.array_equal(operators, other) for other in fitted), name


def test_the_ladders_printed_changes_go_the_predicted_way():
    times = {}
    for name in LADDER.rows:
        operators = operators_of(count(*catalogue_network(name, 128)).rows)
        times[name] = predict_operators(operators, chip="A17 Pro").value
    for name in ("no_high_res_sa", "sepconv", "expanded_sepconv", "mqa"):
        row = LADDER.rows[name]
        assert row.cells["latency"].change < 0
        assert times[name] < times[row.against]
    assert times["sepconv"] < times["expanded_sepconv"]  # -62% and 2.4x, both against rung 1


def test_the_packaged_calibration_is_what_the_data_give(calibrated_and_tested):
    calibrated, packaged = calibrated_and_tested[0], read()
    assert packaged.data == calibrated.data
    assert packaged.points == calibrated.points
    for point in published_points():
        args = (point.operators, point.chip, point.weight_bits)
        assert packaged.fitted.predict(*args) == pytest.approx(calibrated.fitted.predict(*args), rel=0.01)
    assert packaged.half_width == pytest.approx(calibrated.half_width, rel=0.02)
    assert packaged.networks.keys() == calibrated.networks.keys()


def test_too_few_points_do_not_calibrate(points):
    with pytest.raises(UserError, match="at least 10 latencies"):
        calibrate_and_test(points[:4], fitted_on="four")


def test_a_chip_with_few_points_is_extrapolated_to_with_a_wider_interval(points):
    operators, per_chip = read_counts()["repvit_m1_0 @ 224 px"], Counter(point.chip for point in points)
    for chip in CHIPS:
        prediction = predict_operators(operators, chip=chip)
        few = per_chip[chip] < FEW_POINTS
        assert prediction.extrapolated == few
        assert bool(prediction.conditions["extrapolated_because"]) == few
        expected = read().half_width_extrapolated if few else read().half_width
        assert log(prediction.high / prediction.value) == pytest.approx(expected)
        assert log(prediction.value / prediction.low) == pytest.approx(expected)
    assert read().half_width_extrapolated > read().half_width


def test_what_is_no_first_hand_measurement_or_not_the_engines_is_out_by_name():
    reasons = {row.exclusion for row in published_rows() if row.exclusion is not None}
    for word in ("second-hand", "unit unknown", "GPU", "ORIGINAL", "ordinary", "cannot be built", "are printed"):
        assert any(word in reason for reason in reasons), word


def test_a_rebuilt_network_has_the_printed_multiply_adds():
    """Within 8%: the sources round to one or two digits."""
    counts = read_counts()
    printed = [row for row in published_rows() if row.exclusion is None and row.gmacs]
    assert len(printed) > 60
    for row in printed:
        assert total_macs(counts[row.network]) == pytest.approx(row.gmacs * 1e9, rel=0.08), row.network


@pytest.mark.parametrize(
    "model",
    [
        *("repvit_m1_0", "mobileone_s2", "resnet18", "the paper's UNet, 128x128 latent", "repnext_m0"),
        *("MobileCLIP-S0 text encoder, 77 tokens", "Whisper tiny encoder, 1500 tokens", "SAM mask decoder"),
    ],
)
def test_the_stored_counts_are_those_of_the_networks(model):
    row = next(row for row in published_rows() if row.model == model)
    assert np.array_equal(operators_of(count(*published_network(row)).rows), read_counts()[row.network])


def test_every_published_network_of_the_study_is_in_the_catalogue():
    assert set(LADDER.rows) <= set(catalogue_names())


def test_a_fit_takes_seconds(points):
    started = process_time()
    fit(points, published_pairs())
    assert process_time() - started < 60


def test_ratios_that_isolate_an_effect_are_met(points):
    """In direction also where the series of their networks is left out, in size where the fit knows it."""
    ratios, fitted = published_ratios(), read().fitted
    counted = [index for index, ratio in enumerate(ratios) if not ratio.out]
    assert all(ratios[index].pair is not None for index in counted)
    assert all(ratio.pair is None or len(ratio.out) > 20 for ratio in ratios if ratio.out)
    left_out_too = predicted_ratios(ratios, points, fitted)
    for index in counted:
        assert (left_out_too[index] > 1) == (ratios[index].pair.ratio > 1)
    deviation = [abs(ratios[index].of(fitted) / ratios[index].pair.ratio - 1) for index in counted]
    assert np.median(deviation) <= 0.15
    for at in range(3):  # Stable Diffusion 1 against 2, which have equal multiply-adds
        assert ratios[at].of(fitted) == pytest.approx(ratios[at].pair.ratio, rel=0.15)


def test_a_pair_counts_only_where_its_series_and_chip_are_seen(points):
    seen, pairs = [point for point in points if point.series != "whisper"], published_pairs()
    without = [pair for pair in pairs if pair.a.series != "whisper"]
    assert len(without) == len(pairs) - 2
    assert fit(seen, pairs, read().fitted).physics == fit(seen, without, read().fitted).physics


def test_single_operators_of_direct_programs_are_as_printed_and_predicted():
    """Where a time and a rate are printed both, they agree on the work that is built here."""
    rows, fitted = published_direct(), read().fitted
    built = [row for row in rows if not row.out]
    assert len(built) > 20
    assert all(bool(row.network) != bool(row.out) for row in rows)
    for row in built:
        assert row.predicted_ms(fitted) > row.dispatch_ms, row.what
        rate = re.search(r"([\d.]+) TFLOPS", row.printed)
        if rate and "x16" not in row.what:  # of which one is told by a time and a rate that differ by 5%
            tera = 2 * total_macs(row.operators()) / row.printed_ms / 1e9
            assert tera == pytest.approx(float(rate[1]), rel=0.07), row.what


def test_a_direct_programs_weights_stream_no_faster_than_dram_gives():
    stream = [row for row in published_direct() if row.network.startswith("weights")]
    for row in stream:
        megabytes = weights_mb(row.operators(), 16)
        assert megabytes == 100
        assert megabytes / row.printed_ms <= CHIPS[row.as_chip].bandwidth_gb_s
