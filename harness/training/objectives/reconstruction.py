"""Reconstruction: a decoder makes the picture of a frozen encoder's latent, as latent diffusion's autoencoders are
trained (Esser et al. 2021, arXiv 2012.09841; Rombach et al. 2022, arXiv 2112.10752), without a term for the latents,
which stand still.

x_hat = network(z), x its picture in -1..1, |.|^2 a mean over pixels and channels, d how unlike the two look
(`harness.models.perceptual`), D the discriminator of patches (`harness.models.patch_discriminator`), n the step:

    L_own = mse_weight |x_hat - x|^2 + perceptual_weight d(x_hat, x)
    L     = L_own + [n > adversarial_start] adversarial_weight lambda L_adv
    L_adv = - D(x_hat)              hinge; the others, and D's own loss: `harness.training.objectives.adversarial`

    lambda = |dL_own / dW| / (|dL_adv / dW| + 1e-4), at most 1e4; no gradient goes through it; 1 without adaptive_weight

W are the weights of the network's last convolution and |.| the norm over all of them: both losses then pull equally at
the picture, whatever their scales (eq. 7 of the first, where its code has 1e-4 for 1e-6 and the bound). W's gradient is
taken from that of x_hat and from what the convolution saw, so that it does not matter where W is: under FSDP it is
shards. It is the whole batch's: processes that share one add theirs, and micro-batches are refused.

`train_loss` is L_own: the gradient is L's, whose own value says nothing from one step to the next, since lambda changes
and L_adv has no lower end; the curve has that apart.

D is trained after each step of the network, on the pictures that the network then makes. Before the start neither hears
of the other: D stays as it began, though its optimiser counts these steps, as the sources' does.

The validation loss is |x_hat - x|^2 on held-out pictures, whatever a training minimises; of patches, those in the
middle.

What the sources do otherwise: D's hinge loss is half of the sum there, which AdamW sees only where the gradient is
clipped; its norms are over the batch; the logarithm of a learned variance divides L_own, which their settings leave
at 1.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from harness.data.pairs import Pairs, Patch, stacked_rows
from harness.models.patch_discriminator import PatchDiscriminator, check_fits
from harness.models.perceptual import PerceptualDistance, check_perceptual, load_perceptual
from harness.models.perceptual_config import perceptual_identity, perceptual_name, smallest_side
from harness.records.errors import UserError
from harness.records.plain import Plain, identity
from harness.records.record import CurvePoint
from harness.training.device import to_device
from harness.training.objective import Auxiliary, Losses
from harness.training.objectives.adversarial import (
    DISCRIMINATOR,
    FOOLING,
    GENERATED,
    OF_PATCHES,
    REAL,
    no_match,
    over_heads,
    verdict,
)
from harness.training.optimizer import AdamW
from harness.training.parallel import current_world
from harness.training.randomness import Draws, generator, normals, stream_seed
from harness.training.recipe import Recipe
from harness.training.reconstruction_config import ReconstructionConfig

FIXED_SEED = 0
"""Of the validation: the same for every trial, whatever its own seed."""
SMALL, LARGEST = 1e-4, 1e4
"""Of lambda's denominator; lambda at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstructed:
    """What an objective of reconstruction is about, beside its settings."""

    data: Pairs
    recipe: Recipe
    device: torch.device
    seed: int
    """Of the training: the discriminator begins with weights of it."""
    last: str
    """The place of the network's last convolution, whose output is the picture."""


@dataclass(frozen=True, slots=True)
class LatentPictures:
    latents: Tensor  # (B, L, h, w)
    pictures: Tensor  # (B, C, H, W) in -1..1
    is_judged: Tensor  # (B,) 1 from the discriminator's start on, 0 before

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, samples: slice) -> "LatentPictures":
        return LatentPictures(self.latents[samples], self.pictures[samples], self.is_judged[samples])


