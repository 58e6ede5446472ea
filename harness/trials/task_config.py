"""What a trial trains and how it is scored: the settings. No torch.

A task is one file in `harness/trials/tasks/` and its configuration here, which registers it:

    @kind_of(TaskConfig, built_by="harness.trials.tasks.denoise:load")
    @dataclass(frozen=True, kw_only=True, slots=True)
    class DenoiseConfig(TaskConfig):
        kind: Literal["denoise"] = "denoise"

`harness/conf/task/` has its option. Whatever else asks about a trial asks its task: the configuration for what is known
without data, what is built of it (`harness.trials.task`) for the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.architecture.decoder import DecoderConfig
from harness.architecture.kinds import kind_of
from harness.data.config import CocoConfig, EmojiConfig
from harness.models.autoencoder_config import Tiles
from harness.models.extractor_config import EfficientNetLite0Extractor, ExtractorConfig
from harness.models.perceptual_config import PerceptualConfig, StLpips
from harness.records.errors import UserError
from harness.records.judging import (
    AUTOENCODED_PICTURES,
    CAPTIONED,
    DECODED_PICTURES,
    DRAWN_TWICE,
    GENERATED_PICTURES,
    Judging,
)
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, from_plain, identity, tag_of
from harness.records.quantities import KnownQuantity, register, score
from harness.training.objective_config import (
    DistillationConfig,
    FlowMatchingConfig,
    ObjectiveConfig,
    StepDistillationConfig,
)
from harness.training.reconstruction_config import ReconstructionConfig

if TYPE_CHECKING:
    from harness.trials.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """How a trained network is scored, as far as settings tell."""

    scores: tuple[str, ...]
    """The quantities that are measured of it: the task's own, or of `harness.records.quantities`."""
    samples: int
    """How many a score is computed from, at most."""
    passes: int = 1
    """Forward passes for each of these."""
    pictures_kept: int = 0
    """Of each trial, uncompressed."""
    seed: int | None = None
    """Of what scores draw; None where they draw nothing."""


class TaskConfig:
    """What a trial trains and how it is scored. Builder: (settings) -> `harness.trials.task.Task`, its data loaded."""

    __slots__ = ()
    forms: ClassVar[dict[str, type["TaskConfig"]]] = {}

    takes: ClassVar[type[ArchitectureConfig]]
    """The architectures that it trains."""
    objectives: ClassVar[tuple[type[ObjectiveConfig], ...]]
    """Those that suit it; the first unless another is chosen."""
    groups: ClassVar[tuple[str, ...]]
    """The groups of settings, of those that tasks may have (`groups_of_tasks`), that it has."""
    scored_by: ClassVar[tuple[str, ...]] = ()
    """The sections of its protocol that scores depend on, and no training."""
    judging: ClassVar[Judging]
    quantities: ClassVar[Mapping[str, KnownQuantity]] = {}
    """Its own, beside those that all tasks share: known wherever the task is."""

    def __init_subclass__(cls) -> None:
        register(cls.quantities)

    @property
    def name(self) -> str:
        return str(tag_of(type(self)))

    def scoring(self, settings: "Settings") -> Scoring:
        """How a trained network is scored under these settings."""
        raise NotImplementedError

    def judged(self, settings: "Settings") -> Judging:  # noqa: ARG002
        """`judging`, with the controls that the settings add."""
        return self.judging

    def with_scoring_seed(self, settings: "Settings", seed: int) -> "Settings":
        """The same but for what scores draw; asked only where they draw something."""
        raise NotImplementedError


