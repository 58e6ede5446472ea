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
# runs the script at once, each task of an array in a session of its own; the job id is the number of the call
mkdir -p "$STAND_IN/jobs"; n=$(( $(ls "$STAND_IN" | grep -c '^call') + 1 )); touch "$STAND_IN/call$n"
script=$(readlink -f "$1"); cp "$script" "$STAND_IN/script$n"
if grep -q 'partition=closed' "$script"; then
    echo 'sbatch: error: invalid partition specified: closed' >&2; exit 1
fi
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "${last:-0}"); do
    id=$n; [ -n "$last" ] && id=${n}_$task && export SLURM_ARRAY_JOB_ID=$n SLURM_ARRAY_TASK_ID=$task
    mkdir "$STAND_IN/jobs/$id"
    (
        sleep 0.1  # submitit names the pickle after the job id first
        SLURM_JOB_ID=$id setsid bash "$script" > "$STAND_IN/jobs/$id/out" 2>&1 < /dev/null
        echo $? > "$STAND_IN/jobs/$id/ended"
    ) > /dev/null 2>&1 < /dev/null &
done
echo "Submitted batch job $n"
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do case "$1" in --unbuffered|--*=*) shift;; *) shift 2;; esac; done
exec "$@" 2> "$STAND_IN/jobs/$SLURM_JOB_ID/err"
"""
SQUEUE = """#!/bin/bash
[ -e "$STAND_IN/silent" ] && exit 1
for job in "$STAND_IN"/jobs/*; do
    state=RUNNING; [ -e "$job/ended" ] && state=FAILED && grep -qx 0 "$job/ended" && state=COMPLETED
    echo "$(basename "$job")|$state|None"
done
"""
SACCT = """#!/bin/bash
for job in "$STAND_IN"/jobs/*; do
    state=RUNNING; [ -e "$job/ended" ] && state=FAILED && grep -qx 0 "$job/ended" && state=COMPLETED
    echo "$(basename "$job")|$state|2026-01-31T12:00:00"
done
"""
SINFO = """#!/bin/bash
echo gpu; echo main
"""
SCANCEL = """#!/bin/bash
echo "$1" >> "$STAND_IN/cancelled"
"""


@pytest.fixture
def slurm_stand_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scripts named like Slurm's commands, first in PATH; the folder where they keep their jobs."""
    from harness.launch import slurm
    from harness.launch.slurm_queue import SlurmQueue

    folder = tmp_path_factory.mktemp("slurm")
    scripts = {"sbatch": SBATCH, "srun": SRUN, "squeue": SQUEUE, "sacct": SACCT, "sinfo": SINFO, "scancel": SCANCEL}
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.setattr(slurm, "QUEUE", SlurmQueue())
    return folder
