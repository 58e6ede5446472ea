"""Stable Diffusion XL as a teacher: diffusers' UNet2DConditionModel (Podell et al. 2023, arXiv 2307.01952).

It predicts the noise, or v, on a variance-preserving path of 1,000 scaled_linear betas, from which the straight path's
velocity follows sample by sample (`harness.diffusion.prediction`). Beyond its last noise level, t = 0.936, it is asked
as at it, of x_t at the size that it knows there: at t = 1 what its pipeline asks first, and its velocity points at what
it then makes. Its prompts are read by two CLIPs, whose penultimate states stand side by side; the second one's
projected vector comes in beside the time, with six numbers: the picture's size before it was resized, how much was cut
off at the top and at the left, and the size that is to be made. No prompt is zeros, unless its pipeline says that it
is the empty text.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.architecture.prediction import TIMESTEPS, Epsilon, Prediction, VPrediction
from harness.data.config import EncoderConfig, SeveralText
from harness.data.prompts import PromptTable
from harness.diffusion.prediction import BETAS, velocity_of
from harness.models.taps import OF_DIFFUSERS, Tap, taps_in
from harness.predictor.networks import DiffusersUNet
from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain
from harness.training.teacher_config import SdxlTeacher
from harness.training.teachers.diffusers_files import PIPELINE, SCHEDULER, pipeline_index, text_encoder_names
from harness.training.teachers.diffusers_teacher import DiffusersDescription, check_width
from harness.training.teachers.guided import Velocity

PARTS = ("text_encoder", "text_encoder_2")
CLIP_TOKENS = 77
SCHEDULE: Literal["scaled_linear"] = "scaled_linear"
SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Of diffusers: those that sample on the path that their betas say. EDM's and flow matching's have others, and those of
consistency models another network."""
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
"""In a scheduler's words -> in ours."""
FORCE_ZEROS = "force_zeros_for_empty_prompt"
"""In a pipeline's index; true unless it says otherwise."""


