"""What every launcher gives: results, failures and losses by key, once each; one driver a folder.

The Slurm launcher runs here through submitit's real executor on stand-ins for sbatch, srun, sacct and scancel.
"""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import launch_jobs as jobs
import pytest

from harness.launch import executors, local
from harness.launch.attempt import Attempt, new_attempt
from harness.launch.config import DebugLauncher, LauncherConfig, LocalLauncher, SlurmLauncher
from harness.launch.endings import Ending, Policy
from harness.launch.events import read_events, read_progress, report_progress
from harness.launch.jobs import recall
from harness.launch.pool import Outcome, Pool
from harness.launch.slurm import SlurmHandle
from harness.launch.snapshot import PACKAGE, snapshot
from harness.launch.worker import Job, save_call
from harness.processes.locks import is_held
from harness.records.errors import UserError

LOCAL = LocalLauncher(max_in_flight=2, poll_interval_s=0.03, start_grace_s=5.0, stop_grace_s=5.0)
SLURM = SlurmLauncher(
    cpus=1, max_in_flight=2, poll_interval_s=0.05, heartbeat_s=0.1, lease_timeout_s=0.5, partition="test"
)
COLD = replace(LOCAL, warm=False)
LAUNCHERS: list[LauncherConfig] = [DebugLauncher(), LOCAL, COLD, SLURM]
Submit = Callable[..., dict[str, Outcome]]


@pytest.fixture(params=LAUNCHERS, ids=["debug", "warm", "cold", "slurm"])
def launcher(request: pytest.FixtureRequest) -> LauncherConfig:
    if isinstance(request.param, SlurmLauncher):
        request.getfixturevalue("slurm_stand_in")
    return request.param


def run(folder: Path, launcher: LauncherConfig, /, **calls: Any) -> dict[str, Outcome]:
    """The final outcome of each key."""
    with Pool(folder, launcher) as pool:
        for key, call in calls.items():
            pool.submit(key, call)
        return {outcome.key: outcome for outcome in pool.outcomes() if outcome.is_final}


def events(folder: Path, *names: str) -> list[tuple[str, str]]:
    return [(line["key"], line["event"]) for line in read_events(folder) if not names or line["event"] in names]


def test_results_and_failures_come_by_key(tmp_path: Path, launcher: LauncherConfig) -> None:
    ended = run(
        tmp_path, launcher, add=partial(jobs.add, b=40), bad=jobs.raises, user=jobs.user_mistake, odd=jobs.not_plain
    )
    assert ended["add"].state == "done"
    assert ended["add"].result["sum"] == 41  # type: ignore[index, call-overload]
    assert {key: outcome.state for key, outcome in ended.items() if key != "add"} == dict.fromkeys(
        ("bad", "user", "odd"), "failed"
    )
    assert ended["bad"].error == "ValueError: two lines"
    assert "in raises" in ended["bad"].traceback.read_text()  # type: ignore[union-attr]
    assert (ended["user"].error, ended["user"].user_error) == ("no such folder '/x'; name one that exists", True)
    assert "object has no plain form" in ended["odd"].error


def test_the_same_command_again_repeats_failures_only(tmp_path: Path, launcher: LauncherConfig) -> None:
    first = run(tmp_path, launcher, add=jobs.add, bad=jobs.raises)
    second = run(tmp_path, launcher, add=jobs.add, bad=jobs.raises)
    assert second["add"] == first["add"]
    assert (first["bad"].attempt, second["bad"].attempt) == ("attempt-001", "attempt-002")
    begun = events(tmp_path, "started", "resumed")
    assert begun.count(("add", "started")) == 1
    assert sum(key == "add" for key, _ in begun) == 1


