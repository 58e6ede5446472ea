"""What a notebook needs of this harness, in a handful of functions. `import harness` alone loads nothing heavy.

    >>> import harness
    >>> base = harness.config("laptop/thin_sdxl")
    >>> mqa = harness.edit(base, {"self_attention": "mqa", "feed_forward.ratio": 3})
    >>> harness.count(mqa, latent=8).params < harness.count(base, latent=8).params
    True
    >>> network = harness.build(mqa)
    >>> sum(parameter.numel() for parameter in network.parameters()) == harness.count(mqa).params
    True

And of a trial that a study under `runs/` trained, whose key its report shows:

    trained = harness.load("0f3a...", out="runs")
    images = harness.sample(trained, ["a photo of a 3"] * 16)     # uint8 (16, C, H, W)
"""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it, whose import a Ctrl-C would end in a traceback: see harness/cli.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from torch import Tensor, nn

    from harness.architecture.config import ArchitectureConfig
    from harness.data.config import TextConfig
    from harness.measure.cost import Cost
    from harness.models.autoencoder_config import AutoencoderConfig
    from harness.models.weights import Weights

__all__ = ["build", "config", "count", "edit", "load", "sample"]


def config(name: str) -> ArchitectureConfig:
    """The architecture of that catalogue name, or in that YAML file. Raises UserError with the names there are."""
    from harness.architecture.catalogue import architecture

    return architecture(name)


def edit(architecture: ArchitectureConfig | str, knobs: Mapping[str, Any]) -> ArchitectureConfig:
    """A copy with other values at the paths of `harness knobs`: `{"stages.*.up_blocks": 1}`. UserError where a path
    does not exist, a value is wrong or a rule is broken."""
    from harness.architecture.edits import parse_edits, with_edits

    return with_edits(_config_of(architecture), parse_edits(knobs, "knobs"))


def build(architecture: ArchitectureConfig | str) -> nn.Module:
    """The network, with first weights from torch's generator; under `with torch.device("meta")` without memory.

    A denoiser is called with x (B, C, H, W), time (B,) in [0, 1], context (B, T, D) and its mask (B, T) bool or None.
    """
    from harness.models.build import build as built

    return built(_config_of(architecture))


def count(architecture: ArchitectureConfig | str, *, latent: int | None = None) -> Cost:
    """`.params`, `.macs`, `.macs_without_attention`, `.flops_fvcore` of one forward pass on a square latent of that
    size, by default the one that a promoted YAML was trained on, or that it is made for, or 128; `.by_place()`,
    `.by_operator()`. Counted on the meta device."""
    from pathlib import Path

    from harness.architecture.latents import deployment_latent, trained_latent
    from harness.trials.costs import cost_of

    resolved = _config_of(architecture)
    trained = trained_latent(Path(architecture)) if isinstance(architecture, str) else None
    return cost_of(resolved, deployment_latent(latent, resolved, trained))


def load(trial: str | Path, *, out: str | Path = "runs") -> Weights:
    """The averaged weights of the trial with that key under `out`, or in that file; `.network()` is the module.

    UserError where they are missing, damaged, not finite, or not of the architecture that the file says.
    """
    from pathlib import Path

    from harness.models.weights import read_weights
    from harness.trials.spec import store_of

    path = Path(trial)
    if path.suffix != ".safetensors":
        path = store_of(Path(out)).artifact(str(trial), "ema.safetensors")
    return read_weights(path)


def sample(
    trained: Weights,
    texts: Sequence[str],
    *,
    text: TextConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    **settings: Any,
) -> Tensor:
    """One image for each text, or name of a class where the network has a table of them: uint8 (N, C, H, W) on the CPU,
    of the size that the network was trained at.

    `settings` are those of `harness settings sampling`: steps=20, seed=0, solver="heun", guidance_scale=1. `text` is
    the encoder that it was trained with, by default the packaged one, `autoencoder` the one that made the latents that
    it was trained on, by default none; UserError for another.
    """
    import tempfile
    from dataclasses import replace
    from functools import partial
    from pathlib import Path

    import torch

    from harness.architecture.config import Denoiser
    from harness.data.config import ClassTableText, MiniLmText
    from harness.data.prompts import class_prompts, is_class_table
    from harness.diffusion.config import SamplingConfig
    from harness.diffusion.sampling import sample as sampled
    from harness.models.autoencoder import load_matching
    from harness.models.autoencoder_config import PixelsAutoencoder
    from harness.records.errors import UserError

    if trained.training is None or not isinstance(trained.architecture, Denoiser) or trained.training.task != "denoise":
        raise UserError(
            f"{trained.path} does not say that it was trained to denoise, and how: it cannot be sampled from; give a "
            "trial's"
        )
    of, config, distinct = trained.training, trained.architecture, list(dict.fromkeys(texts))
    encoder = ClassTableText() if is_class_table(of.text) else text or MiniLmText()
    if isinstance(encoder, ClassTableText):
        distinct = list(of.text["prompts"])  # of no other texts does it have a row
        if other := next((each for each in texts if each not in distinct), None):
            raise UserError(f"{trained.path} knows no texts but its classes, and '{other}' is none; give one of them")
    else:
        encoder = replace(encoder, template="{}", length=config.context_length, mask_padding=of.text["mask_padding"])
    with tempfile.TemporaryDirectory() as cache:
        prompts = class_prompts(encoder, distinct, Path(cache))
    if prompts.identity["encoder"] != of.text["encoder"]:
        raise UserError(f"{trained.path} was trained with another text encoder; give that one's settings as text=")
    labels = torch.tensor([distinct.index(each) for each in texts])
    shape = (config.latent_channels, of.latent, of.latent)
    sampling, decode = SamplingConfig(**settings), None
    if of.autoencoder is not None:
        loaded = load_matching(autoencoder or PixelsAutoencoder(), torch.device("cpu"), of.autoencoder)
        decode = partial(loaded.decode, rounding=sampling.rounding)
    return sampled(trained.network(), prompts, labels, sampling, shape=shape, decode=decode)


def _config_of(architecture: ArchitectureConfig | str) -> ArchitectureConfig:
    return config(architecture) if isinstance(architecture, str) else architecture
