"""Error rates and power of what a page states: few pages by default, many where marked slow."""

import numpy as np
import pytest
from scipy import stats

from harness.measure import statistics

from .statistics_simulation import (
    CONSTANT,
    EQUAL,
    NOISES,
    NULLS,
    POWERS,
    PROPORTIONAL,
    SEEDS,
    World,
    absolute,
    equivalence,
    error_rate,
    holm,
    oracle,
    ours,
    overlap_rule,
    power,
)

MOST = 0.05


def allowed(pages, rate=MOST):
    """What a true rate of 5% exceeds once in a thousand times."""
    return float(stats.binom.ppf(0.999, pages, rate)) / pages


def check_errors(world, noise, seeds, pages):
    scores = world.draw(np.random.default_rng(seeds), pages, seeds, noise)
    assert error_rate(ours(scores), world) <= allowed(pages)


@pytest.mark.parametrize("world", [NULLS[0], NULLS[3], NULLS[-1]], ids=lambda world: world.name)
@pytest.mark.parametrize(("noise", "seeds"), [("normal", 3), ("lognormal", 5)])
def test_a_page_states_something_false_at_most_one_time_in_twenty(world, noise, seeds):
    check_errors(world, noise, seeds, 200)


@pytest.mark.slow
@pytest.mark.parametrize("world", NULLS, ids=lambda world: world.name)
@pytest.mark.parametrize("noise", NOISES)
def test_a_page_states_something_false_at_most_one_time_in_twenty_at_length(world, noise):
    for seeds in SEEDS:
        check_errors(world, noise, seeds, 500)


def test_one_absolute_spread_would_state_false_things_where_noise_is_proportional(monkeypatch):
    """So this simulation sees it; and ours does as badly when it may only think of constant noise."""
    world = NULLS[3]
    assert error_rate(holm(absolute(world.draw(np.random.default_rng(0), 4000, 5))), world) > 0.12
    monkeypatch.setattr(statistics, "CROSSOVERS", np.array([1e6]))
    with pytest.raises(AssertionError):
        check_errors(world, "normal", 5, 300)


def powers(world, method, pages, seeds=(2, 5, 20)):
    return [power(method(world.draw(np.random.default_rng(n), pages, n)), world) for n in seeds]


@pytest.mark.parametrize("world", [CONSTANT, PROPORTIONAL], ids=lambda world: world.name)
def test_power_is_nearly_that_of_knowing_the_noise_and_grows_with_seeds(world):
    reached = powers(world, ours, 150)
    known = powers(world, lambda scores: oracle(scores, world), 150)
    for one, other in zip(reached, known, strict=True):
        assert one >= other - 0.05 - 0.015  # on the same pages, so their luck is common
    assert reached == sorted(reached)
    assert reached[-1] > 0.99
    replaced = powers(world, lambda scores: holm(overlap_rule(scores)), 150)
    assert replaced != sorted(replaced), "what this test sees when the overlap rule is put back"


LOST = {
    "constant 0.05, means 0.07 to 1.4": 0.06,
    "proportional 15%, seeds matter": 0.06,
    "constant 15%, one rung worse": 0.07,
    "proportional 15%, one rung better": 0.07,
    "constant 25%, one rung worse": 0.1,
    "proportional 25%, one rung better": 0.09,
}
"""Where not knowing whether noise is constant or proportional costs more than 5 points: as docs/evidence has it, and
chance."""


@pytest.mark.slow
@pytest.mark.parametrize("world", POWERS, ids=lambda world: world.name)
def test_power_is_at_most_5_points_below_that_of_knowing_the_noise_at_length(world):
    """On the same pages, so that their luck is common; but for the worlds in `LOST`."""
    reached = powers(world, ours, 2000, SEEDS)
    known = powers(world, lambda scores: oracle(scores, world), 2000, SEEDS)
    most = LOST.get(world.name, 0.05)
    assert all(one >= other - most for one, other in zip(reached, known, strict=True))
    assert reached == sorted(reached)


def own_spreads(noise, one, other):
    """p by each group's own spread, as an interval has it."""
    ratios = statistics.ratio(*noise._contrast(one, other, 1.0))
    return 2 * float(min(noise.weights @ stats.t.cdf(side, noise.effective_freedom) for side in (ratios, -ratios)))


def test_one_spread_for_both_groups_of_a_test_tells_more_of_a_rung_far_from_the_others(monkeypatch):
    """They have one where there is no difference, and false statements stay as rare."""
    world, equal = POWERS[-1], next(world for world in NULLS if world.name == "all equal, proportional 30%")
    scores, same = (each.draw(np.random.default_rng(0), 200, 3) for each in (world, equal))
    one_spread = power(ours(scores), world)
    assert error_rate(ours(same), equal) <= allowed(200)
    monkeypatch.setattr(statistics.Noise, "p", own_spreads)
    assert one_spread > power(ours(scores), world) + 0.015


def test_the_overlap_rule_decided_less_the_more_seeds_there_were():
    """As was measured: 41, 37, 7 and 0.3% at a true difference of 2 sd, without a correction; the t test alone 41, 86,
    99 and 100%."""
    world = World("", (1, 1.2, *EQUAL[2:]), 0.1, 0)
    scores = [world.draw(np.random.default_rng(n), 4000, n) for n in (2, 5, 10, 20)]
    assert [(overlap_rule(each)[:, 0] < 0.05).mean() for each in scores] == pytest.approx(
        [0.41, 0.37, 0.07, 0.003], abs=0.03
    )
    assert [(absolute(each)[:, 0] < 0.05).mean() for each in scores] == pytest.approx([0.41, 0.86, 0.99, 1], abs=0.03)


def test_equivalence_is_claimed_wrongly_one_time_in_twenty_and_proved_with_more_seeds():
    random = np.random.default_rng(0)
    for apart in (0.1, -0.1):  # the margin's edges
        assert equivalence(random, 300, 5, apart, "lognormal") <= allowed(300)
    proved = [equivalence(random, 150, seeds, 0.03, "normal") for seeds in (2, 3, 20)]
    assert proved == sorted(proved)
    assert proved[0] < 0.9 < proved[-1]


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_equivalence_is_claimed_wrongly_one_time_in_twenty_at_length(noise):
    for seeds in (2, 3, 5):
        for apart in (0.1, -0.1):
            assert equivalence(np.random.default_rng(seeds), 2000, seeds, apart, noise) <= allowed(2000)