@pytest.mark.parametrize("launcher", [LOCAL, COLD, SLURM], indirect=True, ids=["warm", "cold", "slurm"])
def test_a_killed_worker_is_lost_and_its_key_runs_again(tmp_path: Path, launcher: LauncherConfig) -> None:
    with Pool(tmp_path, launcher) as pool:
        pool.submit("key", jobs.dies_once)
        states = [(outcome.state, outcome.attempt) for outcome in pool.outcomes()]
    assert states == [("lost", "attempt-001"), ("done", "attempt-002")]
    assert [name for _, name in events(tmp_path)] == [
        "submitted", "started", "lost", "submitted", "resumed", "finished",
    ]  # fmt: skip


def test_a_key_lost_too_often_fails_with_the_reason(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL, max_attempts=2) as pool:
        pool.submit("key", jobs.dies)
        ended = list(pool.outcomes())
    assert [outcome.state for outcome in ended] == ["lost", "lost", "failed"]
    assert ended[-1].error.startswith(
        "lost 2 times, the last time because its worker ended while it ran, without a word"
    )


@pytest.mark.parametrize("launcher", [LOCAL, COLD, SLURM], indirect=True, ids=["warm", "cold", "slurm"])
def test_a_worker_that_saved_and_ended_when_asked_is_no_loss_to_count(tmp_path: Path, launcher: LauncherConfig) -> None:
    """A long trial on a cluster may be preempted any number of times."""
    with Pool(tmp_path, launcher, max_attempts=2) as pool:
        pool.submit("key", jobs.StopsOften(3))
        ended = list(pool.outcomes())
    assert [outcome.state for outcome in ended] == ["lost", "lost", "lost", "done"]
    assert ended[-1].result == 3


def test_stops_between_losses_do_not_hide_them(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL, max_attempts=2) as pool:
        pool.submit("key", jobs.stops_once_then_dies)
        ended = list(pool.outcomes())
    assert [outcome.state for outcome in ended] == ["lost", "lost", "lost", "failed"]
    assert ended[-1].error.startswith("lost 2 times")


