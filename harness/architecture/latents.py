"""How large a latent is. Three sizes that are not one:

    image               height and width of the pictures that a score sees: `data.size`
    latent              of what a network is trained on and samples: the image's own where it sees pixels, else what the
                        autoencoder makes of it; both are in `harness.trials.tasks.denoise.Sizes`
    deployment latent   of what a cost, an export or a latency is for; the trained one unless another is named

Nothing else decides which of them is meant.
"""

from collections.abc import Mapping
from pathlib import Path

from harness.architecture.family import ArchitectureConfig
from harness.records.errors import UserError

FULL_LATENT = 128
"""The published costs and latencies are for a 128x128 latent, a 1024x1024 image."""
LARGEST_LATENT = 4096
"""Beyond it, sizes of tensors overflow before a network is counted."""


def deployment_latent(chosen: int | None, config: ArchitectureConfig, trained: int | None = None) -> int:
    """Height and width that a cost of `config` is for: the wanted one, else the one it was trained on, else the one it
    is made for, else the published costs'. UserError for one that the architecture cannot take."""
    latent = chosen or trained or config.native_latent or FULL_LATENT
    if chosen is not None and not 1 <= chosen <= LARGEST_LATENT:
        raise UserError(f"--latent is 1 to {LARGEST_LATENT}, not {chosen}")
    if latent % config.latent_multiple:
        raise UserError(
            f"a latent of this architecture is a multiple of {config.latent_multiple}, not {latent}; choose with "
            "--latent"
        )
    return latent


def trained_latent(file: Path) -> int | None:
    """What a promotion's file says in `origin.latent`, or the file that is its base; None where neither does."""
    from harness.records.yaml_text import read_yaml  # loads PyYAML

    content = read_yaml(file) if file.is_file() else None
    if not isinstance(content, Mapping):
        return None
    base = content.get("base")
    if isinstance(base, str) and base.endswith((".yaml", ".yml")):
        return trained_latent(file.parent / base)
    origin = content.get("origin")
    latent = origin.get("latent") if isinstance(origin, Mapping) else None
    if latent is not None and (type(latent) is not int or not 1 <= latent <= LARGEST_LATENT):
        raise UserError(
            f"{file} has origin.latent: {latent}, where 1 to {LARGEST_LATENT} says on which latents the network was "
            "trained; mend it, or take it out"
        )
    return latent
