"""Files of weights: each says what its weights are of, and nobody takes it for anything else.

A trained network's file is safetensors whose metadata hold the whole architecture, its fingerprint, the sum of the
tensors and what they were trained for. Shapes alone prove little: another head dimension, other groups of a norm and no
RoPE have equal ones. Files of other programs enter through `harness.models.convert` only; files that come with
installed packages are known by their sha256.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.architecture.difference import difference
from harness.models.build import build
from harness.records.errors import UserError, first_line
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, canonical_json, from_plain, to_plain
from harness.records.plain import fingerprint as content_fingerprint
from harness.records.plain import identity as content_identity
from harness.records.record import KEY
from harness.records.store import known_sha256, write_atomic

FORMAT = "unet-harness-weights-2"
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")  # how files of torch.save and pickle start


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What a file says of the training that its weights come from; enough to sample from them as it did."""

    trial: str
    """The trial's key; see `source`."""
    latent: int
    """Height and width of the latents that it was trained on."""
    text: Mapping[str, Any]
    """The text encoder's digest, the prompts and how they are padded."""
    autoencoder: Mapping[str, Any] | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """What made the latents and decodes them; None where a network sees pixels."""
    task: str = field(default="denoise", metadata=IDENTITY_UNLESS_DEFAULT)
    """What it was trained for; pictures are sampled from a network that denoises."""
    source: str | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """Of weights that others trained, in no trial: the sha256 of the file that they were converted from, whose first 16
    digits stand for the trial's key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    path: Path
    architecture: ArchitectureConfig
    training: Training | None
    """None for weights that a converter brought in."""
    tensors: Mapping[str, Tensor]

    def network(self) -> nn.Module:
        """The network that they are of, in evaluation mode, on the CPU."""
        module = build(self.architecture).eval()
        module.load_state_dict(dict(self.tensors))
        return module


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], architecture: ArchitectureConfig, training: Training | None = None
) -> None:
    """A file with these weights of that architecture, there whole or not at all.

    Raises UserError where names or shapes are not the architecture's, where a value is not finite, and where the file
    cannot be written.
    """
    cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _check_tensors(f"the weights for {path}", cpu_tensors, architecture)
    identity = {
        "architecture": to_plain(architecture),
        "fingerprint": architecture.fingerprint,
        "tensors_sha256": tensors_sha256(cpu_tensors),
        "training": content_identity(training),
        "training_fingerprint": _training_fingerprint(training),
    }
    metadata = {FORMAT: canonical_json(identity)}  # one entry: safetensors writes several in any order
    write_atomic(path, save(cpu_tensors, metadata))


def read_weights(path: Path, expected: ArchitectureConfig | None = None) -> Weights:
    """The file's weights and what they are of; the architecture is fingerprinted anew.

    Raises UserError for a file that is missing, cut off, altered, not finite or of another program, and where it is of
    another architecture than `expected`, with what differs.
    """
    metadata, tensors = _content(path)
    architecture, training, sha256 = _identity(path, metadata)
    if expected is not None and expected.fingerprint != architecture.fingerprint:
        raise UserError(
            f"{path} holds weights of another architecture: {_differences(expected, architecture)}; "
            f"`harness export {path}` exports the one that it is of"
        )
    if tensors_sha256(tensors) != sha256:
        raise UserError(f"{path} was altered: its tensors are not those that were written; fetch or train it again")
    _check_tensors(str(path), tensors, architecture)
    return Weights(path=path, architecture=architecture, training=training, tensors=tensors)


def read_identity(path: Path) -> tuple[ArchitectureConfig, Training | None]:
    """What a file of weights is of, from its first kilobytes alone. Errors: as `read_weights`."""
    return read_head(path)[:2]


def read_head(path: Path) -> tuple[ArchitectureConfig, Training | None, str]:
    """The same, and the sum of its tensors (`tensors_sha256`), which `read_weights` finds them to have."""
    with _opened(path) as file:
        return _identity(path, file.metadata() or {})


def _content(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with _opened(path) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _opened(path: Path) -> Any:
    """Of safetensors; the reasons why not, one sentence each."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the file, ema.safetensors, whose path `harness train` prints")
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if head.startswith(PICKLES):
            raise UserError(
                f"{path} is a file of torch.save, a pickle, and only safetensors with their architecture are read; "
                "bring it in with `harness convert`"
            )
        return safe_open(path, "pt")
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; `harness train` prints where weights are"
        ) from error
    except SafetensorError as error:
        raise UserError(f"{path} is {damage(path, head)} ({error}); copy or train it again") from error


def damage(path: Path, head: bytes) -> str:
    """What is wrong with a file that safetensors does not read: too short for what its header promises, or no such."""
    size, header = path.stat().st_size, int.from_bytes(head, "little")
    if len(head) < 8 or header > size - 8:
        looks_cut = len(head) < 8 or header < 100_000_000  # safetensors' own limit for a header
        return f"cut off: {size:,} bytes hold less than its header" if looks_cut else "no safetensors file"
    try:
        with path.open("rb") as file:
            entries = json.loads(file.read(8 + header)[8:])
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return "no safetensors file, or a damaged one"
    whole = 8 + header + max(ends, default=0)
    return f"cut off: {size:,} of {whole:,} bytes are there" if size < whole else "a damaged safetensors file"