def test_a_job_asked_to_end_in_the_drivers_own_process_ends_the_driver(tmp_path: Path) -> None:
    """SIGTERM to `harness ... launcher=debug`: the job saves, and no second attempt begins."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, DebugLauncher(), key=jobs.StopsOften(1))
    assert [name for _, name in events(tmp_path)] == ["submitted", "started", "stopped"]
    assert run(tmp_path, DebugLauncher(), key=jobs.StopsOften(1))["key"].result == 1


def test_an_error_is_told_where_its_traceback_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    ended = run(tmp_path, DebugLauncher(), bad=jobs.raises, user=jobs.user_mistake)
    assert ended["bad"].error == "ValueError: two lines"
    assert (ended["user"].error, ended["user"].user_error) == ("no such folder '/x'; name one that exists", True)
    assert ended["bad"].traceback is None


def test_an_attempt_whose_predecessor_was_deleted_gets_a_number_of_its_own(tmp_path: Path) -> None:
    attempts = [new_attempt(tmp_path / "key") for _ in range(3)]
    attempts[1].folder.rmdir()
    assert new_attempt(tmp_path / "key").number == 4


@pytest.mark.parametrize("name", ["a:b", "it's"])
def test_jobs_run_the_copy_of_the_code_whatever_its_path_holds(
    tmp_path: Path, launcher: LauncherConfig, name: str
) -> None:
    ended = run(tmp_path / name, launcher, key=jobs.where)
    imported = Path(str(ended["key"].result))
    if isinstance(launcher, DebugLauncher):
        assert imported == PACKAGE
    else:
        assert imported == snapshot(tmp_path / name) / "harness"


def test_never_more_jobs_than_the_cap(tmp_path: Path) -> None:
    run(tmp_path, LOCAL, **{f"k{index}": jobs.Steps(steps=2, seconds=0.1) for index in range(5)})
    at_once = most = 0
    for _, event in events(tmp_path):
        at_once += {"submitted": 1, "finished": -1}.get(event, 0)
        most = max(most, at_once)
    assert most == 2


def test_workers_know_their_threads_before_python_starts(tmp_path: Path) -> None:
    ended = run(tmp_path, LocalLauncher(threads=3, poll_interval_s=0.03), key=jobs.add)
    assert ended["key"].result["threads"] == "3"  # type: ignore[index, call-overload]


@pytest.mark.parametrize("warm", [True, False])
def test_cuda_devices_are_dealt_out_by_slot_and_left_alone_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    seen = []
    for number, devices in enumerate([None, (), (4, 5)]):
        launcher = replace(LOCAL, cuda_devices=devices, warm=warm)
        ended = run(tmp_path / str(number), launcher, a=jobs.add, b=jobs.add)
        seen.append([outcome.result["devices"] for _, outcome in sorted(ended.items())])  # type: ignore[index, call-overload]
    assert seen == [["7", "7"], ["", ""], ["4", "5"]]


def test_progress_is_seen_while_a_job_runs(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL) as pool:
        pool.submit("key", jobs.Steps(steps=30, seconds=0.1))
        deadline = time.monotonic() + 20
        while not (seen := pool.progress()) and time.monotonic() < deadline:
            pool.poll(timeout_s=0.05)
    assert (seen["key"].phase, seen["key"].of) == ("train", 30)


def test_progress_writes_little_but_always_the_last_step(tmp_path: Path) -> None:
    written = []
    for step in range(1, 501):
        report_progress(tmp_path, "train", step, 500)
        written.append(read_progress(tmp_path).step)  # type: ignore[union-attr]
    assert len(set(written)) < 20
    assert written[-1] == 500


@pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "with space"])
def test_a_key_is_a_plain_folder_name(tmp_path: Path, key: str) -> None:
    with Pool(tmp_path, DebugLauncher()) as pool, pytest.raises(ValueError, match="plain folder name"):
        pool.submit(key, jobs.add)


def test_a_key_is_in_flight_once(tmp_path: Path) -> None:
    with Pool(tmp_path, DebugLauncher()) as pool:
        pool.submit("key", jobs.add)
        with pytest.raises(ValueError, match="in flight already"):
            pool.submit("key", jobs.add)


def test_candidates_are_asked_for_one_by_one(tmp_path: Path) -> None:
    """A sweep's loop: no batch, a new candidate for every outcome."""
    ended: list[str] = []
    submitted = 0
    with Pool(tmp_path, LOCAL) as pool:
        while len(ended) < 5:
            while pool.free and submitted < 5:
                pool.submit(f"candidate-{submitted}", jobs.add)
                submitted += 1
            assert pool.in_flight <= 2
            ended += [outcome.key for outcome in pool.poll(timeout_s=1.0)]
    assert sorted(ended) == [f"candidate-{index}" for index in range(5)]


def test_a_second_driver_is_refused_and_told_who_has_the_folder(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL), pytest.raises(UserError, match=f"process {os.getpid()} on .* already works in"):
        Pool(tmp_path, LOCAL)
    Pool(tmp_path, LOCAL).close()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        Pool(tmp_path / "file" / "runs", LOCAL)


def test_a_job_that_a_full_disk_does_not_take_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of a write: without a file name

    monkeypatch.setattr("harness.launch.worker.DelayedSubmission.dump", full)
    with pytest.raises(UserError, match=r"cannot write .*call\.pkl: No space left on device; free some space"):
        run(tmp_path, LOCAL, key=jobs.Steps(steps=1, seconds=0))


def test_a_job_that_starts_too_late_refuses(tmp_path: Path) -> None:
    late, current = new_attempt(tmp_path / "key"), new_attempt(tmp_path / "key")
    current.make_current()
    assert Job(late.folder)() == "refused"
    assert Job(late.folder)() == "refused", "and stays refused"
    assert late.result().error == "another attempt took its place"  # type: ignore[union-attr]
    assert current.result() is None


