"""What `harness status` tells: held against the study, the workers and arithmetic, over made-up scores."""

import json
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_sweep import OBJECTIVES, World, score
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.launch.attempt import new_attempt
from harness.launch.events import log_event, report_progress
from harness.launch.observe import (
    Driver,
    FinishedJob,
    JobGroup,
    TimeLeft,
    WorkLog,
    driver_of,
    jobs_of,
    pace_of,
    time_left,
    work_log_of,
)
from harness.processes.locks import DRIVER_LOCK, FileLock, is_held
from harness.records.better import front_of
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.sweep_summary import grouped
from harness.search import status
from harness.search.candidates import FreshScore, candidate_of
from harness.search.definition import Finalists
from harness.search.finalists import rescore_finalists
from harness.search.status import _final_round, read_stored, sweep_status, sweep_summary
from harness.search.study import DEFINITION, stored_study

BUDGETS = (100, 300)


def sometimes(spec):
    odd = spec.architecture.feed_forward.ratio == 3
    return "training diverged at step 7" if odd and spec.settings.recipe.steps == 300 else score(spec)


def driven(folder, *, storage="sqlite", trials=12):
    """A sweep that ended, with every state among its candidates."""
    world = World(folder, sometimes)
    settings = {"trials": trials, "budgets": BUDGETS, "limits": {"macs": 20_000}, "storage": storage, "sampler": "tpe"}
    driver = world.driver(**settings)
    world.study.set_user_attr("began", {"objectives": OBJECTIVES, "budgets": list(BUDGETS), "reduction": 3})
    world.study.set_user_attr(DEFINITION, to_plain(driver.definition))
    driver.run()
    return world


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_what_is_read_from_outside_is_what_optuna_reads(tmp_path, cheap, storage):
    driven(tmp_path, storage=storage)
    found = read_stored(tmp_path, "fake")
    study = stored_study(tmp_path, "fake")
    candidates = [candidate_of(trial) for trial in study.get_trials(deepcopy=False)]
    assert {each.state for each in found.candidates} >= {"complete", "refused", "stopped"}
    assert [(c.number, c.state, list(c.levels), dict(c.parameters)) for c in found.candidates] == [
        (c.number, c.state, c.levels, dict(c.parameters)) for c in candidates
    ]
    assert [type(value) for c in found.candidates for value in c.parameters.values()] == [
        type(value) for c in candidates for value in c.parameters.values()
    ]
    assert found.attributes == study.user_attrs


def test_the_counts_and_the_front_are_the_studys(tmp_path, cheap):
    world = driven(tmp_path)
    status = sweep_status(tmp_path, "fake")
    states = Counter(candidate.state for candidate in world.candidates)
    assert status.states == {**dict.fromkeys(status.states, 0), **states}
    assert status.states["running"] == status.states["waiting for promotion"] == 0
    best = sorted(world.study.best_trials, key=lambda trial: trial.values)
    assert [(point.name, point.values) for point in status.front] == [
        (f"trial-{trial.number}", tuple(trial.values)) for trial in best
    ]
    results = Counter(level.steps for each in world.candidates for level in each.levels if level.values is not None)
    assert [(each.steps, each.results) for each in status.budgets] == sorted(results.items())
    assert sum(reason.times for reason in status.reasons["refused"]) == states["refused"]
    assert status.trials == 12
    assert json.loads(json.dumps(to_plain(status)))["states"] == status.states


