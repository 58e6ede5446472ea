"""What teachers that diffusers saved have in common, whatever their network is.

A kind of them is a `DiffusersDescription` that says which network, how it reads prompts, and how the straight path's
velocity comes of it.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.data.config import TEMPLATE, ClassTableText, SeveralText
from harness.data.prompts import PromptTable, class_prompts, is_embedded, text_identity
from harness.measure.cost import count
from harness.models.taps import Tap, maps_of
from harness.models.text_encoder import TextEncoderFiles, huggingface_files
from harness.records.errors import UserError, first_line
from harness.records.plain import Plain
from harness.training.parallel import current_world
from harness.training.teacher import Reading, Student, check_latent_space, check_recorded
from harness.training.teacher_config import DiffusersTeacher
from harness.training.teachers.diffusers_files import (
    NetworkFiles,
    autoencoder_identity,
    check_weights,
    load_weights,
    network_files,
)
from harness.training.teachers.guided import GuidedTeacher, Velocity, precision_on

MOST_OF_PROMPTS = 4 << 30
"""Bytes of a teacher's prompts on the training's device: 1,000 of Stable Diffusion 3 take 2.7 GB in bfloat16. More than
these come from the disk, batch by batch."""


class DiffusersDescription(ABC):
    """See `harness.training.teacher.TeacherDescription`. UserError where it cannot teach this student."""

    part: ClassVar[str]
    """Of a pipeline: the folder that the network lies in."""
    network_class: ClassVar[str]
    """Of diffusers."""

    def __init__(self, config: DiffusersTeacher, student: Student) -> None:
        self.config, self.student = config, student
        self.files: NetworkFiles = network_files(config.name, self.part, self.network_class)
        made_by = autoencoder_identity(self.files, config.autoencoder)
        check_latent_space(config.name, made_by, int(self.files.config["in_channels"]), student)
        self.pixels = student.shape[-1] * int(made_by["downsampling"])
        self.check_network()
        check_weights(self.files, self.on_meta())
        self.text = self.text_config()
        self.check_text()

    @functools.cached_property
    def prompts(self) -> PromptTable | None:
        """None where the student's classes are not known. Whoever asks first waits for the text encoders."""
        return None if self.student.class_names is None else self.read(self.student.class_names)

    def read_prompts(self) -> None:
        """By one encoder after another, on the CPU."""
        assert self.prompts is not None  # a training has its data

    @property
    def unread(self) -> Reading | None:
        names = self.student.class_names
        if names is None or is_embedded(self.text, names, self.student.cache):
            return None
        texts, each = len(names) + 1, zip(self._encoders, self.text.encoders, strict=True)
        macs = sum(files.weights * config.length for files, config in each)
        return Reading(prompts=len(names), macs=texts * macs, size=texts * self._row * torch.float32.itemsize)

    def prompts_bytes(self, planned: str) -> int:
        itemsize: int = getattr(torch, self.precision(planned)).itemsize
        size = len(self.student.class_names or ()) * self._row * itemsize
        return size if size <= MOST_OF_PROMPTS else 0

    @functools.cached_property
    def _encoders(self) -> Sequence[TextEncoderFiles]:
        return [huggingface_files(each.name, each.subfolder) for each in self.text.encoders]

    @property
    def widths(self) -> Sequence[tuple[int, int]]:
        """Of each text encoder's tokens, and of its projected vector."""
        return [files.widths for files in self._encoders]

    @property
    def _row(self) -> int:
        """Numbers of one embedded prompt."""
        parts: list[tuple[int, int]] = []  # one behind the other: tokens, width
        for config, (width, _) in zip(self.text.encoders, self.widths, strict=True):
            length, beside = config.length, parts.pop() if config.join == "width" else (0, 0)
            parts.append((max(length, beside[0]), width + beside[1]))
        return sum(tokens for tokens, _ in parts) * max(width for _, width in parts)

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
                reason = first_line(error)
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

    def maps(self, places: Sequence[str]) -> Sequence[tuple[int, int, int]]:
        called, inputs = self.example()
        network = next(part for part in called.modules() if type(part).__name__ == self.network_class)
        return maps_of([self.tap(network, place) for place in places], inputs[0], lambda: called(*inputs))

    @property
    def params(self) -> int:
        return self._cost[0]

    @property
    def macs(self) -> int:
        return self._cost[1]

    @functools.cached_property
    def _cost(self) -> tuple[int, int]:
        cost = count(*self.example())
        return cost.params, cost.macs

    def precision(self, planned: str) -> str:
        return planned if self.config.precision == "recipe" else self.config.precision

    def load(self, device: torch.device) -> GuidedTeacher:
        assert self.prompts is not None  # a training has its data
        precision = precision_on(device, self.config.precision, self.student.recipe)
        prompts = self.prompts.to(device, dtype=precision, most=MOST_OF_PROMPTS)
        check_recorded(self.config.name, prompts, device, self.student.recipe)
        network = load_weights(self.files, self.on_meta(), precision)
        if self.config.sharded and current_world().size > 1:
            _shard(network, self.blocks(network))  # which moves each block to the device by itself
        network.to(device)
        return self.taught_by(network, self.velocity(network, prompts, precision))

    def taught_by(self, network: nn.Module, velocity: Velocity) -> GuidedTeacher:
        """The teacher, of a loaded network."""
        return GuidedTeacher(
            network, velocity, functools.partial(self.tap, network), identity=self.identity, taps=self.taps,
            guidance_scale=self.config.guidance_scale,
        )  # fmt: skip


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
            f"{' + '.join(map(str, widths))}; give those that it was trained with as objective.teacher.encoders"
        )
