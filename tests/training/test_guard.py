"""A bad step is undone, its batch named and left out, so many times; a training stays a function of its identity."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import RECIPE, SEED, run

from harness.records.errors import UserError
from harness.records.plain import identity
from harness.training import loop
from harness.training.guard import BadStepError, Guard
from harness.training.outcomes import Diverged, Trained
from harness.training.randomness import DataOrder

GUARDED = dataclasses.replace(RECIPE, max_rollbacks=2, spike=4.0, spike_window=4)
BAD = 8  # behind the checkpoint of step 5


def plant(monkeypatch: pytest.MonkeyPatch, *steps: int, factor: float = math.nan) -> None:
    """In the batches of these steps the images are multiplied by the factor."""
    advance = loop.Training.advance

    def advancing(self: loop.Training, step: int, batch: Any) -> None:
        advance(self, step, dataclasses.replace(batch, x0=batch.x0 * factor) if step in steps else batch)

    monkeypatch.setattr(loop.Training, "advance", advancing)


def without(*steps: int) -> Callable[[Guard, loop.Recipe], None]:
    """A guard that knows from the start what is left out."""
    make = Guard.__init__

    def made(self: Guard, recipe: loop.Recipe) -> None:
        make(self, recipe)
        self.left_out = steps

    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The training whose eighth batch is left out, which nothing went wrong in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "__init__", without(BAD))
        return run(tmp_path_factory.mktemp("expected"), GUARDED)


def same(a: Trained, b: Trained) -> bool:
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    return a.curve == b.curve and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("read_at_once", [("cpu",), ()], ids=["read each step", "read when due"])
@pytest.mark.parametrize("factor", [math.nan, math.inf, 30.0], ids=["nan", "infinite", "spike"])
def test_a_bad_batch_is_undone_left_out_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: Trained,
    unbroken: Trained,
    factor: float,
    read_at_once: tuple[str, ...],
) -> None:
    monkeypatch.setattr(loop, "READ_AT_ONCE", read_at_once)
    plant(monkeypatch, BAD, factor=factor)
    trained = run(tmp_path, GUARDED)
    assert same(trained, expected)
    assert not same(trained, unbroken)
    (note,) = trained.effort.notes
    rows = ", ".join(map(str, DataOrder(21, 8, SEED).at(BAD).tolist()))
    reason = "train_loss is " if math.isfinite(factor) else "train_loss is nan"
    assert note.startswith(f"step {BAD} is left out, with rows {rows} of the training data: {reason}")
    assert note.endswith("; the training went back to step 5")


@pytest.mark.parametrize(
    "guard", [{"max_rollbacks": 0}, {"spike": None, "spike_window": 20}], ids=["no rollbacks", "no rule of spikes"]
)
def test_without_the_guard_a_spike_ends_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Trained, guard: dict[str, Any]
) -> None:
    plant(monkeypatch, BAD, factor=30.0)
    recipe = dataclasses.replace(GUARDED, **guard, divergence=1e9)
    if "spike" in guard:
        assert not same(run(tmp_path, recipe), expected)
    else:
        with pytest.raises(Diverged, match=r"at step 8 \(train_loss is .*, above 4 times the .* of the steps before\)"):
            run(tmp_path, recipe)


def test_without_the_guard_a_batch_that_is_no_number_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, BAD)
    with pytest.raises(Diverged, match=r"at step 8 \(train_loss is nan\)"):
        run(tmp_path, dataclasses.replace(GUARDED, max_rollbacks=0))


def test_ten_of_them_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, *range(3, 13))
    for _ in range(2):  # the same again where an earlier attempt failed so
        with pytest.raises(Diverged) as caught:
            run(tmp_path, GUARDED)
        assert caught.value.step == 5
        assert str(caught.value).startswith(
            "training diverged at step 5 (train_loss is nan); the last good loss: it was"
        )
        assert str(caught.value).endswith("; left out before, as bad too: the batches of steps 3, 4")


def test_before_the_first_checkpoint_it_goes_back_to_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, 2)
    steps: list[tuple[str, int, int]] = []
    trained = run(tmp_path, GUARDED, on_steps=lambda *how: steps.append(how))
    assert trained.effort.notes[0].endswith("the training went back to step 0")
    assert trained.effort.continued_from == ()
    assert steps == [("began", 0, 0), ("ended", 0, 2), ("began", 0, 0), ("saved", 0, 5), ("saved", 5, 10),
                     ("saved", 10, 14), ("ended", 0, 14)]  # fmt: skip


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_at", [6, 7, 9, 12])
@pytest.mark.parametrize("checkpoint_every", [1, 5, 100])
def test_killed_in_the_middle_it_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Trained, kill_at: int, checkpoint_every: int
) -> None:
    """Before it goes back, while it repeats, and after; wherever the checkpoints lie."""
    plant(monkeypatch, BAD)
    recipe, passings = dataclasses.replace(GUARDED, checkpoint_every=checkpoint_every), []

    def kill(step: int, _of: int) -> None:
        passings.append(step)
        if step == kill_at and passings.count(step) == (2 if step == 7 and checkpoint_every > 1 else 1):
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path, recipe, on_progress=kill)
    assert same(run(tmp_path, recipe), expected)


def test_a_spike_is_compared_with_good_steps_alone() -> None:
    guard = Guard(dataclasses.replace(RECIPE, spike=2.0, spike_window=3, max_rollbacks=1))
    for step, loss in enumerate((1.0, 9.0, 1.0), start=1):  # too few to compare with
        guard.check(step, {"train_loss": loss})
    with pytest.raises(BadStepError, match=r"train_loss is 2\.5, above 2 times the 1 of the steps before"):
        guard.check(4, {"train_loss": 2.5})
    guard.check(5, {"train_loss": 2.0})
    again = Guard(guard.recipe)
    again.restore(guard.state())
    assert again.state() == guard.state()
    assert list(again.recent) == [9.0, 1.0, 2.0]


def test_the_default_is_no_part_of_a_training_s_identity() -> None:
    assert {"spike", "spike_window", "max_rollbacks"}.isdisjoint(identity(RECIPE))  # type: ignore[arg-type]
    assert {"spike", "spike_window", "max_rollbacks"} <= set(identity(GUARDED))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"spike": 1.0}, {"spike_window": 0}, {"spike_window": 30}, {"max_rollbacks": -1}])
def test_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"recipe.{next(iter(change))} must be"):
        dataclasses.replace(RECIPE, **change)
