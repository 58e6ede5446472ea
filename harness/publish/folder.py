"""A published folder: one trained network with all that samples are made of, for who has never seen its store.

    config.json                 what it is, by which everything else is checked: `Manifest`
    model.safetensors           the averaged weights, as the trial wrote them
    text/prompts.safetensors    the prompts as the text encoder reads them
    autoencoder/                of a network of latents, where it was published with `--embed`
    coreml/                     what a phone needs (`harness.device.picture`), unless published with `--no-coreml`
    samples.png, README.md, LICENSE

No file is a pickle. README.md is for people, who may edit it; every other file is known by its sha256. No torch here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.config import TextConfig
from harness.models.autoencoder_config import AutoencoderConfig
from harness.records.errors import UserError
from harness.records.plain import fingerprint, from_plain, to_plain
from harness.records.store import file_sha256, write_atomic
from harness.trials.trained import PUBLISHED

FORMAT = "unet-harness-model-1"
CONFIG, MODEL, README = "config.json", PUBLISHED, "README.md"
AUTOENCODER = "autoencoder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What `harness publish` was asked for, besides the trial."""

    sampling: Mapping[str, Any]
    coreml: Mapping[str, Any] | None
    """The settings of the export; None: no packages."""
    embed: bool
    """Whether the autoencoder lies in the folder."""
    license: str
    """The sha256 of its text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """`config.json`."""

    format: str
    harness: Mapping[str, str]
    """The version and commit of this package that wrote it."""
    trial: str
    """Its key."""
    name: str
    architecture: Mapping[str, Any]
    architecture_fingerprint: str
    latent: int
    """Height and width of what the network denoises."""
    text: Mapping[str, Any]
    """The prompts, how they are padded, and the text encoder's hash."""
    text_encoder: TextConfig | None
    """What other texts are read with; None for one that lay in a folder."""
    autoencoder: Mapping[str, Any] | None
    """What made the latents, with its weights' hash; None where the network sees pixels."""
    autoencoder_config: AutoencoderConfig
    """Its settings; its name is a hub's, or None for one that lay in a folder."""
    choices: Choices
    files: Mapping[str, str]
    """Path in the folder -> sha256."""
    fingerprint: str = ""
    """Of all of the above."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    plain: Any = to_plain(manifest)
    plain["fingerprint"] = _fingerprint(plain)
    write_atomic(folder / CONFIG, json.dumps(plain, indent=1, ensure_ascii=False).encode())


def files_of(folder: Path) -> dict[str, str]:
    """Path -> sha256 of every file but the manifest itself and what people edit."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = ((path.relative_to(folder).as_posix(), path) for path in paths)
    return {name: file_sha256(path) for name, path in names if name not in (CONFIG, README)}


def read_manifest(folder: Path) -> Manifest:
    """UserError for a folder that is not there or that nobody published, of another version, or with a manifest that
    was altered."""
    path = folder / CONFIG
    try:
        plain = json.loads(path.read_text())
        version = plain["format"]
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {CONFIG}; give a folder that `harness publish` wrote") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is none that `harness publish` wrote, or was damaged ({type(error).__name__}: {error}); fetch it "
            "again"
        ) from error
    if version != FORMAT:
        raise UserError(
            f"{path} has the format {version}, and this version of unet-harness reads {FORMAT}; install the one that "
            "wrote it, or publish the model again"
        )
    if plain.get("fingerprint") != _fingerprint(plain):
        raise UserError(
            f"{path} was altered: it is not the one that was written; fetch it again, and give other settings of "
            "sampling to `sample`"
        )
    return from_plain(Manifest, plain, where=str(path))


def check_files(folder: Path, manifest: Manifest, below: Iterable[str]) -> None:
    """UserError for the first file that is missing, altered or nobody's, of those that are one of `below` or lie in
    one."""
    chosen = tuple(below)
    there = {path.relative_to(folder).as_posix(): None for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in {**manifest.files, **there}:
        if name in (CONFIG, README) or not any(name == each or name.startswith(f"{each}/") for each in chosen):
            continue
        if (sha256 := manifest.files.get(name)) is None:
            raise UserError(f"{folder / name} was not published with the rest; remove it")
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}; fetch the folder again, whole")
        if (own := file_sha256(folder / name)) != sha256:
            raise UserError(
                f"{folder / name} was altered: its sha256 begins {own[:8]}, and {sha256[:8]} was published; fetch it "
                "again"
            )


def _fingerprint(plain: Mapping[str, Any]) -> str:
    return fingerprint({name: value for name, value in plain.items() if name != "fingerprint"}, schema=FORMAT)
