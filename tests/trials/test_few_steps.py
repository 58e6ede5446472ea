"""A trial that teaches a trained network to sample in a few steps."""

import pytest
from tiny_study import SETTINGS, tiny_spec

from harness.cli import main
from harness.records.errors import UserError
from harness.trials.run import run_trial
from harness.trials.settings import settings_of

TINY_OVERRIDES = [f"{key}={value}".replace(" ", "") for key, value in SETTINGS.items()]


def few_steps(key: str, *more: str, begins: str | None = None, **named):
    own = [f"initial={begins or key}", "objective=step_distillation", f"objective.teacher.name={key}"]
    return tiny_spec(*own, "objective.discriminator.width=8", *more, **named)


def test_it_begins_with_a_trained_network_and_says_how_it_was_judged(spec, tmp_path):
    own = few_steps(spec.key, "recipe.steps=2", "recipe.precision=bfloat16", "objective.validation_steps=2")
    record = run_trial(own, tmp_path / "attempts" / own.key / "1")
    assert record.state == "complete"
    names = {point.name for point in record.curve}
    assert {f"train_loss.{part}" for part in ("adversarial", "task", "output")} <= names
    assert {f"discriminator_loss.{part}" for part in ("real_accuracy", "generated_accuracy", "r1")} <= names
    conditions = record.quantities["validation_loss"].conditions
    assert conditions["validation"] == "4 steps against the teacher's 2"
    taken, macs = record.quantities["train_seconds"].conditions, record.quantities["macs"].value
    assert taken["student_passes"] == 2 * 3 + 1 + 3, "to its place twice, judged once, and trained twice"
    assert taken["teacher_macs"] == (4 + 4 + 1) * macs, "its steps, four that judge, and one back"
    assert {"initial", "objective", "teacher"} <= own.protocol.sections.keys()
    watched = few_steps(spec.key, "recipe.steps=2", "recipe.precision=bfloat16", "objective.validation_steps=2",
                        "objective.discriminator.window=3")  # fmt: skip
    assert watched.key == own.key


def test_it_is_scored_in_the_steps_that_it_is_trained_for_unless_told_otherwise():
    named = ["objective=step_distillation", "objective.teacher.name=ab", "initial=cd", "protocol=laptop"]
    own = settings_of([*named, "objective.steps=8", "objective.shift=2"]).sampling
    assert (own.solver, own.steps, own.times, own.shift, own.guidance_scale) == ("euler", 8, "shifted", 2.0, 1.0)
    told = settings_of([*named, "sampling.steps=28", "sampling.guidance_scale=1.5"]).sampling
    assert (told.steps, told.times, told.guidance_scale) == (28, "uniform", 1.5)
    mixed = settings_of([*named, "objective.shift=3", "sampling=full", "sampling.steps=4"]).sampling
    assert (mixed.solver, mixed.times, mixed.shift) == ("euler", "shifted", 3.0), "what is not named is the objective's"
    usual = settings_of(["protocol=laptop"]).sampling
    assert settings_of([*named[1:2], "objective=distillation", "protocol=laptop"]).sampling == usual


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["initial=null"], "begins with a trained network, and none is named; give initial=KEY"),
        (["objective.discriminator.taps=[nowhere]"], "unknown objective.discriminator.taps 'nowhere'; choose one of:"),
        (["objective.teacher.name=ffff"], "objective.teacher.name: 'ffff' is neither the key of a trial in"),
        (["initial=ffff"], "initial: 'ffff' is neither the key of a trial in"),
        (["objective.steps=0"], "objective.steps must be at least 1, not 0"),
    ],
)
def test_a_mistake_is_one_sentence_also_in_a_dry_run(spec, more, says, capsys):
    own = ["objective=step_distillation", f"objective.teacher.name={spec.key}", "initial=none"]
    changed = {each.partition("=")[0] for each in more}
    words = [each for each in own if each.partition("=")[0] not in changed]
    assert main(["train", "laptop/thin_sdxl", *TINY_OVERRIDES, *words, *more, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_random_weights_are_begun_with_where_they_are_meant(spec):
    assert "initial" not in few_steps(spec.key, begins="none").protocol.sections
    with pytest.raises(UserError, match="none is named"):
        few_steps(spec.key, begins="null")
