"""Intervals, tests and corrections, against arithmetic, SciPy and published examples."""

import numpy as np
import pytest
from scipy import stats

from harness.measure.statistics import (
    jackknife_difference,
    jackknife_error,
    noise_of,
    sampling_difference,
    sampling_p,
    wilson,
)
from harness.measure.statistics_ranks import median_interval
from harness.measure.statistics_trends import falls
from harness.records.errors import UserError
from harness.records.quantity import Measured


def scores(means, seeds, deviation, seed=0, shared=True):
    """Normal scores; unshared seeds are all different."""
    random = np.random.default_rng(seed)
    return {
        f"g{at}": {
            n if shared else 100 * at + n: float(mean + deviation * random.standard_normal()) for n in range(seeds)
        }
        for at, mean in enumerate(means)
    }


def test_two_groups_of_about_one_mean_are_students_t():
    groups = scores([5, 5.02], 6, 0.01, shared=False)
    one, other = (list(by_seed.values()) for by_seed in groups.values())
    expected = stats.ttest_ind(one, other)
    interval = expected.confidence_interval()
    compared = noise_of(groups).compare("g0", "g1")
    assert (compared.p, compared.low, compared.high) == pytest.approx((expected.pvalue, *interval), rel=0.01)
    assert (compared.freedom, compared.paired) == (10, False)


def test_shared_seeds_are_the_paired_t_test():
    groups = scores([5, 5.02], 6, 0.01)
    expected = stats.ttest_rel(list(groups["g0"].values()), list(groups["g1"].values()))
    compared = noise_of(groups).compare("g0", "g1")
    assert (compared.p, compared.freedom, compared.paired) == (pytest.approx(expected.pvalue, rel=0.01), 5, True)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="'a' has nan at seed 1"):
        noise_of({"a": {0: 1.0, 1: float("nan")}})


def test_one_seed_each_has_no_noise():
    assert noise_of({"a": {0: 1.0}, "b": {0: 2.0}}) is None
    assert noise_of({}) is None


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=20)
    without = [np.delete(values, at).mean() for at in range(20)]
    assert jackknife_error(without) == pytest.approx(stats.sem(values))


def test_what_two_estimates_share_cancels_in_their_difference():
    random = np.random.default_rng(0)
    shared, own = random.normal(size=20), random.normal(size=20) / 100
    interval = jackknife_difference((2.0, shared + own), (1.0, shared))
    assert interval.high - interval.low == pytest.approx(2 * stats.t.ppf(0.975, 19) * jackknife_error(own))


def test_wilsons_interval():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_equivalence_is_contradicted_beyond_its_margin_and_not_within():
    near, far = scores([1.0, 1.05], 10, 0.01), scores([1.0, 1.3], 10, 0.01)
    assert noise_of(near).beyond("g1", "g0", 0.1) > 0.9
    assert noise_of(far).beyond("g1", "g0", 0.1) < 1e-6
    assert noise_of(far).beyond("g0", "g1", 0.1) < 1e-6  # lower is beyond too
    assert noise_of(far).beyond("g1", "g0", 0.5) > 0.9
    assert noise_of(near).beyond("g1", "g0", 0) == pytest.approx(noise_of(near).compare("g1", "g0").p, rel=0.01)


def test_at_the_edge_of_its_margin_beyond_is_wrong_one_time_in_twenty():
    wrong = [noise_of(scores([1.0, 1.1], 5, 0.03, seed=n)).beyond("g1", "g0", 0.1) < 0.05 for n in range(400)]
    assert sum(wrong) <= stats.binom.ppf(0.999, 400, 0.05)


def curve(fall, jitter, seed, points=5):
    """y falls by `fall`, relative to its end, along a straight line over x from 0 to 1."""
    random = np.random.default_rng(seed)
    return [(float(x), float(2 * (1 + fall * (1 - x)) + 2 * jitter * random.standard_normal()))
            for x in np.linspace(0, 1, points)]  # fmt: skip


def test_a_fall_is_the_lines_and_its_p_is_the_regressions():
    fall = falls({"a": {0: curve(0.08, 0, 0)}})["a"]
    assert (fall.value, fall.p, fall.proved) == (pytest.approx(0.08), pytest.approx(0, abs=1e-9), True)
    points = curve(0.02, 0.01, 1, points=9)
    expected = stats.linregress(*zip(*points, strict=True), alternative="less")
    assert falls({"a": {0: points}})["a"].p == pytest.approx(expected.pvalue)
    assert falls({"a": {0: points[:2]}})["a"].proved is False  # two points: no jitter is known
    assert falls({"a": {0: points[:1]}}) == {}