class SdxlDescription(DiffusersDescription):
    config: SdxlTeacher
    part: ClassVar[str] = "unet"
    network_class: ClassVar[str] = "UNet2DConditionModel"

    def check_network(self) -> None:
        config = self.files.config
        if config.get("addition_embed_type") != "text_time":
            raise UserError(
                f"the teacher {self.config.name} is no UNet of Stable Diffusion XL: its addition_embed_type is "
                f"{config.get('addition_embed_type')}, not text_time; name another"
            )
        if (width := config.get("time_cond_proj_dim")) is not None:
            raise UserError(
                f"the teacher {self.config.name} is told the guidance that it is to answer with (its "
                f"time_cond_proj_dim is {width}), as consistency models are, and this kind of teacher is not; name "
                "another"
            )
        if self._scheduler is not None:
            self._check_path(self._scheduler)
        if self.config.prediction is None and self._predicted is None:
            raise UserError(
                f"the teacher {self.config.name} does not say what it predicts: no scheduler's prediction_type lies "
                "beside it; give objective.teacher.prediction=epsilon or v"
            )

    def _check_path(self, scheduler: Mapping[str, Any]) -> None:
        """UserError where a scheduler is not of this kind's path. Its betas have to be said: diffusers' own, where they
        are not, are others."""
        if (kind := scheduler.get("_class_name")) not in SCHEDULERS:
            raise UserError(
                f"the teacher {self.config.name} is sampled by {kind}, and not on DDPM's path as Stable Diffusion XL; "
                "name another"
            )
        first, last, _ = BETAS[SCHEDULE]
        said = {"beta_schedule": SCHEDULE, "beta_start": first, "beta_end": last}
        usual = {"num_train_timesteps": TIMESTEPS, "trained_betas": None, "rescale_betas_zero_snr": False,
                 "use_flow_sigmas": False}  # fmt: skip
        for name, value in (said | usual).items():
            if (setting := scheduler.get(name, usual.get(name))) != value:
                raise UserError(
                    f"the teacher {self.config.name} was trained on another path than Stable Diffusion XL: the {name} "
                    f"of its scheduler is {setting}, not {value}; name another"
                )
        if scheduler.get("prediction_type", "epsilon") not in PREDICTIONS:
            raise UserError(
                f"the teacher {self.config.name} predicts {scheduler['prediction_type']} by its scheduler, and a "
                "teacher of this kind epsilon or v_prediction; name another"
            )

    @property
    def _scheduler(self) -> dict[str, Any] | None:
        return self.files.json(SCHEDULER)

    @property
    def _predicted(self) -> str | None:
        """As its scheduler says it; None where none does."""
        return PREDICTIONS.get(str((self._scheduler or {}).get("prediction_type")))

    @property
    def prediction(self) -> Prediction:
        kind = VPrediction if (self.config.prediction or self._predicted) == "v" else Epsilon
        return kind(beta_schedule=SCHEDULE)

    def text_config(self) -> SeveralText:
        names = text_encoder_names(self.files, self.config.encoders, PARTS)
        how: list[dict[str, Any]] = [{}, {"join": "width", "pooled": True}]
        encoders = (
            EncoderConfig(
                name=name,
                subfolder=subfolder,
                length=CLIP_TOKENS,
                hidden="penultimate",
                sees_padding=True,
                cut=True,
                **each,
            )
            for (name, subfolder), each in zip(names, how, strict=True)
        )
        return SeveralText(encoders=tuple(encoders), template=self.template, mask_padding=False)

    def check_text(self) -> None:
        widths = self.widths
        check_width(self.config.name, "tokens", [width for width, _ in widths], self._context_width)
        check_width(self.config.name, "projected vectors", [widths[1][1]], self._pooled_width)

    @property
    def _context_width(self) -> int:
        return int(self.files.config["cross_attention_dim"])

    @property
    def _pooled_width(self) -> int:
        """What is left of the added embedding beside six sizes."""
        config = self.files.config
        return int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])

    @functools.cached_property
    def _empty_is_zeros(self) -> bool:
        """As the pipeline says whose network it is, or else the one that reads its prompts."""
        index, encoders = self.files.json(PIPELINE), self.config.encoders
        if index is None and isinstance(encoders, str):
            index = pipeline_index(encoders)
        return bool((index or {}).get(FORCE_ZEROS, True))

    def read(self, class_names: Sequence[str]) -> PromptTable:
        prompts = super().read(class_names)
        if not self._empty_is_zeros:
            return prompts
        assert prompts.empty_pooled is not None
        empty, pooled = torch.zeros_like(prompts.empty), torch.zeros_like(prompts.empty_pooled)
        return replace(prompts, empty=empty, empty_pooled=pooled)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Original height and width, top and left, target height and width, in pixels."""
        original, target = self.config.original_size or self.pixels, self.config.target_size or self.pixels
        return (original, original, *self.config.crop, target, target)

    def velocity(self, network: nn.Module, prompts: PromptTable, precision: torch.dtype) -> Velocity:
        sizes, prediction = torch.tensor(self.sizes, dtype=torch.float32, device=prompts.empty.device), self.prediction

        def velocity(x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor) -> Tensor:
            added = {
                "text_embeds": prompts.pooled_context(labels, drop).to(precision),
                "time_ids": sizes.expand(len(x_t), -1),
            }

            def predicted(z: Tensor, own: Tensor, context: Tensor, _mask: Tensor | None) -> Tensor:
                out: Tensor = network(
                    z.to(precision), TIMESTEPS * own, context.to(precision), added_cond_kwargs=added, return_dict=False
                )[0]
                return out.float()

            return velocity_of(predicted, prediction)(x_t, time, prompts.context(labels, drop)[0], None)

        return velocity

    @functools.cached_property
    def taps(self) -> Mapping[str, int]:
        """What each transformer gives, behind its shortcut."""
        called, inputs = self.example()
        return taps_in(called.unet, lambda: called(*inputs))

    def tap(self, network: nn.Module, place: str) -> Tap:
        return Tap(network, place)

    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        return [module for module in network.modules() if type(module).__name__ in (OF_DIFFUSERS, "ResnetBlock2D")]

    def example(self) -> tuple[DiffusersUNet, tuple[Tensor, ...]]:
        with torch.device("meta"):
            return DiffusersUNet(self.on_meta()), (
                torch.empty(1, *self.student.shape),
                torch.empty(1),
                torch.empty(1, CLIP_TOKENS, self._context_width),
                torch.empty(1, self._pooled_width),
                torch.empty(1, 6),
            )

    @property
    def own_identity(self) -> dict[str, Plain]:
        empty = {} if self._empty_is_zeros else {"empty": "text"}
        return {"prediction": to_plain(self.prediction), "sizes": list(self.sizes), **empty}
