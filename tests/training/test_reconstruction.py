"""A decoder's losses against arithmetic that is written out: the adaptive weight by the gradient of the last layer's
own weights, the discriminator's late start, and that a picture of a batch means nothing to another's."""

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.data.images import ArrayImages
from harness.data.pairs import Patch
from harness.models.patch_discriminator import PatchDiscriminator, smallest_picture
from harness.models.pixels import to_model_range
from harness.records.errors import UserError
from harness.records.record import CurvePoint
from harness.training import loop
from harness.training.listeners import Listeners
from harness.training.objectives.reconstruction import LatentPictures, Reconstructed, Reconstruction
from harness.training.parallel import World
from harness.training.parallel_config import NoParallel
from harness.training.randomness import HostDraws
from harness.training.recipe import Recipe
from harness.training.reconstruction_config import PatchDiscriminatorConfig, ReconstructionConfig
from harness.training.update import Update

CPU = torch.device("cpu")
HERE = str(Path(__file__).parent)
RECIPE = Recipe(steps=6, batch_size=4, learning_rate=1e-2, warmup_steps=0, validation_images=6)
SMALL = PatchDiscriminatorConfig(width=8, layers=1)


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Latents are the pictures at half their size: an encoder whose arithmetic is plain."""

    train: Any
    heldout: Any
    side: int = 8
    channels: int = 3
    grid: int = 1
    fingerprint: str = "halves"
    made_by: dict[str, Any] = field(default_factory=lambda: {"downsampling": 2})

    def on(self, _device: torch.device) -> "Halves":
        return self

    def pairs(self, rows: Tensor, _normal: Any, patch: Patch | None = None) -> tuple[Tensor, Tensor]:
        pictures = to_model_range(rows if patch is None else patch.of(rows))
        return F.avg_pool2d(pictures, 2), pictures


def halves() -> Halves:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 3, 8, 8), generator=random, dtype=torch.uint8).numpy()
    labels = torch.arange(20).numpy() % 2
    return Halves(train=ArrayImages(pixels[:12], labels[:12]), heldout=ArrayImages(pixels[12:], labels[12:]))


def decoder() -> nn.Sequential:
    torch.manual_seed(1)
    up = nn.Upsample(scale_factor=2)
    return nn.Sequential(up, nn.Conv2d(3, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 3, 3, padding=1))


def reconstruction(recipe: Recipe = RECIPE, **settings: Any) -> Reconstruction:
    config = ReconstructionConfig(**{"discriminator": SMALL, "perceptual_weight": 0, **settings})
    return Reconstruction(config, Reconstructed(data=halves(), recipe=recipe, device=CPU, seed=0, last="3"))


def batch_of(objective: Reconstruction, step: int = 1) -> LatentPictures:
    rows = torch.stack([objective.data.train[number][0] for number in range(4)])
    return objective.batch(rows, torch.zeros(4, dtype=torch.int64), HostDraws(0, step, range(4), 4))


def gradients(losses: Any, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(losses.total, list(network.parameters())))


def plainly(objective: Reconstruction, network: nn.Module, batch: LatentPictures, weight: float | None) -> Any:
    """The gradients of mse + weight * lambda * L_adv, all by autograd through the last layer's own weights."""
    made = network(batch.latents)
    mse, fooling = F.mse_loss(made, batch.pictures), -objective.discriminator(made).mean()
    last = network[3].weight
    of_mse, of_fooling = (torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (mse, fooling))
    adaptive = (of_mse / (of_fooling + 1e-4)).clamp(0, 1e4).detach() if weight is None else weight
    total = mse + 0.5 * adaptive * fooling
    return adaptive, torch.autograd.grad(total, list(network.parameters()))


@pytest.mark.parametrize("fixed", [None, 1.0], ids=["adaptive", "fixed"])
def test_the_gradient_is_that_of_the_losses_written_out(fixed):
    objective, network = reconstruction(adaptive_weight=fixed is None), decoder()
    batch = batch_of(objective)
    losses = objective.loss(network, batch)
    adaptive, expected = plainly(objective, network, batch, fixed)
    for own, each in zip(gradients(losses, network), expected, strict=True):
        torch.testing.assert_close(own, each)
    torch.testing.assert_close(losses.total, F.mse_loss(network(batch.latents), batch.pictures))
    if fixed is None:
        torch.testing.assert_close(losses.parts["adaptive_weight"], adaptive)
        assert float(adaptive) != pytest.approx(1, abs=0.1)  # else the test would not see a weight that is not there