def test_a_flat_curve_falls_one_time_in_twenty_and_more_seeds_see_a_small_fall():
    flat = [falls({g: {s: curve(0, 0.01, 9 * n + s) for s in (0, 1)} for g in "a"})["a"].proved for n in range(400)]
    assert sum(flat) <= stats.binom.ppf(0.999, 400, 0.05)
    seen = [sum(falls({"a": {s: curve(0.01, 0.01, 99 * n + s) for s in range(seeds)}})["a"].proved for n in range(100))
            for seeds in (1, 4, 16)]  # fmt: skip
    assert seen[0] < seen[1] < seen[2]
    assert seen[2] > 95


def test_spread_goes_with_the_mean_where_the_scores_say_so_and_not_where_they_do_not():
    random = np.random.default_rng(0)
    means = (1.4, 1.0, 0.3, 0.2, 0.1, 0.1)
    in_proportion = {str(m): {s: m * (1 + 0.1 * random.standard_normal()) for s in range(5)} for m in means}
    constant = {str(m): {s: m + 0.05 * random.standard_normal() for s in range(5)} for m in means}
    noise = noise_of(in_proportion)
    assert noise.deviation("1.4") == pytest.approx(0.14, rel=0.4)
    assert noise.deviation("0.1") == pytest.approx(0.01, rel=0.4)
    noise = noise_of(constant)
    assert noise.deviation("1.4") == pytest.approx(0.05, rel=0.4)
    assert noise.deviation("0.1") == pytest.approx(0.05, rel=0.4)


def test_scores_about_and_below_0_are_compared_as_well():
    groups = scores([-0.002, 0.001, 0.05, 1.0], 5, 0.004, seed=3)
    noise = noise_of(groups)
    assert noise.compare("g0", "g1").p > 0.05
    assert noise.compare("g2", "g0").p < 1e-6
    assert noise.deviation("g0") > 0.001
    assert noise.relative("g2", "g0") is None, "relative to about 0"
    assert noise.equivalent("g1", "g0", 0.5) > 0.05


def test_the_interval_holds_0_exactly_where_p_is_not_below_5_percent():
    for seed in range(40):
        compared = noise_of(scores([1, 1.1, 1.3], 3, 0.06, seed=seed)).compare("g1", "g0")
        assert (compared.low <= 0 <= compared.high) == (compared.p >= 0.05)
        assert compared.low < compared.difference < compared.high


def test_the_relative_interval_is_fiellers_by_arithmetic():
    """Means 2.2 and 2.0, a spread of 0.1 over 6 seeds each, not shared: all r where t of m1 - r m2 is not beyond t."""
    random = np.random.default_rng(1)
    draws = random.standard_normal((2, 6))
    draws = (draws - draws.mean(1, keepdims=True)) / draws.std(1, ddof=1, keepdims=True)
    groups = {"a": dict(enumerate(2.02 + 0.1 * draws[0])), "b": {10 + s: 2 + 0.1 * x for s, x in enumerate(draws[1])}}
    noise = noise_of(groups)
    relative = noise.relative("a", "b")
    t = stats.t.ppf(0.975, noise.effective_freedom)
    roots = np.roots([2**2 - t**2 * 0.01 / 6, -2 * 2.02 * 2, 2.02**2 - t**2 * 0.01 / 6])
    assert (relative.low, relative.high) == pytest.approx((roots.min() - 1, roots.max() - 1), rel=0.02)
    assert relative.value == pytest.approx(0.01)


def test_the_relative_interval_holds_the_true_change_19_times_in_20():
    truth = 1.3 / 0.5 - 1
    intervals = [noise_of(scores([1.3, 0.5, 0.1], 3, 0.02, seed=n)).relative("g0", "g1") for n in range(200)]
    missed = sum(not each.low <= truth <= each.high for each in intervals)
    assert missed <= stats.binom.ppf(0.999, 200, 0.05)


def test_seeds_are_blocks_where_groups_share_them_by_design_alone():
    shared, own = scores([1, 2, 3], 4, 0.1), scores([1, 2, 3], 4, 0.1, shared=False)
    assert (noise_of(shared).paired, noise_of(shared).freedom) == (True, 6)
    assert (noise_of(own).paired, noise_of(own).freedom) == (False, 9)
    del shared["g1"][2]  # one training failed
    assert (noise_of(shared).paired, noise_of(shared).freedom) == (True, 5)
    shared["g1"][77] = 2.0  # and a seed that nobody else has
    assert (noise_of(shared).paired, noise_of(shared).freedom) == (True, 5)