def test_a_restart_does_not_take_a_starting_job_for_a_dead_one(tmp_path: Path) -> None:
    """Between submission and lock: within the grace period it is waited for, after it another attempt takes over."""
    starting = new_attempt(tmp_path / "key")
    starting.make_current()
    starting.mark_submitted("12345")
    handle = executors.find(starting, LOCAL)
    assert handle.may_live()
    assert not executors.find(starting, LocalLauncher(start_grace_s=1e-6)).may_live()
    starting.mark_submitted(None)  # the driver died before it could know whether the job was taken
    assert not executors.find(starting, LOCAL).may_live()


def test_a_job_taken_for_dead_that_ends_while_its_key_waits_does_not_run_again(tmp_path: Path) -> None:
    """It took longer to start than the grace period, and the next driver had no room for another attempt."""
    late = new_attempt(tmp_path / "late")
    save_call(late, jobs.add)
    late.make_current()
    late.mark_submitted("12345")
    impatient = LocalLauncher(max_in_flight=1, poll_interval_s=0.03, start_grace_s=1e-6)
    with Pool(tmp_path, impatient) as pool:
        pool.submit("first", jobs.add)
        pool.submit("late", jobs.add)
        pool.poll()
        assert pool.running == ("first",)
        assert Job(late.folder)() == "done"
        ended = {outcome.key: outcome.attempt for outcome in pool.outcomes() if outcome.is_final}
    assert ended == {"first": "attempt-001", "late": "attempt-001"}
    assert events(tmp_path, "started", "resumed").count(("late", "started")) == 1
    assert [name for key, name in events(tmp_path) if key == "late"] == ["lost", "started", "finished"]


