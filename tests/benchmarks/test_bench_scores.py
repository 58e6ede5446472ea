"""A score of 10,000 samples: resident memory of the second half, of sampling and of scoring, is at most 5% above the
first."""

from pathlib import Path

import pytest
from tiny_study import tiny_spec

from harness.measure.quality import Scorer
from harness.models.parameters import filled_copy
from harness.models.weights import Training, write_weights
from harness.trials.prepared import prepare
from harness.trials.samples import initialised_network
from harness.trials.scores.parts import Parts
from harness.trials.scores.request import ScoreRequest
from harness.trials.scores.workers import scores
from harness.trials.trained import trained_network

from .test_bench_prepared import _resident

pytestmark = pytest.mark.benchmark(group="scores")
SETTINGS = (
    "quality.samples=10000", "quality.fewer_for_floor=false", "quality.metrics=[fd]", "sampling.steps=1",
    "sampling.micro_batch=64",
)  # fmt: skip


@pytest.fixture
def request_(tmp_path, monkeypatch):
    """The samples of a network that has learnt nothing."""
    monkeypatch.chdir(tmp_path)
    spec = tiny_spec(*SETTINGS)
    prompts = prepare(spec.settings).task.prompts
    network = filled_copy(initialised_network(spec.architecture, 0))
    file = Path("ema.safetensors")
    training = Training(trial=spec.key, latent=8, text=prompts.identity)
    write_weights(file, network.state_dict(), spec.architecture, training)
    trained = trained_network(str(file), Path("runs"))
    return ScoreRequest(what=trained, settings=spec.settings, grid=(spec.settings.sampling,))


def test_memory_does_not_grow_with_the_number_of_samples(benchmark, request_, monkeypatch):
    resident: dict[str, list[float]] = {"sampling": [], "scoring": []}

    def noting(owner, name, phase):
        work = getattr(owner, name)

        def noted(*arguments):
            result = work(*arguments)
            resident[phase].append(_resident())
            return result

        monkeypatch.setattr(owner, name, noted)

    noting(Parts, "make", "sampling")
    noting(Scorer, "put", "scoring")
    benchmark.pedantic(lambda: scores(request_), rounds=1)
    for phase, megabytes in resident.items():
        half = len(megabytes) // 2
        first, second = max(megabytes[:half]), max(megabytes[half:])
        benchmark.extra_info[f"{phase}, resident MB"] = [first, second]
        print(f"{phase}: {len(megabytes)} parts, {first:.0f} MB resident in the first half, {second:.0f} in the second")
        assert second <= 1.05 * first
