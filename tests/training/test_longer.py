"""A training continued beyond its last step is, bit by bit, the longer training from the beginning."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_training import RECIPE, run

from harness.records.errors import UserError
from harness.training import loop
from harness.training.outcomes import Trained
from harness.training.recipe import Recipe

CONSTANT = dataclasses.replace(RECIPE, schedule="constant")


def steps(count: int, recipe: Recipe = CONSTANT) -> Recipe:
    return dataclasses.replace(recipe, steps=count)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("straight"), steps(14))


def equal(one: Trained, other: Trained) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return one.curve == other.curve and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("first", [1, 3, 4, 6, 10, 12, 13])  # before, on and behind what log and validation are due at
def test_promoted_is_bit_identical_to_straight(tmp_path: Path, straight: Trained, first: int) -> None:
    shorter = run(tmp_path, steps(first))
    assert shorter.steps == first
    assert max(point.step for point in shorter.curve) == first, "its own last step is logged and validated"
    promoted = run(tmp_path, steps(14))
    assert equal(promoted, straight)
    assert promoted.effort.continued_from == (first,), "nothing was trained twice"


def test_promoted_twice(tmp_path: Path, straight: Trained) -> None:
    for count in (2, 5, 14):
        trained = run(tmp_path, steps(count))
    assert equal(trained, straight)


def test_forgetting_the_interval_shows(tmp_path: Path, straight: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve's mean over an interval that a budget cuts: dropped at the budget's last step, it is another mean."""
    log = loop.Training._log

    def forgetful(self: loop.Training) -> None:
        log(self)
        self.interval.clear()

    monkeypatch.setattr(loop.Training, "_log", forgetful)
    run(tmp_path, steps(6))
    assert not equal(run(tmp_path, steps(14)), straight)


def test_a_shorter_training_does_not_take_what_a_longer_one_saved(tmp_path: Path) -> None:
    shorter = run(tmp_path / "a", steps(6))
    run(tmp_path / "b", steps(14))
    assert equal(run(tmp_path / "b", steps(6)), shorter)


COOLED = dataclasses.replace(CONSTANT, cooldown=0.5, checkpoint_every=3)


def test_a_state_before_the_cooldown_begins_a_longer_training(tmp_path: Path) -> None:
    """Stopped at its 7th step of 14, where the cool-down begins, it goes on as the beginning of one of 20."""
    straight = run(tmp_path / "straight", steps(20, COOLED))

    def stop(step: int, _of: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", steps(14, COOLED), on_progress=stop)
    longer = run(tmp_path / "stopped", steps(20, COOLED))
    assert longer.effort.continued_from == (6,)
    assert equal(longer, straight)


def test_a_state_of_the_cooldown_begins_no_longer_training(tmp_path: Path) -> None:
    run(tmp_path, steps(14, COOLED))
    with pytest.raises(UserError, match="another model, recipe"):
        run(tmp_path, steps(20, COOLED))


def test_a_cosine_that_ends_elsewhere_is_another_training(tmp_path: Path) -> None:
    assert not RECIPE.is_extendable
    run(tmp_path, steps(6, RECIPE))
    with pytest.raises(UserError, match="another model, recipe"):
        run(tmp_path, steps(14, RECIPE))