@kind_of(TaskConfig, built_by="harness.trials.tasks.denoise:load")
@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiseConfig(TaskConfig):
    """A network that pictures are sampled from, scored by them against real ones."""

    kind: Literal["denoise"] = "denoise"

    takes: ClassVar[type[ArchitectureConfig]] = Denoiser
    objectives: ClassVar[tuple[type[ObjectiveConfig], ...]] = (
        FlowMatchingConfig,
        DistillationConfig,
        StepDistillationConfig,
    )
    groups: ClassVar[tuple[str, ...]] = ("data", "autoencoder", "text", "sampling", "quality", "watch")
    scored_by: ClassVar[tuple[str, ...]] = ("sampling", "quality")
    judging: ClassVar[Judging] = GENERATED_PICTURES

    def scoring(self, settings: "Settings") -> Scoring:
        from harness.trials.tasks.denoise import kept_of  # loads torch

        return Scoring(
            scores=settings.quality.metrics,
            samples=settings.quality.samples,
            passes=settings.sampling.evaluations,
            pictures_kept=kept_of(settings.quality.samples),
            seed=settings.sampling.seed,
        )

    def judged(self, settings: "Settings") -> Judging:
        if isinstance(settings.data, EmojiConfig):
            return DRAWN_TWICE
        return CAPTIONED if settings.data.captions else self.judging

    def with_scoring_seed(self, settings: "Settings", seed: int) -> "Settings":
        return replace(settings, sampling=replace(settings.sampling, seed=seed))


