"""Who is promoted: fronts, the epsilon-net, the quota, and who never will be."""

import io
import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest
from fake_sweep import OBJECTIVES, World, score, size
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console

from harness.search import halving
from harness.search.candidates import candidate_of, front_trials
from harness.search.definition import Finalists
from harness.search.finalists import chosen
from harness.search.halving import Level, places
from harness.search.pareto import Fronts
from harness.search.problem import Placed
from harness.trials.progress import Show

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=40)


def dominates(one, other):
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def peeled(points):
    """Non-dominated sorting as it is defined."""
    left, fronts = set(range(len(points))), []
    while left:
        front = {at for at in left if not any(dominates(points[other], points[at]) for other in left)}
        fronts.append(front)
        left -= front
    return fronts


@settings(max_examples=60, deadline=None)
@given(POINTS)
def test_fronts_kept_up_are_those_sorted_anew(points):
    fronts = Fronts()
    for number, point in enumerate(points):
        fronts.add(number, point)
    assert [set(numbers) for numbers, _ in fronts] == peeled(points)
    for numbers, losses in fronts:
        assert [tuple(row) for row in losses.tolist()] == [points[number] for number in numbers]


def test_an_epsilon_net_spreads_over_the_front_where_sorting_by_one_objective_would_not():
    level = Level(reduction=2)
    line = [(0.0, 10.0), (1.0, 9.0), (2.0, 8.0), (5.0, 5.0), (9.0, 1.0), (10.0, 0.0)]
    for number, point in enumerate(line):
        level.add(number, point, eligible=True)
    chosen = []
    while (number := level.next()) is not None:
        level.promote(number)
        chosen.append(number)
    assert chosen == [0, 5, 3], "the best in the first objective, then the farthest, then the middle"


def test_objectives_of_different_scale_weigh_the_same():
    level = Level(reduction=2)
    for number, (kid, macs) in enumerate([(0.1, 9e9), (0.2, 8e9), (0.5, 5e9), (0.9, 1e9), (1.0, 0.0), (0.45, 5.5e9)]):
        level.add(number, (kid, macs), eligible=True)
    for expected in (0, 4, 2):
        assert level.next() == expected
        level.promote(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(2, 5))
def test_the_quota(results, reduction):
    level = Level(reduction)
    for number in range(results):
        level.add(number, (random.Random(number).random(), 0.0), eligible=True)
        if (next_one := level.next()) is not None:
            level.promote(next_one)
        assert len(level.promoted) <= (number + 1) // reduction
    assert len(level.promoted) == results // reduction
    assert (level.next(drained=True) is not None) == (results % reduction > 0)


def test_what_is_below_the_floor_counts_for_the_quota_and_is_never_promoted():
    level = Level(reduction=2)
    level.add(0, (5.0, 0.0), eligible=False)
    level.add(1, (9.0, 0.0), eligible=False)
    assert level.next() is None
    level.add(2, (1.0, 1.0), eligible=True)
    assert level.next() == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=30), st.integers(0, 9))
def test_who_cannot_be_promoted_any_more_never_is_whatever_comes(points, seed):
    """Given up or not, the same candidates are promoted."""

    def promoted(give_up):
        level, given_up = Level(reduction=3), set()
        for number, point in enumerate(points):
            level.add(number, point, eligible=True)
            for surpassed in level.never_promoted(len(points)):
                given_up.add(surpassed)
                if give_up:
                    level.withdraw(surpassed)
            if random.Random(seed + number).random() < 0.5 and (chosen := level.next()) is not None:
                level.promote(chosen)
        while (chosen := level.next(drained=True)) is not None:
            level.promote(chosen)
        return level.promoted, given_up

    kept, surpassed = promoted(give_up=False)
    dropped, _ = promoted(give_up=True)
    assert kept == dropped
    assert not kept & surpassed


def test_dominance_of_arrays():
    points = np.array(list(itertools.product(range(3), repeat=2)), dtype=float)
    found = halving.dominates(points[:, None], points[None])
    for (i, one), (j, other) in itertools.product(enumerate(points.tolist()), repeat=2):
        assert found[i, j] == dominates(tuple(one), tuple(other))


def test_places():
    assert [places(n, 3, drained=False) for n in (0, 2, 3, 8, 9)] == [0, 0, 1, 2, 3]
    assert [places(n, 3, drained=True) for n in (0, 2, 3, 8, 9)] == [0, 1, 1, 3, 3]


# in the driver

TINY = {"ffn": 1, "width": 16, "middle": 32, "last": 48, "time": 32}  # the smallest of the space
PLANTED = 7.0  # its KID at any budget: worse than the floor of 4


def planted(spec):
    """The smallest network learns nothing; the others as ever."""
    smallest = 16 * 16 + 32 * 32 + 48 * 48 + 32
    if size(spec.architecture) == smallest:
        return {"kid": PLANTED, "macs": smallest}
    return score(spec)


