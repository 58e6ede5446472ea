"""The correction for all tests of a page, against SciPy's joint distributions, published procedures and arithmetic."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from harness.measure.statistics import noise_of
from harness.measure.statistics_joint import Difference, Single, corrected

from .statistics_simulation import holm

LIGHT = np.array([-1.0, 1, -1, 1, -1, 1])  # tails lighter than normal, so that the degrees of freedom are all


def groups(shifts, pattern=LIGHT, base=100.0):
    """Means far from 0 beside their differences, so that constant noise and proportional noise are the same."""
    return [base + shift + pattern for shift in shifts]


def page(columns, pairs, shared=False):
    scores = {str(g): {s if shared else 100 * g + s: float(x) for s, x in enumerate(column)}
              for g, column in enumerate(columns)}  # fmt: skip
    noise = noise_of(scores)
    return noise, {pair: Difference(noise=noise, one=str(pair[0]), other=str(pair[1])) for pair in pairs}


def test_a_single_test_keeps_its_p():
    noise, tests = page(groups([0, 1.5]), [(1, 0)])
    assert corrected(tests) == {(1, 0): pytest.approx(noise.p("1", "0"), rel=1e-12)}
    assert corrected({"a": Single(p=0.03, pair="x")}) == {"a": 0.03}
    assert corrected({}) == {}


def test_the_clearest_of_all_differences_to_one_control_has_dunnetts_p():
    columns = groups([0, 1.5, 0.4, -0.3, 0.1])
    _, tests = page(columns, [(g, 0) for g in (1, 2, 3, 4)])
    expected = stats.dunnett(*columns[1:], control=columns[0], rng=0).pvalue
    assert corrected(tests)[1, 0] == pytest.approx(expected[0], rel=0.05)


def test_the_clearest_of_all_pairs_has_tukeys_p():
    columns = groups([0, 1.9, 0.4, 0.3, 0.1, 0.6])
    _, tests = page(columns, list(combinations(range(6), 2)))
    expected = stats.tukey_hsd(*columns).pvalue[1, 0]
    assert 0.01 < expected < 0.2
    assert corrected(tests)[0, 1] == pytest.approx(expected, rel=0.08)


def test_step_down_the_second_clearest_is_corrected_for_those_left():
    """Of four comparisons to a control, without the clearest one three are left: P(any |t| of three is as large), by
    the multivariate t of correlation 1/2 on all degrees of freedom."""
    columns = groups([0, 9, 1.5, -0.3, 0.1])
    noise, tests = page(columns, [(g, 0) for g in (1, 2, 3, 4)])
    t = stats.t.isf(noise.p("2", "0") / 2, noise.freedom)
    joint = stats.multivariate_t(shape=(np.eye(3) + 1) / 2, df=noise.freedom, seed=0)
    expected = 1 - joint.cdf(np.full(3, t), lower_limit=np.full(3, -t))
    assert corrected(tests)[2, 0] == pytest.approx(expected, rel=0.05)


def test_margins_alone_are_holms_published_procedure():
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert corrected({key: Single(p=each, pair=key) for key, each in p.items()}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )


def test_within_and_beyond_one_margin_have_one_share_and_none_once_one_is_stated():
    tests = {
        ("x", "within"): Single(p=0.01, pair="x"),
        ("x", "beyond"): Single(p=0.99, pair="x"),
        ("y", "within"): Single(p=0.9, pair="y"),
        ("y", "beyond"): Single(p=0.03, pair="y"),
    }
    adjusted = corrected(tests)
    assert adjusted["x", "within"] == pytest.approx(0.02)  # two pairs, not four tests
    assert adjusted["y", "beyond"] == pytest.approx(0.03)  # one pair is left
    assert adjusted["x", "beyond"] == pytest.approx(0.99)


def test_a_pairs_difference_and_equivalence_have_one_share():
    """Equal means lie within any margin: of the two statements on a pair only one can be false."""
    noise, _ = page(groups([0, 1.5, 0.4, -0.3]), [])
    p = {other: noise.p(other, "0") for other in "123"}
    tests = {(other, "differs"): Difference(noise=noise, one=other, other="0", pair=other) for other in "123"}
    tests |= {(other, "within"): Single(p=0.5 if other == "1" else 1e-4, pair=other) for other in "123"}
    adjusted = corrected(tests)
    assert adjusted["2", "within"] == adjusted["3", "within"] == pytest.approx(3e-4)  # three pairs, not six tests
    left = corrected({(other, "differs"): tests[other, "differs"] for other in "23"})
    assert p["1"] < min(p["2"], p["3"])
    assert adjusted["1", "differs"] == pytest.approx(p["1"] + _chance(noise, p["1"]), rel=0.05)
    assert adjusted["3", "differs"] >= left["3", "differs"]


def _chance(noise, p):
    """That either of two comparisons to one control, which correlate by 1/2, has a p as small."""
    t = stats.t.isf(p / 2, noise.freedom)
    joint = stats.multivariate_t(shape=(np.eye(2) + 1) / 2, df=noise.freedom, seed=0)
    return 1 - joint.cdf(np.full(2, t), lower_limit=np.full(2, -t))


def test_differences_of_several_noises_and_single_tests_add_up():
    columns = groups([0, 1.5, 0.4, -0.3, 0.1])
    _, tests = page(columns, [(g, 0) for g in (1, 2, 3, 4)])
    _, others = page(columns, [(g, 0) for g in (1, 2, 3, 4)])
    alone = corrected(tests)[1, 0]
    both = corrected(tests | {("other", *pair): test for pair, test in others.items()})
    assert both[1, 0] == pytest.approx(2 * alone, rel=1e-6)
    p = tests[1, 0].p
    with_single = corrected(tests | {"m": Single(p=0.9, pair="m")})
    assert with_single[1, 0] == pytest.approx(alone + p, rel=1e-6)


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_no_corrected_p_is_below_its_own_or_above_holms_and_their_order_stays(noise):
    random = np.random.default_rng(0)
    for _ in range(30):
        draws = random.standard_normal((5, 3)) if noise == "normal" else random.standard_t(2, (5, 3))
        _, tests = page(1 + 0.1 * draws + np.array([[0], [0], [0.1], [0.2], [0.3]]), [(1, 0), (2, 1), (3, 1), (4, 3)])
        p = np.array([test.p for test in tests.values()])
        adjusted = np.array(list(corrected(tests).values()))
        assert (adjusted >= p).all()
        assert (adjusted <= holm(p[None])[0] + 1e-12).all()
        assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_heavy_tails_make_the_correction_stricter():
    """One group scatters ten times as much as the others: the variance is known as on few degrees of freedom."""
    shifts, pairs = [0, 1.5, 0.4, -0.3, 0.1], [(g, 0) for g in (1, 2, 3, 4)]
    noise, tests = page(groups(shifts), pairs)
    assert noise.effective_freedom == noise.freedom
    scales = np.array([1, 1, 1, 1, 10]) * np.sqrt(5 / 104)
    heavy, stricter = page([100 + shift + scale * LIGHT for shift, scale in zip(shifts, scales, strict=True)], pairs)
    assert heavy.effective_freedom < 0.8 * heavy.freedom
    t = stats.t.isf(tests[1, 0].p / 2, noise.freedom)
    assert stricter[1, 0].p == pytest.approx(2 * stats.t.sf(t, heavy.effective_freedom), rel=0.02)
    assert corrected(stricter)[1, 0] > 1.05 * corrected(tests)[1, 0]


def test_equivalence_is_tested_on_the_freedom_that_heavy_tails_leave():
    """Means 100 and 101, a pooled variance of 6/5 over 6 scores each: 1.015 other - one on two groups' errors."""
    scales = np.array([1, 1, 1, 1, 10]) * np.sqrt(5 / 104)
    noise, _ = page([100 + shift + scale * LIGHT for shift, scale in zip((0, 1, 2, 3, 4), scales, strict=True)], [])
    t = (1.015 * 100 - 101) / np.sqrt(6 / 5 / 6 * (1 + 1.015**2))
    assert noise.equivalent("1", "0", 0.015) == pytest.approx(stats.t.sf(t, noise.effective_freedom), rel=0.02)
    assert stats.t.sf(t, noise.effective_freedom) > 1.005 * stats.t.sf(t, noise.freedom)


