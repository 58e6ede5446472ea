"""The driver at scale, in small: 500 trials on 50 workers, and the same with a driver that is too slow.

`tests/benchmarks/test_bench_scale.py` runs it in large.
"""

from collections import Counter
from math import ceil

import pytest

from .cluster import Draw, Span
from .scale import Arm, Measurement, run

BUSY = 0.95
EQUAL = Draw(median_s=60.0, sigma=0.0, failures=0.0)


def check(measured, *, least: float = BUSY) -> None:
    """Nothing lost, nothing repeated, and the workers were busy."""
    trials, drawn = measured.arm.trials, sum(span.fails for span in measured.spans)
    assert measured.states == Counter(COMPLETE=trials - drawn, FAIL=drawn)
    assert measured.architectures == trials
    assert measured.utilisation >= least


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "jobs"), [("random", False), ("nsga2", False), ("tpe", False), ("random", True)])
def test_fifty_workers_are_busy_with_500_trials(tmp_path, sampler, jobs):
    measured = run(Arm(sampler=sampler, trials=500, workers=50, jobs=jobs), tmp_path)
    check(measured)
    assert measured.greedy <= measured.makespan < measured.batches


@pytest.mark.parametrize("jobs", [False, True])
def test_equal_durations_and_a_driver_without_cost_give_the_ideal_schedule(tmp_path, jobs):
    """Whole waves: nobody waits for anything, since a poll comes when a wave ends."""
    measured = run(Arm(sampler="random", trials=22, workers=10, draw=EQUAL, rate=0.0, jobs=jobs), tmp_path)
    assert measured.makespan == measured.greedy == ceil(22 / 10) * 60
    assert measured.utilisation == 1.0
    assert measured.driver_s == 0.0
    check(measured)


def test_without_cost_any_durations_come_within_a_poll_a_trial_of_the_greedy_schedule(tmp_path):
    draw = Draw(failures=0.2)
    measured = run(Arm(sampler="random", trials=30, workers=5, draw=draw, rate=0.0), tmp_path)
    assert measured.greedy <= measured.makespan <= measured.greedy + 0.5 * 30
    assert measured.states["FAIL"] > 0
    check(measured, least=0.999)


def test_a_slow_driver_leaves_workers_idle_and_it_shows(tmp_path):
    """The mutation: a candidate takes ten minutes more, where twenty workers end a trial each 200 seconds."""
    measured = run(Arm(sampler="random", trials=50, workers=20, more_s=600.0), tmp_path)
    with pytest.raises(AssertionError):
        check(measured)
    assert measured.utilisation < 0.5


def test_a_driver_that_slows_down_has_grown():
    """From 1 s a submission to 2 s; how long the first workers took to fill does not count."""
    ticks = [100.0 * at for at in range(10)] + [900 + at + at * at / 200 for at in range(101)]
    spans = [Span(tick, tick, False, 1, tick) for tick in ticks]
    fixed = {"arm": Arm(sampler="random", trials=111, workers=11), "spans": spans}
    measured = Measurement(**{**dict.fromkeys(Measurement.__slots__), **fixed})
    assert measured.driver_s_by_tenth[0] == pytest.approx(1.05)
    assert measured.driver_s_by_tenth[-1] == pytest.approx(1.95)
    assert measured.growth == pytest.approx(1.95 / 1.05)
