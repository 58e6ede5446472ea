"""The jobs and the driver of these tests run in processes of their own, which must be able to import them."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


SBATCH = """#!/bin/bash
# runs the script at once, in a session of its own; the job id is the number of the call
mkdir -p "$STAND_IN/jobs"; id=$(( $(ls "$STAND_IN/jobs" | wc -l) + 1 )); mkdir "$STAND_IN/jobs/$id"
script=$(readlink -f "$1"); cp "$script" "$STAND_IN/jobs/$id/script"
if grep -q 'partition=closed' "$script"; then
    echo 'sbatch: error: invalid partition specified: closed' >&2; exit 1
fi
echo "$id" > "$STAND_IN/jobs/$id/id"
(
    sleep 0.1  # submitit names the pickle after the job id first
    SLURM_JOB_ID=$id setsid bash "$STAND_IN/jobs/$id/script" > "$STAND_IN/jobs/$id/out" 2>&1 < /dev/null
    echo $? > "$STAND_IN/jobs/$id/ended"
) > /dev/null 2>&1 < /dev/null &
echo "Submitted batch job $id"
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do case "$1" in --unbuffered) shift;; *) shift 2;; esac; done
exec "$@" 2> "$STAND_IN/jobs/$SLURM_JOB_ID/err"
"""
SACCT = """#!/bin/bash
echo 'JobID|State|NodeList'
for job in "$STAND_IN"/jobs/*; do
    state=RUNNING; [ -e "$job/ended" ] && state=FAILED && grep -qx 0 "$job/ended" && state=COMPLETED
    echo "$(basename "$job")|$state|here"
done
"""
SCANCEL = """#!/bin/bash
echo "$1" >> "$STAND_IN/cancelled"
"""


@pytest.fixture
def slurm_stand_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scripts named like Slurm's commands, first in PATH; the folder where they keep their jobs."""
    from submitit.slurm.slurm import SlurmJob

    from harness.launch.executors import SlurmHandle

    folder = tmp_path_factory.mktemp("slurm")
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": SCANCEL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.setattr(SlurmHandle, "ASK_EVERY_S", 0.2)
    SlurmJob.watcher.clear()
    SlurmJob.watcher._registered.clear()
    return folder