def sweep_with_a_tiny_bad_network(folder: Path, **more):
    world = World(folder, planted)
    world.run(trials=18, budgets=(100, 300), enqueued=[Placed("tiny", TINY)], **more)
    return world, next(trial for trial in world.trials() if trial.params == TINY)


def test_a_tiny_bad_network_is_stopped(tmp_path, cheap):
    world, tiny = sweep_with_a_tiny_bad_network(tmp_path)
    assert tiny.state.name == "PRUNED"
    assert [level["steps"] for level in tiny.user_attrs["levels"]] == [100]
    assert tiny.user_attrs["stopped"] == "its KID of 7 is not below 4, which a Gaussian fitted to the pixels reaches"
    others = [trial.values[1] for trial in world.study.best_trials]
    assert min(others) > tiny.user_attrs["levels"][0]["values"][1], "it would have been on the front"


def test_plain_non_domination_promotes_it(tmp_path, cheap):
    """The mutation: without the floor the smallest network goes on to the top."""
    _, tiny = sweep_with_a_tiny_bad_network(tmp_path, floor=float("inf"))
    assert tiny.state.name == "COMPLETE"
    assert tiny.values == [PLANTED, 3616.0]


def test_of_one_budget_too_it_is_marked_on_no_front_and_no_finalist(tmp_path, cheap):
    """Complete, since it was trained to the end; Optuna's own front lacks it as well. Without the floor it is the
    smallest network, and so on every front."""
    for floor in (4.0, float("inf")):
        world = World(tmp_path / str(floor), planted)
        driver = world.driver(trials=18, enqueued=[Placed("tiny", TINY)], floor=floor)
        driver.run()
        (tiny,) = [each for each in world.candidates if each.parameters == TINY]
        (stored,) = [each for each in world.trials(TrialState.COMPLETE) if each.params == TINY]
        counts = floor > PLANTED
        assert tiny.may_win == candidate_of(stored).may_win == counts
        assert (tiny.number in {trial.number for trial in world.study.best_trials}) == counts
        assert (tiny.number in {trial.number for trial in front_trials(world.study)}) == counts
        chosen_ones = chosen(world.candidates, driver.problem, Finalists(most=18, seeds=2))
        assert chosen_ones
        assert (tiny.name in {each.name for each in chosen_ones}) == counts
        assert tiny.beaten == (
            "" if counts else "its KID of 7 is not below 4, which a Gaussian fitted to the pixels reaches"
        )


@pytest.mark.parametrize("budgets", [(), (100, 300, 900)])
def test_the_place_of_a_training_is_never_past_their_number(tmp_path, cheap, budgets):
    """[n/m] of what this driver trains: n is one more each time, and m at least n, also when a search goes on."""
    world = World(tmp_path)
    for trials in (9, 14):
        printed = io.StringIO()
        world.show = Show(Console(file=printed, width=200))
        world.run(trials=trials, budgets=budgets)
        places = [tuple(map(int, place)) for place in re.findall(r"^\[(\d+)/(\d+)\]", printed.getvalue(), re.MULTILINE)]
        assert [n for n, _ in places] == list(range(1, len(places) + 1))
        assert all(n <= m for n, m in places), places
        assert len(places) >= 5


def test_values_of_different_budgets_share_no_front(tmp_path, cheap):
    world = World(tmp_path)
    world.run(trials=24, budgets=(100, 300, 900))
    complete = world.trials(TrialState.COMPLETE)
    assert complete
    for trial in world.trials():
        reached = [level["steps"] for level in trial.user_attrs["levels"]]
        assert (trial.state.name == "COMPLETE") == (reached == [100, 300, 900])
        assert trial.values is None or trial.values == trial.user_attrs["levels"][-1]["values"]
    assert {trial.number for trial in world.study.best_trials} <= {trial.number for trial in complete}
    assert list(OBJECTIVES) == world.study.metric_names


@pytest.mark.parametrize("workers", [1, 7])
def test_budgets_take_the_steps_that_halving_says(tmp_path, cheap, workers):
    world = World(tmp_path, workers=workers)
    world.run(trials=27, budgets=(100, 300, 900))
    counts = [sum(spec.settings.recipe.steps == steps for spec in world.workers.trained) for steps in (100, 300, 900)]
    assert counts == [27, 9, 3]


def test_where_nothing_passes_the_floor_the_ending_says_so(tmp_path, cheap):
    ending = World(tmp_path).run(trials=4, budgets=(100, 300), floor=0.001)
    assert "none is complete, 4 of 4 are not below the floor, a KID of 0.001: raise the budgets" in ending.reason
    ending = World(tmp_path / "one").run(trials=4, floor=0.001)
    assert "no complete one counts, 4 of 4 are not below the floor, a KID of 0.001: raise recipe.steps" in ending.reason