def _identity(path: Path, metadata: Mapping[str, str]) -> tuple[ArchitectureConfig, Training | None, str]:
    """The architecture, the training and the sum of the tensors that a file's metadata name."""
    if FORMAT not in metadata:
        raise UserError(
            f"{path} does not say of which architecture its weights are; only files that a study or `harness train` "
            "wrote do, and others are brought in with `harness convert`"
        )
    try:
        identity = json.loads(metadata[FORMAT])
        architecture = from_plain(ArchitectureConfig, identity["architecture"])
        training = None if identity["training"] is None else from_plain(Training, identity["training"])
        fingerprint, sha256 = identity["fingerprint"], identity["tensors_sha256"]
        of_training = identity["training_fingerprint"]
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} does not say rightly what its weights are of ({error}); train it again") from error
    if fingerprint != architecture.fingerprint:
        raise UserError(
            f"{path} was altered: its architecture has the fingerprint {architecture.fingerprint}, and was written as "
            f"{fingerprint}; fetch or train it again"
        )
    if of_training != _training_fingerprint(training):
        raise UserError(f"{path} was altered: its training is not the one that was written; fetch or train it again")
    _check_place(path, training)
    return architecture, training, sha256


def _training_fingerprint(training: Training | None) -> str:
    return content_fingerprint(content_identity(training), schema="training-of-weights-1")


def _check_place(path: Path, training: Training | None) -> None:
    """Refuse what lies in the folder of another trial."""
    owner = path.resolve().parent.name
    if KEY.fullmatch(owner) and owner != (training.trial if training is not None else ""):
        of = f"trial {training.trial}" if training is not None else "no trial of this harness"
        raise UserError(
            f"{path} lies in the folder of trial {owner} and is of {of}; put back that trial's own file, or give this "
            "one another place"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Misfit:
    """The first tensor that cannot be one of an architecture's, and why."""

    name: str
    reason: str
    """`is missing`, the first word of a sentence being the tensor."""
    is_value: bool = False
    """Name and shape are right, and a value is no number."""


def misfit(tensors: Mapping[str, Tensor], architecture: ArchitectureConfig) -> Misfit | None:
    """What is wrong with the tensors: names and shapes that are not the architecture's, or values that are no number;
    None where all is right."""
    with torch.device("meta"):
        shapes_of = {name: tensor.shape for name, tensor in build(architecture).state_dict().items()}
    if odd := sorted(shapes_of.keys() ^ tensors.keys()):
        return Misfit(name=odd[0], reason="is missing" if odd[0] in shapes_of else "is none of its parameters")
    for name, tensor in tensors.items():
        if tensor.shape != shapes_of[name]:
            return Misfit(name=name, reason=f"is {tuple(tensor.shape)}, and {tuple(shapes_of[name])} is right")
        if not torch.isfinite(tensor).all():
            return Misfit(name=name, reason="has values that are no number", is_value=True)
    return None


def _check_tensors(what: str, tensors: Mapping[str, Tensor], architecture: ArchitectureConfig) -> None:
    """Names and shapes are the architecture's, and every value is a number."""
    if (wrong := misfit(tensors, architecture)) is None:
        return
    if wrong.is_value:
        raise UserError(f"{what} are not finite: '{wrong.name}' {wrong.reason}; train it again")
    raise UserError(f"{what} do not fit the architecture that they are to be of: '{wrong.name}' {wrong.reason}")


def _differences(expected: ArchitectureConfig, actual: ArchitectureConfig) -> str:
    """`head_dim is 16 in the file, 32 was named`, of at most three knobs."""
    changes = difference(expected, actual)
    shown = [f"{change.path} is {change.after} in the file, {change.before} was named" for change in changes[:3]]
    return "; ".join(shown) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def packaged_file(package: str, relative: str, sha256: str) -> Path:
    """The path of a file inside an installed package whose sha256 begins so; the package is not imported.

    Raises UserError where the package or the file is missing, or the content is another.
    """
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    paths = [Path(place) / relative for place in places if (Path(place) / relative).exists()]
    if not paths:
        raise UserError(
            f"the file {relative} of the Python package '{package}' is not installed; "
            f"run `pip install --force-reinstall {package.replace('_', '-')}`"
        )
    return verified(paths[0], sha256)


def hub_folder(
    name: str, patterns: Sequence[str], *, what: str, setting: str, complete: Callable[[Path], bool] = Path.is_dir
) -> Path:
    """The folder `name`, or the one of that name on the Hugging Face hub: from its cache, else fetched.

    The cache may have another part of what lies there: it is asked for no more where it is `complete`.

    Raises UserError for a name that is neither; `what` and `setting` say in it what was wanted, and by which setting.
    """
    from huggingface_hub import snapshot_download

    if (folder := Path(name).expanduser()).is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        article = "an" if what[0] in "aeiou" else "a"
        raise UserError(f"{setting}={name} is no folder; give the folder or the hub's name of {article} {what}")
    nested = any("/" in pattern for pattern in patterns)
    ignored = None if nested else ["*/*"]  # the hub's * takes a / too
    fetched = functools.partial(snapshot_download, name, allow_patterns=list(patterns), ignore_patterns=ignored)
    try:
        cached = Path(fetched(local_files_only=True))
        if complete(cached):
            return cached
    except Exception:  # not in the cache, or not whole: the hub's own errors are of many kinds
        pass
    try:
        return Path(fetched())
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"{what} '{name}' is neither a folder nor in the hub's cache and could not be fetched ({reason}); "
            f"check the name and the network, or give a folder as {setting}"
        ) from error


def verified(path: Path, sha256: str) -> Path:
    """`path` itself, if its sha256 begins with the given hex digits; else a UserError."""
    own_sha256 = known_sha256(path)
    if not own_sha256.startswith(sha256):
        raise UserError(
            f"{path} is not the weight file meant: its sha256 begins {own_sha256[:8]}, not {sha256[:8]}; fetch it again"
        )
    return path