def test_the_effective_freedom_is_all_of_it_for_normal_noise_with_many_scores():
    random = np.random.default_rng(0)
    normal = [
        noise_of({str(g): dict(enumerate(100 + random.standard_normal(40))) for g in range(5)}) for _ in range(20)
    ]
    assert np.mean([noise.effective_freedom / noise.freedom for noise in normal]) > 0.9
    skewed = [noise_of({str(g): dict(enumerate(100 + random.gamma(1, size=40))) for g in range(5)}) for _ in range(20)]
    assert np.mean([noise.effective_freedom / noise.freedom for noise in skewed]) < 0.5  # kurtosis 6: 1 / (1 + 3)


def test_scores_without_any_spread_stay_equal_or_different():
    noise = noise_of({"a": {0: 0.3, 1: 0.3}, "b": {0: 0.3, 1: 0.3}, "c": {0: 0.4, 1: 0.4}})
    pairs = list(combinations("abc", 2))
    adjusted = corrected({pair: Difference(noise=noise, one=pair[0], other=pair[1]) for pair in pairs})
    assert adjusted == {("a", "b"): 1, ("a", "c"): pytest.approx(0), ("b", "c"): pytest.approx(0)}


def test_the_same_scores_have_the_same_corrected_p():
    _, tests = page(groups([0, 1.5, 0.4]), [(1, 0), (2, 0)])
    assert corrected(tests) == corrected(dict(reversed(tests.items())))