def test_the_final_round_is_seen_and_its_gpu_hours_count(tmp_path, cheap, monkeypatch):
    """A look at each moment at which the driver waits; three finalists, two seeds each, one worker."""
    world, wanted, looks = World(tmp_path, workers=1, gpu=3.6), Finalists(most=3, seeds=2), []
    driver = world.driver(trials=6, budgets=(100,), finalists=wanted)
    world.study.set_user_attr("began", {"objectives": OBJECTIVES, "budgets": [100]})
    world.study.set_user_attr(DEFINITION, to_plain(driver.definition))
    ended, poll = driver.run(), driver.queue.poll

    def looking(timeout_s):
        looks.append(sweep_status(tmp_path, "fake"))
        return poll(timeout_s)

    monkeypatch.setattr(driver.queue, "poll", looking)
    rescore_finalists(driver, wanted, ended)
    last = sweep_status(tmp_path, "fake")
    finalists = [each.name for each in last.rescored]
    trained = [f"{spec.name}, seed {spec.seed}" for spec in world.workers.trained if spec.fidelity == "final"]
    assert [[(each.name, each.steps) for each in look.running] for look in looks] == [[(name, 100)] for name in trained]
    assert [sum(each.scored for each in look.rescored) for look in looks] == list(range(6))
    assert {look.states["complete"] for look in looks} == {6}, "a finalist stays complete"
    assert [(each.scored, each.running, each.failed) for each in last.rescored] == [(2, 0, 0)] * len(finalists)
    assert last.gpu_hours == pytest.approx(3.6 * 100 * (6 + 6) / 3600)
    assert last.gpu_hours == pytest.approx(world.candidates.gpu_seconds / 3600)


@pytest.mark.parametrize(
    ("again", "wanted", "to_come"),
    [
        ({}, None, 0),
        ({}, {"most": 3, "seeds": 2}, 6),
        ({"a": (1,)}, {"most": 3, "seeds": 2}, 5),
        ({"a": (1, 2), "b": (1,)}, {"most": 3, "seeds": 2}, 1),  # a second seed begins when all have had their first
        ({"a": (1, 2)}, None, 0),
    ],
)
def test_what_is_left_of_the_final_round(again, wanted, to_come):
    scores = {
        name: tuple(FreshScore(seed=seed, key=f"{name}{seed}") for seed in seeds) for name, seeds in again.items()
    }
    kind = _final_round(scores, wanted, 100, RUNS)
    assert (kind.to_come, len(kind.running)) == (to_come, sum(map(len, again.values())))


def test_reading_changes_no_byte_and_no_time(tmp_path, cheap):
    for storage in ("sqlite", "journal"):
        folder = tmp_path / storage
        folder.mkdir()
        driven(folder, storage=storage)
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
        assert sweep_status(folder, "fake") is not None
        assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()} == (
            before
        )


def test_a_driver_that_writes_is_read_and_not_disturbed(tmp_path, cheap, monkeypatch):
    """Between any two writes of the driver somebody looks; a look in the middle of a transaction waits for it."""
    world = World(tmp_path)
    driver = world.driver(trials=6, budgets=BUDGETS)
    world.study.set_user_attr("began", {"objectives": OBJECTIVES, "budgets": list(BUDGETS), "reduction": 3})
    looks = []
    for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values"):
        function = getattr(driver.candidates._storage, name)

        def looking(*arguments, _function=function, **more):
            looks.append(sweep_status(tmp_path, "fake").states)
            return _function(*arguments, **more)

        monkeypatch.setattr(driver.candidates._storage, name, looking)
    driver.run()
    assert len(looks) > 12
    assert any(states["waiting for promotion"] for states in looks)
    assert sweep_status(tmp_path, "fake").states["complete"] == 2
    with sqlite3.connect(tmp_path / "study.db") as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE trials SET state = 'FAIL'")
        assert sweep_status(tmp_path, "fake").states["complete"] == 2, "what is not committed is not seen"
        writer.rollback()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
def test_the_front_is_what_nobody_dominates(points):
    values = [(float(low), float(high)) for low, high in points]
    losses = np.array([(low, -high) for low, high in values]).reshape(-1, 2)
    beaten = [any((other <= one).all() and (other < one).any() for other in losses) for one in losses]
    front = front_of(values, ("minimize", "maximize"))
    assert sorted(front) == [at for at, lost in enumerate(beaten) if not lost]
    assert [values[at][0] for at in front] == sorted(values[at][0] for at in front)


def test_sentences_that_differ_in_numbers_are_one_reason():
    said = [f"macs is {value:,}, above the limit of 20,000" for value in (21_000, 1_345_678, 30_500)]
    first, second = grouped(["a rule of stage 2", *said])
    assert (first.text, first.times) == ("macs is ..., above the limit of 20,000", 3)
    assert (second.text, second.times) == ("a rule of stage 2", 1)


