"""A thousand workers on the simulated clock: is the driver ever what they wait for?

Each arm is a process of its own, so that its memory is its own. `pytest tests/benchmarks/test_bench_scale.py -m
benchmark -s` prints one table; `-k nsga2` runs an arm alone.
"""

import multiprocessing
from pathlib import Path
from statistics import mean, median

import pytest

from ..simulation.scale import Arm, Measurement, run
from .interleaved import LINES

pytestmark = [
    pytest.mark.benchmark(group="scale"),
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from Linux's /proc"),
]
WORKERS = 1000
BUSY = 0.95
ARMS = {
    "random": Arm(sampler="random", trials=10_000, workers=WORKERS, count_every=200),
    "nsga2": Arm(sampler="nsga2", trials=10_000, workers=WORKERS, count_every=200),
    "tpe": Arm(sampler="tpe", trials=2000, workers=WORKERS),
    "journal": Arm(sampler="random", trials=2000, workers=WORKERS, storage="journal"),
    "jobs": Arm(sampler="random", trials=2000, workers=WORKERS, jobs=True),
    "budgets": Arm(sampler="nsga2", trials=2000, workers=WORKERS, budgets=(100, 300, 900)),
}
"""`jobs`: through the pool of jobs and its files as well, which hands over together what was asked for between two
polls. `budgets`: promotions, each to three times the steps."""


@pytest.mark.parametrize("name", ARMS)
def test_the_driver_keeps_a_thousand_workers_busy(tmp_path, benchmark, name):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        measured = benchmark.pedantic(pool.apply, (run, (ARMS[name], tmp_path)), rounds=1)
    LINES.extend(rows(name, measured))
    assert measured.utilisation >= BUSY
    assert measured.makespan < measured.batches
    assert measured.architectures == measured.arm.trials
    assert "RUNNING" not in measured.states
    assert measured.states["FAIL"] == sum(span.fails for span in measured.spans)


COLUMNS = {
    "trials": lambda m: f"{len(m.asked):,}",
    "busy": lambda m: f"{m.utilisation:.2%}",
    "hours": lambda m: f"{m.makespan / 3600:.2f}",
    "greedy": lambda m: f"{m.greedy / 3600:.2f}",
    "batches": lambda m: f"{m.batches / 3600:.2f}",
    "driver ms": lambda m: f"{1000 * mean(m.driver_s_by_tenth):.0f}",
    "last tenth": lambda m: f"{1000 * m.driver_s_by_tenth[-1]:.0f}",
    "growth": lambda m: f"{m.growth:.2f}",
    "count ms": lambda m: f"{1000 * median(m.gate_s):.0f}",
    "memory MB": lambda m: f"{m.rss_mb[-1]:.0f}",
    "KB/trial": lambda m: f"{m.kilobytes_a_trial:.1f}",
    "study MB": lambda m: f"{m.study_mb:.1f}",
    "fill s": lambda m: f"{m.filled_s:.0f}",
    "run min": lambda m: f"{m.real_s / 60:.1f}",
}
"""`busy` from the first fill to the last submission; hours until the last result, beside those of a schedule without
a driver and of one in batches; the driver's time a submission after the workers were filled, and in the last tenth of
those, counting included; its growth, from beginning to end; the process' memory at the end and its slope."""


def rows(name: str, measured: Measurement) -> list[str]:
    """The row, under the columns' names if it is the first."""
    head = "scale".ljust(8) + "".join(f"{column:>11}" for column in COLUMNS)
    row = name.ljust(8) + "".join(f"{value(measured):>11}" for value in COLUMNS.values())
    return [row] if head in LINES else [head, row]
