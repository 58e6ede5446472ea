"""A training killed and called again ends bit-identical to one never stopped; forgetting anything shows."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_training
import torch
from safetensors.torch import load_file
from tiny_training import OBJECTIVES, RECIPE, distillation, run, tiny_network
from torch import nn
from toy_teacher import Answers

from harness.records.errors import UserError
from harness.training import loop
from harness.training.outcomes import Interrupted, Trained
from harness.training.parallel import World
from harness.training.randomness import DataOrder, generator
from harness.training.saving import LOCK


class KilledError(Exception):
    """Ends a training at a step, without a word to it."""


def _kill_at(step: int) -> Callable[[int, int], None]:
    def on_progress(at: int, _of: int) -> None:
        if at == step:
            raise KilledError

    return on_progress


def break_off(folder: Path, step: int, recipe: tiny_training.Recipe = RECIPE) -> None:
    with pytest.raises(KilledError):
        run(folder, recipe, on_progress=_kill_at(step))


def same(a: Trained, b: Trained) -> bool:
    """Equal to the last bit: averaged weights, buffers, curve."""
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    assert ours.keys() == theirs.keys()
    return a.curve == b.curve and all(torch.equal(ours[name], theirs[name]) for name in ours)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint, _ = loop.latest(folder)
    assert checkpoint is not None
    return load_file(checkpoint.path / "tensors.safetensors")


@pytest.mark.slow
def test_killed_with_kill_9_twice_and_continued_it_ends_bit_identical(tmp_path: Path, unbroken: Trained) -> None:
    program = [sys.executable, tiny_training.__file__, str(tmp_path)]
    for moment in (["step", "8"], ["writing", "10"]):
        killed = subprocess.run([*program, *moment], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".checkpoint-00000010", "checkpoint-00000005", LOCK,
    ]  # fmt: skip
    continued = run(tmp_path)
    assert continued.effort.continued_from == (5,)
    assert same(continued, unbroken)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000010", "checkpoint-00000014", LOCK,
    ]  # fmt: skip


def test_weights_and_moments_of_a_continued_run_are_bit_identical_too(tmp_path: Path) -> None:
    run(tmp_path / "a")
    break_off(tmp_path / "b", 11)
    run(tmp_path / "b")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {name.split(".")[0] for name in a} == {"model", "ema", "optimizer"}


@pytest.mark.parametrize("step", [1, 6, 12, 14])
@pytest.mark.parametrize("checkpoint_every", [1, 3, 100])
def test_it_does_not_matter_when(tmp_path: Path, unbroken: Trained, step: int, checkpoint_every: int) -> None:
    recipe = dataclasses.replace(RECIPE, checkpoint_every=checkpoint_every)
    break_off(tmp_path, step, recipe)
    assert same(run(tmp_path, recipe), unbroken)


@pytest.mark.parametrize("name", ["judged", "distillation", "step_distillation"])
def test_what_an_objective_trains_beside_the_network_is_continued_too(tmp_path: Path, name: str) -> None:
    whole = run(tmp_path / "whole", objective=OBJECTIVES[name]())
    with pytest.raises(KilledError):
        run(tmp_path / "cut", objective=OBJECTIVES[name](), on_progress=_kill_at(7))
    again = OBJECTIVES[name]()
    assert same(run(tmp_path / "cut", objective=again), whole)
    wanted, tensors = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for each in again.auxiliaries:
        own = each.module.state_dict()
        assert all(tensor.equal(wanted[f"{each.name}.{name}"]) for name, tensor in own.items())
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("forgotten", ["judge", "uncertainty", "projection"])
@pytest.mark.parametrize("what", ["{}", "optimizer.{}"])
def test_forgetting_what_an_objective_trains_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str, what: str
) -> None:
    objective = OBJECTIVES["distillation" if forgotten == "projection" else "judged"]
    whole = run(tmp_path / "whole", objective=objective())
    with pytest.raises(KilledError):
        run(tmp_path / "cut", objective=objective(), on_progress=_kill_at(7))
    forget(monkeypatch, what.format(forgotten))
    assert not same(run(tmp_path / "cut", objective=objective()), whole)


def test_a_training_from_other_weights_is_not_continued(tmp_path: Path) -> None:
    run(tmp_path, initial={"weights": "one"})
    run(tmp_path, initial={"weights": "one"})
    for other in ({"weights": "another"}, None):
        with pytest.raises(UserError, match="holds a training of another model"):
            run(tmp_path, initial=other)


def test_a_training_with_another_objective_is_not_continued(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(UserError, match="holds a training of another model"):
        run(tmp_path, objective=OBJECTIVES["judged"]())
    run(tmp_path / "taught", objective=distillation())
    other = Answers(torch.zeros(()))
    with pytest.raises(UserError, match="holds a training of another model"):
        run(tmp_path / "taught", objective=distillation(teacher=other))


def forget(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Of a checkpoint, the tensors whose names begin so."""
    load = loop.load

    def forgetful(checkpoint: loop.Checkpoint, targets: dict[str, torch.Tensor], world: World) -> None:
        kept = {name: tensor for name, tensor in targets.items() if not name.startswith(f"{what}.")}
        assert len(kept) < len(targets)
        load(checkpoint, kept, world)

    monkeypatch.setattr(loop, "load", forgetful)


def forget_ema(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch, "ema")


def forget_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch, "optimizer")


