"""The kinds `kl` and `tiny` as diffusers stores them: a folder of config.json and safetensors, here or on the hub."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.autoencoder_config import KlAutoencoder, TinyAutoencoder
from harness.models.codec import Codec, Description, Raw, files_hash
from harness.models.weights import hub_folder
from harness.records.errors import UserError, first_line

FILE_PATTERNS = ("*.json", "*.safetensors")  # never a pickle
CLASSES = {"kl": "AutoencoderKL", "tiny": "AutoencoderTiny"}
"""Kind -> the class of diffusers' whose configuration it reads."""


def described(config: KlAutoencoder | TinyAutoencoder) -> Description:
    folder = folder_of(config)
    plain = _configuration(folder, CLASSES[config.kind])
    levels = plain.get("encoder_block_out_channels" if config.kind == "tiny" else "block_out_channels", ())
    scale, shift = plain.get("scaling_factor"), plain.get("shift_factor")
    return Description(
        kind=config.kind,
        weights=files_hash(sorted(folder.glob("*.safetensors")), *_structure(plain)),
        channels=int(plain["latent_channels"]),
        downsampling=2 ** (len(levels) - 1),
        encoding=config.encoding if isinstance(config, KlAutoencoder) else "mean",
        shift=0.0 if shift is None else float(shift),
        scale=None if scale is None else float(scale),
    )


def load(config: KlAutoencoder | TinyAutoencoder, device: torch.device) -> Codec:
    network = _diffusers_network(config, device)

    def decode(raw: Tensor) -> Tensor:
        picture: Tensor = network.decode(raw, return_dict=False)[0]
        return picture

    if isinstance(config, TinyAutoencoder):
        return Codec(lambda images: (network.encode(images).latents, None), decode, network, network.encoder)
    return Codec(_distribution(network, config.encoding), decode, network, network)


def _distribution(network: Any, encoding: str) -> Callable[[Tensor], Raw]:
    def encode(images: Tensor) -> Raw:
        distribution = network.encode(images).latent_dist
        return distribution.mean, distribution.std if encoding == "sampled" else None

    return encode


def folder_of(config: KlAutoencoder | TinyAutoencoder) -> Path:
    if config.name is None:
        files = "; or autoencoder.encoder=FILE and autoencoder.decoder=FILE" if config.kind == "tiny" else ""
        raise UserError(f"autoencoder={config.kind} needs its weights; give autoencoder.name=FOLDER or hub name{files}")
    inside = getattr(config, "subfolder", None) or ""
    patterns = [f"{inside}/{pattern}" if inside else pattern for pattern in FILE_PATTERNS]
    root = hub_folder(
        config.name, patterns, what="autoencoder", setting="autoencoder.name",
        complete=lambda folder: bool(list((folder / inside).glob("*.safetensors"))),
    )  # fmt: skip
    folder = root / inside
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has no config.json and *.safetensors; give the folder of an {CLASSES[config.kind]} as "
            "autoencoder.name, and of a pipeline's the autoencoder.subfolder=vae"
        )
    return folder


def _configuration(folder: Path, expected: str) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        plain = json.loads(path.read_text())
        class_name, _ = plain["_class_name"], plain["latent_channels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no configuration of diffusers' autoencoders ({error}); fetch it again") from error
    if class_name != expected:
        kinds = ", ".join(f"autoencoder={kind} reads {name}" for kind, name in CLASSES.items())
        raise UserError(f"{path} holds an {class_name}, and {kinds}; give another autoencoder.name")
    assert isinstance(plain, dict)
    return plain


def _structure(plain: Mapping[str, Any]) -> list[str]:
    """What of a configuration decides the networks; versions and paths do not."""
    ignored = ("scaling_factor", "shift_factor")  # of the identity on their own
    kept = {name: value for name, value in plain.items() if not name.startswith("_") and name not in ignored}
    return [json.dumps(kept, sort_keys=True)]


def _diffusers_network(config: KlAutoencoder | TinyAutoencoder, device: torch.device) -> Any:
    """An nn.Module; diffusers is imported when it is first needed: it takes seconds."""
    import diffusers

    folder = folder_of(config)
    _configuration(folder, CLASSES[config.kind])
    diffusers.utils.logging.disable_progress_bar()
    try:
        network, loaded = getattr(diffusers, CLASSES[config.kind]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(f"{folder} does not load as an {CLASSES[config.kind]}: {reason}") from error
    _check_whole(folder, network, loaded)
    return network.to(device).eval().requires_grad_(False)


def _check_whole(folder: Path, network: nn.Module, loaded: Mapping[str, Any]) -> None:
    """Refuse weights that are not the configuration's: diffusers draws at random what a file lacks."""
    lacking = [*loaded["missing_keys"], *loaded["unexpected_keys"], *(key for key, *_ in loaded["mismatched_keys"])]
    if lacking:
        raise UserError(
            f"the weights in {folder} are not those of its config.json: {len(lacking)} are missing, left over or of "
            f"another shape, such as '{sorted(lacking)[0]}'; fetch the autoencoder again"
        )
    broken = next((name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise UserError(f"the weights in {folder} are not finite: '{broken}' has values that are no number")
