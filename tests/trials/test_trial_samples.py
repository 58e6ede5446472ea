"""A trial's own samples: those of all at once, each sampled once, however often its attempts are ended."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tiny_study import share_cache, tiny_spec
from whole_images import sample_images

from harness.measure import quality as quality_module
from harness.models.weights import read_weights
from harness.processes.locks import FileLock
from harness.records.errors import UserError
from harness.records.lines import lines_of
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.tasks import denoise
from harness.trials.tasks.denoise import SAMPLES_LOG

SETTINGS = ("quality.samples=140", "launcher.threads=1")  # in parts of 64, 64 and 12, of micro-batches of 16
PARTS = [(0, 64), (64, 128), (128, 140)]
KILL = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tiny_study import tiny_spec
from harness.trials import run
from harness.trials.tasks.denoise import Denoise
batches, calls = Denoise.batches, []

def dies(*arguments):
    calls.append(arguments)
    for number, batch in enumerate(batches(*arguments)):
        if len(calls) == 2 and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

Denoise.batches = dies
run.run_trial(tiny_spec(*{SETTINGS!r}), Path("jobs/key/attempt-001"))
"""


@pytest.fixture
def key_folder(workplace):
    folder = Path("jobs/key")
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def undisturbed(key_folder, cache):
    """What the same trial has in another store."""
    share_cache(Path("elsewhere"), cache)
    spec = tiny_spec(*SETTINGS, "out=elsewhere")
    return spec, run_trial(spec, Path("jobs/other/attempt-001"))


def samples(spec):
    with np.load(spec.store.artifact(spec.key, "samples.npz")) as arrays:
        return {name: arrays[name] for name in arrays.files}


def logged(folder, event):
    lines = [line for line in lines_of(folder / SAMPLES_LOG) if line is not None]
    return Counter((line["first"], line["to"]) for line in lines if line["event"] == event)


def assert_equal(record, other):
    assert {name: record.quantities[name] for name in ("kid", "fd", "class_agreement")} == {
        name: other.quantities[name] for name in ("kid", "fd", "class_agreement")
    }


def test_they_are_those_of_all_at_once(undisturbed):
    spec, _ = undisturbed
    network = read_weights(spec.store.artifact(spec.key, "ema.safetensors")).network()
    images, labels = sample_images(network, prepare(spec.settings), 140)
    assert np.array_equal(samples(spec)["images"], images.numpy())
    assert np.array_equal(samples(spec)["labels"], labels.numpy())


@pytest.mark.slow
def test_after_kill_9_while_it_samples_no_part_is_sampled_twice(key_folder, undisturbed):
    killed = subprocess.run([sys.executable, "-c", KILL], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert logged(key_folder, "made") == Counter(PARTS[:1])
    spec = tiny_spec(*SETTINGS)
    record = run_trial(spec, key_folder / "attempt-002")
    assert logged(key_folder, "made") == Counter(PARTS)
    assert logged(key_folder, "began") == Counter([*PARTS, PARTS[1]])
    assert_equal(record, undisturbed[1])
    assert np.array_equal(samples(spec)["images"], samples(undisturbed[0])["images"])


def test_features_of_many_samples_outlive_an_attempt_too(key_folder, undisturbed, monkeypatch):
    """More than are held at once: their features are kept, and the images of the first for people."""
    for module in (denoise, quality_module):
        monkeypatch.setattr(module, "WHOLE", 40)
    monkeypatch.setattr(denoise, "KEPT_SAMPLES", 70)
    spec, extract = tiny_spec(*SETTINGS), denoise.extract

    def ends(images, reference):
        if len(images) == 12:
            raise SystemExit
        return extract(images, reference)

    with monkeypatch.context() as patched:
        patched.setattr(denoise, "extract", ends)
        with pytest.raises(SystemExit):
            run_trial(spec, key_folder / "attempt-001")
    record = run_trial(spec, key_folder / "attempt-002")
    assert logged(key_folder, "made") == Counter(PARTS)
    assert logged(key_folder, "began") == Counter([*PARTS, PARTS[2]])
    for name in ("kid", "fd"):
        assert record.quantities[name].value == pytest.approx(undisturbed[1].quantities[name].value, rel=1e-9)
    assert np.array_equal(samples(spec)["images"], samples(undisturbed[0])["images"][:70])


def test_samples_of_other_weights_are_sampled_anew_and_said(key_folder, undisturbed, capsys):
    """Such as a device leaves that does not compute the same twice."""
    spec = tiny_spec(*SETTINGS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(denoise, "tensors_sha256", lambda _: "other")
        patched.setattr(denoise, "quality", Mock(side_effect=SystemExit))
        with pytest.raises(SystemExit):
            run_trial(spec, key_folder / "attempt-001")
    assert_equal(run_trial(spec, key_folder / "attempt-002"), undisturbed[1])
    assert "holds another score; its pictures are made anew" in capsys.readouterr().err
    assert set(logged(key_folder, "made").values()) == {2}


def test_a_part_that_another_process_samples_is_a_sentence(key_folder, workplace, cache):
    """Not a part that was lost, which the same command would find again."""
    share_cache(Path("elsewhere"), cache)
    spec = tiny_spec(*SETTINGS, "out=elsewhere")
    lock = FileLock.acquire(key_folder / "shared" / "samples" / "000064-000128.lock")
    with lock, pytest.raises(UserError, match=r"another process samples this trial, .*wait for it or stop it"):
        run_trial(spec, key_folder / "attempt-001")