def test_lambda_is_bounded_where_the_discriminator_says_nothing():
    objective, network = reconstruction(mse_weight=1000.0), decoder()
    for parameter in objective.discriminator.parameters():
        nn.init.zeros_(parameter)
    losses = objective.loss(network, batch_of(objective))
    made = network(batch_of(objective).latents)
    of_mse = torch.autograd.grad(1000 * F.mse_loss(made, batch_of(objective).pictures), network[3].weight)[0].norm()
    assert of_mse / 1e-4 > 1e5
    torch.testing.assert_close(losses.parts["adaptive_weight"], torch.tensor(1e4))


def test_the_discriminators_loss_is_the_hinge_and_its_gradient_its_own_alone():
    objective, network = reconstruction(), decoder()
    batch = batch_of(objective)
    losses = objective.judgement(network, batch)
    real, made = (objective.discriminator(each) for each in (batch.pictures, network(batch.latents)))
    torch.testing.assert_close(losses.total, F.relu(1 - real).mean() + F.relu(1 + made).mean())
    losses.total.backward()
    assert all(each.grad is None for each in network.parameters())
    assert all(each.grad is not None for each in objective.discriminator.parameters())


def updated(objective: Reconstruction, network: nn.Module, steps: range) -> dict[str, Tensor]:
    update = Update(network, objective, objective.recipe, CPU, torch.float32, NoParallel(), World())
    for step in steps:
        values = update(step, batch_of(objective, step))
    return values


