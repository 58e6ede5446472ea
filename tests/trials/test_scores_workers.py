"""Scores over workers and kills: the same numbers, and nothing sampled twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_study import SETTINGS
from whole_images import sample_images

from harness.cli import main
from harness.data.dataset import load_dataset
from harness.measure import quality as quality_module
from harness.measure.quality import quality
from harness.measure.quality_reference import load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.pixels import NotFiniteError
from harness.models.weights import read_weights
from harness.processes.locks import DRIVER_LOCK, DrivenError, FileLock, is_held, lock_driver
from harness.records.errors import UserError
from harness.records.lines import lines_of
from harness.records.manifest import SCORING
from harness.records.plain import identity
from harness.records.record import measurement_key
from harness.records.store import Store, file_sha256
from harness.trials.prepared import prepare
from harness.trials.sampling_run import SamplingRun
from harness.trials.scores.parts import Parts, part_ranges
from harness.trials.scores.request import ScoreRequest
from harness.trials.scores.score import Scoring
from harness.trials.scores.workers import Pool, scores, study_folder
from harness.trials.settings import settings_of
from harness.trials.spec import cache_folder
from harness.trials.trained import trained_network

COUNT = 140  # in parts of 64, 64 and 12, of micro-batches of 16
CHEAP = [f"{name}={value}" for name, value in SETTINGS.items() if name.startswith(("quality", "sampling"))]
CHEAP = [word for word in CHEAP if not word.startswith("quality.samples=")]
METRICS = "quality.metrics=[kid,fd,class_agreement,precision,recall]"


def quantities(request, *more):
    """Of each point, as `scores` makes them."""
    return [each.quantities for each in scores(request, *more)]


def delete_scores():
    store = Store(Path("runs/store"))
    for each in list(store.measurements()):
        if each.subject == "score":
            store.delete(each)


@pytest.fixture
def request_(spec):
    """140 samples of the trial's network, of which nothing is stored; the working directory's log is new."""
    delete_scores()
    shutil.rmtree("runs/scores", ignore_errors=True)
    settings = settings_of([f"quality.samples={COUNT}", METRICS, "recipe.device=cpu"], SETTINGS)
    trained = trained_network(spec.key, Path("runs"))
    return ScoreRequest(what=trained, settings=settings, grid=(settings.sampling,))


def logged(event):
    """How often each part of each score was begun, or made."""
    lines = [line for line in lines_of(Path("runs/scores/parts.log")) if line is not None]
    return Counter((line["score"], line["first"], line["to"]) for line in lines if line["event"] == event)


def by_workers(request, count):
    """Of `count` workers in turn, each of which samples a part when it is its turn."""
    workers = [Scoring(request) for _ in range(count)]
    for score in workers[0].scores:
        score.parts.begin()
    turns = [worker.made(worker.scores, number, count) for number, worker in enumerate(workers)]
    while turns:
        turns = [turn for turn in turns if next(turn, turn) is None]
    return [score.finish(None) for score in workers[-1].scores]


@pytest.mark.parametrize("whole", [True, False])
def test_one_two_or_seven_workers_make_the_same_score(request_, monkeypatch, whole):
    """To the bit, so to 1e-12 as well; each part is sampled once. Held whole or in sums."""
    if not whole:
        monkeypatch.setattr(quality_module, "WHOLE", 40)
    (expected,) = quantities(request_)
    assert len(expected) == 5
    for count in (2, 7):
        delete_scores()
        assert by_workers(request_, count) == [expected]
    assert set(logged("began").values()) == set(logged("made").values()) == {3}, "once a score"
    assert len(logged("made")) == 3
    assert not any(Path("runs/scores/parts").iterdir()), "parts go when the score is there"


def test_the_proof_sees_red_where_nobody_looks_what_others_have(request_, monkeypatch):
    monkeypatch.setattr(Parts, "has", lambda *_: False)
    by_workers(request_, 2)
    assert max(logged("made").values()) == 2


def test_it_is_the_score_of_all_samples_at_once(request_):
    """As a trial has it: parts are cut where the extractor's batches are, so its features are the same to the bit."""
    prepared = prepare(request_.settings)
    network = read_weights(request_.what.weights).network()
    data = prepared.task.images
    reference = load_reference(request_.settings.quality, data, cache=cache_folder(Path("runs")))
    expected = quality(*sample_images(network, prepared, COUNT), reference)
    (found,) = quantities(request_)
    for name, quantity in expected.items():
        assert (found[name].value, found[name].replicates) == (quantity.value, quantity.replicates), name


@pytest.mark.parametrize(("micro_batch", "size"), [(64, 64), (16, 64), (48, 192), (100, 1600), (256, 256)])
def test_parts_are_cut_at_micro_batches_and_at_the_extractors(micro_batch, size):
    parts = part_ranges(2000, micro_batch)
    assert [part.start for part in parts] == list(range(0, 2000, size))
    assert parts[-1].stop == 2000
    assert size % micro_batch == size % 64 == 0


