"""What an objective draws, and how a new one comes to be chosen."""

import dataclasses
from typing import Literal

import pytest
import torch
from tiny_training import RECIPE, SEED, Judged, TinyData, TinyPrompts, flow_matching

from harness.architecture.kinds import builder_of, kind_of
from harness.records.plain import from_plain
from harness.training.batches import training_rows
from harness.training.objective_config import FlowMatchingConfig, ObjectiveConfig
from harness.training.objectives.flow_matching import FlowMatching
from harness.training.randomness import HostDraws, generator


def first_rows():
    return next(training_rows(TinyData(), RECIPE, SEED, 1, range(8)))


def test_flow_matching_draws_times_then_prompts_then_noise_of_one_stream() -> None:
    """What every stored trial was trained on: not to be changed."""
    rows, labels = first_rows()
    batch = flow_matching().batch(rows, labels, HostDraws(SEED, 1, range(8), 8))
    random = generator(SEED, "step", 1)
    assert torch.equal(batch.time, torch.sigmoid(torch.randn(8, generator=random)))
    dropped = torch.rand(8, generator=random) < RECIPE.cfg_dropout
    assert torch.equal(batch.context, TinyPrompts().context(labels, dropped)[0])
    assert torch.equal(batch.noise, torch.randn(8, 1, 4, 4, generator=random))


def test_processes_that_share_a_batch_have_its_samples() -> None:
    rows, labels = first_rows()
    whole = flow_matching().batch(rows, labels, HostDraws(SEED, 1, range(8), 8))
    for samples in (range(3), range(3, 8)):
        part = slice(samples.start, samples.stop)
        own = flow_matching().batch(rows[part], labels[part], HostDraws(SEED, 1, samples, 8))
        for ours, theirs in zip(own.arguments()[:4], whole[part].arguments()[:4], strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_prompts_are_dropped_at_the_asked_rate(rate: float) -> None:
    objective = flow_matching(dataclasses.replace(RECIPE, cfg_dropout=rate))
    rows, labels = torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8), torch.zeros(50_000, dtype=torch.int64)
    context = objective.batch(rows, labels, HostDraws(0, 1, range(50_000), 50_000)).context
    is_empty = (context == TinyPrompts().table[-1]).all((1, 2)).double()
    assert is_empty.mean().item() == pytest.approx(rate, abs=5e-3 if rate == 0.1 else 0)


def test_an_objective_is_built_by_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    given = (TinyData(), TinyPrompts(), RECIPE, torch.device("cpu"))
    assert isinstance(builder_of(FlowMatchingConfig())(FlowMatchingConfig(), *given), FlowMatching)
    monkeypatch.setattr(ObjectiveConfig, "forms", dict(ObjectiveConfig.forms))

    @kind_of(ObjectiveConfig, built_by=lambda _config, *_: Judged())
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class ToyConfig(ObjectiveConfig):
        kind: Literal["toy"] = "toy"

    config = from_plain(ObjectiveConfig, {"kind": "toy"})
    assert isinstance(builder_of(config)(config, *given), Judged)