def weights_of(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_before_its_start_the_discriminator_neither_learns_nor_is_heard():
    """With and without one, the same network; from the step behind the start on, another."""
    late, none = (
        reconstruction(adversarial_start=3),
        reconstruction(adversarial_weight=0, discriminator=PatchDiscriminatorConfig()),
    )
    began = weights_of(late.discriminator)
    heard, unheard = decoder(), decoder()
    updated(late, heard, range(1, 4))
    updated(none, unheard, range(1, 4))
    torch.testing.assert_close(weights_of(heard), weights_of(unheard))
    assert torch.equal(weights_of(late.discriminator), began)
    values = updated(late, heard, range(4, 5))
    updated(none, unheard, range(4, 5))
    assert not torch.allclose(weights_of(heard), weights_of(unheard))
    assert not torch.equal(weights_of(late.discriminator), began)
    assert float(values["discriminator_gradient_norm"]) > 0


def test_the_first_step_behind_the_start_is_judged():
    objective = reconstruction(adversarial_start=2)
    assert [float(batch_of(objective, step).is_judged[0]) for step in (1, 2, 3)] == [0, 0, 1]


def test_a_pictures_logits_do_not_depend_on_the_others():
    torch.manual_seed(0)
    discriminator, pictures = PatchDiscriminator(3, 8, 2), torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(discriminator(pictures)[1:2], discriminator(pictures[1:2]))
    assert discriminator(pictures).shape == (4, 4)
    for layers in (1, 2, 3):
        side = smallest_picture(layers)
        assert PatchDiscriminator(3, 8, layers)(torch.zeros(1, 3, side, side)).shape == (1, 1)
        with pytest.raises(RuntimeError):
            PatchDiscriminator(3, 8, layers)(torch.zeros(1, 3, side - 1, side - 1))


def test_what_a_logit_sees():
    """16, 34 and 70 pixels, as the docstring says."""
    for layers, seen in ((1, 16), (2, 34), (3, 70)):
        side = seen + 60
        pictures = torch.zeros(1, 1, side, side, requires_grad=True)
        discriminator = PatchDiscriminator(1, 8, layers)
        convolutions = nn.Sequential(*(part for part in discriminator.layers if isinstance(part, nn.Conv2d)))
        for part in convolutions:
            nn.init.ones_(part.weight)
        logits = convolutions(pictures)
        logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
        assert int((pictures.grad[0, 0].sum(0) > 0).sum()) == seen


def test_patches_are_of_the_draws_and_lie_in_the_pictures():
    batch = batch_of(reconstruction(patch=6))
    assert (batch.latents.shape, batch.pictures.shape) == ((4, 3, 3, 3), (4, 3, 6, 6))
    torch.testing.assert_close(batch.latents, F.avg_pool2d(batch.pictures, 2))
    maps = torch.arange(2 * 12 * 12).view(2, 1, 12, 12).float()
    patch = Patch(torch.tensor([[0, 4], [4, 2]]), 8)
    assert torch.equal(patch.of(maps)[0, 0], maps[0, 0, 0:8, 4:12])
    assert torch.equal(patch.of(maps)[1, 0], maps[1, 0, 4:12, 2:10])
    cells = F.avg_pool2d(maps, 2)
    assert torch.equal(patch.of(cells, 2)[1, 0], cells[1, 0, 2:6, 1:5])


def test_validation_is_the_squared_error_whatever_is_minimised():
    network = decoder()
    one, other = reconstruction(), reconstruction(mse_weight=3.0, adversarial_weight=0.1)
    (batch, rest), (again, _) = one.validation, other.validation
    assert (len(batch), len(rest)) == (4, 2)
    expected = F.mse_loss(network(batch.latents), batch.pictures)
    torch.testing.assert_close(one.validation_loss(network, batch), expected)
    torch.testing.assert_close(other.validation_loss(network, again), expected)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mse_weight": 0}, "objective.mse_weight and objective.perceptual_weight are 0"),
        ({"mse_weight": -1}, "objective.mse_weight must be a number from 0, not -1"),
        ({"adversarial_start": -1}, "objective.adversarial_start is a number of steps from 0, not -1"),
        ({"adversarial_loss": "square"}, "objective.adversarial_loss"),
        ({"adversarial_weight": 0}, "objective.discriminator means nothing with objective.adversarial_weight=0"),
        ({"adversarial_weight": 0, "discriminator": PatchDiscriminatorConfig(), "adversarial_start": 5},
         "objective.adversarial_start means nothing with objective.adversarial_weight=0"),
        ({"patch": 16}, "objective.patch=16 is to be a multiple of the autoencoder's 2 pixels, up to the pictures' 8"),
        ({"discriminator": PatchDiscriminatorConfig(layers=2)}, "layers=2 judges pictures from 12 px, and these have "
         "8; give objective.discriminator.layers=1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        reconstruction(**settings)


def test_micro_batches_and_the_adaptive_weight_do_not_go_together():
    recipe = Recipe(steps=6, batch_size=4, micro_batch=2)
    with pytest.raises(UserError, match=r"weighs by the gradients of a whole batch, and recipe\.micro_batch cuts it"):
        reconstruction(recipe)
    reconstruction(recipe, adaptive_weight=False)


def test_how_unlike_a_picture_looks_is_weighed_and_in_the_gradient(monkeypatch):
    """A distance that is plain stands for VGG16's, which its own tests are about."""

    def unlike(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean((1, 2, 3))

    monkeypatch.setattr("harness.training.objectives.reconstruction.load_perceptual", lambda *_: unlike)
    monkeypatch.setattr("harness.training.objectives.reconstruction.check_perceptual", lambda _: None)
    monkeypatch.setattr("harness.training.objectives.reconstruction.smallest_side", lambda _: 8)
    objective, network = reconstruction(mse_weight=2.0, perceptual_weight=0.3, adversarial_weight=0.7), decoder()
    batch = batch_of(objective)
    losses = objective.loss(network, batch)
    made = network(batch.latents)
    own = 2 * F.mse_loss(made, batch.pictures) + 0.3 * F.l1_loss(made, batch.pictures)
    fooling = -objective.discriminator(made).mean()
    of_own, of_fooling = (
        torch.autograd.grad(each, network[3].weight, retain_graph=True)[0].norm() for each in (own, fooling)
    )
    total = own + 0.7 * (of_own / (of_fooling + 1e-4)).detach() * fooling
    for one, other in zip(gradients(losses, network), torch.autograd.grad(total, [*network.parameters()]), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(losses.total, own)
    assert set(losses.parts) == {"mse", "perceptual", "adversarial", "adaptive_weight"}


def test_pictures_that_are_too_small_to_look_unlike_are_refused(monkeypatch):
    monkeypatch.setattr("harness.training.objectives.reconstruction.check_perceptual", lambda _: None)
    with pytest.raises(UserError, match=r"ST-LPIPS-VGG compares pictures from 18 px, and a training sees 8; give obj"):
        reconstruction(perceptual_weight=1.0)


def accuracies(steps: range, real: float, generated: float) -> list[CurvePoint]:
    names = ("discriminator_loss.real_accuracy", "discriminator_loss.generated_accuracy")
    return [
        CurvePoint(step=step, name=name, value=value)
        for step in steps
        for name, value in zip(names, (real, generated), strict=True)
    ]


@pytest.mark.parametrize(
    ("real", "generated", "says"),
    [
        (1.0, 1.0, "and the network hears little from it; lower objective.discriminator.learning_rate, or raise obj"),
        (1.0, 0.0, "wrong about at least 99% of the generated samples, and tells nothing apart; raise objective.disc"),
        (0.0, 1.0, "wrong about at least 99% of the real samples"),
        (0.5, 0.5, None),
    ],
)
def test_a_discriminator_that_always_wins_or_loses_is_told_of_once_it_learns(real, generated, says):
    """From its start on, over a whole window, once; what it said of pictures before it learned is no reason."""
    small = PatchDiscriminatorConfig(width=8, layers=1, window=30)
    objective = reconstruction(replace(RECIPE, steps=100), discriminator=small, adversarial_start=20)
    curve = accuracies(range(10, 100, 10), real, generated)
    heard = {step: objective.remark([point for point in curve if point.step <= step]) for step in range(10, 100, 10)}
    told = {step: said for step, said in heard.items() if said is not None}
    if says is None:
        assert told == {}
        return
    assert list(told) == [50]
    assert says in told[50]
    assert told[50].startswith("step 50: over the last 30 steps the discriminator has ")
    assert "r1_weight" not in told[50]
    alone = reconstruction(adversarial_weight=0, discriminator=PatchDiscriminatorConfig())
    assert alone.remark(curve) is None


def test_a_start_that_the_training_does_not_reach_is_told_of_once():
    curve = [CurvePoint(step=step, name="learning_rate", value=1e-2) for step in (2, 4, 6)]
    late = reconstruction(adversarial_start=6)
    first, *rest = (late.remark(curve[:count]) for count in (1, 2, 3))
    assert first.startswith("objective.adversarial_start=6 is not below the training's 6 steps, so that the discrimin")
    assert rest == [None, None]
    assert reconstruction(adversarial_start=5).remark(curve[:1]) is None


class KilledError(Exception):
    pass


def trained(folder: Path, killed_at: int | None = None) -> tuple[Any, dict[str, Tensor]]:
    """The curve, and every tensor of the last checkpoint."""

    def on_progress(step: int, _of: int) -> None:
        if step == killed_at:
            raise KilledError

    recipe = replace(RECIPE, checkpoint_every=2, log_every=1, validate_every=6)
    objective = reconstruction(recipe, adversarial_start=2)
    listeners = Listeners(on_progress=on_progress)
    result = loop.train(
        decoder(), objective, objective.data, recipe, architecture="toy", seed=0, folder=folder, listeners=listeners
    )
    checkpoint, _ = loop.latest(folder)
    return result.curve, load_file(checkpoint.path / "tensors.safetensors")


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


FORGOTTEN = (None, "ema", "optimizer.model", "discriminator", "optimizer.discriminator")


@pytest.mark.parametrize("forgotten", FORGOTTEN)
def test_killed_and_continued_both_networks_and_optimisers_are_the_same_to_the_bit(tmp_path, monkeypatch, forgotten):
    """Behind the discriminator's start; and whatever of the checkpoint is not read shows."""
    curve, whole = trained(tmp_path / "whole")
    with pytest.raises(KilledError):
        trained(tmp_path / "cut", killed_at=5)
    if forgotten is not None:
        load = loop.load

        def forgetful(checkpoint: Any, targets: dict[str, Tensor], world: World) -> None:
            kept = {name: tensor for name, tensor in targets.items() if not name.startswith(f"{forgotten}.")}
            assert len(kept) < len(targets)
            load(checkpoint, kept, world)

        monkeypatch.setattr(loop, "load", forgetful)
    again, cut = trained(tmp_path / "cut")
    changed = differing(cut, whole)
    assert bool(changed) == (forgotten is not None)
    assert (again == curve) == (forgotten is None)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Where two processes have left what they made, by DDP and by FSDP."""
    import decoder_processes  # which imports this module

    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([HERE, *sys.path])}
    subprocess.run([sys.executable, decoder_processes.__file__, str(folder)], env=environment, check=True, timeout=250)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_make_the_steps_of_one(kind, together):
    """Of unequal shares: the adaptive weight is the whole batch's, and both modules are the same."""
    import decoder_processes

    found, expected = torch.load(together / f"{kind}.pt", weights_only=True), decoder_processes.alone()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
