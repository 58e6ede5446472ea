"""A driver to be killed, of a `harness sweep`: the life of a process that `storm.start_driver` has made."""

import os
from pathlib import Path
from typing import Any

from storm_job import StormTrial
from storm_points import arm, driver_points

from harness import cli
from harness.search import driver, sweep
from harness.trials import queue

FLOOR = 1e6  # a KID that a network of a few steps can be below


def main(folder: str, kill: Any, words: list[str]) -> int:
    """folder: the storm's, with its plan and the logs of its deaths and steps; kill: null, or [point, n]: the driver
    dies at the n-th passing of a named point."""
    os.environ["HARNESS_STORM"] = folder
    queue.TrialJob = StormTrial  # type: ignore[misc]
    floor_of = driver.floor_of
    driver.floor_of = lambda problem, *more: max(FLOOR, floor_of(problem, *more)) if problem.top > 0 else None
    sweep.HOURS_EVERY_S = 1.0
    if kill is not None:
        point, nth = kill
        arm(Path(folder), driver_points(), point, nth, who="driver")
    return cli.main(words)
