"""Denoising: a network that pictures are sampled from, in pixels or in an autoencoder's latents, by class or caption.

train -> sample -> score: as many samples as a score is of, each with a class or caption that is asked of it, against
real pictures. Beside the record lie a grid of samples for people, and samples for other scores.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.architecture.edits import with_edits
from harness.architecture.kinds import builder_of
from harness.architecture.prediction import VELOCITY
from harness.data.config import EmojiConfig
from harness.data.dataset import load_dataset
from harness.data.images import ImageData
from harness.data.prompts import PromptTable, class_prompts, is_class_table
from harness.data.sources.emoji import openmoji_font, second_drawings
from harness.diffusion.config import SamplingConfig
from harness.diffusion.labels import sample_labels
from harness.diffusion.sampling import Decode, sample_batches
from harness.launch.attempt import shared_folder
from harness.launch.events import report_progress
from harness.measure.quality import Scorer, quality, samples_for, say_if_fewer, told_by
from harness.measure.quality_controls import Part, control_parts, images_at_once
from harness.measure.quality_features import extract
from harness.measure.quality_reference import WHOLE, Reference, load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.autoencoder import check_matching, describe, load_matching
from harness.models.codec import Description
from harness.models.feature_extractor import check_extractor
from harness.models.taps import taps_of
from harness.models.weights import Training, tensors_sha256
from harness.records.errors import UserError
from harness.records.judging import OPENMOJI, REAL_PICTURES
from harness.records.plain import identity, to_plain
from harness.records.quantity import Quantity, Unavailable
from harness.records.store import known_sha256, write_atomic
from harness.training.batches import TrainingData
from harness.training.device import resolve_device
from harness.training.objective import Objective
from harness.training.objective_config import DistillationConfig, StepDistillationConfig
from harness.training.objectives.distillation import Learner, check_taps
from harness.training.objectives.step_distillation import check_judged_by
from harness.training.outcomes import Trained
from harness.training.teacher import TeacherDescription
from harness.trials.samples import above, by_class, columns_of, initialised_network, write_grid
from harness.trials.scores.parts import Arrays, Parts, part_ranges, scorer_of
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.task import Work
from harness.trials.teachers import described_teacher
from harness.trials.watching import Hear, Keep, PictureWatcher

SAMPLES = "samples"
"""In the folder that a trial's attempts share: the parts of the samples, until the record is stored."""
SAMPLES_LOG = "samples.log"
"""Beside that folder: which attempt sampled which part."""
KEPT_SAMPLES = 1024
"""Of a trial's samples, where there are too many to keep all."""
GRID_ROWS = 8
GRID_MOST_COLUMNS = 12
UNTRAINED_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Two of the three that are not one (`harness.architecture.latents`); equal where networks see pixels."""

    image: tuple[int, int, int]
    """(C, H, W) of the pictures that a score sees."""
    latent: tuple[int, int, int]
    """(L, h, w) of what a network is trained on and samples."""


def load(settings: Settings) -> "Denoise":
    """With the pictures, their prompts embedded; refuses what would fail after hours of training."""
    check_extractor(settings.quality.extractor)
    cache = cache_folder(settings.out)
    images = load_dataset(settings.data, cache=cache)
    settings.quality.check_data(images.kind, captions=images.captions)
    autoencoder = _autoencoder_of(settings, images)
    prompts = class_prompts(settings.text, images.class_names, cache, captions=images.captions)
    return Denoise(settings=settings, images=images, prompts=prompts, autoencoder=autoencoder)


def kept_of(samples: int) -> int:
    """How many of so many samples are kept."""
    return samples if samples <= WHOLE else KEPT_SAMPLES


def sampling_conditions(config: SamplingConfig) -> dict[str, Any]:
    """Conditions of a score: samples with the same ones start from the same noise and are asked for the same classes,
    whatever the network, so that scores of two of them can be compared sample by sample."""
    return {"sampling_seed": config.seed, "labels": config.labels}


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """See `harness.trials.task.Task`."""

    settings: Settings
    images: ImageData
    prompts: PromptTable
    autoencoder: Description

    @property
    def data(self) -> TrainingData:
        """The pictures, or what an autoencoder made of them."""
        return self.images if self.images.latents is None else self.images.latents

    @property
    def pictures(self) -> int:
        return sum(self.images.class_sizes)

    @property
    def sizes(self) -> Sizes:
        image = (self.images.channels, self.images.size, self.images.size)
        return Sizes(image=image, latent=self.autoencoder.latent_shape(self.images.channels, self.images.size))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.sizes.latent

    @property
    def samples(self) -> int:
        return samples_for(self.settings.quality, self.images)

    @property
    def warning(self) -> str | None:
        return "; ".join(filter(None, [self.images.warning, *self.prompts.remarks])) or None

    @property
    def latents_section(self) -> dict[str, Any] | None:
        """What made the latents; None where networks see pixels."""
        latents = self.images.latents
        return None if self.autoencoder.is_pixels or latents is None else dict(latents.autoencoder)

    @property
    def trained_on(self) -> dict[str, Any]:
        latents = (
            {}
            if (made_by := self.latents_section) is None
            else {"autoencoder": {**made_by, **self.autoencoder.decoded_by}}
        )
        teacher = {} if self.teacher is None else {"teacher": self.teacher.identity}
        return {"data": self.images.identity, **latents, "text": self.prompts.identity, **teacher}

    @cached_property
    def teacher(self) -> TeacherDescription | None:
        """Of an objective that has one. UserError for one that cannot teach here."""
        return described_teacher(self.settings, self.shape, self.latents_section, self.images.class_names)

    @property
    def scored_by(self) -> dict[str, Any]:
        scoring = quality_identity(self.settings.quality, self.images.size)
        return {"sampling": identity(self.settings.sampling), "quality": scoring}

    def under(self, settings: Settings) -> "Denoise":
        return replace(self, settings=settings)

    def fitted(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        """With the latents' channels and the prompts' width and length."""
        assert isinstance(architecture, Denoiser)
        _check_trained(architecture, self.prompts)
        self.settings.sampling.check_channels(self.shape[0])
        if self.teacher is not None and isinstance(self.settings.objective, DistillationConfig):
            check_taps(self.settings.objective, taps_of(architecture), self.teacher.taps)
        if self.teacher is not None and isinstance(self.settings.objective, StepDistillationConfig):
            check_judged_by(self.settings.objective, self.teacher.taps)
        edits = {
            "latent_channels": self.shape[0],
            "context_width": self.prompts.width,
            "context_length": self.prompts.length,
        }
        return with_edits(architecture, edits)

    def objective(self, architecture: ArchitectureConfig, seed: int) -> Objective[Any]:
        config, recipe = self.settings.objective, self.settings.recipe
        device = resolve_device(recipe.device)
        given: list[Any] = [self.data, self.prompts, recipe, device]
        if self.teacher is not None:
            given += [self.teacher.load(device), Learner(taps=taps_of(architecture), seed=seed)]
        built: Objective[Any] = builder_of(config)(config, *given)
        return built

    def told(self, trial: str) -> Training:
        """Enough to sample as the trial did."""
        made_by = self.latents_section
        return Training(trial=trial, latent=self.shape[-1], text=self.prompts.identity, autoencoder=made_by)

    # sampling

    def labels(self, count: int) -> Tensor:
        """(count,) the classes that `count` samples are asked to show."""
        data, config = self.images, self.settings.sampling
        return sample_labels(count, data.class_sizes, config, heldout=data.heldout_sizes)

    def decode(self, device: torch.device) -> Decode | None:
        """What makes pictures of samples, on that device; None where samples are pictures."""
        if (section := self.latents_section) is None:
            return None
        autoencoder = load_matching(self.settings.autoencoder, device, section)
        return partial(autoencoder.decode, rounding=self.settings.sampling.rounding)

    def batches(
        self, network: nn.Module, labels: Tensor, indices: range | None = None
    ) -> Iterator[tuple[range, Tensor]]:
        """The samples `indices` of those with these labels, or all, a micro-batch at a time with their numbers."""
        decode, config = self.decode(next(network.parameters()).device), self.settings.sampling
        return sample_batches(network, self.prompts, labels, config, shape=self.shape, indices=indices, decode=decode)

    def watcher(self, keep: Keep, hear: Hear) -> PictureWatcher:
        under = {**self.settings.recipe.rounded_otherwise, **sampling_conditions(self.settings.sampling)}
        return PictureWatcher(self, under, keep, hear)

    # scores

    @cached_property
    def reference(self) -> Reference:
        settings = self.settings
        cache, device = cache_folder(settings.out), resolve_device(settings.recipe.device)
        return load_reference(settings.quality, self.images, cache=cache, device=device)

    def score(self, trained: Trained, work: Work) -> dict[str, Quantity]:
        """No more than a part of the samples is held at once, beside those that are kept: all of them, or of more than
        WHOLE the first KEPT_SAMPLES. Each is sampled once, whatever ends the attempt."""
        say_if_fewer(self.settings.quality, self.images)
        labels = self.labels(self.samples)
        kept = kept_of(len(labels))
        with work.phase("sample"):
            reference = None if kept == len(labels) else self.reference
            parts = self._sampled(trained.model, labels, kept, reference, work)
        with work.phase("score"):
            images = torch.cat([torch.from_numpy(arrays["images"]) for _, arrays in parts.read(range(kept))])[:kept]
            made_on = {"training_device": trained.effort.device, "precision": trained.effort.precision}
            made_by = {**made_on, **self.settings.recipe.rounded_otherwise}
            under = {**made_by, **sampling_conditions(self.settings.sampling)}
            if reference is None:
                quantities = quality(images, labels, self.reference, under)
            else:
                quantities = scorer_of(parts, labels, reference).quantities(under)
        self.keep_samples(images, labels[:kept], work)
        return quantities

    def _sampled(self, network: nn.Module, labels: Tensor, kept: int, reference: Reference | None, work: Work) -> Parts:
        """The parts of the samples, all there: of the first `kept` the images, with a reference the features of all."""
        sections, count = work.spec.protocol.sections, len(labels)
        folder = shared_folder(work.folder) / SAMPLES
        what = {"weights_sha256": tensors_sha256(network.state_dict()), "protocol": sections, "kept": kept}
        ranges = part_ranges(count, self.settings.sampling.micro_batch)
        parts = Parts(folder, work.folder.parent / SAMPLES_LOG, what, ranges)
        parts.begin()

        def arrays(part: range) -> Arrays:
            images = torch.cat([each for _, each in self.batches(network, labels, part)])
            features = {} if reference is None else extract(images, reference).arrays()
            return features if part.start >= kept else {**features, "images": images.numpy()}

        for part in ranges:
            if not parts.make(part, arrays, lambda: False):
                raise UserError(
                    f"another process samples this trial, {folder}; wait for it or stop it, then run the "
                    "same command again"
                )
            report_progress(work.folder, "sample", part.stop, count)
        return parts

    def keep_samples(self, images: Tensor, labels: Tensor, work: Work) -> None:
        """The grid for people, the samples for other scores."""
        shown, columns = self.grid_of(images, labels, GRID_ROWS, GRID_MOST_COLUMNS)
        write_grid(shown, work.artifact("samples.png"), columns=columns)
        if not self.images.captions:
            classes = columns_of(labels, GRID_MOST_COLUMNS)
            write_grid(self.images.of_labels(classes), work.artifact(REAL_PICTURES), columns=columns)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images.numpy(), labels=labels.numpy())
        write_atomic(work.artifact("samples.npz"), buffer.getvalue())

    def grid_of(self, images: Tensor, labels: Tensor, rows: int, most_columns: int) -> tuple[Tensor, int]:
        """Images for a grid, and its columns: of classes each a column; of captions the first samples, and below each
        row real pictures of what they were asked for."""
        if not self.images.captions:
            return by_class(images, labels, rows=rows, most_columns=most_columns)
        shown = images[: max(1, rows // 2) * most_columns]
        columns = min(len(shown), most_columns)
        return above(shown, self.images.of_labels(labels[: len(shown)].tolist()), columns=columns), columns

    # controls

    def control_identity(self, name: str, base: ArchitectureConfig) -> dict[str, Any]:
        """Only the untrained network's depends on an architecture, and only a second drawing on a font."""
        if name == OPENMOJI:
            font = openmoji_font()
            return {"font": None if font is None else known_sha256(font)}
        return {"architecture": base.fingerprint, "seed": UNTRAINED_SEED} if name == "untrained" else {}

    def control(self, name: str, base: ArchitectureConfig) -> Mapping[str, Quantity]:
        settings, under = self.settings, dict[str, Any]()
        if name == OPENMOJI:
            return self._drawn_twice()
        if name == "untrained":
            labels = self.labels(self.samples)
            network = initialised_network(base, UNTRAINED_SEED).to(resolve_device(settings.recipe.device))
            parts = self._many_at_once(network, labels)
            under = sampling_conditions(settings.sampling)
        else:
            labels, parts = control_parts(name, self.images, settings.quality, settings.sampling)
        scorer = Scorer(self.reference, labels)
        for indices, images in parts:
            scorer.add(images, indices)
        return scorer.quantities(under)

    def _drawn_twice(self) -> Mapping[str, Quantity]:
        """OpenMoji's drawings of every caption that samples are asked for, once."""
        config, classes = self.settings.data, sorted(set(self.labels(self.samples).tolist()))
        assert isinstance(config, EmojiConfig)
        try:
            places, pixels = second_drawings(config, [self.images.class_names[number] for number in classes])
        except UserError as error:
            return {name: Unavailable(reason=str(error)) for name in told_by(self.settings.quality.metrics)}
        labels = torch.tensor([classes[place] for place in places], dtype=torch.int64)
        return quality(torch.from_numpy(pixels), labels, self.reference)

    def _many_at_once(self, network: nn.Module, labels: Tensor) -> Iterator[Part]:
        """All samples, as many at a time as the other controls are."""
        size, begin = images_at_once(self.images, self.settings.sampling.micro_batch), 0
        held: list[Tensor] = []
        for indices, images in self.batches(network, labels):
            held.append(images)
            if indices.stop % size == 0 or indices.stop == len(labels):
                yield range(begin, indices.stop), torch.cat(held)
                begin, held = indices.stop, []


def _autoencoder_of(settings: Settings, images: ImageData) -> Description:
    """The configured one, which must be what made the data's latents."""
    autoencoder = describe(settings.autoencoder)
    made_by = {"kind": "pixels"} if images.latents is None else images.latents.autoencoder
    if autoencoder.is_pixels and made_by["kind"] == "pixels":
        return autoencoder
    if images.latents is None:
        raise UserError(
            f"autoencoder={autoencoder.kind} makes latents, which are prepared once: `harness data prepare "
            f"{images.kind} to=FOLDER autoencoder={autoencoder.kind} ...`, and then data=prepared data.path=FOLDER"
        )
    check_matching(autoencoder, made_by)
    return autoencoder


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
