"""The files of a network as diffusers saves it, alone or in a pipeline's folder: what they say before they are loaded.

    FOLDER/model_index.json                        of a pipeline: which parts it has
    FOLDER/transformer/, or unet/                  config.json and diffusion_pytorch_model*.safetensors: the network
    FOLDER/vae/                                    what made the latents that it denoises
    FOLDER/scheduler/scheduler_config.json         its path between data and noise
    FOLDER/text_encoder/, tokenizer/, ..._2/       what reads its prompts

A network that lies alone has its config.json in FOLDER itself.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from harness.models.autoencoder import describe
from harness.models.autoencoder_config import KlAutoencoder
from harness.models.weights import hub_folder
from harness.records.errors import UserError
from harness.records.plain import canonical_json
from harness.records.store import known_sha256

WEIGHTS = "diffusion_pytorch_model"
INDEX = f"{WEIGHTS}.safetensors.index.json"
PIPELINE = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"
SETTING = "objective.teacher"
DIGITS = 16  # of a sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFiles:
    """A network's, and those of the pipeline that it lies in."""

    name: str
    """As the user has it."""
    root: Path
    folder: Path
    """Of the network: `root` itself, where it lies alone."""
    config: Mapping[str, Any]
    weights: tuple[Path, ...]

    @property
    def digest(self) -> str:
        """Of the network's content: its configuration and its weights."""
        kept = {name: value for name, value in self.config.items() if not name.startswith("_")}
        lines = [canonical_json(kept), *map(known_sha256, self.weights)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]

    def json(self, relative: str) -> dict[str, Any] | None:
        """Of a file in the pipeline's folder; None where there is none."""
        return _read(self.root / relative) if (self.root / relative).is_file() else None


