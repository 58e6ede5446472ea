"""The recipe's schedules, its order of the data, and what it refuses."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.records.errors import UserError
from harness.records.plain import identity
from harness.training.device import planned_precision, resolve_device, resolve_precision
from harness.training.randomness import DataOrder, stream_seed
from harness.training.recipe import Recipe
from harness.trials.settings import settings_of

CONF = Path(__file__).parents[2] / "harness" / "conf"
RECIPE = Recipe(steps=100, batch_size=8, learning_rate=0.1, warmup_steps=10, schedule="cosine")


@pytest.mark.parametrize("group", ["recipe", "sampling"])
def test_every_file_of_the_group_is_valid(group: str) -> None:
    files = sorted((CONF / group).glob("*.yaml"))
    assert {"laptop", "full"} <= {file.stem for file in files}
    for file in files:
        settings_of([f"{group}={file.stem}"])


def test_learning_rate_rises_linearly_then_falls_as_half_a_cosine() -> None:
    assert [RECIPE.learning_rate_at(step) for step in (1, 5, 10)] == pytest.approx([0.01, 0.05, 0.1])
    assert RECIPE.learning_rate_at(11) < 0.1
    assert RECIPE.learning_rate_at(10 + 91 // 2) == pytest.approx(0.05, rel=0.05)
    assert 0 < RECIPE.learning_rate_at(100) < 1e-4
    constant = dataclasses.replace(RECIPE, schedule="constant", warmup_steps=0)
    assert {constant.learning_rate_at(step) for step in (1, 50, 100)} == {0.1}


def test_an_inverse_square_root_falls_from_its_step_on_and_is_begun_by_every_shorter_training() -> None:
    recipe = dataclasses.replace(RECIPE, schedule="inverse_sqrt", decay_start=25)
    assert [recipe.learning_rate_at(step) for step in (5, 10, 25)] == pytest.approx([0.05, 0.1, 0.1])
    assert recipe.learning_rate_at(100) == pytest.approx(0.1 * 0.5)
    assert recipe.is_extendable
    longer = dataclasses.replace(recipe, steps=400)
    assert [longer.learning_rate_at(step) for step in range(1, 101)] == [
        recipe.learning_rate_at(s) for s in range(1, 101)
    ]
    cooled = dataclasses.replace(longer, cooldown=0.5)
    assert cooled.learning_rate_at(200) == longer.learning_rate_at(200)
    assert cooled.learning_rate_at(300) < 0.5 * longer.learning_rate_at(300)


def test_a_cooldown_falls_over_its_share_and_not_before() -> None:
    recipe = Recipe(steps=100, batch_size=8, learning_rate=0.1, warmup_steps=10, cooldown=0.25)
    assert recipe.stable_steps == 75
    assert [recipe.learning_rate_at(step) for step in (5, 10, 75)] == pytest.approx([0.05, 0.1, 0.1])
    falling = [recipe.learning_rate_at(step) for step in range(75, 101)]
    assert falling == sorted(set(falling), reverse=True)
    assert recipe.learning_rate_at(88) == pytest.approx(0.1 * (1 - math.sqrt(13 / 26)))
    assert 0 < falling[-1] < 0.003
    assert dataclasses.replace(recipe, cooldown=0.0).learning_rate_at(100) == 0.1


def test_which_states_begin_longer_trainings() -> None:
    constant = Recipe(steps=100, batch_size=8)
    assert constant.is_extendable
    cooled = dataclasses.replace(constant, cooldown=0.2)
    assert not cooled.is_extendable
    assert [cooled.is_extendable_at(step) for step in (1, 80, 81, 100)] == [True, True, False, False]
    assert not any(RECIPE.is_extendable_at(step) for step in (1, 50, 100))
    longer = dataclasses.replace(cooled, steps=300)
    assert all(longer.learning_rate_at(step) == cooled.learning_rate_at(step) for step in range(1, 81))


def test_average_starts_short_and_ends_at_its_decay() -> None:
    assert RECIPE.ema_decay_at(1) == pytest.approx(2 / 11)
    assert RECIPE.ema_decay_at(10**6) == RECIPE.ema_decay
    assert dataclasses.replace(RECIPE, ema_warmup=18.0).ema_decay_at(80) == pytest.approx(1 - 18 / 99)


def test_how_often_and_where_is_no_part_of_the_identity() -> None:
    other = dataclasses.replace(RECIPE, checkpoint_every=7, device="cpu", data_workers=3)
    assert identity(other) == identity(RECIPE)
    assert identity(dataclasses.replace(RECIPE, log_every=7)) != identity(RECIPE)


def test_every_epoch_shows_every_image_once() -> None:
    order = DataOrder(10, 4, seed=3)
    seen = torch.cat([order.at(step) for step in range(1, 16)])  # 60 = 6 epochs
    epochs = seen.view(6, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6


def test_order_is_a_function_of_seed_and_step() -> None:
    forward, fresh = DataOrder(10, 4, seed=3), DataOrder(10, 4, seed=3)
    batches = [forward.at(step) for step in range(1, 20)]
    assert torch.equal(fresh.at(14), batches[13])
    assert torch.equal(forward.at(2), batches[1])
    assert not torch.equal(torch.cat([DataOrder(10, 4, seed=4).at(s) for s in (1, 2)]), torch.cat(batches[:2]))


def test_batches_larger_than_the_data_wrap_around() -> None:
    assert sorted(DataOrder(3, 9, seed=0).at(1).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_streams_have_their_own_seeds() -> None:
    seeds = {stream_seed(s, stream, n) for s in range(5) for stream in ("step", "order") for n in range(50)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "recipe.steps must be at least 1, not 0"),
        ({"batch_size": -1}, "recipe.batch_size"),
        ({"learning_rate": 0.0}, "recipe.learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "recipe.learning_rate"),
        ({"schedule": "linear"}, "recipe.schedule must be one of constant, cosine, inverse_sqrt, not 'linear'"),
        ({"warmup_steps": -1}, "recipe.warmup_steps"),
        ({"betas": (0.9, 1.0)}, "recipe.betas"),
        ({"weight_decay": -0.1}, "recipe.weight_decay"),
        ({"clip": 0.0}, "recipe.clip"),
        ({"ema_decay": 1.0}, "recipe.ema_decay"),
        ({"ema_warmup": 0.5}, "recipe.ema_warmup must be from 1, not 0.5"),
        ({"depthwise_gain": 0.0}, "recipe.depthwise_gain must be a number above 0"),
        ({"schedule": "inverse_sqrt"}, "recipe.decay_start must be a step from 1 with inverse_sqrt, not None"),
        ({"decay_start": 5}, "recipe.decay_start must be null with schedule=constant, not 5"),
        ({"cooldown": 1.0}, "recipe.cooldown must be from 0 to below 1"),
        ({"cooldown": 0.2, "schedule": "cosine"}, "recipe.cooldown must be 0 with a cosine, not 0.2"),
        ({"cfg_dropout": 1.1}, "recipe.cfg_dropout"),
        ({"divergence": 1.0}, "recipe.divergence"),
        ({"precision": "fp8"}, "recipe.precision"),
        ({"device": "tpu"}, "recipe.device"),
        ({"checkpoint_every": 0}, "recipe.checkpoint_every"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Recipe(**{"steps": 1, "batch_size": 1, **settings})  # type: ignore[arg-type]


def test_precision_and_device_are_resolved_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision(dataclasses.replace(RECIPE, precision="auto"), cpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == cpu
    with pytest.raises(UserError, match=r"recipe\.device is 'cuda', which this machine does not have"):
        resolve_device("cuda")


def test_automatic_precision_without_the_recipes_device_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cuda = dataclasses.replace(RECIPE, precision="auto", device="cuda")
    with pytest.raises(UserError, match=r"'auto' is resolved where a study begins, and recipe\.device is 'cuda'"):
        planned_precision(on_cuda)
    assert planned_precision(dataclasses.replace(on_cuda, precision="bfloat16")) == "bfloat16"


def test_recipe_loads_without_torch() -> None:
    code = "import harness.training.recipe, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_of_many_rows_a_sentence_has_the_first_and_says_who_has_all() -> None:
    few, many = DataOrder(3000, 8, 11), DataOrder(3000, 1024, 11)
    assert few.told(2) == f"rows {', '.join(map(str, few.at(2).tolist()))} of the training data"
    first = ", ".join(map(str, many.at(2)[:8].tolist()))
    said = f"1024 rows of the training data, {first} and so on (harness.training.randomness."
    assert many.told(2) == said + "DataOrder(3000, 1024, 11).at(2) has all)"
