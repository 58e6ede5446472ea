"""What may go from a pool's folder: whatever is left, the same driver finds every result and continues every job."""

from functools import partial
from pathlib import Path

import launch_jobs as jobs

from harness.launch.attempt import Attempt, current_attempt, new_attempt, shared_of
from harness.launch.cleaning import removable_attempts
from harness.launch.config import DebugLauncher, LocalLauncher
from harness.launch.events import read_events
from harness.launch.pool import Pool
from harness.launch.worker import save_call
from harness.processes.locks import FileLock
from harness.records.removal import remove

LOCAL = LocalLauncher(max_in_flight=2, poll_interval_s=0.03, start_grace_s=5.0, stop_grace_s=5.0)
NOBODY = lambda _key: False  # noqa: E731 (nothing is known elsewhere)


def run(folder: Path, launcher=None, /, **calls):
    with Pool(folder, launcher or DebugLauncher()) as pool:
        for key, call in calls.items():
            pool.submit(key, call)
        return {outcome.key: outcome for outcome in pool.outcomes() if outcome.is_final}


def clean(folder: Path, is_over=NOBODY) -> set[str]:
    """What went, below `folder`."""
    items = list(removable_attempts(folder, is_over))
    for item in items:
        remove(item.path)
    assert list(removable_attempts(folder, is_over)) == [], "once is enough"
    return {item.path.relative_to(folder).as_posix() for item in items}


def current(folder: Path, key: str) -> Attempt:
    attempt = current_attempt(folder / key)
    assert attempt is not None
    return attempt


def begun(folder: Path, key: str) -> Attempt:
    """An attempt that was submitted and has no result: it runs, or waits in a queue, or died."""
    attempt = new_attempt(folder / key)
    save_call(attempt, jobs.add)
    attempt.mark_submitted("12345")
    attempt.make_current()
    return attempt


def test_results_are_found_again_and_nothing_runs_twice(tmp_path: Path) -> None:
    before = run(tmp_path, LOCAL, often=jobs.StopsOften(2)) | run(tmp_path, add=jobs.add, bad=jobs.raises)
    log = (tmp_path / "attempts.log").read_bytes()
    gone = clean(tmp_path)
    assert {"add/attempt-001/call.pkl", "often/attempt-003/logs", "often/attempt-001", "often/attempt-002"} <= gone
    assert (tmp_path / "attempts.log").read_bytes() == log, "the proof stays"
    again = run(tmp_path, add=jobs.add, often=jobs.StopsOften(2))
    assert again["add"].result == before["add"].result
    assert again["often"].result == before["often"].result
    assert len([line for line in read_events(tmp_path) if line["event"] == "finished"]) == 2


def test_what_failed_keeps_its_result_its_logs_and_its_traceback(tmp_path: Path) -> None:
    run(tmp_path, bad=jobs.raises)
    attempt = current(tmp_path, "bad")
    attempt.logs.mkdir()
    (attempt.logs / "1_log.err").write_text("why")
    (attempt.logs / "1_result.pkl").write_bytes(b"pickle")
    gone = clean(tmp_path)
    assert "bad/attempt-001/call.pkl" in gone
    assert not list(attempt.logs.glob("*.pkl"))
    assert (attempt.logs / "1_log.err").read_text() == "why"
    assert "two" in attempt.traceback.read_text()
    result = attempt.result()
    assert result is not None
    assert result.state == "failed"


def test_what_may_yet_run_keeps_everything(tmp_path: Path) -> None:
    """A job may wait in a cluster's queue while no driver runs."""
    run(tmp_path, LOCAL, done=jobs.add)  # with its copy of the code
    attempt = begun(tmp_path, "waits")
    attempt.logs.mkdir()
    (attempt.logs / "1_submitted.pkl").write_bytes(b"pickle")
    (shared_of(tmp_path / "waits") / "checkpoint").touch()
    assert not [path for path in clean(tmp_path) if path.startswith(("waits", "code"))]
    run(tmp_path, waits=jobs.add)
    assert current(tmp_path, "waits").result() is not None


def test_an_attempt_whose_worker_holds_its_lock_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, add=jobs.add)
    lock = FileLock.acquire(current(tmp_path, "add").lock)
    assert lock is not None
    assert list(removable_attempts(tmp_path, NOBODY)) == []
    lock.release()
    assert list(removable_attempts(tmp_path, NOBODY)) != []


def test_shared_files_go_when_the_key_is_over_and_only_then(tmp_path: Path) -> None:
    run(tmp_path, done=jobs.add, bad=jobs.raises)
    begun(tmp_path, "killed")
    for key in ("done", "bad", "killed"):
        (shared_of(tmp_path / key) / "checkpoint").touch()
    assert {path for path in clean(tmp_path) if path.endswith("shared")} == {"done/shared"}
    assert clean(tmp_path, lambda key: key == "killed") == {"killed/shared"}, "its record is in the store"


def test_a_copy_of_the_code_goes_when_no_attempt_refers_to_it(tmp_path: Path) -> None:
    run(tmp_path, LOCAL, add=partial(jobs.add, b=1))
    name = current(tmp_path, "add").submitted()["code"]
    assert (tmp_path / name).is_dir()
    (tmp_path / "code-0123456789ab").mkdir()
    gone = clean(tmp_path)
    assert "code-0123456789ab" in gone
    assert name not in gone, "the result's own code: a checkout may have had changes that no commit has"


def test_no_copy_of_the_code_goes_while_an_attempt_does_not_say_which_it_runs(tmp_path: Path) -> None:
    run(tmp_path, add=jobs.add)
    (tmp_path / "code-0123456789ab").mkdir()
    (current(tmp_path, "add").folder / "submitted.json").write_text('{"time": 1.0, "job_id": "1"}')
    assert not [path for path in clean(tmp_path) if path.startswith("code-")]


def test_an_arrays_folder_goes_with_the_last_of_its_attempts(tmp_path: Path) -> None:
    run(tmp_path, one=jobs.add)
    array, other = tmp_path / "arrays" / "one.attempt-001", begun(tmp_path, "other")
    array.mkdir(parents=True)
    (array / "submission.sh").touch()
    for attempt in (current(tmp_path, "one"), other):
        if attempt.logs.is_dir():
            remove(attempt.logs)
        attempt.logs.symlink_to(Path("..", "..", "arrays", array.name))
    assert "one/attempt-001/logs" in clean(tmp_path)
    assert (array / "submission.sh").exists(), "the other may be requeued"
    run(tmp_path, other=jobs.add)  # lost: a second attempt has the result, and the first goes
    assert "arrays/one.attempt-001" in clean(tmp_path)
