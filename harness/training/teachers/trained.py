"""A network that was trained here, as a teacher. Its file of weights says what it is of and how it was trained.

Its prompts are the student's class names, read by its own encoder into its own template; of a table of classes, the
rows of those names. Its own prediction becomes the straight path's velocity (`harness.diffusion.prediction`).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.data.config import TextConfig
from harness.data.prompts import MOST_IN_MEMORY, PromptTable, is_class_table, prompts_like, sees_padding
from harness.diffusion.prediction import velocity_of
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.models.taps import Tap, maps_of, taps_of
from harness.models.weights import Training, read_head, read_weights
from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain
from harness.training.parallel import current_world, wrapped
from harness.training.parallel_config import FsdpParallel
from harness.training.recipe import Recipe
from harness.training.teacher import Student, check_latent_space, check_recorded
from harness.training.teacher_config import TrainedTeacher
from harness.training.teachers.guided import GuidedTeacher, precision_on


@dataclass(frozen=True, kw_only=True)
class TrainedDescription:
    """See `harness.training.teacher.TeacherDescription`."""

    config: TrainedTeacher
    path: Path
    architecture: Denoiser
    training: Training
    tensors_sha256: str
    prompts: PromptTable | None
    """Of the student's classes; None where these are not known."""
    recipe: Recipe
    latent: int

    @property
    def identity(self) -> Plain:
        text = dict(self.training.text)
        if not is_class_table(text):  # of which prompts are the rows that names stand for
            del text["prompts"]  # which the student has
        return {
            "kind": self.config.kind,
            "weights": self.tensors_sha256[:16],
            "architecture": self.architecture.fingerprint,
            "prediction": to_plain(self.architecture.prediction),
            "text": text,
            "guidance_scale": self.config.guidance_scale,
            "precision": self.config.precision,
        }

    @property
    def taps(self) -> Mapping[str, int]:
        return taps_of(self.architecture)

    def maps(self, places: Sequence[str]) -> Sequence[tuple[int, int, int]]:
        network, inputs = self.example()
        return maps_of([Tap(network, place) for place in places], inputs[0], lambda: network(*inputs))

    @property
    def params(self) -> int:
        return _counted(self.architecture, self.latent)[0]

    @property
    def macs(self) -> int:
        return _counted(self.architecture, self.latent)[1]

    def precision(self, planned: str) -> str:
        return planned if self.config.precision == "recipe" else self.config.precision

    @property
    def unread(self) -> None:
        return None

    def read_prompts(self) -> None:
        """They were when it was described."""

    def prompts_bytes(self, planned: str) -> int:  # noqa: ARG002 (they are float32, whatever it computes in)
        size = 0 if self.prompts is None else self.prompts.embeddings.nbytes
        return size if size <= MOST_IN_MEMORY else 0

    def example(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        with torch.device("meta"):
            return build(self.architecture), example_inputs(self.architecture, latent=self.latent, device="meta")

    def load(self, device: torch.device) -> GuidedTeacher:
        assert self.prompts is not None  # a training has its data
        prompts = self.prompts.to(device)
        check_recorded(self.config.name, prompts, device, self.recipe)
        network = read_weights(self.path, self.architecture).network()
        precision = precision_on(device, self.config.precision, self.recipe)
        network.requires_grad_(False).to(device=device, dtype=precision)
        if self.config.sharded and current_world().size > 1:
            wrapped(network, FsdpParallel(), is_trained=False)
        of_prompts = velocity_of(network, self.architecture.prediction)

        def velocity(x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor) -> Tensor:
            return of_prompts(x_t, time, *prompts.context(labels, drop))

        return GuidedTeacher(
            network, velocity, functools.partial(Tap, network), identity=self.identity, taps=self.taps,
            guidance_scale=self.config.guidance_scale, computes_in=precision,
        )  # fmt: skip


def describe(config: TrainedTeacher, student: Student) -> TrainedDescription:
    """By the head of the file of weights. UserError for one that cannot teach this student."""
    try:
        path = student.weights_of(config.name)
    except UserError as error:
        raise UserError(f"objective.teacher.name: {error}") from error
    architecture, training, tensors_sha256 = read_head(path)
    denoiser = _denoiser(config.name, architecture, training)
    assert training is not None
    check_latent_space(config.name, training.autoencoder, denoiser.latent_channels, student)
    size = student.shape[-1]
    if reason := denoiser.why_not_latent(size):
        raise UserError(
            f"the teacher {config.name} takes no latent of {size} x {size}, as the student's are: {reason}; name "
            "another teacher, or give data.size"
        )
    if size != training.latent and not config.another_size:
        was = training.latent
        raise UserError(
            f"the teacher {config.name} was trained on {was} x {was}, and the student is on {size} x {size}, of which "
            "it has seen none; name another teacher, or give objective.teacher.another_size=true if that is meant"
        )
    return TrainedDescription(
        config=config,
        path=path,
        architecture=denoiser,
        training=training,
        tensors_sha256=tensors_sha256,
        prompts=_prompts(config, denoiser, training, student),
        recipe=student.recipe,
        latent=size,
    )


def _denoiser(name: str, architecture: ArchitectureConfig, training: Training | None) -> Denoiser:
    if training is None:
        raise UserError(
            f"the teacher {name} does not say how its weights were trained, nor what reads its prompts; name a trial, "
            "or a file that a trial wrote"
        )
    if training.task != "denoise" or not isinstance(architecture, Denoiser):
        raise UserError(
            f"the teacher {name} is a {type(architecture).__name__} of task={training.task}, and a teacher is a "
            "network that denoises; name another"
        )
    return architecture


def _prompts(
    config: TrainedTeacher, architecture: Denoiser, training: Training, student: Student
) -> PromptTable | None:
    """Padded as in its training where padding is seen, by it or by its encoder, else as these names need."""
    if student.class_names is None:
        return None
    is_seen = sees_padding(training.text) or not training.text["mask_padding"]
    length = architecture.context_length if is_seen else None
    made_like = training.text if is_class_table(training.text) else {**training.text, "length": length}
    text: TextConfig = config.text or student.text
    return prompts_like(
        made_like, text, student.class_names, student.cache, what=f"the teacher {config.name}",
        setting="objective.teacher.text",
    )  # fmt: skip


@functools.lru_cache(maxsize=100)
def _counted(architecture: ArchitectureConfig, latent: int) -> tuple[int, int]:
    """Parameters, and multiply-adds of one pass over one sample."""
    with torch.device("meta"):
        cost = count(build(architecture), example_inputs(architecture, latent=latent, device="meta"))
    return cost.params, cost.macs
