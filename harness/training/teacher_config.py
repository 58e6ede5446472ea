"""The network that a student learns from: the settings. No torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.architecture.kinds import kind_of
from harness.data.config import TextConfig, check_template
from harness.records.errors import UserError, unknown_name
from harness.records.plain import NOT_IDENTITY

PRECISIONS = ("recipe", "bfloat16", "float32")


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherConfig:
    """A frozen network that a student learns from. Builder: (config, `harness.training.teacher.Student`) ->
    `harness.training.teacher.TeacherDescription`. Paths and names are no part of its identity; what lies there is."""

    forms: ClassVar[dict[str, type]] = {}

    kind: str
    name: str = field(metadata=NOT_IDENTITY)
    """Its trial's key, the YAML that it was promoted to, its file of weights, or its published folder; of `sd3` and
    `sdxl` a diffusers pipeline's folder or its name on the hub, or the network's folder alone."""
    guidance_scale: float = 1.0
    """Classifier-free guidance of what the student learns from; 1 is none, and costs half."""
    precision: Literal["recipe", "bfloat16", "float32"] = "recipe"
    """Of its forward pass, and of its weights in memory; `recipe`: as the student's."""
    sharded: bool = field(default=False, metadata=NOT_IDENTITY)
    """Of several processes that share a training, each has a share of its weights, not all."""

    @property
    def passes(self) -> int:
        """Of its network, for one answer."""
        return 1 if self.guidance_scale == 1 else 2

    def __post_init__(self) -> None:
        if not 1 <= self.guidance_scale < float("inf"):
            raise UserError(
                "objective.teacher.guidance_scale must be a number from 1, which is no guidance, not "
                f"{self.guidance_scale}; papers that write w for the 1 + w here mean 1 more"
            )
        if self.precision not in PRECISIONS:
            raise unknown_name("objective.teacher.precision", self.precision, PRECISIONS)


@kind_of(TeacherConfig, built_by="harness.training.teachers.trained:describe")
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedTeacher(TeacherConfig):
    """A network that was trained here."""

    kind: Literal["trained"] = "trained"
    text: TextConfig | None = field(default=None, metadata=NOT_IDENTITY)
    """The text encoder that it was trained with; null: the study's own."""
    another_size: bool = field(default=False, metadata=NOT_IDENTITY)
    """It may be asked about samples of another height and width than it was trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusersTeacher(TeacherConfig):
    """What those have in common that diffusers saved. They are known by their files' content."""

    encoders: str | tuple[str, ...] | None = field(default=None, metadata=NOT_IDENTITY)
    """What reads its prompts: another pipeline that has the text encoders, or a list of these, CLIP-L, CLIP-G and, of
    `sd3`, T5, which may be missing: then its tokens are zeros, as in diffusers. null: its own pipeline's."""
    autoencoder: str | None = field(default=None, metadata=NOT_IDENTITY)
    """What made the latents that it denoises: a folder, or a name on the hub (of a pipeline with /vae behind it);
    null: its pipeline's vae."""
    template: str | None = None
    """Of its prompts, with {} where the class's name goes; null: the student's."""

    def __post_init__(self) -> None:
        TeacherConfig.__post_init__(self)
        if self.template is not None:
            check_template(self.template, "objective.teacher.template")


@kind_of(TeacherConfig, built_by="harness.training.teachers.sd3:Sd3Description")
@dataclass(frozen=True, kw_only=True, slots=True)
class Sd3Teacher(DiffusersTeacher):
    """diffusers' SD3Transformer2DModel: Stable Diffusion 3, 3.5 Large, its Turbo, 3.5 Medium."""

    kind: Literal["sd3"] = "sd3"
    t5_tokens: int = 256
    """Tokens of T5's that it sees; longer prompts are cut, and CLIPs read 77."""

    def __post_init__(self) -> None:
        DiffusersTeacher.__post_init__(self)
        if not 2 <= self.t5_tokens <= 512:
            raise UserError(f"objective.teacher.t5_tokens is a number of tokens from 2 to 512, not {self.t5_tokens}")


@kind_of(TeacherConfig, built_by="harness.training.teachers.sdxl:SdxlDescription")
@dataclass(frozen=True, kw_only=True, slots=True)
class SdxlTeacher(DiffusersTeacher):
    """diffusers' UNet2DConditionModel of Stable Diffusion XL and its kin."""

    kind: Literal["sdxl"] = "sdxl"
    prediction: Literal["epsilon", "v"] | None = None
    """What it predicts; null: what its pipeline's scheduler says."""
    original_size: int | None = None
    """The side in pixels that it is told the picture had before it was brought to its size: larger, and it makes
    sharper pictures; null: what it has."""
    crop: tuple[int, int] = (0, 0)
    """It is told that so many pixels were cut off at the top and at the left."""
    target_size: int | None = None
    """The side in pixels that it is told the picture has; null: what it has."""

    def __post_init__(self) -> None:
        DiffusersTeacher.__post_init__(self)
        for name in ("original_size", "target_size"):
            if (side := getattr(self, name)) is not None and side < 1:
                raise UserError(f"objective.teacher.{name} is a side in pixels, at least 1, not {side}")
        if min(self.crop) < 0:
            raise UserError(f"objective.teacher.crop is [top, left] in pixels from 0, not {list(self.crop)}")
