"""A trial that learns from another trial's network: however that is named, the same trial."""

import shutil
from pathlib import Path

import pytest
from tiny_study import tiny_spec

from harness.records.errors import UserError
from harness.trials.run import run_trial


def taught(name: str, *more: str, **named):
    return tiny_spec("objective=distillation", f"objective.teacher.name={name}", *more, **named)


def test_a_teacher_is_its_contents_however_it_is_named(spec):
    """A trial's key and its beginning, its file, what it was promoted to, and a folder as it is published."""
    file = f"runs/store/artifacts/{spec.key}/ema.safetensors"
    Path("published").mkdir(exist_ok=True)
    shutil.copy(file, "published/model.safetensors")
    keys = {taught(name).key for name in (spec.key, spec.key[:5], file, "winner.yaml", "published")}
    assert len(keys) == 1
    others = {
        taught(spec.key, "objective.teacher.guidance_scale=2").key,
        taught(spec.key, "objective.scaling=fixed").key,
        taught(spec.key, "objective.features=false").key,
        tiny_spec().key,
    }
    assert len(keys | others) == 5
    sections = taught("published").protocol.sections
    assert sections["teacher"]["text"]["template"] == "a photo of a {}"
    assert "published" not in str(sections)
    assert "teacher" not in tiny_spec().protocol.sections


def test_it_trains_and_tells_each_part_of_its_loss(spec, tmp_path):
    own = taught(spec.key, "recipe.steps=2")
    record = run_trial(own, tmp_path / "attempts" / own.key / "1")
    assert record.state == "complete"
    names = {point.name for point in record.curve}
    assert {"train_loss", "train_loss.task", "train_loss.output", "train_loss.feature", "validation_loss"} <= names


def test_what_cannot_teach_is_refused_before_anything_is_trained(spec):
    with pytest.raises(UserError, match=r"unknown objective\.teacher_tap 'nowhere'; choose one of: .*attention"):
        taught(spec.key, "objective.teacher_tap=nowhere")
    with pytest.raises(UserError, match=r"unknown objective\.student_tap 'nowhere'"):
        taught(spec.key, "objective.student_tap=nowhere")
    with pytest.raises(UserError, match=r"objective\.teacher\.name: 'ffff' is neither the key of a trial in"):
        taught("ffff")
