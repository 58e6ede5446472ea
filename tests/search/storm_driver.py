"""A driver to be killed: python storm_driver.py FOLDER KILL WORD..., the words of a `harness sweep`.

FOLDER  the storm's: its plan, and the logs of its deaths and steps
KILL    JSON: null, or [point, n]: the driver dies at the n-th passing of a named point
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from storm_job import StormTrial
from storm_points import arm, driver_points

from harness import cli
from harness.search import driver, sweep
from harness.trials import queue

FLOOR = 1e6  # a KID that a network of a few steps can be below


def main(folder: Path, kill: Any, words: list[str]) -> int:
    os.environ["HARNESS_STORM"] = str(folder)
    queue.TrialJob = StormTrial  # type: ignore[misc]
    floor_of = driver.floor_of
    driver.floor_of = lambda *known: max(FLOOR, floor_of(*known))
    sweep.HOURS_EVERY_S = 1.0
    if kill is not None:
        point, nth = kill
        arm(folder, driver_points(), point, nth, who="driver")
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]))