def network_files(name: str, part: str, network_class: str) -> NetworkFiles:
    """By a folder or the hub's name. UserError for one that has no such network, or not all of its weights."""
    ends = ("*.json", f"{WEIGHTS}.safetensors", f"{WEIGHTS}-*-of-*.safetensors")
    patterns = ["scheduler/*.json", *(f"{place}{end}" for place in (f"{part}/", "") for end in ends)]
    root = hub_folder(
        name, patterns, what="teacher", setting=f"{SETTING}.name",
        complete=lambda folder: (_has_weights(folder / part) and _says_how(folder)) or _has_weights(folder),
    )  # fmt: skip
    folder = root / part if (root / part / "config.json").is_file() else root
    if not (folder / "config.json").is_file():
        raise UserError(
            f"the teacher {name} has neither {part}/config.json nor a config.json; give the folder of a diffusers "
            f"pipeline, or of its {part}, as {SETTING}.name"
        )
    config = _read(folder / "config.json")
    if (class_name := config.get("_class_name")) != network_class:
        raise UserError(
            f"the teacher {name} holds {class_name or 'no network of diffusers'}, and this kind of teacher is "
            f"diffusers' {network_class}; name another, or give another {SETTING}.kind"
        )
    if not _has_weights(folder):
        raise UserError(
            f"the teacher {name} lacks weights: {', '.join(_lacking(folder))} of {folder}; fetch it again, as "
            "safetensors"
        )
    return NetworkFiles(name=name, root=root, folder=folder, config=config, weights=_weight_files(folder))


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text())
        if not isinstance(plain, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch it again") from error
    return plain


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """One, or as many as the index names."""
    if (folder / INDEX).is_file():
        return tuple(folder / name for name in sorted(set(_read(folder / INDEX).get("weight_map", {}).values())))
    return (folder / f"{WEIGHTS}.safetensors",)


def _lacking(folder: Path) -> list[str]:
    return [file.name for file in _weight_files(folder) if not file.is_file()]


def _has_weights(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not _lacking(folder)


def _says_how(folder: Path) -> bool:
    """Whether what a pipeline says of its parts, and of its path, lies there, and not its weights alone."""
    return (folder / PIPELINE).is_file() and (folder / SCHEDULER).is_file()


def autoencoder_identity(files: NetworkFiles, given: str | None) -> Mapping[str, Any]:
    """Of what made the latents that the network denoises: `given`, a folder or the hub's name, or the pipeline's."""
    if given is None and not _is_part(files, "vae"):
        raise UserError(
            f"the teacher {files.name} does not say which autoencoder's latents it denoises: it has no vae/; give that "
            f"autoencoder's folder as {SETTING}.autoencoder"
        )
    name, inside = (given, None) if given is not None else (files.name, "vae")
    if given is not None and (Path(given).expanduser() / "vae").is_dir():
        inside = "vae"
    elif given is not None and not Path(given).expanduser().is_dir() and given.count("/") == 2:
        name, _, inside = given.rpartition("/")  # of a pipeline on the hub
    return describe(KlAutoencoder(name=name, subfolder=inside)).identity()


def _is_part(files: NetworkFiles, part: str) -> bool:
    """Whether the pipeline has it: its index says so, or there is such a folder."""
    index = files.json(PIPELINE)
    return (files.root / part).is_dir() if index is None else _lists(index, part)


def _lists(index: Mapping[str, Any], part: str) -> bool:
    return bool((index.get(part) or [None])[0])


def pipeline_index(name: str) -> dict[str, Any] | None:
    """Of the pipeline in that folder, or of that name on the hub, which reads a teacher's prompts. None where it has
    none."""
    root = hub_folder(
        name, [PIPELINE], what="pipeline", setting=f"{SETTING}.encoders",
        complete=lambda folder: (folder / PIPELINE).is_file(),
    )  # fmt: skip
    return _read(root / PIPELINE) if (root / PIPELINE).is_file() else None


def text_encoder_names(
    files: NetworkFiles, given: str | tuple[str, ...] | None, parts: tuple[str, ...], optional: str | None = None
) -> list[tuple[str, str | None]]:
    """(name, subfolder) of each text encoder, in the pipeline's order `parts`, of which the last may be `optional`.

    `given` is another pipeline's folder or hub name, or one name an encoder; None: the network's own pipeline.
    """
    if isinstance(given, tuple):
        fewest = len(parts) - (optional is not None)
        if not fewest <= len(given) <= len(parts):
            raise UserError(
                f"{SETTING}.encoders names {len(given)} text encoders, and such a teacher has {len(parts)}; give "
                "those, or one name: that of a pipeline that has them"
            )
        return [(name, None) for name in given]
    if given is not None:
        index, folder = pipeline_index(given), Path(given).expanduser()
        has_optional = optional is not None and (
            (folder / optional).is_dir() or not folder.is_dir() if index is None else _lists(index, optional)
        )
        return [(given, part) for part in parts if part != optional or has_optional]
    lacking = [part for part in parts if not _is_part(files, part)]
    if [part for part in lacking if part != optional]:
        raise UserError(
            f"the teacher {files.name} has no {lacking[0]}/ to read its prompts; give the folder or the hub's name of "
            f"a pipeline that has it as {SETTING}.encoders"
        )
    return [(files.name, part) for part in parts if part not in lacking]


def check_weights(files: NetworkFiles, network: nn.Module) -> None:
    """UserError where the files' tensors are not, by name and shape, the parameters of the network of their
    configuration (on the meta device). Reads the files' heads alone."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files.weights:
        with _opened(path) as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    odd = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
    if odd:
        raise UserError(
            f"the weights of the teacher {files.name} are not those of its config.json: {len(odd)} are missing, left "
            f"over or of another shape, such as '{odd[0]}'; fetch it again"
        )


def load_weights(files: NetworkFiles, network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network, built on the meta device, with the files' weights in that type, on the CPU: in evaluation mode,
    without gradients. No weight is drawn, and none is held twice."""
    tensors: dict[str, Tensor] = {}
    for path in files.weights:
        with _opened(path) as file:
            tensors |= {name: file.get_tensor(name).to(dtype, copy=True) for name in file.keys()}  # noqa: SIM118
    broken = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)
    if broken is not None:
        raise UserError(
            f"the weights of the teacher {files.name} are not finite: '{broken}' has values that are no number"
        )
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error