def test_what_is_damaged_or_of_another_score_is_sampled_anew_and_said(request_, capsys):
    (expected,) = quantities(request_)
    delete_scores()
    (score,) = Scoring(request_).scores
    score.parts.begin()
    for part in score.parts.ranges:
        score.make(part)
    files = sorted(score.parts.folder.glob("*.npz"))
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    with np.load(files[1]) as stored:
        np.savez(files[1], **{**stored, "score": np.array("0" * 16)})
    files[2].write_bytes(files[2].read_bytes()[:100])
    assert quantities(request_) == [expected]
    said = capsys.readouterr().err
    for file, why in zip(files, ("damaged (BadZipFile", "of another score", "damaged ("), strict=False):
        assert f"{file} is {why}" in said
    assert sorted(logged("made").values()) == [3, 3, 3]


def test_a_part_that_is_lost_while_it_is_scored_is_a_sentence(request_):
    (score,) = Scoring(request_).scores
    score.parts.begin()
    for part in score.parts.ranges:
        score.make(part)
    score.parts._file(score.parts.ranges[1]).unlink()
    with pytest.raises(UserError, match=r"000064-000128.npz was lost since it was made .*run the same"):
        score.finish(None)


def test_a_part_that_another_process_samples_is_waited_for(request_, capsys, monkeypatch):
    (score,) = Scoring(request_).scores
    lock = FileLock.acquire(score.parts.folder / "000064-000128.lock")
    monkeypatch.setattr("harness.trials.scores.score.time", SimpleNamespace(sleep=lambda _: lock.release()))
    scores(request_)
    assert "waiting for 1 parts of pictures that other processes are at" in capsys.readouterr().err
    assert set(logged("made").values()) == {1}


def noted_folders(monkeypatch):
    """Those of the jobs, from now on."""
    names = []

    def noting(*at):
        names.append(study_folder(*at))
        return names[-1]

    monkeypatch.setattr("harness.trials.scores.workers.study_folder", noting)
    return names


def test_a_second_command_waits_for_the_jobs_of_the_first(request_, capsys, monkeypatch):
    names = noted_folders(monkeypatch)
    expected = quantities(request_, 2)  # the debug launcher's, one after the other
    assert not names[0].exists()
    delete_scores()
    other = lock_driver(names[0] / "attempts")
    monkeypatch.setattr("harness.trials.scores.workers.time", SimpleNamespace(sleep=lambda _: other.release()))
    assert quantities(request_, 2) == expected
    assert f"process {os.getpid()} on" in capsys.readouterr().err


def test_a_driver_that_lets_go_meanwhile_is_no_error(request_, monkeypatch):
    """Between the refusal and the look at who has the lock; another error is one."""
    refusals = [DrivenError("another driver already works in it")]

    def begun(*arguments, **more):
        if refusals:
            raise refusals.pop()
        return Pool(*arguments, **more)

    monkeypatch.setattr("harness.trials.scores.workers.Pool", begun)
    monkeypatch.setattr("harness.trials.scores.workers.WAIT_S", 0)
    assert len(scores(request_, 2)) == 1
    delete_scores()
    refusals.append(UserError("no disk"))
    with pytest.raises(UserError, match="no disk"):
        scores(request_, 2)


def test_the_jobs_folder_goes_while_its_driver_has_it(request_, monkeypatch):
    held, remove = [], shutil.rmtree

    def removed(path, **more):
        held.append(is_held(path / "attempts" / DRIVER_LOCK))
        remove(path, **more)

    monkeypatch.setattr(shutil, "rmtree", lambda path, **more: (
        removed(path, **more) if path.name.startswith(SCORING) else remove(path, **more)
    ))  # fmt: skip
    scores(request_, 2)
    assert held == [True]


def test_a_sweep_that_goes_on_finds_the_jobs_of_its_beginning(request_, monkeypatch):
    names = noted_folders(monkeypatch)
    sweep = replace(request_, grid=tuple(request_.settings.sampling.with_guidance(scale) for scale in (1.0, 2.0)))
    scores(replace(sweep, grid=sweep.grid[:1]))
    scores(sweep, 2)
    delete_scores()
    scores(sweep, 2)
    assert names[0] == names[1]


@pytest.mark.parametrize("workers", [None, 2])
def test_what_is_scored_again_stays_until_it_is_there(request_, workers):
    (expected,) = quantities(request_)
    (before,) = Store(Path("runs/store")).measurements("score")

    def fails(*_):
        raise SystemExit

    with pytest.raises(SystemExit):
        scores(request_, workers, fails)
    assert list(Store(Path("runs/store")).measurements("score")) == [before]
    seen = []
    assert quantities(request_, workers, lambda _, scorer: seen.append(len(scorer.labels))) == [expected]
    assert seen == [COUNT]
    (after,) = Store(Path("runs/store")).measurements("score")
    assert after.provenance["finished"] > before.provenance["finished"]
    assert set(logged("made").values()) == {2}, "the parts of the failed command are used"


