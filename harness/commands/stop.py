"""`harness stop NAME`: have the driver of a study end, from another terminal or another host that shares the folder."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.operands import ATTEMPTS, begun_study, out_of
from harness.commands.verb import Verb
from harness.records.manifest import study_command

if TYPE_CHECKING:
    from harness.launch.observe import Driver
    from harness.launch.stopping import Mode

PATIENCE_S = 120.0
LOOK_EVERY_S = 0.1
MODES: dict[bool, Mode] = {False: "finish", True: "cancel"}


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cancel", action="store_true", help="do not wait for what runs: it saves, and ends")


def run(arguments: argparse.Namespace) -> int:
    """0; 1 if the driver has not heard in time: the request stays, and it follows it when it looks."""
    from harness.launch.observe import driver_of
    from harness.launch.stopping import request_stop

    out = out_of(arguments.overrides, arguments.name)
    name, folder = begun_study(out, arguments.name, ATTEMPTS)  # all that `harness evaluate`'s jobs have
    attempts, mode = folder / ATTEMPTS, MODES[arguments.cancel]
    driver = driver_of(attempts)
    if not driver.runs:
        print(_without_driver(name, attempts, cancel=arguments.cancel))
        return 0
    request_stop(attempts, mode)
    if not _followed(attempts, driver, mode):
        print(
            f"{_who(driver)} has not heard in {PATIENCE_S:g} s; it may be busy before or between trials. The request "
            "stays, and it follows it as soon as it looks"
        )
        return 1
    print(_ended(attempts, driver, cancel=arguments.cancel))
    return 0


VERB = Verb(
    summary="have a running sweep, ablation or training end; the same command that began it goes on",
    name="the sweep or ablation; of `harness train NAME`, train-NAME",
    example="harness stop laptop --cancel",
    flags=flags,
    run=run,
)


def _followed(attempts: Path, driver: Driver, mode: Mode) -> bool:
    """Wait until the driver has heard; to be cancelled, until it has ended."""
    from harness.launch.stopping import is_stop_requested

    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if _is_over(attempts, driver) or (mode == "finish" and not is_stop_requested(attempts)):
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def _is_over(attempts: Path, driver: Driver) -> bool:
    """Whether this driver has ended; another may have begun."""
    from harness.launch.observe import driver_of

    now = driver_of(attempts)
    return not now.runs or (now.pid, now.since) != (driver.pid, driver.since)


def _ended(attempts: Path, driver: Driver, *, cancel: bool) -> str:
    goes_on = "the command that began it goes on from there"
    if not _is_over(attempts, driver):
        return (
            f"{_who(driver)} starts nothing more and ends when what runs has ended; "
            f"{study_command('stop', attempts.parent, '--cancel')} does not wait; {goes_on}"
        )
    what = "what ran was asked to end and saved" if cancel else "nothing was left to wait for"
    return f"{_who(driver)} has ended, {what}; {goes_on}"


def _without_driver(name: str, attempts: Path, *, cancel: bool) -> str:
    from harness.launch.config import LocalLauncher
    from harness.launch.jobs import launcher_of, living_jobs, recall
    from harness.launch.observe import jobs_of
    from harness.processes.locks import DRIVER_LOCK

    none = f"no driver of {name} runs"
    if not (attempts / DRIVER_LOCK).exists() or not jobs_of(attempts):
        return f"{none}, and nothing that it left behind: there is nothing to stop"
    if cancel:
        launcher, keys = launcher_of(attempts), recall(attempts)
        ended = "saved and ended" if isinstance(launcher, LocalLauncher) else "were told to end, and save what they did"
        return f"{none}; {_jobs(len(keys))} that outlived it {ended}" if keys else f"{none}, nor any job of it"
    living = len(living_jobs(attempts, launcher_of(attempts)))
    if not living:
        return f"{none}, nor any job of it: there is nothing to stop"
    go_on = f"will go on to the end; {study_command('stop', attempts.parent, '--cancel')} does not wait for that"
    return f"{none}; {_jobs(living)} that outlived it {go_on}"


def _who(driver: Driver) -> str:
    return f"the driver (process {driver.pid} on {driver.host})"


def _jobs(count: int) -> str:
    return f"{count:,} job{'s' if count != 1 else ''}"
