"""What teachers that diffusers saved have in common, whatever their network is.

A kind of them is a `DiffusersDescription` that says which network, how it reads prompts, and how the straight path's
velocity comes of it.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from harness.data.config import TEMPLATE, ClassTableText, SeveralText
from harness.data.prompts import PromptTable, class_prompts, text_identity
from harness.measure.cost import count
from harness.models.taps import Tap
from harness.records.errors import UserError
from harness.records.plain import Plain
from harness.training.device import resolve_precision
from harness.training.parallel import current_world
from harness.training.teacher import Student, TeacherOutput, check_latent_space
from harness.training.teacher_config import Sd3Teacher, SdxlTeacher
from harness.training.teachers.diffusers_files import (
    NetworkFiles,
    autoencoder_identity,
    check_weights,
    load_weights,
    network_files,
)

Velocity: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""x_t (B, C, H, W), time (B,), labels (B,), drop (B,) -> (B, C, H, W): without guidance."""


class DiffusersDescription(ABC):
    """See `harness.training.teacher.TeacherDescription`. UserError where it cannot teach this student."""

    part: ClassVar[str]
    """Of a pipeline: the folder that the network lies in."""
    network_class: ClassVar[str]
    """Of diffusers."""

    def __init__(self, config: Sd3Teacher | SdxlTeacher, student: Student) -> None:
        self.config, self.student = config, student
        self.files: NetworkFiles = network_files(config.name, self.part, self.network_class)
        made_by = autoencoder_identity(self.files, config.autoencoder)
        check_latent_space(config.name, made_by, int(self.files.config["in_channels"]), student)
        self.pixels = student.shape[-1] * int(made_by["downsampling"])
        self.check_network()
        check_weights(self.files, self.on_meta())
        self.text = self.text_config()
        self.check_text()
        self.prompts = None if student.class_names is None else self.read(student.class_names)

    @abstractmethod
    def check_network(self) -> None:
        """UserError where it is none that this kind of teacher knows, or not one of the student's size."""

    @abstractmethod
    def text_config(self) -> SeveralText: ...

    @abstractmethod
    def check_text(self) -> None:
        """UserError where the encoders are not of the width that the network attends to."""

    @abstractmethod
    def velocity(self, network: nn.Module, prompts: PromptTable, precision: torch.dtype) -> Velocity: ...

    @property
    @abstractmethod
    def taps(self) -> Mapping[str, int]: ...

    @abstractmethod
    def tap(self, network: nn.Module, place: str) -> Tap: ...

    @abstractmethod
    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        """What is sharded each by itself."""

    @abstractmethod
    def example(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network on the meta device, called with tensors alone, and these for one sample."""

    @property
    @abstractmethod
    def own_identity(self) -> dict[str, Plain]:
        """What its answers depend on beside what all kinds have: what it predicts, at least."""

    @property
    def template(self) -> str:
        """The student's, unless the teacher is given one."""
        own = self.student.text
        return self.config.template or (TEMPLATE if isinstance(own, ClassTableText) else own.template)

    def read(self, class_names: Sequence[str]) -> PromptTable:
        return class_prompts(self.text, class_names, self.student.cache, captions=True)

    def on_meta(self) -> nn.Module:
        """The network that the configuration describes, without weights."""
        import diffusers

        with torch.device("meta"):
            try:
                network: nn.Module = getattr(diffusers, self.network_class).from_config(dict(self.files.config))
            except (TypeError, ValueError, KeyError, RuntimeError, AssertionError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(
                    f"{self.files.folder}/config.json is no configuration of {self.network_class}: {reason}"
                ) from error
        return network.eval()

    @property
    def identity(self) -> Plain:
        config = self.config
        return {
            "kind": config.kind,
            "weights": self.files.digest,
            "text": text_identity(self.text),
            "guidance_scale": config.guidance_scale,
            "precision": config.precision,
            **self.own_identity,
        }

    @property
    def params(self) -> int:
        return self._cost[0]

    @property
    def macs(self) -> int:
        return self._cost[1] * (1 if self.config.guidance_scale == 1 else 2)

    @functools.cached_property
    def _cost(self) -> tuple[int, int]:
        cost = count(*self.example())
        return cost.params, cost.macs

    def precision(self, planned: str) -> str:
        return planned if self.config.precision == "recipe" else self.config.precision

    def load(self, device: torch.device) -> "DiffusersTeacher":
        assert self.prompts is not None  # a training has its data
        chosen = {
            "recipe": resolve_precision(self.student.recipe, device),
            "bfloat16": torch.bfloat16,
            "float32": torch.float32,
        }
        precision = chosen[self.config.precision]
        network = load_weights(self.files, self.on_meta(), precision)
        if self.config.sharded and current_world().size > 1:
            _shard(network, self.blocks(network))  # which moves each block to the device by itself
        network.to(device)
        return DiffusersTeacher(network, self, self.velocity(network, self.prompts.to(device), precision))


class DiffusersTeacher:
    """See `harness.training.teacher.Teacher`."""

    def __init__(self, network: nn.Module, of: DiffusersDescription, velocity: Velocity) -> None:
        self.identity, self.taps = of.identity, of.taps
        self.guidance_scale = of.config.guidance_scale
        self.network, self.velocity = network, velocity
        self._tap_at = functools.cache(functools.partial(of.tap, network))

    def __call__(
        self,
        x_t: Tensor,
        time: Tensor,
        labels: Tensor,
        drop: Tensor,
        tap: str | None = None,
        *,
        differentiable: bool = False,
    ) -> TeacherOutput:
        kept = None if tap is None else self._tap_at(tap)
        with (
            torch.set_grad_enabled(differentiable and torch.is_grad_enabled()),
            torch.autocast(x_t.device.type, enabled=False),  # its weights and inputs have its own precision
            nullcontext() if kept is None else kept.open(),
        ):
            velocity = self._guided(x_t.float(), time.float(), labels, drop)
        return TeacherOutput(velocity, None if kept is None else kept.take(x_t)[: len(x_t)])

    def _guided(self, x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor) -> Tensor:
        """v_empty + scale (v_prompt - v_empty), both in one batch, the prompt's first."""
        if self.guidance_scale == 1:
            return self.velocity(x_t, time, labels, drop)
        dropped = torch.cat([drop, torch.ones_like(drop)])
        both = self.velocity(x_t.repeat(2, 1, 1, 1), time.repeat(2), labels.repeat(2), dropped)
        prompted, empty = both.chunk(2)
        return torch.lerp(empty, prompted, self.guidance_scale)


def _shard(network: nn.Module, blocks: Sequence[nn.Module]) -> None:
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block)
    fully_shard(network, reshard_after_forward=True)


def check_width(name: str, what: str, widths: Sequence[int], wanted: int) -> None:
    """UserError where text encoders of these widths, side by side, are not what the network takes."""
    if sum(widths) != wanted:
        raise UserError(
            f"the teacher {name} takes {what} that are {wanted} wide, and its text encoders' are "
            f"{' + '.join(map(str, widths))}; give those that it was trained with as objective.teacher.text"
        )
