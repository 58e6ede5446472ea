"""What all trials of a study share: the images, the prompts, the sizes, the protocol they make, and specs that fit."""

import socket
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.architecture.edits import with_edits
from harness.architecture.latents import FULL_LATENT
from harness.architecture.prediction import VELOCITY
from harness.architecture.unet import UNetConfig
from harness.data.dataset import load_dataset
from harness.data.images import ImageData
from harness.data.prompts import PromptTable, class_prompts, is_class_table
from harness.diffusion.sampling import Decode
from harness.measure.quality_reference_files import quality_identity
from harness.models.autoencoder import Description, check_matching, describe, load_matching
from harness.models.feature_extractor import check_extractor
from harness.records.errors import UserError
from harness.records.plain import canonical_json, identity, to_plain
from harness.records.record import Protocol
from harness.tracking.config import check_tracker
from harness.training.batches import TrainingData
from harness.training.device import planned_precision
from harness.training.objective_config import FlowMatchingConfig
from harness.training.recipe import Recipe
from harness.trials.checks import check_sizes
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Two of the three that are not one (`harness.architecture.latents`); equal where networks see pixels."""

    image: tuple[int, int, int]
    """(C, H, W) of the pictures that a score sees."""
    latent: tuple[int, int, int]
    """(L, h, w) of what a network is trained on and samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    settings: Settings
    data: ImageData | None  # None where trials only count
    prompts: PromptTable | None
    autoencoder: Description | None
    protocol: Protocol

    @property
    def training_data(self) -> tuple[ImageData, PromptTable]:
        """The images and prompts; asked for only where trials train."""
        if self.data is None or self.prompts is None:
            raise RuntimeError("a study that only counts has no data")
        return self.data, self.prompts

    @property
    def training_pictures(self) -> int:
        """How many an epoch has: mirrored ones that are rows of their own are no more of them. 0 for counting only."""
        return 0 if self.data is None else sum(self.data.class_sizes)

    @property
    def network_data(self) -> TrainingData:
        """What networks are trained on: the pictures, or what an autoencoder made of them."""
        data, _ = self.training_data
        return data if data.latents is None else data.latents

    @property
    def sizes(self) -> Sizes:
        """Asked for only where trials train."""
        if self.data is None or self.autoencoder is None:
            raise RuntimeError("a study that only counts has no data")
        image = (self.data.channels, self.data.size, self.data.size)
        return Sizes(image=image, latent=self.autoencoder.latent_shape(self.data.channels, self.data.size))

    @property
    def cost_latent(self) -> int:
        """Height and width of the latent that costs, exports and latencies are for: the setting, else the trained."""
        if self.settings.latent is not None:
            return self.settings.latent
        return self.sizes.latent[-1] if self.data is not None else FULL_LATENT

    def decode(self, device: torch.device) -> Decode | None:
        """What makes pictures of samples, on that device; None where samples are pictures."""
        section = self.protocol.sections.get("autoencoder")
        if section is None:
            return None
        autoencoder = load_matching(self.settings.autoencoder, device, section)
        return partial(autoencoder.decode, rounding=self.settings.sampling.rounding)

    def adapt_to_data(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        """The architecture with the latents' channels and the prompts' width and length; unchanged for counting only.

        UserError where it cannot take their size.
        """
        if self.data is None or self.prompts is None:
            return architecture
        if not isinstance(architecture, Denoiser):
            raise UserError(
                f"{type(architecture).__name__} does not denoise, so it is not trained here; "
                "count it (`harness measure`, or count_only=true in a study) or name a denoiser"
            )
        if self.settings.recipe.gradient_checkpointing and not isinstance(architecture, UNetConfig):
            raise UserError(
                "recipe.gradient_checkpointing recomputes the blocks of a UNet, and "
                f"{type(architecture).__name__} is none; leave it out"
            )
        check_sizes(self.settings, architecture)
        _check_trained(architecture, self.prompts)
        self.settings.sampling.check_channels(self.sizes.latent[0])
        edits = {
            "latent_channels": self.sizes.latent[0],
            "context_width": self.prompts.width,
            "context_length": self.prompts.length,
        }
        return with_edits(architecture, edits)

    def with_steps(self, steps: int) -> "Prepared":
        """The same study with another budget: optimiser steps. What it trains is what `recipe.steps=STEPS` trains."""
        return self.with_recipe(replace(self.settings.recipe, steps=steps))

    def with_recipe(self, recipe: Recipe) -> "Prepared":
        """The same study with another recipe."""
        return self._with_settings(replace(self.settings, recipe=recipe))

    def with_sampling_seed(self, sampling_seed: int) -> "Prepared":
        """The same study with other samples: what `sampling.seed=SAMPLING_SEED` scores. Training is the same."""
        return self._with_settings(replace(self.settings, sampling=replace(self.settings.sampling, seed=sampling_seed)))

    def _with_settings(self, settings: Settings) -> "Prepared":
        """The same data and prompts under other settings, which do not change either."""
        if self.data is None or self.prompts is None or self.autoencoder is None:
            return replace(self, settings=settings)
        return replace(self, settings=settings, protocol=protocol(settings, self.data, self.prompts, self.autoencoder))

    def spec(self, name: str, architecture: ArchitectureConfig, seed: int, **more: Any) -> TrialSpec:
        """The trial of `architecture`, fitted, with `seed`; `more` are further fields of TrialSpec."""
        return TrialSpec(
            name=name,
            architecture=self.adapt_to_data(architecture),
            settings=self.settings,
            latent=self.cost_latent,
            protocol=self.protocol,
            seed=seed,
            **more,
        )


def _check_trained(architecture: Denoiser, prompts: PromptTable) -> None:
    """Refuse what training does not know: another prediction than the velocity, a table of classes without classes."""
    if architecture.prediction != VELOCITY:
        raise UserError(
            f"networks are trained to predict {to_plain(VELOCITY)}, and this architecture's prediction is "
            f"{to_plain(architecture.prediction)}; set 'prediction={{kind: velocity}}'"
        )
    if architecture.condition == "class_table" and not is_class_table(prompts.identity):
        raise UserError(
            "condition=class_table learns a row for each class, and the classes come as text; give text=class_table"
        )


def prepare(settings: Settings) -> Prepared:
    """Load the data and embed its prompts, unless trials only count; refuse what would fail after hours of training."""
    check_tracker(settings.tracker)
    if settings.count_only:
        sections: dict[str, Any] = {"count": {"latent": settings.latent or FULL_LATENT}}
        counted = Protocol(sections=sections)
        return Prepared(settings=settings, data=None, prompts=None, autoencoder=None, protocol=counted)
    check_extractor(settings.quality.extractor)
    data = load_dataset(settings.data, cache=cache_folder(settings.out))
    autoencoder = _autoencoder_of(settings, data)
    prompts = class_prompts(settings.text, data.class_names, cache_folder(settings.out))
    return Prepared(
        settings=settings, data=data, prompts=prompts, autoencoder=autoencoder,
        protocol=protocol(settings, data, prompts, autoencoder),
    )  # fmt: skip


def _autoencoder_of(settings: Settings, data: ImageData) -> Description:
    """The configured one, which must be what made the data's latents."""
    autoencoder = describe(settings.autoencoder)
    made_by = {"kind": "pixels"} if data.latents is None else data.latents.autoencoder
    if autoencoder.is_pixels and made_by["kind"] == "pixels":
        return autoencoder
    if data.latents is None:
        raise UserError(
            f"autoencoder={autoencoder.kind} makes latents, which are prepared once: `harness data prepare {data.kind} "
            f"to=FOLDER autoencoder={autoencoder.kind} ...`, and then data=prepared data.path=FOLDER"
        )
    check_matching(autoencoder, made_by)
    return autoencoder


def protocol(settings: Settings, data: ImageData, prompts: PromptTable, autoencoder: Description) -> Protocol:
    """Every setting that can change a trial's result, and nothing else: contents, not paths; no `auto` precision."""
    recipe: Any = identity(settings.recipe)
    latents = {} if autoencoder.is_pixels or data.latents is None else {"autoencoder": dict(data.latents.autoencoder)}
    plain = identity(settings.objective)
    objective = {} if plain == identity(FlowMatchingConfig()) else {"objective": plain}
    return Protocol(
        sections={
            "data": data.identity,
            **latents,
            **objective,
            "text": prompts.identity,
            "recipe": {**recipe, "precision": planned_precision(settings.recipe)},
            "sampling": identity(settings.sampling),
            "quality": quality_identity(settings.quality, data.size),
        }
    )


def check_unchanged(planned: Protocol, prepared: Prepared) -> None:
    """Refuse to work under another protocol than the driver planned, and file the result under that.

    A worker reads the images and the text encoder anew, and its machine may compute `auto` in another precision.
    """
    now, then = prepared.protocol.sections, planned.sections
    changed = [name for name in then if canonical_json(now.get(name)) != canonical_json(then[name])]
    if not changed:
        return
    if prepared.settings.recipe.precision == "auto" and now["recipe"]["precision"] != then["recipe"]["precision"]:
        raise UserError(
            f"recipe.precision 'auto' was {then['recipe']['precision']} on the machine that began this study and is "
            f"{now['recipe']['precision']} on its worker's, {socket.gethostname()}; set recipe.precision to one of them"
        )
    raise UserError(
        f"{' and '.join(changed)} changed since this study began; run the same command again to begin with what is "
        "there now, or put the old files back"
    )


def cache_folder(out: Path) -> Path:
    """What can be computed again: embedded prompts, decoded pixels, reference statistics."""
    return Path(out) / "cache"