def test_a_dead_child_that_nobody_waited_for_does_not_exist() -> None:
    """Where the driver is PID 1, orphans become its children."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not local._exists(pid)


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def driver(folder: Path, **settings: Any) -> "subprocess.Popen[str]":
    """A driver in a process group of its own, as a terminal would start it."""
    return subprocess.Popen(
        [sys.executable, str(Path(jobs.__file__).with_name("launch_driver.py")), str(folder), json.dumps(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


SLOW = {f"k{index}": {"steps": 30, "seconds": 0.05, "held": True} for index in range(3)}


def test_ctrl_c_stops_the_workers_and_the_same_command_goes_on(tmp_path: Path) -> None:
    process = driver(tmp_path, jobs=SLOW, in_flight=2)
    wait_until(lambda: len(list(tmp_path.glob("k*/shared/checkpoint.json"))) == 2)
    os.killpg(process.pid, signal.SIGINT)  # what the terminal sends: to the whole process group
    _, error = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in error
    assert sorted(events(tmp_path, "stopped")) == [("k0", "stopped"), ("k1", "stopped")]
    assert not any(is_held(lock) for lock in tmp_path.glob("k*/attempt-*/lock"))
    (tmp_path / "go").touch()
    out, _ = driver(tmp_path, jobs=SLOW, in_flight=3).communicate(timeout=60)
    assert "ended" in out
    for log in tmp_path.glob("k*/shared/steps.log"):
        steps = [int(line.split()[1]) for line in log.read_text().splitlines()]
        assert sorted(set(steps)) == list(range(30))
        assert len(steps) <= 31, "at most the step in which it was stopped is repeated"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_driver_says_what_goes_on_and_how_to_end_it(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "study" / "attempts"
    process = driver(folder, jobs=SLOW, in_flight=2)
    wait_until(lambda: len(list(folder.glob("k*/shared/checkpoint.json"))) == 2)
    process.send_signal(number)
    time.sleep(0.2)
    for later in (signal.SIGTERM, signal.SIGINT):  # of somebody who is impatient; they change nothing
        process.send_signal(later)
    _, error = process.communicate(timeout=20)
    stop = f"`harness stop study --cancel out={tmp_path}`"
    left = f"ended by {number.name}; 2 jobs go on by themselves; {stop} has what runs save and end"
    assert error.strip().splitlines()[-1].endswith(left)
    assert sorted(recall(folder)) == ["k0", "k1"]
    assert sorted(events(folder, "stopped")) == [("k0", "stopped"), ("k1", "stopped")]


def test_jobs_go_on_where_the_terminal_is_gone_whatever_that_breaks(tmp_path: Path) -> None:
    """The board that a driver shows cannot be cleared there, which is an error of its own."""
    cancelled = []

    def drive() -> None:
        with Pool(tmp_path, LOCAL) as pool:
            pool.stop = lambda *, cancel: cancelled.append(cancel)  # type: ignore[method-assign]
            try:
                os.kill(os.getpid(), signal.SIGHUP)
            finally:
                raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        drive()
    assert cancelled == [False]


def test_workers_outlive_a_killed_driver_and_are_found(tmp_path: Path) -> None:
    process = driver(tmp_path, jobs=SLOW, in_flight=3)
    wait_until(lambda: len(list(tmp_path.glob("k*/shared/checkpoint.json"))) == 3)
    process.kill()
    process.communicate(timeout=20)
    again = driver(tmp_path, jobs=SLOW, in_flight=3)
    wait_until(lambda: len(events(tmp_path, "found")) == 3)
    (tmp_path / "go").touch()
    out, _ = again.communicate(timeout=60)
    assert "ended" in out
    assert sorted(events(tmp_path, "found")) == [(key, "found") for key in sorted(SLOW)]
    assert sorted(events(tmp_path, "started", "resumed")) == [(key, "started") for key in sorted(SLOW)]


def test_the_debug_launcher_stops_at_ctrl_c(tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_until(lambda: (tmp_path / "key" / "shared" / "checkpoint.json").exists())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, DebugLauncher(), key=jobs.Steps(steps=200, seconds=0.05))
    thread.join()
    assert events(tmp_path, "stopped") == [("key", "stopped")]


def test_slurm_gets_its_settings_under_its_own_names(tmp_path: Path, slurm_stand_in: Path) -> None:
    launcher = SlurmLauncher(
        partition="gpu", account="lab", qos="high", constraint="a100", exclude="n1", gpus=1, cpus=8, threads=4,
        mem_gb=1.5, timeout_min=90, signal_delay_s=60, setup=("module load x",), additional={"reservation": "night"},
    )  # fmt: skip
    run(tmp_path, launcher, key=jobs.add)
    script = (slurm_stand_in / "script1").read_text()
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if "#SBATCH --" in line]
    options = dict(line.split("=") for line in lines if "=" in line)
    expected = {
        "partition": "gpu", "account": "lab", "qos": "high", "constraint": "a100", "exclude": "n1",
        "gpus-per-node": "1", "cpus-per-task": "8", "mem": "1536MB", "time": "90", "signal": "USR2@60",
        "reservation": "night", "job-name": "key",
    }  # fmt: skip
    assert expected.items() <= options.items()
    assert "requeue" in lines
    assert "export OMP_NUM_THREADS='4'" in script
    assert "module load x" in script


def test_an_unknown_partition_is_one_sentence_with_those_that_exist(tmp_path: Path, slurm_stand_in: Path) -> None:
    with pytest.raises(UserError, match=r"unknown partition 'closed'; choose one of: gpu, main$"):
        run(tmp_path, SlurmLauncher(partition="closed"), key=jobs.add)


def test_a_job_that_is_no_training_asks_for_one_process(tmp_path: Path, slurm_stand_in: Path) -> None:
    launcher = SlurmLauncher(nodes=2, gpus=4, poll_interval_s=0.05)
    with Pool(tmp_path / "attempts", launcher) as pool:
        for key in ("a", "b"):
            pool.submit(key, jobs.Followed("ends"))
        pool.submit("c", jobs.add)
        while pool.in_flight:
            pool.poll(0.1)
    asked = []
    for script in sorted(slurm_stand_in.glob("script*")):
        options = dict(re.findall(r"#SBATCH --(nodes|gpus-per-node|ntasks-per-node|array)=(\S+)", script.read_text()))
        asked.append(options)
        assert "--kill-on-bad-exit=0 --wait=0 " in script.read_text()
    assert asked == [
        {"nodes": "2", "gpus-per-node": "4", "ntasks-per-node": "4", "array": "0-1%2"},
        {"nodes": "1", "gpus-per-node": "1", "ntasks-per-node": "1"},
    ]


def test_keys_that_wait_together_are_one_array(tmp_path: Path, slurm_stand_in: Path) -> None:
    launcher = SlurmLauncher(cpus=1, poll_interval_s=0.05, heartbeat_s=0.1, lease_timeout_s=0.5, array_parallelism=2)
    ended = run(tmp_path, launcher, a=jobs.add, b=jobs.raises, c=jobs.dies_once)
    assert {key: outcome.state for key, outcome in ended.items()} == {"a": "done", "b": "failed", "c": "done"}
    assert "#SBATCH --array=0-2%2" in (slurm_stand_in / "script1").read_text()
    assert sorted(path.name for path in (slurm_stand_in / "jobs").iterdir()) == ["1_0", "1_1", "1_2", "2"]


def test_no_slurm_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="launcher 'slurm' needs Slurm's srun and sbatch on this machine"):
        run(tmp_path, SLURM, key=jobs.add)


def test_slurm_jobs_keep_their_place_when_the_driver_leaves(tmp_path: Path, slurm_stand_in: Path) -> None:
    with Pool(tmp_path, SLURM) as pool:
        pool.submit("key", jobs.Steps(steps=20, seconds=0.05))
        pool.poll()
    with Pool(tmp_path, SLURM) as pool:
        pool.submit("key", jobs.Steps(steps=20, seconds=0.05))
        assert [outcome.state for outcome in pool.outcomes()] == ["done"]
        pool.submit("other", jobs.Steps(steps=20, seconds=0.05))
        pool.poll()
        pool.stop(cancel=True)
    assert events(tmp_path, "found", "submitted") == [("key", "submitted"), ("key", "found"), ("other", "submitted")]
    assert (slurm_stand_in / "cancelled").read_text().split() == ["2"]


class Cancelled:
    """A handle of a job of an earlier driver that is ending as this one finds it, because somebody cancelled it."""

    job_id = "7"

    def __init__(self, policy: Policy) -> None:
        self.policy, self.looks = policy, 0

    def may_live(self) -> bool:
        self.looks += 1
        return self.looks < 3

    def state(self) -> str:
        return "CANCELLED"

    def ending(self) -> Ending:
        return Ending(policy=self.policy, why="somebody cancelled it")

    def stop(self, *, kill: bool = False) -> None: ...


@pytest.mark.parametrize(("policy", "states"), [("again", ["lost", "done"]), ("cancel", ["failed"])])
def test_a_job_cancelled_before_its_driver_began_runs_again_and_counts_for_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy, states: list[str]
) -> None:
    new_attempt(tmp_path / "key").make_current()
    monkeypatch.setattr(executors, "find", lambda *_: Cancelled(policy))
    with Pool(tmp_path, LOCAL, max_attempts=1) as pool:
        pool.submit("key", jobs.add)
        outcomes = list(pool.outcomes())
    assert [outcome.state for outcome in outcomes] == states
    assert outcomes[0].error == "somebody cancelled it"
    assert events(tmp_path)[:2] == [("key", "found"), ("key", "cancelled")]


def test_what_slurm_was_not_told_is_said(slurm_stand_in: Path) -> None:
    handle = SlurmHandle(SLURM, "7")
    (slurm_stand_in / "scancel").write_text("#!/bin/bash\necho 'scancel: error: Invalid job id 7' >&2; exit 1\n")
    handle.stop()
    (slurm_stand_in / "scancel").write_text("#!/bin/bash\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    with pytest.raises(UserError, match=r"did not cancel job 7 \(Unable to contact slurm controller\); ask again"):
        handle.stop()


def test_the_folder_of_an_attempt_is_found_from_its_parts(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "key" / "attempt-007")
    assert (attempt.root, attempt.key, attempt.number) == (tmp_path, "key", 7)
