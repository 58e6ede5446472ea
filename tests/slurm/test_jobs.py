"""Jobs on a real Slurm: what its users and its limits do to them, proved from the logs that workers append to.

The order is that of the file: the jobs that meet their time limit start first and end while other tests run; what takes
the node down comes last. No test races a job: what it does to one, it does while the job is `held` (see slurm_jobs).
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, limits_memory
from slurm_driver import HELD, SETTINGS, Driver, eventually
from slurm_jobs import Saves

from harness.launch.config import SlurmLauncher
from harness.launch.jobs import launcher_of, living_jobs, recall
from harness.launch.observe import driver_of, jobs_of
from harness.launch.pool import Pool

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

Drive = Callable[..., Driver]
LIMIT = {"timeout_min": 2, "signal_delay_s": 80}
"""Slurm looks at the limits each 30 s and warns at the look before it would be late: from 10 s to 40 s after the start.
At least 80 s remain to save and leave."""
SAVES = ["Saves", {"steps": 24, "held": HELD}]
DEAF = ["Deaf", {"steps": 24, "held": HELD}]


@pytest.fixture(scope="module")
def slow(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Driver]]:
    """Studies whose jobs meet the time limit, all at once."""
    folder = tmp_path_factory.mktemp("slow")
    deaf = {"timeout_min": 2, "signal_delay_s": 5}
    drivers = {
        "warned": Driver(folder / "warned", jobs={"key": SAVES}, launcher=LIMIT, attempts=1),
        "spent": Driver(folder / "spent", jobs={"key": SAVES}, launcher=LIMIT | {"max_requeues": 0}),
        "deaf": Driver(folder / "deaf", jobs={"key": DEAF}, launcher=deaf, attempts=1),
    }
    yield drivers
    for driver in drivers.values():
        driver.kill()


def test_keys_that_wait_together_are_one_array_with_a_cap(
    slow: dict[str, Driver], drive: Drive, cluster: Cluster
) -> None:
    todo = {f"k{index}": ["Saves", {"steps": 4, "held": 0}] for index in range(5)}
    driver = drive(jobs=todo, launcher={"array_parallelism": 2})
    driver.wait(lambda: len(driver.events("started")) >= 2)
    driver.let_go(*todo)
    assert {outcome["state"] for outcome in driver.ended().values()} == {"done"}
    running = most = 0
    for line in driver.events("started", "finished"):
        running += 1 if line["event"] == "started" else -1
        most = max(most, running)
    assert most == 2
    accounting = ("sacct", "-n", "-P", "-X", "--format=JobID,State", "--jobs")
    array = cluster.run(*accounting, driver.job("k0")).split("_")[0]
    tasks = [f"{array}_{index}|COMPLETED" for index in range(5)]
    eventually(lambda: sorted(cluster.run(*accounting, array).split()) == tasks)


def test_failures_come_back_with_their_reason(drive: Drive) -> None:
    driver = drive(jobs={"bad": ["Fails", {}]})
    assert driver.ended()["bad"]["error"] == "ValueError: as it should"
    assert driver.story("bad") == ["submitted 1", "started 1", "failed 1"]


@pytest.mark.parametrize(
    ("launcher", "sentence"),
    [
        ({"partition": "mian"}, "unknown partition 'mian'; choose one of: main, "),
        ({"account": "nobody"}, "refused account 'nobody' with partition 'main'"),
        ({"constraint": "a100"}, "Slurm refused the job (sbatch: error: Batch job submission failed: Invalid feature"),
        ({"gpus": 1}, "Slurm refused the job (sbatch: error: "),
    ],
)
def test_what_slurm_does_not_have_is_one_sentence(drive: Drive, launcher: dict[str, object], sentence: str) -> None:
    words = drive(jobs={"key": ["Saves", {}]}, launcher=launcher).said().splitlines()[-1]  # after sbatch's own
    assert sentence in words
    if "partition" in launcher:
        assert all(name in words for name in ("graced", "high", "low", "spot"))
    if "account" in launcher:
        assert "your accounts: lab, root; partitions: graced, high, low, main, spot" in words


def test_settings_reach_slurm(drive: Drive, cluster: Cluster) -> None:
    driver = drive(jobs={"key": ["Saves", {"steps": 8}]}, launcher={"account": "lab", "constraint": "plain", "cpus": 2})
    driver.wait(lambda: driver.events("started"))
    shown = cluster.run("scontrol", "--oneliner", "show", "job", driver.job("key"))
    for setting in ("Account=lab", "Features=plain", "NumCPUs=2", "TimeLimit=00:10:00", "JobName=key", "Requeue=1"):
        assert f" {setting}" in shown
    assert driver.ended()["key"]["state"] == "done"


def test_a_snapshot_runs_not_the_checkout(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(__file__).parent.parent.parent
    monkeypatch.chdir(checkout)  # Python would import from there first
    driver = drive(jobs={"key": ["Code", {}]})
    code = driver.ended()["key"]["result"]
    assert code["working_directory"] == str(checkout)
    snapshot = Path(code["package"]).parent
    assert snapshot == driver.folder / f"code-{code['state']['snapshot']}"
    assert len(code["state"]["commit"]) == 40


def test_out_of_memory_fails_at_once_with_that_reason(drive: Drive) -> None:
    if not limits_memory():
        pytest.skip("this machine has no memory controller of cgroup v1, by which Slurm 22.05 limits memory")
    driver = drive(jobs={"key": ["Hungry", {"mb": 800}]})
    assert "needed more memory than it asked for; raise launcher.mem_gb" in driver.ended()["key"]["error"]
    assert driver.story("key") == ["submitted 1", "started 1", "failed 1"]


def test_scontrol_requeue_saves_and_the_same_attempt_goes_on(drive: Drive, cluster: Cluster) -> None:
    """The second job does not save, on purpose: the proof must see its repeated steps."""
    forgetful = ["Saves", {"steps": 20, "held": HELD, "saves": False}]
    driver = drive(jobs={"key": ["Saves", {"steps": 20, "held": HELD}], "forgets": forgetful}, attempts=1)
    driver.wait_for_step("key", "forgets")
    for key in ("key", "forgets"):
        cluster.run("scontrol", "requeue", driver.job(key))
    assert driver.ended()["key"]["result"]["from"] == HELD + 1
    assert driver.story("key") == ["submitted 1", "started 1", "stopped 1", "resumed 1", "finished 1"]
    assert driver.events("resumed")[0]["restart"] == "1"
    assert driver.steps("key") == list(range(20))
    assert driver.steps("forgets") == [*range(HELD + 1), *range(20)]


def test_scancel_ends_that_trial_with_who_and_when_and_the_same_command_tries_it_again(
    drive: Drive, cluster: Cluster
) -> None:
    todo = {key: ["Saves", {"steps": 20, "held": HELD}] for key in ("one", "two")}
    driver = drive(jobs=todo)
    driver.wait_for_step("one", "two")
    cluster.run("scancel", driver.job("one"))
    driver.wait(lambda: driver.events("stopped", key="one"))
    driver.let_go("two")
    ended = driver.ended()
    assert (ended["one"]["state"], ended["two"]["state"]) == ("failed", "done")
    assert "was cancelled by root at 20" in ended["one"]["error"]
    assert driver.story("one") == ["submitted 1", "started 1", "stopped 1", "cancelled 1"]
    again = drive(jobs=todo)
    assert {outcome["state"] for outcome in again.ended().values()} == {"done"}
    assert again.story("one")[4:] == ["submitted 2", "resumed 2", "finished 2"]
    assert again.steps("one") == list(range(20))


def test_jobs_outlive_a_killed_driver_and_the_next_one_finds_them(drive: Drive, cluster: Cluster) -> None:
    """One goes on running, one ends, one is cancelled and still ending, one waits: without a driver."""
    todo = {key: ["Saves", {"steps": 12, "held": HELD}] for key in ("runs", "ends", "goes")}
    todo |= {"waits": ["Saves", {"steps": 4}]}
    driver = drive(jobs=todo, launcher={"array_parallelism": 3})
    driver.wait_for_step("runs", "ends", "goes")
    driver.kill()
    driver.let_go("ends")
    eventually(lambda: driver.events("finished", key="ends"))
    with cluster.jobs_cannot_end():
        cluster.run("scancel", driver.job("goes"))
        eventually(lambda: driver.events("stopped", key="goes"))
        again = drive(jobs=todo)
        again.wait(lambda: again.events("found", key="runs") and again.events("found", key="goes"))
    again.let_go("runs")
    assert {key: outcome["state"] for key, outcome in again.ended().items()} == dict.fromkeys(todo, "done")
    assert all(sorted(again.steps(key)) == list(range(job[1]["steps"])) for key, job in todo.items())
    assert again.story("runs") == ["submitted 1", "started 1", "found 1", "finished 1"]
    assert again.story("ends") == ["submitted 1", "started 1", "finished 1"]
    first = ["submitted 1", "started 1", "stopped 1", "found 1", "cancelled 1"]
    assert again.story("goes") == [*first, "submitted 2", "resumed 2", "finished 2"]


def test_jobs_without_a_driver_are_seen_and_can_be_recalled(drive: Drive) -> None:
    """Two run and one waits in the queue, as `harness status` sees and `harness stop --cancel` ends."""
    todo = {key: ["Saves", {"steps": 12, "held": HELD}] for key in ("one", "two")} | {"waits": ["Saves", {"steps": 4}]}
    driver = drive(jobs=todo, launcher={"array_parallelism": 2})
    driver.wait_for_step("one", "two")
    driver.kill()
    assert not driver_of(driver.folder).runs
    seen = {job.key: job for job in jobs_of(driver.folder)}
    assert {key: job.worker for key, job in seen.items()} == {"one": "lives", "two": "lives", "waits": "has not begun"}
    assert seen["waits"].where.startswith("job ")
    assert sorted(recall(driver.folder)) == sorted(todo)
    eventually(lambda: not living_jobs(driver.folder, launcher_of(driver.folder)))
    assert [driver.story(key)[-1] for key in todo] == ["stopped 1", "stopped 1", "submitted 1"]
    driver.let_go("one", "two")
    again = drive(jobs=todo)
    assert {key: outcome["state"] for key, outcome in again.ended().items()} == dict.fromkeys(todo, "done")
    assert all(sorted(again.steps(key)) == list(range(job[1]["steps"])) for key, job in todo.items())


def test_a_driver_that_cancels_its_jobs_finds_them_saved_when_it_comes_back_at_once(
    drive: Drive, tmp_path: Path
) -> None:
    with Pool(tmp_path / "study" / "attempts", SlurmLauncher(**SETTINGS)) as pool:
        pool.submit("key", Saves(steps=20, held=0))
        eventually(lambda: pool.poll(0.1) or list(pool.folder.glob("key/shared/steps.log")))
        pool.stop(cancel=True)
    driver = drive(jobs={"key": ["Saves", {"steps": 20}]}, attempts=1)
    assert driver.ended()["key"]["state"] == "done"
    assert driver.steps("key") == list(range(20))


def test_the_warning_before_the_time_limit_saves_and_requeues(slow: dict[str, Driver]) -> None:
    """No step is lost or repeated though nothing but the signal makes it save; no attempt but the first."""
    driver = slow["warned"]
    assert driver.ended()["key"]["state"] == "done"
    story = driver.story("key")
    requeues = story.count("requeued 1")
    assert requeues >= 1
    assert story == ["submitted 1", "started 1", *["requeued 1", "resumed 1"] * requeues, "finished 1"]
    assert driver.steps("key") == list(range(24))


def test_too_many_time_limits_are_a_failure_with_that_reason(slow: dict[str, Driver]) -> None:
    driver = slow["spent"]
    assert "reached its time limit of 2 min 1 times; raise launcher.timeout_min" in driver.ended()["key"]["error"]
    assert driver.story("key") == ["submitted 1", "started 1", "failed 1"]


def test_a_job_that_hears_no_warning_is_continued_by_the_driver(slow: dict[str, Driver]) -> None:
    """Slurm kills it at its limit (TIMEOUT): the next attempt goes on from the checkpoint, and that is no loss."""
    driver = slow["deaf"]
    outcome = driver.ended(600)["key"]
    assert outcome["state"] == "done"
    assert driver.story("key") == ["submitted 1", "started 1", "lost 1", "submitted 2", "resumed 2", "finished 2"]
    assert "reached its time limit" in driver.events("lost")[0]["error"]
    assert_done_once(driver)


@pytest.mark.parametrize(
    ("partition", "job", "story"),
    [
        ("graced", "Saves", ["requeued 1", "resumed 1"]),  # by itself, in its grace time
        ("low", "Saves", ["stopped 1", "resumed 1"]),  # by Slurm, at once
        ("spot", "Saves", ["stopped 1", "lost 1", "submitted 2", "resumed 2"]),  # PREEMPTED: by the driver
        ("spot", "Deaf", ["lost 1", "submitted 2", "resumed 2"]),
    ],
)
def test_a_preempted_job_goes_on_and_that_is_no_loss(
    drive: Drive, cluster: Cluster, partition: str, job: str, story: list[str]
) -> None:
    todo = {"key": [job, {"steps": 24, "held": HELD}]}
    driver = drive(jobs=todo, launcher={"partition": partition}, attempts=1)
    driver.wait_for_step("key")
    cluster.run("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    assert driver.ended()["key"]["state"] == "done"
    assert driver.story("key") == ["submitted 1", "started 1", *story, f"finished {story[-1][-1]}"]
    if job == "Saves":
        assert driver.steps("key") == list(range(24))
    assert_done_once(driver)


def assert_done_once(driver: Driver) -> None:
    """But for the step in which it was killed, if it was not asked to end."""
    done = driver.steps("key")
    assert done == sorted(done), "two workers at once"
    assert done in ([*range(24)], [*range(HELD + 1), *range(HELD, 24)])


def test_a_node_that_loses_power_is_not_the_trials_fault(drive: Drive, cluster: Cluster) -> None:
    """Slurm requeues the job, which goes on from its checkpoint when a node is there."""
    driver = drive(jobs={"key": DEAF}, attempts=1)
    driver.wait_for_step("key")
    cluster.end("slurmd", signal.SIGKILL)
    os.killpg(os.getpgid(driver.events("started")[0]["pid"]), signal.SIGKILL)
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=down", "reason=test")
    cluster.start_node()
    assert driver.ended()["key"]["state"] == "done"
    assert driver.story("key") == ["submitted 1", "started 1", "resumed 1", "finished 1"]
    assert_done_once(driver)


def test_a_node_that_is_taken_down_under_a_job_that_may_not_be_requeued(drive: Drive, cluster: Cluster) -> None:
    """NODE_FAIL: the driver submits another attempt, and counts no loss."""
    driver = drive(jobs={"key": DEAF}, attempts=1)
    driver.wait_for_step("key")
    cluster.run("scontrol", "update", f"jobid={driver.job('key')}", "requeue=0")
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=down", "reason=test")
    assert driver.ended()["key"]["state"] == "done"
    assert driver.story("key") == ["submitted 1", "started 1", "lost 1", "submitted 2", "resumed 2", "finished 2"]
    assert "its node failed" in driver.events("lost")[0]["error"]
    assert_done_once(driver)