def test_what_a_seed_does_to_all_groups_does_not_blur_their_difference():
    random = np.random.default_rng(0)
    shift = random.standard_normal(4)
    groups = {
        f"g{at}": {s: 10 + at / 10 + float(shift[s]) + 0.01 * float(random.standard_normal()) for s in range(4)}
        for at in range(3)
    }
    assert noise_of(groups).compare("g1", "g0").p < 1e-4
    apart = {name: {(at * 10 + s): x for s, x in row.items()} for at, (name, row) in enumerate(groups.items())}
    assert noise_of(apart).compare("g1", "g0").p > 0.5


def test_a_group_with_one_seed_is_compared_by_the_others_spread():
    groups = {"a": {0: 1.0}, **scores([1.0, 2.0], 4, 0.01, seed=5)}
    assert noise_of(groups).compare("g1", "a").p < 1e-3


def test_scores_without_any_spread_are_equal_or_differ_and_nothing_between():
    noise = noise_of({"a": {0: 0.3, 1: 0.3}, "b": {0: 0.3, 1: 0.3}, "c": {0: 0.4, 1: 0.4}})
    assert (noise.compare("a", "b").p, noise.compare("a", "c").p) == (1, pytest.approx(0, abs=1e-12))
    assert noise.equivalent("a", "b", 0.1) == pytest.approx(0, abs=1e-12)


def test_a_margin_that_is_none_is_refused():
    noise = noise_of(scores([1, 1], 3, 0.1))
    for margin in (0, 1, -0.1, float("nan")):
        with pytest.raises(UserError, match="a margin of equivalence is between 0 and 1"):
            noise.equivalent("g0", "g1", margin)


CONDITIONS = {
    "label": "KID, N=4", "samples": 4, "data_fingerprint": "a", "reference": "held-out part", "reference_samples": 4,
    "extractor": {"kind": "x"}, "sampling_seed": 0, "labels": "proportional",
}  # fmt: skip


def kid(value, replicates=(1.0, 2.0, 4.0), **changed):
    return Measured(value=value, unit="1", replicates=replicates, conditions=CONDITIONS | changed)


def test_scores_from_the_same_noise_are_paired():
    interval = sampling_difference(kid(3.0), kid(2.0, (0.1, 1.1, 3.1)))
    assert (interval.value, interval.low, interval.high) == pytest.approx((1.0, 1.0, 1.0))  # all noise is shared


def test_the_p_of_a_difference_of_samples_is_where_its_interval_ends_at_0():
    one, other = kid(3.0, (1.0, 1.5, 1.2, 0.7)), kid(2.0, (0.0, 0.1, 0.3, 0.2))
    p = sampling_p(one, other)
    assert sampling_p(other, one) == pytest.approx(p)
    assert 0.01 < p < 0.5
    assert sampling_difference(one, other, 1 - p).low == pytest.approx(0, abs=1e-9)
    assert sampling_p(kid(3.0), kid(2.0, (0.1, 1.1, 3.1))) == pytest.approx(0, abs=1e-9)  # all noise is shared
    assert sampling_p(kid(3.0), kid(3.0)) == 1
    with pytest.raises(UserError, match="no replicates"):
        sampling_p(kid(3.0), kid(2.0, ()))


@pytest.mark.parametrize("changed", [{"sampling_seed": 1}, {"labels": "random"}, {"label": "FD, N=4"}, {"samples": 5}])
def test_scores_that_share_less_are_not_paired(changed):
    with pytest.raises(UserError, match=f"another {next(iter(changed))}"):
        sampling_difference(kid(3.0), kid(2.0, **changed))
    with pytest.raises(UserError, match="no replicates"):
        sampling_difference(kid(3.0), kid(2.0, ()))


def test_wilson_intervals_are_the_published_ones():
    """Newcombe 1998, Statistics in Medicine 17, Tab. I."""
    for successes, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_groups_without_any_noise_between_them_are_equal_and_no_error():
    """A share of so many images can be equal in every rung, whatever the seeds do to all of them."""
    scores = {name: {0: 0.109375, 1: 0.15625} for name in "abcd"}
    interval = noise_of(scores).relative("b", "a")
    assert (interval.value, interval.low, interval.high) == pytest.approx((0, 0, 0), abs=1e-8)


@pytest.mark.parametrize(("count", "places"), [(5, None), (6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))])
def test_a_median_lies_between_the_tabulated_places(count, places):
    """n = 10: outside of the 2nd and the 9th with 2 (1 + 10) / 1024; n = 20: 6th and 15th, 95.9%."""
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert median_interval(shuffled) == places


def test_a_median_lies_in_its_interval_as_often_as_it_says():
    """A jackknife in 24 groups holds it in 91% of such draws."""
    random = np.random.default_rng(0)
    intervals = [median_interval(random.lognormal(size=512)) for _ in range(2000)]
    assert 0.935 < np.mean([low < 1 < high for low, high in intervals]) < 0.97
