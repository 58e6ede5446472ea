"""Stable Diffusion 3 and 3.5 as teachers: diffusers' SD3Transformer2DModel (Esser et al. 2024, arXiv 2403.03206).

It was trained on the straight path, as students are here, x_t = (1 - t) x_0 + t e, and predicts e - x_0; its timestep
is 1,000 t. diffusers' FlowMatchEulerDiscreteScheduler has the same with sigma for t: its shift moves the times at which
a pipeline samples, and no path. Its prompts are read by two CLIPs, whose penultimate states stand side by side, filled
up with zeros to the width of T5's, which stand behind them; the CLIPs' projected vectors come in beside the time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.prediction import TIMESTEPS
from harness.data.config import EncoderConfig, SeveralText
from harness.data.prompts import PromptTable
from harness.models.taps import Tap
from harness.records.errors import UserError
from harness.records.plain import Plain
from harness.training.teacher_config import Sd3Teacher
from harness.training.teachers.diffusers_files import SCHEDULER, text_encoder_names
from harness.training.teachers.diffusers_teacher import DiffusersDescription, check_width
from harness.training.teachers.guided import Velocity

PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
CLIP_TOKENS = 77
FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")


class Sd3Description(DiffusersDescription):
    config: Sd3Teacher
    part: ClassVar[str] = "transformer"
    network_class: ClassVar[str] = "SD3Transformer2DModel"

    def check_network(self) -> None:
        config, side = self.files.config, self.student.shape[-1]
        scheduler = self.files.json(SCHEDULER) or {}
        if (kind := scheduler.get("_class_name", FLOW_SCHEDULERS[0])) not in FLOW_SCHEDULERS:
            raise UserError(
                f"the teacher {self.config.name} is sampled by {kind}, and not on the straight path as Stable "
                "Diffusion 3; name another"
            )
        patch, most = int(config["patch_size"]), int(config["pos_embed_max_size"]) * int(config["patch_size"])
        if side % patch or side > most:
            raise UserError(
                f"the teacher {self.config.name} takes latents whose side is a multiple of {patch} up to {most}, and "
                f"the student's is {side}; give another data.size"
            )

    def text_config(self) -> SeveralText:
        config = self.config
        names = text_encoder_names(self.files, config.encoders, PARTS, optional=PARTS[-1])
        of_clip: dict[str, Any] = {"length": CLIP_TOKENS, "hidden": "penultimate", "pooled": True}
        how: list[dict[str, Any]] = [of_clip, {**of_clip, "join": "width"}, {"length": config.t5_tokens}]
        encoders = (
            EncoderConfig(name=name, subfolder=subfolder, sees_padding=True, cut=True, **each)
            for (name, subfolder), each in zip(names, how, strict=False)
        )
        return SeveralText(encoders=tuple(encoders), template=self.template, mask_padding=False)

    def check_text(self) -> None:
        widths = self.widths
        joint, pooled = (int(self.files.config[name]) for name in ("joint_attention_dim", "pooled_projection_dim"))
        check_width(self.config.name, "projected vectors", [projected for _, projected in widths[:2]], pooled)
        if len(widths) > 2:
            check_width(self.config.name, "tokens of T5", [widths[2][0]], joint)
        if sum(width for width, _ in widths[:2]) > joint:
            check_width(self.config.name, "tokens", [width for width, _ in widths[:2]], joint)

    def velocity(self, network: nn.Module, prompts: PromptTable, precision: torch.dtype) -> Velocity:
        joint = int(self.files.config["joint_attention_dim"])
        tokens = CLIP_TOKENS + self.config.t5_tokens

        def velocity(x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor) -> Tensor:
            context = prompts.context(labels, drop)[0]
            context = F.pad(
                context, (0, joint - prompts.width, 0, tokens - prompts.length)
            )  # of T5, where it is missing
            out: Tensor = network(
                hidden_states=x_t.to(precision),
                timestep=TIMESTEPS * time.float(),
                encoder_hidden_states=context.to(precision),
                pooled_projections=prompts.pooled_context(labels, drop).to(precision),
                return_dict=False,
            )[0]
            return out.float()

        return velocity

    @property
    def taps(self) -> Mapping[str, int]:
        """The tokens of the picture behind each block, (B, C', h / 2, w / 2)."""
        config = self.files.config
        width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        return {f"transformer_blocks.{index}": width for index in range(int(config["num_layers"]))}

    def tap(self, network: nn.Module, place: str) -> Tap:
        return Tap(network, place, downsampling=int(self.files.config["patch_size"]), part=1)

    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        return list(network.transformer_blocks)  # type: ignore[arg-type]

    def example(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        config = self.files.config
        with torch.device("meta"):
            return _Called(self.on_meta()), (
                torch.empty(1, *self.student.shape),
                torch.empty(1),
                torch.empty(1, CLIP_TOKENS + self.config.t5_tokens, int(config["joint_attention_dim"])),
                torch.empty(1, int(config["pooled_projection_dim"])),
            )

    @property
    def own_identity(self) -> dict[str, Plain]:
        return {"prediction": {"kind": "velocity"}, "t5_tokens": self.config.t5_tokens}


class _Called(nn.Module):
    """With tensors alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, timestep: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        out: Tensor = self.network(x_t, context, pooled, timestep, return_dict=False)[0]
        return out
