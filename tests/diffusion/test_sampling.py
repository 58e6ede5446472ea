"""Sampling: images are functions of (seed, index), whoever computes them; guidance is what it says."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.diffusion.config import EVALUATIONS, SamplingConfig
from harness.diffusion.labels import sample_labels as labels_by_rule
from harness.diffusion.sampling import guided_velocity, sample, sample_batches, sample_noise
from harness.models.pixels import to_uint8
from harness.records.errors import UserError
from harness.records.plain import identity

SHAPE = (1, 8, 8)
N_CLASSES = 10


def sample_labels(count: int) -> Tensor:
    return labels_by_rule(count, (5,) * N_CLASSES, SamplingConfig())


class Table:
    """Class prompts: a fixed embedding for each class, and an empty one."""

    def __init__(self) -> None:
        self.embeddings = torch.randn(N_CLASSES + 1, 3, 6, generator=torch.Generator().manual_seed(5))

    def to(self, _device: torch.device) -> "Table":
        return self

    def context(self, labels: Tensor, drop: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.embeddings[torch.where(drop, N_CLASSES, labels)], None


class Network(nn.Module):
    """Convolutions, a norm, matrix products: the operators whose rounding depends on the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.Conv2d(1, 24, 3, padding=1), nn.Conv2d(24, 1, 3, padding=1)
        self.condition, self.mix = nn.Linear(7, 24), nn.Linear(24, 24)
        self.norm = nn.GroupNorm(4, 24)
        self.batches: list[int] = []

    def forward(self, x: Tensor, time: Tensor, context: Tensor, _mask: Tensor | None) -> Tensor:
        self.batches.append(len(x))
        h = self.norm(self.enter(x)) + self.condition(torch.cat([context.mean(1), time[:, None]], 1))[:, :, None, None]
        h = h + self.mix(torch.nn.functional.silu(h).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + 2 * self.leave(torch.nn.functional.silu(h))


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


TABLE = Table()
CONFIG = SamplingConfig(solver="heun", steps=4, guidance_scale=2.0, micro_batch=16)


def images(network: nn.Module, indices: range | None = None, config: SamplingConfig = CONFIG, seed: int = 3) -> Tensor:
    labels = sample_labels(50)
    return sample(network, TABLE, labels, dataclasses.replace(config, seed=seed), shape=SHAPE, indices=indices)


def test_images_are_bit_equal_for_any_cut_into_workers(network: Network) -> None:
    whole = images(network)
    assert whole.dtype == torch.uint8
    assert whole.shape == (50, *SHAPE)
    assert whole.float().std() > 5
    for cuts in ((0, 50), (0, 16, 32, 50), (0, 7, 19, 48, 50), tuple(range(0, 51, 5))):
        parts = [images(network, range(a, b)) for a, b in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("solver", EVALUATIONS)
def test_any_number_of_workers_makes_the_same_bits_in_micro_batches(network: Network, solver: str) -> None:
    """Each worker has a range of indices that ends at a micro-batch's border."""
    config = dataclasses.replace(CONFIG, solver=solver, steps=3, guidance_interval=(0.2, 0.9), micro_batch=6)
    whole = images(network, config=config)
    count, batches = len(whole), -(-len(whole) // config.micro_batch)
    for workers in (1, 2, 7):
        borders = [min(count, batches * worker // workers * config.micro_batch) for worker in range(workers + 1)]
        parts = [
            part
            for start, stop in itertools.pairwise(borders)
            for part in sample_batches(
                network, TABLE, sample_labels(count), dataclasses.replace(config, seed=3), shape=SHAPE,
                indices=range(start, stop),
            )
        ]  # fmt: skip
        assert [index for part, _ in parts for index in part] == list(range(count))
        assert max(len(batch) for _, batch in parts) == config.micro_batch
        assert torch.equal(torch.cat([batch for _, batch in parts]), whole)


def test_the_defaults_are_what_was_computed_before_they_could_be_chosen(network: Network) -> None:
    config = dataclasses.replace(CONFIG, steps=3, seed=3)
    context, _ = TABLE.context(sample_labels(50)[:16].repeat(2), torch.arange(32) >= 16)

    def v(x: Tensor, t: float) -> Tensor:
        prompted, empty = network(x.repeat(2, 1, 1, 1), torch.full((32,), t), context, None).chunk(2)
        return torch.lerp(empty, prompted, 2.0)

    x, times = sample_noise(3, range(16), SHAPE), [1 - index / 3 for index in range(4)]
    with torch.inference_mode():
        for t, t_next in itertools.pairwise(times[:-1]):
            slope = v(x, t)
            x = x + (t_next - t) * 0.5 * (slope + v(x + (t_next - t) * slope, t_next))
        x = x + (times[-1] - times[-2]) * v(x, times[-2])
    expected = ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(images(network, range(16), config), expected)
    assert set(identity(SamplingConfig())) == {
        "solver", "steps", "times", "shift", "labels", "guidance_scale", "micro_batch", "seed"
    }  # fmt: skip


def test_a_decoder_makes_the_pictures(network: Network) -> None:
    def decode(latents: Tensor) -> Tensor:
        assert latents.shape[1:] == SHAPE
        return to_uint8(latents.repeat(1, 3, 2, 2))

    labels = sample_labels(20)
    decoded = sample(network, TABLE, labels, CONFIG, shape=SHAPE, decode=decode)
    assert torch.equal(decoded, sample(network, TABLE, labels, CONFIG, shape=SHAPE).repeat(1, 3, 2, 2))


def test_noise_from_one_stream_a_worker_would_be_seen(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "harness.diffusion.sampling.sample_noise", lambda _seed, indices, shape: torch.randn(len(indices), *shape)
    )

    def worker(indices: range | None = None) -> Tensor:
        torch.manual_seed(3)
        return images(network, indices)

    assert not torch.equal(torch.cat([worker(range(32)), worker(range(32, 50))]), worker())


def test_images_do_not_depend_on_how_many_more_are_drawn(network: Network) -> None:
    more = sample(network, TABLE, sample_labels(70), dataclasses.replace(CONFIG, seed=3), shape=SHAPE)
    assert torch.equal(more[:50], images(network))


@pytest.mark.parametrize("micro_batch", [1, 7, 50, 64])
def test_another_micro_batch_moves_a_pixel_by_one_grey_level_at_most(network: Network, micro_batch: int) -> None:
    other = images(network, config=dataclasses.replace(CONFIG, micro_batch=micro_batch))
    assert (other.int() - images(network).int()).abs().max() <= 1


def test_every_micro_batch_has_the_same_size(network: Network) -> None:
    network.batches.clear()
    images(network, range(17, 50), SamplingConfig(steps=2, guidance_scale=1.0, micro_batch=16))
    assert set(network.batches) == {16}


def test_noise_is_a_function_of_seed_and_index() -> None:
    whole = sample_noise(7, range(20), SHAPE)
    assert torch.equal(sample_noise(7, range(13, 15), SHAPE), whole[13:15])
    assert torch.equal(sample_noise(7, range(5), (64,)).flatten(), whole[:5].flatten())
    assert not torch.equal(sample_noise(8, range(20), SHAPE), whole)


def test_noise_is_what_numpys_philox_makes() -> None:
    philox = np.random.Philox(key=np.array([2**63 + 1, 50_000], dtype=np.uint64))
    expected = np.random.Generator(philox).standard_normal((1, 8, 8), dtype=np.float32)
    assert np.array_equal(sample_noise(2**63 + 1, range(50_000, 50_001), SHAPE)[0].numpy(), expected)


def test_noise_is_standard_normal_and_uncorrelated_between_neighbours() -> None:
    noise = sample_noise(0, range(4000), (64,)).double()
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.01
    assert abs((noise * sample_noise(1, range(4000), (64,))).mean()) < 0.01


def test_guidance_is_the_published_formula(network: Network) -> None:
    x, labels = torch.randn(6, *SHAPE), sample_labels(6)
    cpu = torch.device("cpu")
    prompted, empty, guided = (guided_velocity(network, TABLE, labels, s, cpu)(x, 0.5) for s in (1, 0, 3.5))
    torch.testing.assert_close(guided, empty + 3.5 * (prompted - empty), atol=1e-4, rtol=1e-4)
    assert (prompted - empty).abs().max() > 0.01


def test_ignoring_guidance_or_the_prompt_is_seen(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    guided, unguided = images(network), images(network, config=dataclasses.replace(CONFIG, guidance_scale=1.0))
    assert not torch.equal(guided, unguided)
    monkeypatch.setattr("harness.diffusion.sampling.torch.lerp", lambda _empty, prompted, _scale: prompted)
    assert (images(network).int() - unguided.int()).abs().max() <= 1  # the mutation makes guidance do nothing


@pytest.mark.parametrize(("scale", "batch", "calls"), [(1.0, 16, 7), (2.0, 32, 7)])
def test_scale_one_costs_one_evaluation(network: Network, scale: float, batch: int, calls: int) -> None:
    network.batches.clear()
    config = dataclasses.replace(CONFIG, guidance_scale=scale)
    images(network, range(16), config)
    assert network.batches == [batch] * calls
    assert config.evaluations == calls * batch // 16


@pytest.mark.parametrize("solver", EVALUATIONS)
@pytest.mark.parametrize("times", [{}, {"times": "shifted", "shift": 3.0}])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.0, 0.3), (0.25, 0.8), (0.8, 1.0)])
def test_guidance_acts_inside_its_interval_alone(
    network: Network, solver: str, times: dict[str, object], interval: tuple[float, float]
) -> None:
    """And costs one evaluation outside of it."""
    config = dataclasses.replace(CONFIG, solver=solver, steps=10, guidance_interval=interval, **times)  # type: ignore[arg-type]
    network.batches.clear()
    images(network, range(16), config)
    assert sum(network.batches) // 16 == config.evaluations
    inside = [interval[0] - 1e-6 <= time <= interval[1] + 1e-6 for time in config.evaluated_at]
    assert config.evaluations == len(inside) + sum(inside)
    assert network.batches.count(32) == sum(inside) > 0


def test_guidance_in_an_interval_is_one_velocity_inside_and_another_outside(network: Network) -> None:
    """Two Euler steps, at t = 1 and t = 0.5: guidance at the first only is not guidance at the second only."""
    config = dataclasses.replace(CONFIG, solver="euler", steps=2, seed=3)
    late, early = (dataclasses.replace(config, guidance_interval=each) for each in ((0.0, 0.6), (0.6, 1.0)))
    labels, cpu = sample_labels(50)[:16], torch.device("cpu")
    with torch.inference_mode():
        guided, prompted = (guided_velocity(network, TABLE, labels, scale, cpu) for scale in (2.0, 1.0))
        x = sample_noise(3, range(16), SHAPE)
        middle = x - 0.5 * prompted(x, 1.0)
        expected = to_uint8(middle - 0.5 * guided(middle, 0.5))
    assert torch.equal(images(network, range(16), late), expected)
    assert not torch.equal(images(network, range(16), early), expected)


def test_another_guidance_keeps_what_means_something_at_it() -> None:
    config = SamplingConfig(guidance_scale=2.0, guidance_interval=(0.1, 0.7), legacy_guided_channels=3)
    assert config.with_guidance(1.5) == dataclasses.replace(config, guidance_scale=1.5)
    assert config.with_guidance(1.0) == SamplingConfig()


def test_old_code_guided_the_first_channels_alone(network: Network) -> None:
    """As DiT's `forward_with_cfg` did: the others are those of the prompt."""

    class Repeated(nn.Module):
        def forward(self, x: Tensor, time: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            return network(x[:, :1], time, context, mask).repeat(1, 4, 1, 1)

    x, labels, cpu = torch.randn(6, 4, 8, 8), sample_labels(6), torch.device("cpu")
    all_of_it, prompted = (guided_velocity(Repeated(), TABLE, labels, scale, cpu)(x, 0.5) for scale in (3.0, 1.0))
    legacy = guided_velocity(Repeated(), TABLE, labels, 3.0, cpu, channels=3)(x, 0.5)
    assert torch.equal(legacy[:, :3], all_of_it[:, :3])
    torch.testing.assert_close(legacy[:, 3:], prompted[:, 3:], atol=1e-5, rtol=1e-5)
    assert (legacy[:, 3:] - all_of_it[:, 3:]).abs().max() > 0.01
    with pytest.raises(UserError, match="legacy_guided_channels=1 is to leave some channels unguided, and the network"):
        images(network, config=dataclasses.replace(CONFIG, legacy_guided_channels=1))


def test_sampling_leaves_no_trace(network: Network) -> None:
    network.train()
    state = torch.get_rng_state()
    progress: list[tuple[int, int]] = []
    labels = sample_labels(50)
    sample(
        network,
        TABLE,
        labels,
        CONFIG,
        shape=SHAPE,
        indices=range(10, 40),
        on_progress=lambda *p: progress.append(p),
    )
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert progress == [(6, 30), (22, 30), (30, 30)]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"solver": "hoin"}, "unknown solver 'hoin'; choose one of: heun, "),
        ({"steps": 0}, "sampling.steps must be at least 1"),
        ({"times": "shift"}, "unknown sampling.times 'shift'; choose one of: shifted, uniform"),
        (
            {"times": "shifted"},
            "sampling.shift 1.0 does not fit sampling.times=shifted; give times=shifted with a shift",
        ),
        ({"shift": 3.0}, "sampling.shift 3.0 does not fit sampling.times=uniform"),
        ({"times": "shifted", "shift": 0.0}, "sampling.shift must be a number above 0"),
        ({"guidance_scale": -1.0}, "sampling.guidance_scale"),
        ({"guidance_scale": 0.0}, "guidance_scale must be a number from 1, which is no guidance, not 0.0"),
        ({"guidance_scale": 0.4}, r"not 0.4; papers that write w for the 1 \+ w here \(U-ViT: 0.4\) mean 1 more"),
        ({"guidance_scale": float("inf")}, "sampling.guidance_scale"),
        ({"guidance_scale": float("nan")}, "sampling.guidance_scale"),
        ({"guidance_interval": (0.7, 0.2)}, r"guidance_interval is \[low, high\], times with .*, not \[0.7, 0.2\]"),
        ({"guidance_interval": (0.0, 1.5)}, "sampling.guidance_interval"),
        ({"guidance_interval": (0.0, float("nan"))}, "sampling.guidance_interval"),
        ({"guidance_interval": (0.0, 0.5)}, "guidance_interval means nothing with guidance_scale=1"),
        (
            {"guidance_interval": (0.6, 0.9), "guidance_scale": 2.0, "steps": 2},
            r"\[0.6, 0.9\] has none of the times of 2 steps \(0.5, 1\); widen it",
        ),
        ({"legacy_guided_channels": 3}, "legacy_guided_channels needs guidance, a guidance_scale above 1"),
        ({"legacy_guided_channels": 0, "guidance_scale": 2.0}, "legacy_guided_channels must be at least 1, or null"),
        ({"rounding": "down"}, "unknown sampling.rounding 'down'; choose one of: "),
        ({"micro_batch": 0}, "sampling.micro_batch"),
        ({"seed": -1}, "sampling.seed must be a whole number from 0 to 4294967295, not -1"),
        ({"seed": 2**32}, "sampling.seed"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        SamplingConfig(**settings)  # type: ignore[arg-type]


def test_indices_outside_the_labels_are_refused(network: Network) -> None:
    for wrong in (range(40, 51), range(0, 10, 2), range(-1, 5)):
        with pytest.raises(UserError, match="sample indices"):
            images(network, wrong)
