"""`harness stop` of real drivers and workers: the same command goes on, no step is repeated past a checkpoint, and no
candidate is lost. The proof is the log of attempts and the store."""

import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from driver_processes import start, start_call
from optuna.trial import TrialState
from tiny_study import SWEEP, write_yaml

from harness.cli import main
from harness.launch.events import read_events
from harness.processes.locks import is_held
from harness.records.store import Store
from harness.search.study import stored_study

pytestmark = pytest.mark.timeout(600)

STEPS, CHECKPOINT_EVERY, TRIALS = 80, 10, 2
LONG = [f"recipe.steps={STEPS}", f"recipe.checkpoint_every={CHECKPOINT_EVERY}", "recipe.log_every=1"]
LOCAL = [*LONG, "launcher=local", "launcher.max_in_flight=1"]
ATTEMPTS = Path("runs/search/attempts")


def begin(*words):
    """`harness sweep` in a process of its own."""
    out, here = tempfile.TemporaryFile, Path(__file__).parent
    return start_call("driver_without_floor", [list(words)], out(), out(), path=[here])


def events(*names, folder=ATTEMPTS):
    return [line for line in read_events(folder) if not names or line["event"] in names]


def wait_for(condition, what, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.05)


def trained_past_a_checkpoint():
    return any(Path("runs/search/checkpoints").glob("*/*"))  # a front member's are kept, so they lie with the sweep


def assert_nothing_is_lost_or_repeated():
    study = stored_study(Path("runs/search"), "search")
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) == len(study.trials) == TRIALS
    finished = Counter(line["key"] for line in events("finished"))
    assert finished == {trial.user_attrs["levels"][0]["key"]: 1 for trial in complete}
    records = {record.key: record for record in Store(Path("runs/store")).trials()}
    assert set(records) == set(finished)
    return list(records.values())


@pytest.mark.slow
def test_a_stop_waits_for_what_runs_and_the_same_command_goes_on(workplace, capsys):
    command = ("sweep", "search", f"trials={TRIALS}", *LOCAL)
    driver = begin(*command)
    wait_for(lambda: events("started"), "a worker began")
    assert main(["stop", "search"]) == 0
    assert "starts nothing more and ends when what runs has ended" in capsys.readouterr().out
    assert main(["status", "search"]) == 0
    assert "asked to stop: it waits for what runs" in " ".join(capsys.readouterr().out.split())
    _, complained = driver.communicate(timeout=240)
    assert driver.returncode == 0, complained
    assert "stopped as `harness stop` asked, what ran has ended; the same command continues" in complained
    assert [line["event"] for line in events()] == ["submitted", "started", "finished"], "one ran, and none after it"
    assert sorted(path.name for path in ATTEMPTS.glob("stop*")) == []
    again = begin(*command)
    _, complained = again.communicate(timeout=400)
    assert again.returncode == 0, complained
    records = assert_nothing_is_lost_or_repeated()
    assert [record.provenance["continued_from"] for record in records] == [[], []]
    assert not events("resumed", "lost", "stopped")


@pytest.mark.slow
def test_a_cancelled_sweep_goes_on_from_its_checkpoint(workplace, capsys):
    command = ("sweep", "search", f"trials={TRIALS}", *LOCAL)
    driver = begin(*command)
    wait_for(trained_past_a_checkpoint, "a checkpoint was written")
    assert main(["stop", "search", "--cancel"]) == 0
    assert "has ended, what ran was asked to end and saved" in capsys.readouterr().out
    assert not is_held(ATTEMPTS / "driver.lock")
    assert not any(is_held(path) for path in ATTEMPTS.glob("*/attempt-*/lock")), "no worker outlives it"
    _, complained = driver.communicate(timeout=60)
    assert driver.returncode == 0, complained
    assert "stopped as `harness stop --cancel` asked" in complained
    assert len(events("stopped")) == 1
    again = begin(*command)
    _, complained = again.communicate(timeout=400)
    assert again.returncode == 0, complained
    records = assert_nothing_is_lost_or_repeated()
    assert len(events("resumed")) == 1
    continued = sorted(step for record in records for step in record.provenance["continued_from"])
    assert len(continued) == 1
    assert 0 < continued[0] < STEPS, "it saved where it was asked to end, and went on from there"


@pytest.mark.slow
def test_workers_that_outlive_a_killed_driver_are_told_of_and_end_when_asked(workplace, capsys):
    command = ("sweep", "search", "trials=1", *LOCAL)
    driver = begin(*command)
    wait_for(trained_past_a_checkpoint, "a checkpoint was written")
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert main(["stop", "search"]) == 0
    assert "no driver of search runs; 1 job that outlived it will go on to the end" in capsys.readouterr().out
    assert main(["stop", "search", "--cancel"]) == 0
    assert "no driver of search runs; 1 job that outlived it saved and ended" in capsys.readouterr().out
    assert not any(is_held(path) for path in ATTEMPTS.glob("*/attempt-*/lock"))
    assert main(["stop", "search", "--cancel"]) == 0
    assert "there is nothing to stop" in capsys.readouterr().out
    again = begin(*command)
    _, complained = again.communicate(timeout=400)
    assert again.returncode == 0, complained
    (record,) = Store(Path("runs/store")).trials()
    assert len(record.provenance["continued_from"]) == 1
    assert len(events("finished")) == 1


@pytest.mark.slow
def test_an_ablation_stops_and_goes_on(workplace, capsys):
    folder = Path("runs/tiny/attempts")
    command = ("ablate", "tiny", *LOCAL)
    driver = start(*command)
    wait_for(lambda: folder.exists() and events("started", folder=folder), "a worker began")
    assert main(["stop", "tiny"]) == 0
    _, complained = driver.communicate(timeout=240)
    assert driver.returncode == 130
    assert "harness: stopped as `harness stop` asked, what ran has ended; the same command continues" in complained
    first = len(events("finished", folder=folder))
    assert first == len(events("started", folder=folder)) < 3
    again = start(*command)
    _, complained = again.communicate(timeout=400)
    assert again.returncode == 0, complained
    finished = Counter(line["key"] for line in events("finished", folder=folder))
    assert sorted(finished.values()) == [1, 1, 1], "two rungs and the controls, each once"


def test_a_request_without_a_driver_is_a_sentence_and_leaves_nothing(workplace, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    capsys.readouterr()
    before = sorted(path.name for path in ATTEMPTS.iterdir())
    assert main(["stop", "search"]) == 0
    assert "no driver of search runs" in capsys.readouterr().out
    assert sorted(path.name for path in ATTEMPTS.iterdir()) == before


def test_a_request_to_an_earlier_driver_does_not_stop_the_next(workplace):
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "trials": 1})
    ATTEMPTS.mkdir(parents=True)
    (ATTEMPTS / "stop").touch()
    assert main(["sweep", "search"]) == 0
    assert len(events("finished")) == 1
    assert not (ATTEMPTS / "stop").exists()


def test_a_driver_that_does_not_listen_trains_all(workplace, monkeypatch):
    """The mutation: without the look, a request changes nothing."""
    from harness.launch import pool

    monkeypatch.setattr(pool, "clear_stop_request", lambda _folder: None)  # so that the file of a moment ago counts
    ATTEMPTS.mkdir(parents=True)
    (ATTEMPTS / "stop").touch()
    assert main(["sweep", "search", "trials=2"]) == 0
    assert events() == []
    (ATTEMPTS / "stopping").rename(ATTEMPTS / "stop")
    monkeypatch.setattr(pool, "accept_stop_request", lambda _folder: None)
    assert main(["sweep", "search", "trials=2"]) == 0
    assert len(events("finished")) == 2
