"""Who leads and who follows in a training of several processes, under each launcher.

    local       a worker starts its followers when the training begins: python -m harness.launch.together RANK ATTEMPT
    slurm       the tasks of one job: the first is the worker, the others follow it from the start
    torchrun    its processes (`harness.training.torchrun`): the first is the driver, and the worker

    worker      with followed(ATTEMPT, size) as place: ...    its share; the others call its call's `follow`

The worker alone holds the attempt's locks and writes its result. A follower that dies is a lost attempt and no failed
one; a worker that dies takes its followers along.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from harness.launch.attempt import Attempt, AttemptStopped, ProcessDied
from harness.launch.snapshot import python_command
from harness.launch.team import CAUSE_S, END_S, JOIN_S, LOOK_S, LOOPBACK, Meeting, Place, Team, follow
from harness.records.store import write_atomic

MODULE = "harness.launch.together"
STOP_S = 5.0
"""How long followers of a worker that was asked to end, and saved, may take to end in good order."""

_led: Team | None = None
"""What this process leads from its start to its end."""


@contextlib.contextmanager
def leading(team: Team) -> Iterator[None]:
    """Inside, the trainings of this process are shared by that team."""
    global _led
    _led = team
    try:
        yield
    finally:
        _led = None


@contextlib.contextmanager
def followed(attempt_folder: Path, size: int) -> Iterator[Place]:
    """The worker's place in a training of `size` processes; where this process leads a team, in one of that team's.

    Errors: UserError where a follower met one; ProcessDied where one ended otherwise.
    """
    attempt = Attempt(attempt_folder)
    with contextlib.nullcontext(_led) if _led is not None else _started(attempt, size) as team:
        if team is None:
            yield Place()
            return
        place = team.share(attempt)
        try:
            yield place
            team.wait(END_S)
        except AttemptStopped:
            team.dismiss(STOP_S)
            raise
        except ConnectionError as error:
            between = ProcessDied(f"process 0 of {team.size} lost its connection to another: {error}")
            raise team.cause(CAUSE_S) or between from error
        finally:
            team.dismiss()


# on this machine


@contextlib.contextmanager
def _started(attempt: Attempt, size: int) -> Iterator[Team | None]:
    """Processes of this machine, which end with the block."""
    if size == 1:
        yield None
        return
    with Team(size, knows_ends=True) as team:
        processes = [_start(attempt, team, rank) for rank in range(1, size)]
        try:
            yield team
        finally:
            team.close()
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                process.kill()
                process.wait()


def _start(attempt: Attempt, team: Team, rank: int) -> "subprocess.Popen[bytes]":
    attempt.logs.mkdir(exist_ok=True)
    with (attempt.logs / f"process-{rank}.log").open("ab") as log:
        command = [*python_command(attempt.root), "-m", MODULE, str(rank), str(attempt.folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:  # its end is told by `_see_end`
        process.stdin.write(json.dumps(asdict(team.meeting)).encode())
    threading.Thread(target=_see_end, args=(team, rank, process), daemon=True).start()
    return process


def _see_end(team: Team, rank: int, process: "subprocess.Popen[bytes]") -> None:
    status = process.wait()
    team.gone(rank, f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed: exit {status}")


def main(rank: str, attempt_folder: str) -> int:
    """A follower's life; standard input says where the meeting is."""
    follow(Meeting(**json.load(sys.stdin)), rank=int(rank), local=int(rank), only=Path(attempt_folder))
    return 0


# on Slurm


def slurm_rank() -> int:
    """This task's number in its job; 0 is the worker."""
    return int(os.environ.get("SLURM_PROCID", "0"))


@contextlib.contextmanager
def slurm_team(attempt: Attempt) -> Iterator[Team | None]:
    """The other tasks of this job, as many as Slurm says there are; None where there are none."""
    size = int(os.environ.get("SLURM_NTASKS", "1"))
    if size == 1:
        yield None
        return
    on_one_node = os.environ.get("SLURM_JOB_NUM_NODES", "1") == "1"
    host = LOOPBACK if on_one_node else os.environ.get("SLURMD_NODENAME", socket.gethostname())
    with Team(size, host) as team, leading(team):
        write_atomic(_meeting_file(attempt), json.dumps(asdict(team.meeting)).encode())
        yield team


def follow_on_slurm(attempt: Attempt) -> str:
    """The life of a task that is not the first; what there is to say of it."""
    path, deadline = _meeting_file(attempt), time.monotonic() + JOIN_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the job's first task did not write {path} within {JOIN_S:g} s")
        time.sleep(LOOK_S)
    try:
        meeting, local = Meeting(**json.loads(path.read_text())), int(os.environ["SLURM_LOCALID"])
        follow(meeting, rank=slurm_rank(), local=local, only=attempt.folder)
    except ConnectionRefusedError:
        return "the first task ended before this one began"
    return "followed"


def _meeting_file(attempt: Attempt) -> Path:
    """Of this run of this job: a requeued one has a leader of its own."""
    run = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return attempt.folder / f"meeting-{run}.json"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
