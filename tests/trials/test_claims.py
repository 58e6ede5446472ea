"""A trial is trained once per store, also when two studies want it at the same time, and when one of them is killed."""

import json
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import driver_processes
import pytest
from tiny_study import ABLATION, tiny_spec, write_yaml

from harness.cli import main
from harness.launch.attempt import new_attempt
from harness.launch.config import DebugLauncher, LocalLauncher
from harness.launch.events import read_events
from harness.launch.pool import Pool
from harness.launch.stopping import request_stop
from harness.processes.lease import Heartbeat
from harness.processes.locks import FileLock, lock_driver
from harness.records.store import Store
from harness.trials import claims as claims_module
from harness.trials.claims import Claims
from harness.trials.costs import counted
from harness.trials.outcomes import record_of
from harness.trials.queue import TrialQueue

LAUNCHER = {"kind": "debug"}


@pytest.fixture
def one(tmp_path):
    """A driver of the study `one`: its lock and its claims."""
    lock = lock_driver(tmp_path / "one" / "attempts", LAUNCHER)
    claims = Claims(tmp_path / "store", tmp_path / "one" / "attempts")
    yield lock, claims
    claims.close()
    lock.release()


@pytest.fixture
def two(tmp_path):
    claims = Claims(tmp_path / "store", tmp_path / "two" / "attempts")
    yield claims
    claims.close()


def test_a_claim_keeps_other_studies_away_until_it_is_given_back(one, two):
    _, first = one
    assert first.take("k") is None
    assert first.take("k") is None
    assert two.take("k") == two.holder("k") == "one"
    assert first.holder("k") is None, "its own"
    assert two.take("other") is None
    two.release("k")
    assert two.take("k") == "one", "nobody gives back what is another's"
    first.release("k")
    assert two.take("k") is None


def test_a_claim_ends_with_its_driver(one, two):
    lock, first = one
    first.take("k")
    lock.release()  # as a kill does; its last beat is still there
    assert two.take("k") is None


def test_the_next_driver_of_the_same_study_has_its_claims(one, two, tmp_path):
    lock, first = one
    first.take("k")
    lock.release()
    with lock_driver(tmp_path / "one" / "attempts", LAUNCHER):
        assert Claims(tmp_path / "store", tmp_path / "one" / "attempts").take("k") is None


def test_a_job_that_outlives_its_driver_keeps_the_claim(one, two, tmp_path):
    lock, first = one
    first.take("k")
    attempt = new_attempt(tmp_path / "one" / "attempts" / "k")
    attempt.make_current()
    with FileLock.acquire(attempt.lock):
        lock.release()
        assert two.take("k") == "one"
    assert two.take("k") is None


def test_on_another_host_a_claim_holds_while_its_driver_beats(one, two, tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "LEASE_S", 0.5)
    lock, first = one
    first.take("k")
    lock.release()  # there its lock would not be seen either
    path = tmp_path / "store" / "claims" / "k.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere", "driver": "elsewhere-1-a"}))
    beat = path.with_name("elsewhere-1-a.beat")
    with Heartbeat(beat, 0.1, owner="elsewhere-1-a"):
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            assert two.take("k") == "one"
            time.sleep(0.05)
        last = beat.read_text()
    beat.write_text(last)  # as a kill leaves it
    assert two.take("k") == "one", "nobody knows how old a beat is that is seen for the first time"
    time.sleep(0.6)
    assert two.take("k") is None


def test_a_claim_that_is_cut_anywhere_is_nobodys(one, two, tmp_path):
    _, first = one
    first.take("k")
    path = tmp_path / "store" / "claims" / "k.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert two.take("k") is None
        two.release("k")


@pytest.mark.parametrize("claim", [{}, [], None, {"driver": "a", "host": "b"}, {"driver": 1, "host": 2, "folder": 3}])
def test_a_claim_that_lacks_a_part_is_nobodys(claim, two, tmp_path):
    path = tmp_path / "store" / "claims" / "k.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(claim))
    assert (two.holder("k"), two.take("k")) == (None, None)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")], ids=["missing", "empty"])
def test_where_the_drivers_lock_is_damaged_the_jobs_own_lock_says_whether_it_lives(damage, one, two, tmp_path):
    lock, first = one
    first.take("k")
    attempt = new_attempt(tmp_path / "one" / "attempts" / "k")
    attempt.make_current()
    lock.release()
    damage(tmp_path / "one" / "attempts" / "driver.lock")
    with FileLock.acquire(attempt.lock):
        assert two.take("k") == "one"
    assert two.take("k") is None


def test_no_more_trials_are_claimed_than_there_is_room_for(workplace, monkeypatch):
    monkeypatch.setattr(Pool, "submit", lambda self, key, *_, **__: self._waiting.append(key))
    with Pool(Path("runs/one/attempts"), LocalLauncher(max_in_flight=1)) as pool:
        queue = TrialQueue(pool)
        for seed in range(5):
            assert queue.submit(tiny_spec(seed=seed)) is None
        queue._backlog.start()
        assert len(list(Path("runs/store/claims").glob("*.json"))) == 1


def test_of_many_at_once_one_gets_it(tmp_path):
    folders = [tmp_path / f"study{number}" / "attempts" for number in range(8)]
    locks = [lock_driver(folder, LAUNCHER) for folder in folders]
    claims = [Claims(tmp_path / "store", folder) for folder in folders]
    with ThreadPoolExecutor(len(claims)) as threads:
        for key in map(str, range(20)):
            got = list(threads.map(lambda each, key=key: each.take(key), claims))
            assert got.count(None) == 1
    for each in claims:
        each.close()
    for lock in locks:
        lock.release()


