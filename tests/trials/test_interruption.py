"""Kill -9 and Ctrl-C of a real `harness ablate`: the same command finishes it, and the log shows no work done twice."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import driver_processes
import pytest
from tiny_study import lay_out

from harness.cli import main
from harness.launch.events import read_events
from harness.records.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("interruption")]  # one undisturbed

STEPS, CHECKPOINT_EVERY = 100, 5
SETTINGS = [f"recipe.steps={STEPS}", f"recipe.checkpoint_every={CHECKPOINT_EVERY}", "recipe.log_every=1"]
COMMAND = ["ablate", "tiny", *SETTINGS, "launcher=local", "launcher.max_in_flight=2"]
ATTEMPTS = Path("runs/tiny/attempts")
JOBS = 3  # two rungs and the controls
BEGAN, ENDED = ("started", "resumed"), ("finished", "failed", "stopped", "lost")


def start():
    return driver_processes.start(*COMMAND)


def events(*names):
    return [line for line in read_events(ATTEMPTS) if not names or line["event"] in names]


def running():
    """(key, attempt) -> pid of every worker that began and has not ended, as far as the log knows."""
    pids = {}
    for line in events():
        if line["event"] in BEGAN:
            pids[line["key"], line["attempt"]] = line["pid"]
        elif line["event"] in ENDED:
            pids.pop((line["key"], line["attempt"]), None)
    return pids


def wait_for_a_worker(driver, *, after):
    """Until a worker began since event number `after`, or the driver is done."""
    deadline = time.monotonic() + 120
    while driver.poll() is None and not any(line["event"] in BEGAN for line in events()[after:]):
        assert time.monotonic() < deadline, "no worker began"
        time.sleep(0.05)


def done_twice():
    """What the log says was done twice: a key after its end, two workers at once at one key."""
    faults, at_work, finished = [], {}, Counter()
    for line in events():
        key, attempt = line["key"], line["attempt"]
        if line["event"] in BEGAN:
            if finished[key]:
                faults.append(f"{key} began again after it was finished")
            if key in at_work:
                faults.append(f"{key}: {attempt} began beside {at_work[key]}")
            at_work[key] = attempt
        elif line["event"] in ENDED and at_work.get(key) == attempt:
            del at_work[key]
        finished[key] += line["event"] == "finished"
    return faults + [f"{key} finished {times} times" for key, times in finished.items() if times != 1]


def assert_finished(driver):
    output, complained = driver.communicate(timeout=300)
    assert driver.returncode == 0, complained
    assert output.strip().endswith("report.html")
    assert done_twice() == []
    assert len(events("finished")) == JOBS
    records = list(Store(Path("runs/store")).trials())
    assert [record.state for record in records] == ["complete"] * 2
    return {record.name: record for record in records}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    """The records of the same study, run in this process without a stop."""
    folder = lay_out(tmp_path_factory.mktemp("undisturbed"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["ablate", "tiny", *SETTINGS]) == 0
    return {record.name: record for record in Store(folder / "runs" / "store").trials()}


def assert_equal(records, undisturbed):
    for name, record in undisturbed.items():
        assert records[name].curve == record.curve
        for quantity in ("kid", "fd", "class_agreement", "validation_loss"):
            assert records[name].quantities[quantity] == record.quantities[quantity]


def test_kill_9_of_workers_and_drivers_loses_nothing_and_repeats_nothing(workplace, undisturbed):
    chance, killed = random.Random(5), Counter()
    for _ in range(8):
        if min(killed["worker"], killed["driver"]) >= 2:
            break
        driver = start()
        wait_for_a_worker(driver, after=len(events()))
        time.sleep(chance.uniform(0.0, 0.3))  # a forked worker trains at once, and not for long
        for pid in chance.sample(workers := sorted(running().values()), len(workers)):
            with contextlib.suppress(ProcessLookupError):  # it has ended, or was killed before
                os.kill(pid, signal.SIGKILL)
                killed["worker"] += 1
                break
        time.sleep(chance.uniform(0.0, 0.5))
        driver.kill()
        driver.communicate()
        killed["driver"] += driver.returncode == -signal.SIGKILL
    records = assert_finished(start())
    assert killed["worker"] >= 2, "a storm without lightning proves nothing"
    assert killed["driver"] >= 2, "a storm without lightning proves nothing"
    assert len(events("lost")) >= 1
    continued = [step for record in records.values() for step in record.provenance["continued_from"]]
    assert all(step % CHECKPOINT_EVERY == 0 for step in continued), "from a checkpoint, not from the beginning"
    assert_equal(records, undisturbed)


def test_ctrl_c_ends_with_a_sentence_and_the_same_command_continues(workplace, undisturbed):
    driver = start()
    wait_for_a_worker(driver, after=0)
    time.sleep(0.3)
    driver.send_signal(signal.SIGINT)
    _, complained = driver.communicate(timeout=120)
    assert driver.returncode == 130, complained
    assert "harness: stopped; the same command continues" in complained
    assert running() == {}, "no worker outlives its driver's Ctrl-C"
    assert events("stopped")
    records = assert_finished(start())
    assert_equal(records, undisturbed)
    assert len(events("resumed")) >= 1


def test_the_proof_sees_red_when_a_finished_job_runs_again(workplace):
    ATTEMPTS.mkdir(parents=True)
    line = '{{"event": "{}", "key": "k", "attempt": "{}", "pid": 1}}\n'
    log = [("started", "a1"), ("finished", "a1"), ("started", "a2"), ("finished", "a2")]
    (ATTEMPTS / "attempts.log").write_text("".join(line.format(*entry) for entry in log))
    assert done_twice() == ["k began again after it was finished", "k finished 2 times"]
