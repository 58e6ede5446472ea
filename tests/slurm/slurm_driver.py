"""A driver of jobs on Slurm in a process of its own: python slurm_driver.py FOLDER SETTINGS, where SETTINGS is JSON:

jobs      key -> [name of a class in slurm_jobs, its settings]
launcher  settings of SlurmLauncher other than `SETTINGS`
attempts  how many losses are too many
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slurm_jobs

from harness.launch.config import SlurmLauncher
from harness.launch.events import read_events
from harness.launch.pool import Pool
from harness.records.errors import UserError

HELD = 4  # the step at which jobs of these tests are held
PATIENCE_S = 300.0  # for what takes ten seconds on an idle machine
SETTINGS = {
    "partition": "main", "cpus": 1, "mem_gb": 0.2, "timeout_min": 10, "signal_delay_s": 10, "max_in_flight": 8,
    "poll_interval_s": 0.2, "heartbeat_s": 0.5, "lease_timeout_s": 2.0, "start_grace_s": 60.0,
}  # fmt: skip


class Driver:
    """The same process seen from a test, with the log of its study, which is the proof."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder), json.dumps(settings)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def ended(self, seconds: float = PATIENCE_S) -> dict[str, dict[str, Any]]:
        """Wait for the end; the final outcome of each key."""
        out, err = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, f"{out}{err}\n{self.log()}"
        outcomes = [json.loads(line) for line in out.splitlines()]
        return {outcome["key"]: outcome for outcome in outcomes if outcome["state"] != "lost"}

    def said(self, seconds: float = PATIENCE_S) -> str:
        """Wait for the end; its last words."""
        return self.process.communicate(timeout=seconds)[1]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate()

    def events(self, *names: str, key: str | None = None) -> list[dict[str, Any]]:
        lines = read_events(self.folder)
        return [line for line in lines if (not names or line["event"] in names) and key in (None, line["key"])]

    def story(self, key: str) -> list[str]:
        """The key's events, with the number of their attempt: ["submitted 1", "started 1", "finished 1"]."""
        return [f"{line['event']} {int(line['attempt'][-3:])}" for line in self.events(key=key)]

    def steps(self, key: str) -> list[int]:
        log = self.folder / key / "shared" / "steps.log"
        return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []

    def let_go(self, *keys: str) -> None:
        """End the step at which the keys' jobs are held."""
        for key in keys:
            shared = self.folder / key / "shared"
            shared.mkdir(parents=True, exist_ok=True)  # of a key that waits, and is not to be held
            (shared / "go").touch()

    def wait_for_step(self, *keys: str) -> None:
        """Until the keys' jobs are in the step at which they are held, or past it."""
        self.wait(lambda: all(HELD in self.steps(key) for key in keys))

    def job(self, key: str) -> str:
        """Slurm's number of the key's newest job."""
        return str(self.events("started", "resumed", key=key)[-1]["job"])

    def wait(self, true: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        """Until it is true, while the driver lives."""
        eventually(lambda: true() or self.process.poll() is not None, seconds)
        assert true(), f"{self.process.communicate()}\n{self.log()}"

    def log(self) -> str:
        return "\n".join(map(str, self.events()))


def eventually(true: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def main(folder: Path, settings: dict[str, Any]) -> None:
    launcher = SlurmLauncher(**{**SETTINGS, **settings.get("launcher", {})})
    with Pool(folder, launcher, max_attempts=settings.get("attempts", 3)) as pool:
        for key, (name, job) in settings["jobs"].items():
            pool.submit(key, getattr(slurm_jobs, name)(**job))
        for outcome in pool.outcomes():
            plain = {name: getattr(outcome, name) for name in ("key", "state", "attempt", "error", "result")}
            print(json.dumps(plain), flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except UserError as mistake:
        sys.exit(str(mistake))
