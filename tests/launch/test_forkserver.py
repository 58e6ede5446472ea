"""Forked workers: processes of their own, which nothing of the server's or of one another's reaches."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import launch_jobs as jobs
import pytest
from test_pool import COLD, LOCAL, SLOW, driver, events, run, wait_until

from harness.launch import config
from harness.launch.config import LocalLauncher
from harness.launch.local import modules_of
from harness.launch.pool import Pool
from harness.records.errors import UserError


def server_of(pool: Pool) -> int:
    assert pool._local is not None
    assert pool._local._server is not None
    return pool._local._server.pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("launcher", [LOCAL, COLD], ids=["warm", "cold"])
def test_every_job_is_a_process_and_a_session_of_its_own(tmp_path: Path, launcher: LocalLauncher) -> None:
    ended = run(tmp_path, launcher, a=jobs.describe, b=jobs.describe)
    first, second = (ended[key].result for key in ("a", "b"))
    for name in ("pid", "session", "random", "numpy"):
        assert first[name] != second[name], name  # type: ignore[index, call-overload]
    assert {first[name] for name in ("tasks", "hears_ctrl_c", "cwd", "stdin")} == {1, str(Path.cwd()), os.devnull}  # type: ignore[index, call-overload]
    assert os.getsid(0) not in (first["session"], second["session"])  # type: ignore[index, call-overload]


@pytest.mark.parametrize("launcher", [LOCAL, COLD], ids=["warm", "cold"])
def test_what_a_job_writes_stands_in_its_own_logs(tmp_path: Path, launcher: LocalLauncher) -> None:
    run(tmp_path, launcher, a=jobs.speaks, b=jobs.speaks)
    for key in ("a", "b"):
        logs = tmp_path / key / "attempt-001" / "logs"
        assert (logs / "job.out").read_text() == f"{key} says\n"
        assert (logs / "job.err").read_text() == f"{key} complains\n"


def test_one_job_in_many_imports(tmp_path: Path) -> None:
    """The module of the callable, and what it names, is imported before the fork: by the server, once."""
    ended = run(tmp_path, LOCAL, a=jobs.Imports(), b=jobs.Imports(), c=jobs.Imports())
    importers = {outcome.result for outcome in ended.values()}
    assert len(importers) == 1
    cold = run(tmp_path / "cold", COLD, a=jobs.Imports(), b=jobs.Imports())
    assert len({outcome.result for outcome in cold.values()}) == 2


def test_the_modules_of_a_call() -> None:
    from functools import partial

    assert modules_of(jobs.add) == ["launch_jobs"]
    assert modules_of(partial(partial(jobs.add, b=1), a=2)) == ["launch_jobs"]
    assert modules_of(jobs.Imports()) == ["launch_jobs", "counts_imports"]


def test_the_server_ends_with_its_driver_and_the_jobs_go_on(tmp_path: Path) -> None:
    process = driver(tmp_path, jobs=SLOW, in_flight=2)
    wait_until(lambda: len(list(tmp_path.glob("k*/shared/checkpoint.json"))) == 2)
    servers = children_of(process.pid)
    assert len(servers) == 1
    process.kill()
    process.communicate(timeout=20)
    wait_until(lambda: not is_alive(servers[0]))
    (tmp_path / "go").touch()
    wait_until(lambda: len(events(tmp_path, "finished")) == 2)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_closed_pool_leaves_no_server(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL) as pool:
        pool.submit("a", jobs.add)
        list(pool.outcomes())
        server = server_of(pool)
        assert is_alive(server)
    wait_until(lambda: not is_alive(server))


def test_a_server_that_dies_loses_no_running_job_and_the_next_job_gets_another(tmp_path: Path) -> None:
    with Pool(tmp_path, replace(LOCAL, max_in_flight=1)) as pool:
        pool.submit("a", jobs.Steps(steps=4, held=True))
        wait_until(lambda: bool(pool.poll() or pool.progress()))
        first = server_of(pool)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_alive(first))
        assert pool.poll(timeout_s=0.3) == []
        (tmp_path / "go").touch()
        pool.submit("b", jobs.add)
        states = [(outcome.key, outcome.state) for outcome in pool.outcomes()]
        assert states == [("a", "done"), ("b", "done")]
        assert server_of(pool) != first


def test_a_server_that_dies_before_it_forked_costs_a_counted_attempt(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL) as pool:
        pool.submit("a", replace(jobs.Steps(steps=1), imports=("imports_slowly",)))
        pool.poll()
        os.kill(server_of(pool), signal.SIGKILL)
        (tmp_path / "quickly").touch()
        outcomes = list(pool.outcomes())
    assert [outcome.state for outcome in outcomes] == ["lost", "done"]
    assert "before it began" in outcomes[0].error


def test_ctrl_c_does_not_wait_for_imports(tmp_path: Path) -> None:
    with Pool(tmp_path, LOCAL) as pool:
        pool.submit("a", replace(jobs.Steps(steps=1), imports=("imports_slowly",)))
        pool.poll()
        time.sleep(0.5)
        before = time.monotonic()
        pool.stop(cancel=True)
        assert time.monotonic() - before < 4
    assert events(tmp_path) == [("a", "submitted")]


def test_a_job_that_hangs_is_killed_at_its_time_limit(tmp_path: Path) -> None:
    launcher = LocalLauncher(timeout_min=2.0 / 60, poll_interval_s=0.03)
    with Pool(tmp_path, launcher, max_attempts=1) as pool:
        pool.submit("a", jobs.hangs)
        outcomes = list(pool.outcomes())
    assert [outcome.state for outcome in outcomes] == ["lost", "failed"]
    assert "SIGKILL" in outcomes[-1].error


def test_macos_keeps_to_workers_that_start_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LocalLauncher().forks
    monkeypatch.setattr(config.sys, "platform", "darwin")
    assert not LocalLauncher().forks
    with pytest.raises(UserError, match=r"launcher.warm must be false or null on this system.*; leave it out"):
        LocalLauncher(warm=True)