def test_a_trial_of_another_study_is_waited_for_while_others_are_trained(workplace, monkeypatch):
    monkeypatch.setattr(claims_module, "LOOK_EVERY_S", 0.0)
    spec, other = tiny_spec(), tiny_spec(seed=1)
    trained = []

    def train(spec, _folder):
        trained.append(spec.seed)
        record = record_of(spec, "complete", counted(spec.architecture, spec.latent))
        spec.store.put(record)
        return record

    monkeypatch.setattr("harness.trials.queue.run_trial", train)
    with lock_driver(Path("runs/one/attempts"), LAUNCHER), Pool(Path("runs/two/attempts"), DebugLauncher()) as pool:
        first, queue = Claims(Path("runs/store"), Path("runs/one/attempts")), TrialQueue(pool)
        first.take(spec.key)
        assert [queue.submit(each) for each in (spec, other)] == [None, None]
        assert [each.seed for each, _ in queue.poll(0.0)] == [1]
        assert queue.progress()[spec.key].phase == "run by study one"
        assert (queue.in_flight, queue.poll(0.0)) == (1, [])
        spec.store.put(record_of(spec, "complete", counted(spec.architecture, spec.latent)))
        first.release(spec.key)
        ((ended, record),) = queue.poll(0.0)
        assert (ended, record.key, record.state) == (spec, spec.key, "complete")
        assert queue.in_flight == 0
        first.close()
    assert trained == [1]
    assert list(Path("runs/store/claims").glob("*.json")) == []


def test_what_a_killed_study_trained_is_gone_on_with(workplace, monkeypatch):
    """Its driver had the trial in its own process, so nobody goes on with it but whoever takes over."""
    spec, losses = tiny_spec(), []
    with monkeypatch.context() as patched, Pool(Path("runs/one/attempts"), DebugLauncher()) as pool:
        patched.setattr(
            "harness.trials.tasks.denoise.Denoise.batches", Mock(side_effect=KeyboardInterrupt)
        )  # after the last step
        queue = TrialQueue(pool)
        queue.submit(spec)
        with pytest.raises(KeyboardInterrupt):
            queue.poll(0.0)
    (last,) = Path("runs/one/attempts").glob("*/shared/checkpoints/checkpoint-00000006")
    shutil.rmtree(last)
    with Pool(Path("runs/two/attempts"), DebugLauncher()) as pool:
        queue = TrialQueue(pool, on_loss=lambda *words: losses.append(words))
        queue.submit(spec)
        ((_, record),) = queue.poll(0.0)
    assert record.provenance["continued_from"] == [4]
    assert losses == [(spec.label, "study one, which trained it, ended after a checkpoint at step 4")]


@pytest.mark.parametrize("kind", ["ablation", "sweep"])
def test_status_says_which_study_a_trial_waits_for(kind, workplace, capsys, monkeypatch):
    """Both studies want the same two trials; the first one's driver lives and has them."""
    name = "tiny" if kind == "ablation" else "search"
    knobs = {"ffn": {"path": "feed_forward.ratio", "choices": [2]}}
    write_yaml(Path("search_spaces/tiny.yaml"), {"base": "tiny_base.yaml", "knobs": knobs})
    spec = tiny_spec(edits={"feed_forward.ratio": 2})

    def stop_once_it_waits(_show, progress):
        if any("study one" in each.phase for each in progress.values()):
            request_stop(Path(f"runs/{name}/attempts"), "cancel")

    monkeypatch.setattr("harness.trials.progress.Show.running", stop_once_it_waits)
    with lock_driver(Path("runs/one/attempts"), LAUNCHER):
        claims = Claims(Path("runs/store"), Path("runs/one/attempts"))
        claims.take(spec.key)
        main(["ablate" if kind == "ablation" else "sweep", name])
        capsys.readouterr()
        assert main(["status", name]) == 0
        assert "study one trains it" in capsys.readouterr().out
        claims.close()
    assert main(["status", name]) == 0
    assert "study one" not in capsys.readouterr().out


STEPS = ["recipe.steps=150", "recipe.checkpoint_every=150", "launcher=local", "launcher.max_in_flight=1"]


def start(name):
    return driver_processes.start("ablate", name, *STEPS)


def jobs(event):
    return Counter(line["key"] for name in ("one", "two") for line in events(name) if line["event"] == event)


def events(name):
    return read_events(Path(f"runs/{name}/attempts"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", [False, True])
def test_two_drivers_train_each_trial_once_also_when_the_first_is_killed(workplace, killed):
    """Killed, the first leaves a worker that goes on; the second waits for that one's result, and trains the rest."""
    for name in ("one", "two"):
        write_yaml(Path(f"sweeps/{name}.yaml"), ABLATION)
    first = start("one")
    deadline = time.monotonic() + 120
    while not any(line["event"] == "started" for line in events("one")):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    second = start("two")
    if killed:
        first.kill()
    codes = [driver.wait(timeout=400) for driver in (first, second)]
    outputs = [driver.communicate() for driver in (first, second)]
    assert codes == [-9 if killed else 0, 0], outputs
    finished = jobs("finished")
    assert set(finished.values()) == {1}, finished
    assert len(finished) == 3  # two trials and the controls
    assert jobs("started") == finished
    assert len(list(Store(Path("runs/store")).trials())) == 2
    if killed:
        assert {line["event"] for line in events("two")} == {"submitted", "started", "finished"}
