"""The scale of distances between objectives, and what it changes: nets and hypervolumes, no front."""

from dataclasses import replace

import optuna
import pytest
from fake_sweep import World
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import create_trial

from harness.records.better import front_of
from harness.records.errors import UserError
from harness.search.halving import Level
from harness.search.pareto import losses_of, scaled

N = 512
KIDS = st.floats(-0.5, 50).map(lambda value: round(value, 6))
LEVELS = [
    (0.01, 8),
    (0.04, 7),
    (0.16, 6),
    (0.64, 5),
    (2.56, 4),
    (10.24, 3),
]  # KID four times as large, from step to step
DOWN = ("minimize", "minimize")


def on_scale(point):
    return scaled("kid", point[0], N), scaled("macs", point[1], N)


def net(points):
    """The order in which one front is promoted."""
    level, order = Level(reduction=1), []
    for number, point in enumerate(points):
        level.add(number, losses_of(point, DOWN), eligible=True)
    while (number := level.next()) is not None:
        level.promote(number)
        order.append(number)
    return order


@pytest.mark.parametrize("name", ["kid", "fd", "validation_loss", "macs", "latency_iphone", "twin.latency_iphone"])
def test_a_tenth_against_two_is_as_much_as_one_against_two(name):
    low, high = (scaled(name, 2 * value, N) - scaled(name, value, N) for value in (0.1, 1.0))
    assert low == pytest.approx(high, rel=0.05)


def test_errors_of_a_class_agreement_are_judged_by_their_ratio():
    a_percent = scaled("class_agreement", 0.98, N) - scaled("class_agreement", 0.96, N)
    ten = scaled("class_agreement", 0.8, N) - scaled("class_agreement", 0.6, N)
    assert a_percent == pytest.approx(ten, rel=0.05)


def test_one_known_limit_more_is_about_as_much_at_0_as_at_1():
    none, one, two = (scaled("twin.preflight", count, N) for count in (0, 1, 2))
    assert one - none < 2 * (two - one)


@given(st.sampled_from(["kid", "class_agreement", "macs"]), KIDS, KIDS)
def test_it_keeps_the_order_at_and_below_0_too(name, one, other):
    assert (scaled(name, one, N) < scaled(name, other, N)) == (one < other)


def test_about_0_a_kid_is_linear_in_units_of_its_noise():
    steps = [scaled("kid", at * 0.002, N) - scaled("kid", (at - 1) * 0.002, N) for at in range(-2, 4)]
    assert max(steps) / min(steps) < 1.05
    assert max(steps) < 0.2 * (scaled("kid", 0.2, N) - scaled("kid", 0.1, N)), "noise is no ratio"
    assert scaled("kid", -0.3, N) == -scaled("kid", 0.3, N)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(KIDS, st.integers(1, 40)), min_size=1, max_size=30))
def test_fronts_stay(points):
    assert set(front_of(points, DOWN)) == set(front_of([on_scale(point) for point in points], DOWN))


def test_the_net_spreads_over_ratios_where_it_saw_one_end_only():
    """The middle of this front, by ratios, is KID 0.64; of the plain values it is nearly the upper end."""
    assert net([on_scale(point) for point in LEVELS])[:3] == [0, 5, 3]
    assert net(LEVELS)[:3] == [0, 5, 4], "without the scale"


def test_what_tpe_calls_good_spreads_over_ratios_too():
    """By hypervolume contributions, of one front, whose two best of plain values are neighbours at the upper end."""

    def good(points):
        study = optuna.create_study(directions=DOWN)
        for point in points:
            study.add_trial(create_trial(values=point))
        return [trial.number for trial in _split_trials(study, study.get_trials(), 2)[0]]

    assert good([on_scale(point) for point in LEVELS]) == [0, 3]
    assert good(LEVELS) == [3, 4], "without the scale"


def test_the_sweep_promotes_and_learns_on_the_scale_and_stores_plain_values(tmp_path, cheap):
    world = World(tmp_path)
    driver = world.driver(trials=12, budgets=(100, 300), sampler="tpe")
    driver.run()
    told = {tuple(trial.values) for trial in driver.searcher._study.get_trials() if trial.values}
    plain = {each.levels[0].values for each in world.candidates}
    assert told == {driver.problem.scaled(values) for values in plain}
    assert told.isdisjoint(plain)
    ranked = {tuple(row) for _, rows in driver.levels[0]._fronts for row in rows.tolist()}
    assert ranked <= told, "halving has the same"
    assert {each.values[0] for each in world.trials() if each.values} <= {
        each.levels[-1].score for each in world.candidates
    }


def test_the_noise_follows_the_number_of_samples(tmp_path, cheap):
    problem = World(tmp_path).driver().problem
    quality = replace(problem.levels[0].settings.quality, samples=64)
    few = replace(problem.levels[0], settings=replace(problem.levels[0].settings, quality=quality))
    assert replace(problem, levels=(few,)).scaled((0.1, 5.0))[0] == scaled("kid", 0.1, 64)
    with pytest.raises(UserError, match="at least 1 sample"):
        scaled("kid", 0.1, 0)