def test_a_failed_score_needs_no_reference(request_, monkeypatch):
    def not_finite(*_):
        raise NotFiniteError("no numbers")

    monkeypatch.setattr(SamplingRun, "batches", not_finite)
    monkeypatch.setattr("harness.trials.scores.score.load_reference", not_finite)
    (found,) = quantities(request_)
    assert {each.message for each in found.values()} == {"no numbers"}
    assert set(found) == set(request_.settings.quality.metrics)


def test_no_more_workers_than_parts_and_at_least_one(request_, spec, capsys):
    scores(request_, 9)
    assert "3 of 9 workers begin, one for each part of the pictures that is missing" in capsys.readouterr().err
    with pytest.raises(UserError, match="--workers is a whole number from 1, not 0"):
        scores(request_, 0)
    assert main(["evaluate", spec.key, "--workers", "0"]) == 2
    Path("images").mkdir()
    assert main(["evaluate", "images", "--workers", "2"]) == 2
    assert "--workers sample a trained network or a pipeline, and images is there already" in capsys.readouterr().err


def test_a_job_that_fails_is_the_commands_sentence(request_, monkeypatch):
    def refuses(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr("harness.trials.scores.score.extract", refuses)
    with pytest.raises(UserError, match=r"worker-1 failed: the disk is full"):
        scores(request_, 2)


def test_a_networks_score_is_kept_under_these_and_no_others(request_):
    """Scores that are stored keep their keys: nothing is added here for what other sources need."""
    (score,), settings = Scoring(request_).scores, request_.settings
    what = {
        "trial": request_.what.key,
        "weights_sha256": file_sha256(request_.what.weights),
        "sampling": identity(settings.sampling),
        "classes": "all",
        "samples": COUNT,
        "quality": quality_identity(settings.quality, 8),
        "data": load_dataset(settings.data).identity,
    }
    assert score.key == measurement_key("score", what)


def test_another_quality_is_another_score(request_):
    """Its metrics and reference are part of what is stored."""
    (first,) = quantities(request_)
    other = replace(request_, settings=replace(request_.settings, quality=replace(
        request_.settings.quality, metrics=("fd",), reference_samples=40
    )))  # fmt: skip
    (second,) = quantities(other)
    assert set(second) == {"fd"}
    assert second["fd"].value != first["fd"].value


def test_statistics_are_written_of_samples_that_are_not_kept(spec, capsys):
    words = [
        "evaluate",
        spec.key,
        "quality.samples=100",
        *(f"{k}={v}" for k, v in SETTINGS.items() if "quality.e" in k),
    ]
    for to in ("one.npz", "two.npz"):
        assert main([*words, "--to", to]) == 0
    with np.load("one.npz") as one, np.load("two.npz") as two:
        assert np.array_equal(one["mu"], two["mu"])
    capsys.readouterr()


KILL = """
import os, signal, sys
from harness.cli import main
from harness.trials.scores import score
extract, calls, at = score.extract, [], int(sys.argv[1])

def dies(images, reference):
    calls.append(images)
    if len(calls) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return extract(images, reference)

score.extract = dies
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_after_kill_9_the_same_command_goes_on_and_samples_nothing_twice(request_, spec, capsys):
    """In the middle of the third part of three; then with another number of workers."""
    words = ["evaluate", spec.key, f"quality.samples={COUNT}", METRICS, *CHEAP, "--json"]
    killed = subprocess.run([sys.executable, "-c", KILL, "3", *words], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert len(logged("made")) == 2
    assert main([*words, "--workers", "2", "launcher=debug"]) == 0
    assert set(logged("made").values()) == {1}
    assert sorted(logged("began").values()) == [1, 1, 2], "the part that was being sampled was begun again"
    continued = capsys.readouterr().out
    delete_scores()
    assert main(words) == 0
    assert capsys.readouterr().out == continued


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_workers_killed_with_their_driver(request_, spec, capsys):
    """Three processes; one of them and the driver die, the others finish what they are at and are taken over."""
    words = ["evaluate", spec.key, "quality.samples=1000", *CHEAP, "launcher=local", "--workers", "3"]
    command = [sys.executable, "-m", "harness.cli", *words]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while len(logged("made")) < 3:
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.05)
    pids = {line["pid"] for line in lines_of(Path("runs/scores/parts.log")) if line is not None}
    os.kill(next(iter(pids)), signal.SIGKILL)
    driver.kill()
    driver.communicate()
    assert main(words) == 0
    made, began = logged("made"), logged("began")
    assert set(made.values()) == {1}
    assert len(made) == 16
    assert sum(began.values()) - len(began) <= 1, "the part of the worker that was killed"
