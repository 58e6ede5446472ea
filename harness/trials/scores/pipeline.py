"""A folder of a diffusers pipeline, sampled by the pipeline's own call and scored like everybody's samples.

What is chosen here is what every such call takes: the classes, the number of steps, the guidance scale, and the noise,
which for sample i is a function of (seed, i) alone. The solver and its times are the pipeline's: its scheduler. Only
pipelines that make pictures of nothing or of a class are sampled; those that need a prompt or a picture are refused.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.images import ImageData
from harness.diffusion.config import EVERYWHERE, SamplingConfig
from harness.diffusion.labels import sample_labels
from harness.diffusion.sampling import micro_batches
from harness.measure.quality import samples_for
from harness.models.pixels import to_uint8
from harness.records.errors import UserError, first_line
from harness.records.plain import canonical_json, identity
from harness.records.store import known_sha256
from harness.training.device import resolve_device
from harness.trials.scores.request import PIPELINE_INDEX
from harness.trials.scores.source import Source, sampled_title
from harness.trials.settings import Settings
from harness.trials.tasks.denoise import sampling_conditions

NO_CLASS = 1000
"""The row that DiTPipeline's guidance takes, whatever table it has."""
OWN_TIMES = "its scheduler's"
"""Where the steps lie, which the pipeline's files say."""
DIGITS = 16  # of a sha256, as a trial's key has
UNLABELLED = "the pipeline knows no classes"


def pipeline_sources(
    folder: Path, settings: Settings, grid: Sequence[SamplingConfig], data: ImageData | None
) -> list[Source]:
    """One a setting of sampling; with `data` of its classes and of its pictures' size. Errors: as `Pipeline`'s, all of
    them before anything is sampled."""
    count = settings.quality.samples if data is None else samples_for(settings.quality, data)
    pipeline = Pipeline(folder, resolve_device(settings.recipe.device))
    return [pipeline.source(config, count, data) for config in grid]


class Pipeline:
    """A loaded one, on `device`. UserError for a folder of none, and for one that needs more than a class."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.parameters = folder, _parameters(folder)
        self._pipeline = _loaded(folder, device)
        self.classes = _classes(self._pipeline) if "class_labels" in self.parameters else None

    @property
    def name(self) -> str:
        """Of its class."""
        return type(self._pipeline).__name__

    @cached_property
    def files(self) -> str:
        """The first digits of the hash of its files, which stand for a trial's key."""
        files = sorted(path for path in self.folder.rglob("*") if path.suffix in (".json", ".safetensors"))
        sums = {path.relative_to(self.folder).as_posix(): known_sha256(path) for path in files}
        return hashlib.sha256(canonical_json(sums).encode()).hexdigest()[:DIGITS]

    def source(self, config: SamplingConfig, count: int, data: ImageData | None) -> Source:
        """`count` samples; with `data` of its classes and of its pictures' size.

        UserError where it knows other classes or makes pictures of another size, and for settings that its call has
        not.
        """
        self._check(config, data)
        labels = None if self.classes is None else _labels(config, count, self.classes, data)
        sampling: Any = identity(config)
        own = {"solver": self.solver, "times": OWN_TIMES}
        conditions = {"guidance_scale": config.guidance_scale, "steps": config.steps}
        seed = {"sampling_seed": f"{config.seed} of {self.name}"}  # its noise is shared by pipelines of its class alone
        return Source(
            title=sampled_title(self.folder.resolve().name, config),
            identity={"trial": self.files, "sampling": {**sampling, **own}, "classes": "all"},
            read=_reader(_call(self._pipeline, self.parameters, config), labels, config, count),
            count=count,
            shape=self._shape,
            labels=labels,
            unlabelled=UNLABELLED,
            micro_batch=config.micro_batch,
            conditions={**sampling_conditions(config), **seed, "solver": self.solver, **conditions},
            remarks=(f"sampled by the pipeline's own call, {self.solver}; sampling.solver is not asked for",),
        )

    def _check(self, config: SamplingConfig, data: ImageData | None) -> None:
        _check_settings(self.folder, config, self.parameters)
        if "class_labels" in self.parameters and config.guidance_scale > 1 and self.classes != NO_CLASS:
            raise UserError(
                f"{self.name} takes row {NO_CLASS:,} of its table for no class, and {self.folder} knows {self.classes} "
                "classes; give sampling.guidance_scale=1"
            )
        if data is not None and self.classes is not None and len(data.class_names) != self.classes:
            known, given = f"{self.classes:,}", f"{len(data.class_names):,}"
            raise UserError(f"{self.folder} knows {known} classes, and the data has {given}; give its data")
        if data is not None and self._shape != (data.channels, data.size, data.size):
            channels, height, width = self._shape
            raise UserError(
                f"{self.folder} makes pictures of {width} x {height} with {channels} channels, and the data's are "
                f"{data.size} x {data.size} with {data.channels}; give the data that they are to be compared with"
            )

    @property
    def solver(self) -> str:
        """What samples: `DDIMScheduler of DiTPipeline`."""
        return f"{type(self._pipeline.scheduler).__name__} of {self.name}"

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """Of a picture, from one in a single step."""
        classes = None if self.classes is None else torch.zeros(1, dtype=torch.int64)
        call = _call(self._pipeline, self.parameters, SamplingConfig(steps=1))
        _, channels, height, width = call(range(1), classes).shape
        return channels, height, width