def test_a_worker_lives_while_it_holds_its_lock(tmp_path):
    with FileLock.acquire(tmp_path / DRIVER_LOCK, command="harness sweep x", launcher={"kind": "local"}):
        attempt = new_attempt(tmp_path / "k")
        attempt.mark_submitted("17")
        attempt.make_current()
        assert [(job.worker, job.where) for job in jobs_of(tmp_path)] == [("has not begun", "job 17")]
        with FileLock.acquire(attempt.lock):
            report_progress(attempt.folder, "train", 40, 100)
            (job,) = jobs_of(tmp_path, ["k"])
            assert (job.worker, job.progress.phase, job.progress.step) == ("lives", "train", 40)
        assert jobs_of(tmp_path)[0].worker == "is gone"
        assert driver_of(tmp_path).runs
    assert not driver_of(tmp_path).runs
    assert driver_of(tmp_path).command == "harness sweep x"


def test_looking_at_a_lock_needs_no_right_to_write_and_many_may_look(tmp_path):
    path = tmp_path / "lock"
    FileLock.acquire(path).release()
    path.chmod(0o444)
    assert not is_held(path)
    descriptor = path.open()
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_SH)  # another one looks at this moment
    assert not is_held(path)


def test_seconds_of_work_leave_out_the_time_between_attempts(tmp_path, monkeypatch):
    clock = iter([0.0, 10.0, 500.0, 520.0])
    monkeypatch.setattr("harness.launch.events.time.time", lambda: next(clock))
    for event, attempt in (("started", "a1"), ("stopped", "a1"), ("resumed", "a2"), ("finished", "a2")):
        log_event(tmp_path, event, key="k", attempt=attempt)
    assert work_log_of(tmp_path).finished == (FinishedJob(key="k", seconds=30.0, at=520.0),)
    with (tmp_path / "attempts.log").open("a") as log:
        log.write('{"event": "finis')  # being written
    assert work_log_of(tmp_path).damage == ""
    with (tmp_path / "attempts.log").open("a") as log:
        log.write("\n")
    assert "is damaged" in work_log_of(tmp_path).damage


def work(*ends, seconds=60.0):
    return WorkLog(finished=tuple(FinishedJob(key=f"k{at}", seconds=seconds, at=at) for at in ends), began={})


KEYS = frozenset(f"k{at}" for at in range(20_000))
RUNS = Driver(runs=True, since=1000.0, at_once=2)


def test_the_pace_is_of_the_last_hour_or_the_last_ten_jobs():
    busy = pace_of(work(*range(1000, 11_800, 60)), KEYS, RUNS, 11_800)
    assert (busy.ended, busy.hours, busy.per_hour) == (60, 1.0, 60.0)
    slow = pace_of(work(2000, 6000, 10_000), KEYS, RUNS, 11_800)
    assert (slow.ended, slow.per_hour) == (3, pytest.approx(3 / (9800 / 3600)))
    assert pace_of(work(500, 600, 11_000), KEYS, RUNS, 11_800) is None, "before this driver, and one"


def test_an_estimate_is_the_mean_times_what_is_left_over_what_runs_at_once():
    done = work(1060, 1120, 1180, 1240)
    done.began["r"] = 1240.0
    low = JobGroup(name="100 steps", keys=KEYS, running=frozenset({"r"}), to_come=5, size=100)
    high = JobGroup(name="300 steps", keys=frozenset(), running=frozenset(), to_come=2, size=200)
    found = time_left(done, [low, high], RUNS, 1270.0)
    assert isinstance(found, TimeLeft)
    assert found.seconds == pytest.approx((30 + 5 * 60 + 2 * 120) / 2)
    assert "scaled by steps" in found.rests_on
    last = JobGroup(name="", keys=KEYS, running=frozenset(), to_come=1)
    assert time_left(done, [last], RUNS, 1270.0).seconds == 60.0, "one job is not shared by two workers"


