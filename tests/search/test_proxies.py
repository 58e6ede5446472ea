"""Kendall's tau, its interval and top-k regret, against arithmetic, SciPy and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from harness.measure.statistics_ranks import tau, tau_b
from harness.search.proxies import TOP, Proxy, judge, random_regrets, regret

DEAR = np.array([0.3, 0.1, 0.5, 0.2, 0.4, 0.7, 0.9, 0.8])
COLUMNS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12)


def judged(cheap, target=DEAR, first="smallest"):
    frame = pd.DataFrame({"cheap": cheap, "kid": target})
    (found,) = judge(frame, "kid", [Proxy(name="cheap", first=first, cost="")])
    return found


def test_a_perfect_score_has_tau_1_and_no_regret():
    found = judged(np.exp(DEAR))
    assert (found.tau.value, found.tau.low, found.tau.high) == (1.0, 1.0, 1.0)
    assert found.regrets == dict.fromkeys(TOP, 0.0)


def test_a_reversed_score_has_tau_minus_1_and_the_regret_of_the_worst():
    found = judged(-DEAR)
    assert (found.tau.value, found.tau.low, found.tau.high) == (-1.0, -1.0, -1.0)
    assert found.regrets == pytest.approx({1: 0.9 - 0.1, 3: 0.7 - 0.1, 5: 0.4 - 0.1})


def test_what_ranks_first_turns_the_regret_and_leaves_tau_as_it_is():
    """Parameters: where more of them go with a lower KID, tau is -1, and the largest network is the best."""
    found = judged(-DEAR, first="largest")
    assert found.tau.value == -1.0
    assert found.regrets == dict.fromkeys(TOP, 0.0)


def test_a_random_scores_interval_covers_0():
    random = np.random.default_rng(0)
    found = tau(random.standard_normal(24), random.standard_normal(24))
    assert found.low < 0 < found.high
    assert found.low < found.value < found.high


@given(COLUMNS)
def test_tau_b_is_scipys_with_ties_too(pairs):
    one, other = np.array(pairs, dtype=float).T
    assert tau_b(one, other) == pytest.approx(kendalltau(one, other, variant="b").statistic, nan_ok=True)


def test_tau_b_of_many_columns_at_once_is_that_of_each():
    random = np.random.default_rng(1)
    one, other = random.integers(0, 5, (2, 7, 10)).astype(float)
    assert tau_b(one, other) == pytest.approx([kendalltau(a, b).statistic for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_interval_covers_the_true_tau_about_as_often_as_it_says(correlation):
    """Of two normal columns, tau is 2/pi arcsin(correlation). 95% asked for; of 200 intervals, 88% to 100% are within
    four standard errors of that. At 24 architectures, the fewest that are judged."""
    truth, held = 2 / np.pi * np.arcsin(correlation), 0
    for seed in range(200):
        one, noise = np.random.default_rng(seed).standard_normal((2, 24))
        found = tau(one, correlation * one + np.sqrt(1 - correlation**2) * noise, resamples=300)
        held += found.low <= truth <= found.high
    assert held / 200 >= 0.88


def test_the_interval_is_narrower_with_more_architectures():
    random = np.random.default_rng(2)
    one, noise = random.standard_normal((2, 200))
    widths = [(found := tau(one[:n], (one + noise)[:n], resamples=200)).high - found.low for n in (24, 200)]
    assert widths[1] < widths[0] / 2


def test_the_same_seed_gives_the_same_interval():
    one, other = np.random.default_rng(3).standard_normal((2, 24))
    assert tau(one, other) == tau(one, other) != tau(one, other, seed=1)


@given(COLUMNS, st.integers(1, 12))
@settings(max_examples=50)
def test_regret_is_the_mean_over_all_ways_to_break_ties(pairs, k):
    cheap, target = np.array(pairs, dtype=float).T
    k = min(k, len(cheap))
    chosen = [c for c in itertools.combinations(range(len(cheap)), k) if is_first(cheap, c)]
    assert regret(cheap, target, k) == pytest.approx(np.mean([target[list(c)].min() for c in chosen]) - target.min())


def is_first(cheap, chosen):
    """Whether these may be the k smallest."""
    return sorted(cheap[list(chosen)]) == sorted(cheap)[: len(chosen)]


def test_the_regret_of_a_random_choice_is_the_mean_of_all_choices():
    found = random_regrets(DEAR)
    assert found[1] == pytest.approx(DEAR.mean() - DEAR.min())
    assert found[3] == pytest.approx(np.mean([min(c) for c in itertools.combinations(DEAR, 3)]) - DEAR.min())


def test_architectures_without_the_score_are_left_out_and_counted():
    cheap = DEAR.copy()
    cheap[:2] = np.nan
    found = judged(cheap)
    assert found.tau.count == 6
    assert found.tau.value == 1.0
    assert found.regrets[1] == 0.0, "the best of those that have it"


def test_a_score_that_calls_all_equal_has_no_tau():
    found = judged(np.ones(len(DEAR)))
    assert np.isnan([found.tau.value, found.tau.low, found.tau.high]).all()
    assert found.regrets == pytest.approx(random_regrets(DEAR))