RECONSTRUCTION: Mapping[str, KnownQuantity] = {
    "psnr": score(
        "PSNR",
        "Peak signal to noise of reconstructions, rounded to grey levels: a mean over held-out pictures. More is "
        "better.",
        more_is_better=True,
        is_relative=False,
    ),
    "ssim": score(
        "SSIM",
        "Structural similarity of reconstructions to held-out pictures. More is better.",
        more_is_better=True,
        scale="fraction",
    ),
    "colour_error": score(
        "Colour error",
        "How far a reconstruction's mean colour is from its original's, in grey levels. Less is better.",
        is_bar=False,
    ),
    "st_lpips": score(
        "ST-LPIPS",
        "How unlike reconstructions look, by shift-tolerant LPIPS of VGG16: another number than LPIPS. Less is better.",
    ),
    "lpips": score("LPIPS", "How unlike reconstructions look, by LPIPS of VGG16. Less is better."),
    "reconstruction_fd": score(
        "FD of reconstructions",
        "Fréchet distance of reconstructions to their originals. Less is better.",
        is_bar=False,
    ),
}
"""Of tasks that make a picture again: `harness.measure.reconstruction`. Two are no bars, since in these the controls
are good by what they are: a linear decoder, fitted to mean colours too, and training pictures, which are real."""
IN_TILES = "in_tiles"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructingConfig(TaskConfig):
    """What tasks have in common that are scored by held-out pictures which they make again."""

    pictures: int = 2048
    """Held-out ones that scores are of, at most."""
    extractor: ExtractorConfig = field(default_factory=EfficientNetLite0Extractor)
    """Whose features the Fréchet distance is in."""
    perceptual: PerceptualConfig | None = field(default_factory=StLpips)
    """By which network's features it is told how unlike pictures look; null: it is not."""

    objectives: ClassVar[tuple[type[ObjectiveConfig], ...]] = (ReconstructionConfig,)
    quantities: ClassVar[Mapping[str, KnownQuantity]] = RECONSTRUCTION

    def __post_init__(self) -> None:
        if self.pictures < 2:
            raise UserError(f"task.pictures is a number of held-out pictures from 2, not {self.pictures}")

    def scoring(self, settings: "Settings") -> Scoring:  # noqa: ARG002
        unlike = () if self.perceptual is None else (self.perceptual.kind,)
        return Scoring(scores=("psnr", "ssim", "colour_error", *unlike, "reconstruction_fd"), samples=self.pictures)

    def judged(self, settings: "Settings") -> Judging:
        return replace(self.judging, scores=self.scoring(settings).scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class TiledConfig:
    """A large picture that is decoded whole, and in tiles: held-out ones, enlarged and encoded."""

    side: int = 1024
    """Of the picture, in pixels."""
    pictures: int = 2
    tiles: Tiles = field(default_factory=Tiles)

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise UserError(f"task.tiled.pictures is at least 1, not {self.pictures}")


@kind_of(TaskConfig, built_by="harness.trials.tasks.decode:load")
@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeConfig(ReconstructingConfig):
    """A decoder of a frozen autoencoder's latents."""

    tiled: TiledConfig | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """Of what it is told how far a picture in tiles is from the whole one; null: it is not."""
    scored_on: CocoConfig | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """COCO's pictures, that scores are of instead of the data's held-out ones; null: those."""
    kind: Literal["decode"] = "decode"

    quantities: ClassVar[Mapping[str, KnownQuantity]] = {
        IN_TILES: score(
            "In tiles",
            "Peak signal to noise of a large picture that is decoded in tiles, to the same decoded whole. More is "
            "better.",
            more_is_better=True,
            is_relative=False,
        )
    }
    takes: ClassVar[type[ArchitectureConfig]] = DecoderConfig
    groups: ClassVar[tuple[str, ...]] = ("data", "autoencoder")
    judging: ClassVar[Judging] = DECODED_PICTURES

    def scoring(self, settings: "Settings") -> Scoring:
        own = super(DecodeConfig, self).scoring(settings)
        return own if self.tiled is None else replace(own, scores=(*own.scores, IN_TILES))


@kind_of(TaskConfig, built_by="harness.trials.tasks.autoencode:load")
@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencodeConfig(ReconstructingConfig):
    """An encoder and its decoder, for data that has none: `autoencoder=trained` uses it."""

    kind: Literal["autoencode"] = "autoencode"

    takes: ClassVar[type[ArchitectureConfig]] = OwnAutoencoderConfig
    groups: ClassVar[tuple[str, ...]] = ("data",)
    judging: ClassVar[Judging] = AUTOENCODED_PICTURES


DEFAULT = DenoiseConfig()
"""The task of settings, records and files of weights that name none."""


def task_section(task: TaskConfig) -> dict[str, Any]:
    """Of a protocol: nothing for the default, so that records of before there were others keep their keys."""
    return {} if task == DEFAULT else {"task": identity(task)}


def task_of(protocol: Mapping[str, Any]) -> TaskConfig:
    """Of a record's or a study's protocol. UserError for one that is not known here."""
    return from_plain(TaskConfig, protocol["task"], where="task") if "task" in protocol else DEFAULT


def objective_section(task: TaskConfig, objective: ObjectiveConfig) -> dict[str, Any]:
    """Of a protocol: nothing for the task's own, as its defaults have it."""
    own, plain = task.objectives[0], identity(objective)
    return {} if isinstance(objective, own) and plain == identity(own()) else {"objective": plain}


def groups_of_tasks() -> tuple[str, ...]:
    """The groups of settings that some tasks have and others may not."""
    return tuple(dict.fromkeys(group for form in TaskConfig.forms.values() for group in form.groups))


def takers(architecture: ArchitectureConfig) -> list[str]:
    """The tasks that train it."""
    return [name for name, form in TaskConfig.forms.items() if isinstance(architecture, form.takes)]


def check_takes(task: TaskConfig, architecture: ArchitectureConfig) -> None:
    if isinstance(architecture, task.takes):
        return
    others = takers(architecture)
    taken = f"task={' and task='.join(others)} {'do' if len(others) > 1 else 'does'}" if others else "no task does"
    raise UserError(
        f"task={task.name} trains no {type(architecture).__name__}, and {taken}; "
        f"{'give that task' if others else 'name another architecture'}, or count this one: `harness measure`, or "
        "count_only=true in a study"
    )


def check_objective(task: TaskConfig, objective: ObjectiveConfig) -> None:
    if isinstance(objective, task.objectives):
        return
    suited = " or ".join(f"objective={tag_of(each)}" for each in task.objectives)
    raise UserError(f"task={task.name} is trained by {suited}, not by {tag_of(type(objective))}; give that one")
