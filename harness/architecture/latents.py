"""How large a latent is. Three sizes that are not one:

    image               height and width of the pictures that a score sees: `data.size`
    latent              of what a network is trained on and samples: the image's own where it sees pixels, else what the
                        autoencoder makes of it; both are in `harness.trials.tasks.denoise.Sizes`
    deployment latent   of what a cost, an export or a latency is for; the trained one unless another is named

Nothing else decides which of them is meant.
"""

import re
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
    if latent % config.downsampling:
        raise UserError(
            f"a latent of this architecture is a multiple of {config.downsampling}, not {latent}; choose with --latent"
        )
    return latent


def latent_line(latent: int) -> str:
    """The line in the head of a promoted architecture's YAML that says on which latents it was trained."""
    return f"# latent: {latent}"


def trained_latent(file: Path) -> int | None:
    """What the line of `latent_line` says, in the file or in the one that is its base; None where neither has one."""
    text = file.read_text() if file.is_file() else ""
    lines = re.findall(r"^# latent:(.*)$", text, re.MULTILINE)
    if not lines:
        base = re.search(r"^base: *[\"']?([^\"'#\n]+\.ya?ml)\b", text, re.MULTILINE)
        return trained_latent(file.parent / base[1]) if base else None
    if len(lines) > 1 or not lines[0].strip().isdecimal() or not 1 <= int(lines[0]) <= LARGEST_LATENT:
        raise UserError(
            f"{file} has '# latent:{lines[-1]}' in its head, where one line with 1 to {LARGEST_LATENT} says on which "
            "latents the network was trained; mend it, or take it out"
        )
    return int(lines[0])
