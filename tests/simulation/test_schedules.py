"""The simulator and its schedules against arithmetic."""

import math
import time

import pytest

from .cluster import BEGINNING, Clock, Draw, Span, driver_time
from .schedules import batch_makespan, first_fill, greedy_makespan, makespan, utilisation


def span(start, end):
    return Span(start, end, False, 1, 0.0)


@pytest.mark.parametrize(("trials", "workers"), [(10, 5), (11, 5), (3, 5), (1, 1)])
def test_equal_durations_take_ceil_of_trials_over_workers(trials, workers):
    assert greedy_makespan([60.0] * trials, workers) == math.ceil(trials / workers) * 60
    assert batch_makespan([60.0] * trials, workers) == math.ceil(trials / workers) * 60


def test_a_batch_waits_for_its_slowest_and_the_greedy_schedule_does_not():
    assert greedy_makespan([3, 1, 1, 1], 2) == 3
    assert batch_makespan([3, 1, 1, 1], 2) == 4


def test_utilisation_counts_from_the_first_fill_to_the_last_submission():
    spans = [span(0, 10), span(2, 6), span(8, 20)]  # both busy from 2, one idle from 6 to 8
    assert first_fill(spans) == 2
    assert utilisation(spans, 2) == pytest.approx((6 + 4) / 12)
    later = [span(BEGINNING + 5, BEGINNING + 7), span(BEGINNING + 6, BEGINNING + 20)]
    assert makespan(later) == 20, "with the driver's time before the first submission"
    assert utilisation(spans, 3) == pytest.approx((6 + 4) / 18), "a third worker that never had a trial is idle"


def test_the_draw_has_the_median_the_spread_and_the_failures_it_was_asked_for():
    draw = Draw(seed=1)
    fates = [draw(str(key)) for key in range(20_000)]
    logs = sorted(math.log(fate.seconds / 3600) for fate in fates if not fate.fails)
    assert math.exp(logs[len(logs) // 2]) == pytest.approx(1, abs=0.02)
    spread = (logs[int(0.8413 * len(logs))] - logs[int(0.1587 * len(logs))]) / 2
    assert spread == pytest.approx(0.5, abs=0.01)
    assert sum(fate.fails for fate in fates) / len(fates) == pytest.approx(0.02, abs=0.004)
    assert [draw(str(key)) for key in range(5)] == fates[:5], "the same key, the same fate"


def test_a_clock_charges_the_driver_and_nobody_for_the_simulator():
    clock = Clock()
    with clock.driving():
        before = clock()
        sum(range(100_000))
        busy = clock() - before
        assert busy > 0
        with clock.aside():
            inside = clock()
            sum(range(100_000))
            assert clock() == inside
            clock.wait(5)
    assert clock() - before == pytest.approx(5 + clock.driver_s, abs=1e-3)
    assert Clock(rate=0)() == Clock()()


def test_the_drivers_time_is_at_most_the_walls_and_at_least_its_work():
    before = driver_time(), time.perf_counter(), time.thread_time()
    while time.thread_time() - before[2] < 0.05:
        pass
    after = driver_time(), time.perf_counter(), time.thread_time()
    own, wall, work = (late - early for late, early in zip(after, before, strict=True))
    assert work - 0.01 <= own <= wall + 0.01
