"""A sweep's budgets in epochs: steps of the data's pictures, by a rule; trials know steps alone."""

from pathlib import Path

import pytest
from tiny_study import SETTINGS, SPACE, SWEEP, write_yaml

from harness.cli import main
from harness.records.errors import UserError
from harness.records.manifest import study_folder
from harness.search.definition import Finalists, SweepStudy, definition_of, steps_of
from harness.search.driver import began, problem_of
from harness.search.estimate import sweep_trainings
from harness.search.space import space as space_of
from harness.trials.estimates import Training

WITHOUT_STEPS = {name: value for name, value in SETTINGS.items() if name != "recipe.steps"}


@pytest.mark.parametrize(
    ("epochs", "pictures", "batch", "steps"),
    [
        (120, 1_281_167, 1024, 150_137),  # 150,136.8
        (10, 100, 8, 125),
        (1, 100, 8, 13),  # 12.5: half a step up
        (1, 99, 8, 12),  # 12.4
        (0.001, 100, 8, 1),  # at least one
    ],
)
def test_epochs_are_the_nearest_number_of_steps(epochs, pictures, batch, steps):
    assert steps_of(epochs, pictures, batch) == steps


def sweep_of(**more):
    content = {**SWEEP, "settings": WITHOUT_STEPS, **more}
    write_yaml(Path("sweeps/search.yaml"), content)
    definition, settings = definition_of("search", [])
    return problem_of("search", definition, settings, study_folder(settings.out, "search"))[0], definition


def test_epochs_are_the_very_trials_of_their_steps(workplace):
    """The digits have 1,438 training pictures or so: the number comes from the data."""
    in_epochs, definition = sweep_of(epochs=[0.02, 0.04])
    pictures = in_epochs.levels[0].training_pictures
    assert 1_000 < pictures < 1_797
    steps = [steps_of(each, pictures, 8) for each in (0.02, 0.04)]
    in_steps, other = sweep_of(budgets=steps)
    assert in_epochs.steps == in_steps.steps == tuple(steps)
    assert [level.protocol for level in in_epochs.levels] == [level.protocol for level in in_steps.levels]
    assert began(in_epochs, definition) == began(in_steps, other), "one goes on with what the other began"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"epochs": [1], "budgets": [5]}, r"budgets \[5\] and epochs \[1.0\] both say how long"),
        ({"epochs": [2, 1]}, "epochs are numbers above 0, each above the last"),
        ({"epochs": [0]}, "epochs are numbers above 0"),
        ({"epochs": [1], "settings": SETTINGS}, r"epochs \[1.0\] say how long candidates are trained, not the recipe"),
        ({"epochs": [0.0001, 0.0002]}, "are \\[1, 1\\] steps, and budgets differ"),
    ],
)
def test_mistakes_are_one_sentence(more, sentence, workplace):
    with pytest.raises(UserError, match=sentence):
        sweep_of(**more)


def test_a_knob_that_turns_the_batch_size_is_refused(workplace):
    knobs = {**SPACE["knobs"], "recipe.batch_size": {"choices": [8, 16]}}
    write_yaml(Path("search_spaces/tiny.yaml"), {**SPACE, "knobs": knobs})
    with pytest.raises(UserError, match=r"the knob 'recipe\.batch_size' turns it; give"):
        sweep_of(epochs=[1])


def test_every_training_of_a_sweep_is_counted_at_most(workplace):
    """27 candidates, of which nine and then three are promoted, from their checkpoints; two finalists, three seeds."""
    definition = SweepStudy(
        space="tiny",
        objectives={"kid": "minimize"},
        trials=27,
        budgets=(10, 30, 90),
        finalists=Finalists(most=2, seeds=3),
    )
    trainings = sweep_trainings(definition, (10, 30, 90), Training(params=1, macs=1, steps=1), space_of(SPACE))
    assert [(one.begins_at, one.steps) for one in trainings] == [
        *[(0, 10)] * 27, *[(10, 30)] * 9, *[(30, 90)] * 3, *[(0, 90)] * 6
    ]  # fmt: skip


def test_a_dry_run_without_the_data_counts_the_space_s_base(workplace, capsys):
    assert main(["sweep", "search", "--dry-run", "protocol=quick", "data=prepared", "epochs=[10,120]"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "budgets: 12,511, 150,137 steps, 10, 120 epochs of 1,281,167 pictures in batches of 1,024" in printed
    assert "the whole sweep, 4 candidates like this one" in printed
    assert "GPU-hours, an estimate: " in printed
    assert "make it with `harness data prepare imagenet" in printed
    assert not Path("runs/search").exists()


def test_a_dry_run_shows_hours_disk_and_jobs_of_the_whole_sweep(workplace, capsys):
    assert main(["sweep", "search", "--dry-run", "2", "launcher.tflops=0.001"]) == 0
    printed = capsys.readouterr().out
    assert "the whole sweep, 4 candidates like these 2 (" in printed
    assert "hours of one processor, an estimate: " in printed
    assert "jobs: 4 trainings, and one of controls, 1 at once" in printed