def _parameters(folder: Path) -> Mapping[str, inspect.Parameter]:
    """Of its class's call; UserError where it is none of diffusers' that makes pictures of nothing or of a class."""
    import diffusers

    try:
        name = json.loads((folder / PIPELINE_INDEX).read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / PIPELINE_INDEX} names no pipeline ({error}); fetch the folder again") from error
    cls = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline)):
        raise UserError(f"{folder} is of {name}, which is no pipeline of diffusers {diffusers.__version__}")
    parameters = dict(inspect.signature(cls.__call__).parameters)
    del parameters["self"]
    taken = {"class_labels", "batch_size"}
    needed = [each for each, it in parameters.items() if it.default is it.empty and it.kind is it.POSITIONAL_OR_KEYWORD]
    needed += [each for each in ("prompt", "image") if each in parameters and each not in needed]
    if wanted := [each for each in needed if each not in taken]:
        raise UserError(
            f"{name} needs {' and '.join(wanted)}, which no data set here has; sample it with diffusers, and give the "
            "folder of its pictures"
        )
    if missing := {"num_inference_steps", "generator", "output_type"} - parameters.keys():
        raise UserError(f"{name}'s call has no {min(missing)}; sample it with diffusers, and give its pictures")
    return parameters


def _check_settings(folder: Path, config: SamplingConfig, parameters: Mapping[str, Any]) -> None:
    """Refuse settings that the pipeline's call has not, rather than leave them out."""
    if config.guidance_scale > 1 and "guidance_scale" not in parameters:
        raise UserError(f"{folder} is sampled by its own call, which knows no guidance; give sampling.guidance_scale=1")
    own = {
        "guidance_interval": config.guidance_interval != EVERYWHERE,
        "legacy_guided_channels": config.legacy_guided_channels is not None,
        "times": config.times != "uniform",
    }
    if refused := [name for name, is_asked in own.items() if is_asked]:
        raise UserError(f"{folder} is sampled by its own call, which has no such sampling.{refused[0]}; leave it out")


def _loaded(folder: Path, device: torch.device) -> Any:
    """The pipeline in float32, from safetensors alone, without its own bars."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    cls: Any = diffusers.DiffusionPipeline
    try:
        pipeline = cls.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        reason = first_line(error)
        raise UserError(f"{folder} does not load as a diffusers pipeline: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _classes(pipeline: Any) -> int | None:
    """How many it was trained on; None: none."""
    for part in ("transformer", "unet"):
        config = getattr(getattr(pipeline, part, None), "config", {})
        for name in ("num_embeds_ada_norm", "num_class_embeds"):
            if config.get(name) is not None:
                return int(config[name])
    return None


def _labels(config: SamplingConfig, count: int, classes: int, data: ImageData | None) -> Tensor:
    """(count,) by `sampling.labels`; of the data's frequencies where there is data, else all classes alike."""
    if data is None and config.labels != "balanced":
        raise UserError(
            f"sampling.labels={config.labels} asks for the class frequencies of data, and there are none beside a "
            "reference at a path; give sampling.labels=balanced"
        )
    if data is None:
        return sample_labels(count, (1,) * classes, config)
    return sample_labels(count, data.class_sizes, config, heldout=data.heldout_sizes)


def _reader(
    call: Callable[[range, Tensor | None], Tensor], labels: Tensor | None, config: SamplingConfig, count: int
) -> Callable[[range], Tensor]:
    """Samples in whole micro-batches: past the last of all `count` the first ones' classes again, which only keeps the
    shapes the same."""

    def read(indices: range) -> Tensor:
        batches = []
        for batch in micro_batches(indices, config):
            classes = None if labels is None else labels[torch.arange(batch.start, batch.stop) % count]
            batches.append(call(batch, classes))
        return torch.cat(batches)[: len(indices)]

    return read


def _call(
    pipeline: Any, parameters: Mapping[str, Any], config: SamplingConfig
) -> Callable[[range, Tensor | None], Tensor]:
    """Of a whole micro-batch: which samples, and their classes (n,) or None -> uint8 (n, C, H, W)."""
    fixed: dict[str, Any] = {"num_inference_steps": config.steps, "output_type": "np"}
    if "guidance_scale" in parameters:
        fixed["guidance_scale"] = config.guidance_scale

    def call(batch: range, classes: Tensor | None) -> Tensor:
        varying: dict[str, Any] = {"generator": [_generator(config.seed, index) for index in batch]}
        if "batch_size" in parameters:
            varying["batch_size"] = len(batch)
        if classes is not None:
            varying["class_labels"] = classes.tolist()
        generated = np.asarray(pipeline(**fixed, **varying).images, dtype=np.float32)  # 0..1, (n, H, W, C)
        images = torch.from_numpy(generated)
        return to_uint8(2 * images.permute(0, 3, 1, 2) - 1, config.rounding)

    return call


def _generator(seed: int, index: int) -> torch.Generator:
    """Of sample `index`: on the CPU, from which diffusers moves the noise to the device."""
    (state,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))  # which takes 63 bits