def test_no_estimate_without_a_driver_or_two_results():
    kind = JobGroup(name="", keys=KEYS, running=frozenset(), to_come=5)
    assert time_left(work(1060, 1120), [kind], Driver(runs=False), 1200.0) == "no driver runs"
    assert time_left(work(1060), [kind], RUNS, 1200.0) == "fewer than 2 results"


@pytest.mark.parametrize("damage", ["sweep.json", "study.db"])
def test_a_damaged_study_is_a_sentence(tmp_path, cheap, damage):
    driven(tmp_path, trials=2)
    (tmp_path / damage).write_bytes(b"{ no study" * 200)
    with pytest.raises(UserError, match="cannot read"):
        sweep_status(tmp_path, "fake")


def test_a_study_of_a_version_that_kept_less_is_a_sentence(tmp_path, cheap):
    """Its page, too."""
    driven(tmp_path, trials=2)  # without the seed and the protocol that a study begins with now
    with pytest.raises(UserError, match="is no study that this version can read: KeyError 'seed'"):
        sweep_summary(tmp_path, "fake")


def test_a_study_without_its_file_or_its_tables_is_none(tmp_path, cheap):
    driven(tmp_path, trials=2)
    (tmp_path / "study.db").unlink()
    assert sweep_status(tmp_path, "fake") is None
    assert not (tmp_path / "study.db").exists(), "it is not made by looking"


def test_a_write_that_a_death_cut_short_is_a_sentence(tmp_path, cheap, monkeypatch):
    """The journal of a transaction whose writer died: SQLite rolls it back when somebody who may write opens it."""
    driven(tmp_path, trials=2)
    writer = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    writer.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the end
    writer.execute("BEGIN")
    writer.execute("UPDATE trial_user_attributes SET value_json = value_json || printf('%4000s', '')")
    for name in ("study.db", "study.db-journal"):
        shutil.copy(tmp_path / name, tmp_path / f"dead-{name}")
    writer.execute("ROLLBACK")
    writer.close()
    for name in ("study.db", "study.db-journal"):
        (tmp_path / f"dead-{name}").replace(tmp_path / name)
    with pytest.raises(UserError, match="left in the middle of a write"):
        sweep_status(tmp_path, "fake")


OWN_KEYS = ("param_id", "trial_user_attribute_id", "trial_value_id")


def shifted(column, by):
    """A column of a copied row: its own key is new, and so is its trial."""
    if column in ("trial_id", "number"):
        return f"{column} + {by}"
    return "NULL" if column in OWN_KEYS else column


def test_reading_ten_thousand_candidates_takes_seconds(tmp_path, cheap):
    """A study of four is copied until it has ten thousand; measured in CPU seconds, since the machine may be busy."""
    driven(tmp_path, trials=4)
    with sqlite3.connect(tmp_path / "study.db") as file:
        columns = {
            table: [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
            for table in ("trials", "trial_params", "trial_user_attributes", "trial_values")
        }
        count = file.execute("SELECT COUNT(*) FROM trials").fetchone()[0]
        for shift in range(count, 10_000, count):
            for table, names in columns.items():
                shown = ", ".join(shifted(name, shift) for name in names)
                file.execute(f"INSERT INTO {table} SELECT {shown} FROM {table} WHERE trial_id <= {count}")
    began = time.process_time()
    status = sweep_status(tmp_path, "fake")
    assert sum(status.states.values()) >= 10_000
    assert time.process_time() - began < 3.0


def test_the_reader_leaves_torch_alone():
    import subprocess
    import sys

    code = "import harness.commands.status, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(status.__file__).parents[2]).returncode == 0


def test_watched_through_a_pipe_it_is_written_again_until_the_end(tmp_path, cheap, monkeypatch, capsys):
    from harness.commands import status as command

    (tmp_path / "fake").mkdir()
    driven(tmp_path / "fake")
    monkeypatch.setattr(command, "PIPE_EVERY_S", 0.0)
    lives = iter([True, True, False])
    monkeypatch.setattr(command, "_lives", lambda _status: next(lives))
    assert main(["status", "fake", "--watch", f"out={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert out.count("Ctrl-C ends the watching") == 2
    assert out.rstrip().endswith("no driver runs, so nothing more will change")