def restart_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "harness.training.randomness.generator",
        lambda seed, stream, number: generator(seed, stream, number - 5 if stream == "step" else number),
    )


def restart_module_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_of = loop.stream_seed
    monkeypatch.setattr(loop, "stream_seed", lambda seed, stream, number: seed_of(seed, stream, number - 5))


def restart_data(monkeypatch: pytest.MonkeyPatch) -> None:
    at = DataOrder.at
    monkeypatch.setattr(DataOrder, "at", lambda self, step: at(self, step - 5))


def forget_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.Training, "_restore", _restore_without_interval)


whole_restore = loop.Training._restore


def _restore_without_interval(self: loop.Training, checkpoint: loop.Checkpoint) -> None:
    whole_restore(self, checkpoint)
    self.interval = self.interval[:-1]


MUTATIONS = (
    forget_ema,
    forget_optimizer,
    restart_noise,
    restart_module_randomness,
    restart_data,
    forget_interval,
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_whatever_is_forgotten_shows(
    tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch, mutation: object
) -> None:
    break_off(tmp_path, 7)
    mutation(monkeypatch)  # type: ignore[operator]
    assert not same(run(tmp_path), unbroken)


def test_sigterm_at_the_last_step_ends_the_process_too(tmp_path: Path, unbroken: Trained) -> None:
    """What follows a training, sampling and scoring, may take longer than a cluster waits."""
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, on_progress=lambda at, _of: os.kill(os.getpid(), signal.SIGTERM) if at == RECIPE.steps else None)
    assert caught.value.step == RECIPE.steps
    again = run(tmp_path, on_progress=lambda *_: pytest.fail("trained a step twice"))
    assert again.curve == unbroken.curve


def test_sigterm_saves_the_step_and_loses_nothing(tmp_path: Path, unbroken: Trained) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, on_progress=lambda at, _of: os.kill(os.getpid(), signal.SIGTERM) if at == 7 else None)
    assert caught.value.step == 7
    assert "run the same command again" in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) is before
    continued = run(tmp_path)
    assert continued.effort.continued_from == (7,)
    assert same(continued, unbroken)


def test_a_finished_training_is_not_repeated(tmp_path: Path, unbroken: Trained) -> None:
    run(tmp_path)
    steps: list[int] = []
    again = run(tmp_path, model=nn.Sequential(tiny_network())[0], on_progress=lambda at, _of: steps.append(at))
    assert steps == []
    assert again.effort.continued_from == ()
    assert same(again, unbroken)


def test_points_are_heard_as_they_arise_and_all_of_them_again_after_a_kill(tmp_path: Path, unbroken: Trained) -> None:
    first: list[object] = []
    with pytest.raises(KilledError):
        run(tmp_path, on_point=first.append, on_progress=lambda at, _of: _raise() if at == 9 else None)
    then: list[object] = []
    run(tmp_path, on_point=then.append)
    assert first == [point for point in unbroken.curve if point.step <= 9]
    assert then == list(unbroken.curve), "the checkpoint's first"


def test_steps_are_told_in_stretches_that_meet(tmp_path: Path) -> None:
    """Saved ones once; what was trained behind the last checkpoint is told as trained, and again by the next."""
    assert stretches(tmp_path, end_at=9) == [("began", 0, 0), ("saved", 0, 5), ("ended", 0, 9)]
    assert stretches(tmp_path, stop_at=7) == [("began", 5, 5), ("saved", 5, 7), ("ended", 5, 7)]
    assert stretches(tmp_path) == [("began", 7, 7), ("saved", 7, 10), ("saved", 10, 14), ("ended", 7, 14)]
    assert stretches(tmp_path) == [("began", 14, 14), ("ended", 14, 14)]


def stretches(folder: Path, *, end_at: int | None = None, stop_at: int | None = None) -> list[tuple[str, int, int]]:
    """What a training says that it did, which an error or SIGTERM may end."""
    steps: list[tuple[str, int, int]] = []

    def on_progress(at: int, _of: int) -> None:
        if at == end_at:
            raise KilledError
        if at == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.suppress(KilledError, Interrupted):
        run(folder, on_steps=lambda *how: steps.append(how), on_progress=on_progress)
    return steps


def _raise() -> None:
    raise KilledError


def test_time_of_earlier_attempts_is_counted(tmp_path: Path) -> None:
    break_off(tmp_path, 12)
    checkpoint, _ = loop.latest(tmp_path)
    assert checkpoint is not None
    continued = run(tmp_path)
    assert continued.effort.seconds > checkpoint.state["seconds"]["wall"] > 0
    assert continued.effort.cpu_seconds > checkpoint.state["seconds"]["cpu"] > 0
    assert continued.effort.gpu_seconds == 0
    assert continued.effort.device == "cpu"


@pytest.mark.parametrize("change", [{"learning_rate": 1e-4}, {"steps": 20}])
def test_another_training_in_the_folder_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    break_off(tmp_path, 6)
    with pytest.raises(UserError, match="holds a training of another model, recipe, data, seed or precision"):
        run(tmp_path, dataclasses.replace(RECIPE, **change))  # type: ignore[arg-type]


def test_another_architecture_of_equal_shapes_is_another_training(tmp_path: Path) -> None:
    break_off(tmp_path, 6)
    with pytest.raises(UserError, match="holds a training of another model"):
        run(tmp_path, architecture="tiny, with other heads")
