"""One cluster for all tests of this folder, or the reason why there is none.

On a laptop without Slurm, or without root, the tests are skipped and say why. With HARNESS_REQUIRE_SLURM=1 (`.ci/run`)
the packages are installed, and a cluster that cannot be had is an error.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "trials"), str(HERE.parent / "search")]

from cluster import CannotStartError, Cluster, missing_programs  # noqa: E402
from slurm_driver import Driver  # noqa: E402

REQUIRED = os.environ.get("HARNESS_REQUIRE_SLURM") == "1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if REQUIRED and missing_programs():
        subprocess.run(["bash", str(REPOSITORY / "scripts" / "system-packages.sh"), "slurm"], check=True, timeout=280)
    if missing := missing_programs():
        no_slurm(f"Slurm is not installed ({', '.join(missing)}): scripts/system-packages.sh slurm")
    if os.geteuid() != 0:
        no_slurm("starting a Slurm cluster needs root")
    started = Cluster()
    try:
        started.start()
    except CannotStartError as error:
        started.stop()
        no_slurm(str(error))
    before = os.environ.copy()
    os.environ.update(started.environment)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    try:
        yield started
    finally:
        os.environ.clear()
        os.environ.update(before)
        started.stop()


def no_slurm(reason: str) -> None:
    if REQUIRED:
        pytest.fail(f"no Slurm, though HARNESS_REQUIRE_SLURM=1: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def drive(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Starts drivers of studies, in processes of their own; those that still run are killed at the end."""
    drivers: list[Driver] = []

    def start(name: str = "study", **settings: object) -> Driver:
        drivers.append(Driver(tmp_path / name / "attempts", **settings))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