class Reconstruction:
    auxiliaries: tuple[Auxiliary, ...] = ()

    def __init__(self, config: ReconstructionConfig, given: Reconstructed) -> None:
        self.config, self.recipe, self.device, self.last = config, given.recipe, given.device, given.last
        self.side = check_objective(config, given.recipe, given.data)
        self.data = given.data.on(given.device)
        self.identity: Plain = {**identity(config), **judged_by(config)}  # type: ignore[dict-item]
        self.perceptual: PerceptualDistance | None = None
        if config.perceptual_weight > 0:
            self.perceptual = load_perceptual(config.perceptual, given.device)
        self.discriminator: PatchDiscriminator | None = None
        if config.adversarial_weight > 0:
            self.discriminator = self._discriminator(given.seed)
            chosen = config.discriminator
            optimizer = AdamW(learning_rate=chosen.learning_rate, betas=chosen.betas, clip=given.recipe.clip)
            auxiliary = Auxiliary(
                name=DISCRIMINATOR, module=self.discriminator, optimizer=optimizer, loss=self.judgement
            )
            self.auxiliaries = (auxiliary,)

    def _discriminator(self, seed: int) -> PatchDiscriminator:
        """On the device, with first weights that depend on the seed alone."""
        chosen = self.config.discriminator
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(seed, DISCRIMINATOR, 0))
            return PatchDiscriminator(self.data.channels, chosen.width, chosen.layers).to(self.device)

    # batches

    def batch(self, rows: Tensor, _labels: Tensor, draws: Draws) -> LatentPictures:
        patch = None if self.config.patch is None else self._patch(draws)
        latents, pictures = self.data.pairs(to_device(rows, self.device), draws.encoding, patch)
        is_judged = float(draws.step > self.config.adversarial_start)
        return LatentPictures(latents, pictures, pictures.new_full((len(pictures),), is_judged))

    def _patch(self, draws: Draws) -> Patch:
        places = (self.data.side - self.side) // self.data.grid + 1
        drawn = [(draws.uniform() * places).long().clamp_max(places - 1) for _ in range(2)]
        return Patch(to_device(self.data.grid * torch.stack(drawn, dim=1), self.device), self.side)

    # the network's loss

    def loss(self, network: nn.Module, batch: LatentPictures) -> Losses:
        if self.discriminator is None:
            own, parts = self._own(self._made(network, batch), batch)
            return Losses(total=own, parts=parts)
        with seen_by(network, self.last) as seen:
            decoded = self._made(network, batch)
        own, parts = self._own(decoded, batch)
        verdicts = over_heads(FOOLING[self.config.adversarial_loss], [self.discriminator(decoded).float()])
        parts |= {"adversarial": verdicts.mean()}
        if not self.config.adaptive_weight:
            weighed = self.config.adversarial_weight * (batch.is_judged * verdicts).mean()
            return Losses(total=own + weighed - weighed.detach(), parts=parts)
        of_own, of_verdicts = (torch.autograd.grad(each, decoded)[0] for each in (own, verdicts.mean()))
        adaptive = self._ratio(seen, of_own, of_verdicts)
        weight = self.config.adversarial_weight * adaptive
        of_both = of_own + weight * batch.is_judged.view(-1, 1, 1, 1) * of_verdicts
        return Losses(total=with_gradient(own, decoded, of_both), parts={**parts, "adaptive_weight": adaptive})

    def _made(self, network: nn.Module, batch: LatentPictures) -> Tensor:
        """x_hat, float32."""
        decoded: Tensor = network(batch.latents)
        return decoded.float()

    def _own(self, decoded: Tensor, batch: LatentPictures) -> tuple[Tensor, dict[str, Tensor]]:
        """L_own and what it is made of, ()."""
        parts = {"mse": squared_error(decoded, batch)}
        total: Tensor = self.config.mse_weight * parts["mse"]
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(decoded, batch.pictures).mean()
            total = total + self.config.perceptual_weight * parts["perceptual"]
        return total, parts

    def _ratio(self, seen: "Seen", of_own: Tensor, of_verdicts: Tensor) -> Tensor:
        """lambda, (), of the two gradients with respect to x_hat."""
        world = current_world()
        share = world.size * len(of_own) / self.recipe.batch_size
        norms = [world.mean(share * seen.weight_gradient(each)).norm() for each in (of_own, of_verdicts)]
        ratio: Tensor = (norms[0] / (norms[1] + SMALL)).clamp(0.0, LARGEST)
        return ratio

    # the discriminator's loss

    def judgement(self, network: nn.Module, batch: LatentPictures) -> Losses:
        assert self.discriminator is not None
        kind = self.config.adversarial_loss
        with torch.no_grad():
            decoded = self._made(network, batch)
        real, generated = ([self.discriminator(each).float()] for each in (batch.pictures, decoded))
        each = over_heads(REAL[kind], real) + over_heads(GENERATED[kind], generated)
        parts = {
            "real_accuracy": (verdict(real) > 0).float().mean(),
            "generated_accuracy": (verdict(generated) < 0).float().mean(),
        }
        return Losses(total=(batch.is_judged * each).mean(), parts=parts)

    def remark(self, curve: Sequence[CurvePoint], /) -> str | None:
        if self.discriminator is None:
            return None
        start = self.config.adversarial_start
        if start >= self.recipe.steps:
            return self._unheard(curve)
        return no_match(curve, self.config.discriminator.window, OF_PATCHES, steps=self.recipe.steps, learns_from=start)

    def _unheard(self, curve: Sequence[CurvePoint]) -> str | None:
        """Once, with the curve's first step. No refusal: a search's first budget may end before the start that its last
        one reaches."""
        if sum(point.name == "learning_rate" for point in curve) != 1:
            return None
        return (
            f"objective.adversarial_start={self.config.adversarial_start} is not below the training's "
            f"{self.recipe.steps} steps, so that the discriminator neither learns nor is heard; lower it, or give "
            "objective.adversarial_weight=0"
        )

    # validation

    @cached_property
    def validation(self) -> list[LatentPictures]:
        """Held-out pictures spread evenly over the data."""
        images, size = self.data.heldout, self.recipe.batch_size
        count = min(self.recipe.validation_images, len(images))
        if count == 0:
            raise UserError("the data has no held-out images to validate on; raise the held-out share")
        batches = []
        for start in range(0, count, size):
            numbers = [number * len(images) // count for number in range(start, min(start + size, count))]
            rows = stacked_rows(images, numbers).to(self.device)
            encoding = normals(generator(FIXED_SEED, "validation-encoding", start), len(numbers))
            latents, pictures = self.data.pairs(rows, encoding, self._middle(len(numbers)))
            batches.append(LatentPictures(latents, pictures, pictures.new_zeros(len(numbers))))
        return batches

    def _middle(self, count: int) -> Patch | None:
        if self.config.patch is None:
            return None
        corner = (self.data.side - self.side) // 2 // self.data.grid * self.data.grid
        return Patch(torch.full((count, 2), corner, device=self.device), self.side)

    def validation_loss(self, network: nn.Module, batch: LatentPictures) -> Tensor:
        return squared_error(self._made(network, batch), batch)


@dataclass
class Seen:
    """By a convolution, in its last forward pass."""

    convolution: nn.Conv2d
    features: Tensor | None = None  # (B, C, H, W)

    def weight_gradient(self, of_output: Tensor) -> Tensor:
        """dL / dW, like W, of dL / d(output)."""
        assert self.features is not None
        layer, features = self.convolution, self.features.detach().float()
        shape = list(layer.weight.shape)
        with torch.autocast(features.device.type, enabled=False):
            gradient: Tensor = conv2d_weight(features, shape, of_output, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
        return gradient


@contextlib.contextmanager
def seen_by(network: nn.Module, place: str) -> Iterator[Seen]:
    """What the convolution at that place of the network, which may be inside DDP, sees in a pass inside."""
    inner: Any = getattr(network, "module", network)
    layer = inner.get_submodule(place)
    seen = Seen(layer)

    def keep(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.features = inputs[0]

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def squared_error(decoded: Tensor, batch: LatentPictures) -> Tensor:
    """()"""
    error: Tensor = (decoded - batch.pictures).square().mean()
    return error


def with_gradient(value: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
    """That value, whose gradient with respect to x is that: what was taken of it once is not taken again."""
    return value.detach() + ((x - x.detach()) * gradient).sum()


def check_patch(config: ReconstructionConfig, data: Pairs) -> int:
    """The side of what is trained on. UserError for patches that do not lie in the pictures, or between the latent's
    cells."""
    if config.patch is None:
        return data.side
    cell = int(data.made_by["downsampling"])
    if config.patch > data.side or config.patch % cell:
        near = max(1, min(config.patch, data.side) // cell) * cell
        raise UserError(
            f"objective.patch={config.patch} is to be a multiple of the autoencoder's {cell} pixels, up to the "
            f"pictures' {data.side}; give objective.patch={near}, or null for whole pictures"
        )
    return config.patch


def judged_by(config: ReconstructionConfig) -> dict[str, Any]:
    """What the losses depend on beside the settings: the contents of files."""
    return {} if config.perceptual_weight == 0 else {"perceptual": perceptual_identity(config.perceptual)}


def check_objective(config: ReconstructionConfig, recipe: Recipe, data: Pairs) -> int:
    """The side of what is trained on. UserError for what cannot judge it."""
    side = check_patch(config, data)
    if config.perceptual_weight > 0:
        check_perceptual(config.perceptual)
        if side < (least := smallest_side(config.perceptual)):
            raise UserError(
                f"{perceptual_name(config.perceptual)} compares pictures from {least} px, and a training sees {side}; "
                "give objective.perceptual_weight=0, or larger pictures"
            )
    if config.adversarial_weight > 0:
        check_fits(side, config.discriminator.layers)
        _check_whole_batches(config, recipe)
    return side


def _check_whole_batches(config: ReconstructionConfig, recipe: Recipe) -> None:
    if config.adaptive_weight and recipe.micro_batch is not None:
        raise UserError(
            "objective.adaptive_weight weighs by the gradients of a whole batch, and recipe.micro_batch cuts it; leave "
            "out one: recipe.micro_batch=null, or objective.adaptive_weight=false"
        )
