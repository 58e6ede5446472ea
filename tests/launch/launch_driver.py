"""A driver to be killed: python launch_driver.py FOLDER SETTINGS, where SETTINGS is JSON:

jobs      key -> settings of `Steps`
in_flight how many at once
kill      [point, n]: kill -9 the driver at the n-th passing of a named point
mutate    "locks": break the locks on purpose, driver and workers
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch_jobs import Steps

from harness.launch import executors, jobs, pool
from harness.launch.attempt import Attempt
from harness.launch.config import LocalLauncher

POINTS: dict[str, tuple[Any, str, bool]] = {  # name -> owner of a function, its name, die before it (or after)
    "attempt made": (Attempt, "make_current", True),
    "before submit": (executors, "start", True),
    "after submit": (executors, "start", False),
    "result seen": (pool, "_outcome", True),
    "lost seen": (pool.Pool, "_handle_lost", True),
    "polling": (pool.Pool, "_collect", False),
}


def arm(point: str, n: int) -> None:
    owner, name, before = POINTS[point]
    function: Callable[..., Any] = getattr(owner, name)
    count = itertools.count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        last = next(count) == n
        if last and before:
            os.kill(os.getpid(), signal.SIGKILL)
        value = function(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, name, deadly)


def ignore_locks() -> None:
    jobs.is_held = lambda _path: False
    pool._key_lock = lambda folder: pool.FileLock(folder / "lock", os.open("/dev/null", os.O_RDWR))  # type: ignore
    executors.Orphan.may_live = lambda _self: False  # type: ignore[method-assign]


def main(folder: Path, settings: dict[str, Any]) -> None:
    if "kill" in settings:
        arm(*settings["kill"])
    if settings.get("mutate") == "locks":
        ignore_locks()
    launcher = LocalLauncher(
        max_in_flight=settings["in_flight"], start_grace_s=5.0, stop_grace_s=5.0, poll_interval_s=0.03
    )
    with pool.Pool(folder, launcher) as jobs:
        for key, job in settings["jobs"].items():
            jobs.submit(key, Steps(**job, imports=("locks_ignored",) if "mutate" in settings else ()))
        print("driving", flush=True)
        for outcome in jobs.outcomes():
            print(outcome.key, outcome.state, json.dumps(outcome.result), flush=True)
    print("ended", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
