"""What a notebook needs of this harness, in a handful of functions. `import harness` alone loads nothing heavy.

    >>> import harness
    >>> base = harness.config("laptop/thin_sdxl")
    >>> mqa = harness.edit(base, {"self_attention": "mqa", "feed_forward.ratio": 3})
    >>> harness.count(mqa, latent=8).params < harness.count(base, latent=8).params
    True
    >>> network = harness.build(mqa)
    >>> sum(parameter.numel() for parameter in network.parameters()) == harness.count(mqa).params
    True

And of a trial that a study under `runs/` trained, whose key its report shows, or of a folder that `harness publish`
wrote:

    model = harness.load("0f3a...", out="runs")
    pictures = model.sample(["a photo of a three"] * 16, steps=10, guidance=1.5)     # PIL images
"""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it, whose import a Ctrl-C would end in a traceback: see harness/cli.py
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from torch import nn

    from harness.architecture.config import ArchitectureConfig
    from harness.data.config import TextConfig
    from harness.measure.cost import Cost
    from harness.models.autoencoder_config import AutoencoderConfig
    from harness.publish.model import Model

__all__ = ["build", "config", "count", "edit", "load"]


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


def load(
    what: str | Path,
    *,
    out: str | Path = "runs",
    text: TextConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    tiles: Mapping[str, int] | None = None,
    device: str = "cpu",
) -> Model:
    """A trained network to sample from: of a folder that `harness publish` wrote, or of a trial, by its key under
    `out`, its first digits, or its file of weights. `.sample(texts)` gives PIL images, `.images(texts)` the same as a
    tensor; `.network` is the module, `.architecture` what it is of.

    `text` and `autoencoder` are the settings of what it was trained with: the first by default the published or the
    packaged one, the second the published one, or none. `tiles` are the parts that large latents are decoded in,
    `{"side": 96, "overlap": 40, "blend": 8}` cells; by default they are decoded whole. UserError for what is missing,
    damaged, altered, or another than it was trained with, before anything is built; of the text encoder, when a text
    asks for it. `device` is auto, cpu, cuda or mps.
    """
    from harness.publish.model import load_model

    return load_model(what, out=out, text=text, autoencoder=autoencoder, tiles=tiles, device=device)


def _config_of(architecture: ArchitectureConfig | str) -> ArchitectureConfig:
    return config(architecture) if isinstance(architecture, str) else architecture
