"""Which frozen network gives the features that images are compared by: `efficientnet_lite0`, `inception_v3` or
`dinov2`."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import NOT_IDENTITY
from harness.records.store import known_sha256

EFFICIENTNET_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_V3_SHA256 = "6726825d"  # weights-inception-2015-12-05-6726825d.pth, converted from the original FID's graph
PATCH = 14  # pixels of DINOv2's

Layer = Literal["features", "spatial", "logits"]
"""What an extractor can give of an image: the vector that distances are of, a map kept whole, the classes' logits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficientNetLite0Extractor:
    """The embedded default, 1,280 features of images resized to `resolution`: `FD-EffLite0@64`."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    resolution: int = 64
    """Bilinear, antialiased when shrinking; higher tells more and costs its square."""

    def __post_init__(self) -> None:
        if not 32 <= self.resolution <= 1024:
            raise UserError(f"quality.extractor.resolution is 32 to 1024 pixels, not {self.resolution}")


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionV3Extractor:
    """The original FID's InceptionV3, 2,048 features: a distance in these alone is called FID."""

    kind: Literal["inception_v3"] = "inception_v3"
    weights: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """The path of weights-inception-2015-12-05-6726825d.pth, from torch-fidelity's releases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoV2Extractor:
    """A DINOv2 transformer, its class token's features of images resized to `resolution`: `FD-DINOv2@224`.

    Stein et al. 2023 (arXiv 2306.04675) find that distances in these agree better with people than Inception's do.
    """

    kind: Literal["dinov2"] = "dinov2"
    weights: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """A folder as Hugging Face's transformers keep it: config.json and *.safetensors; identified by its content."""
    resolution: int = 224
    """A multiple of 14; bicubic, antialiased when shrinking."""

    def __post_init__(self) -> None:
        if not PATCH <= self.resolution <= 1022 or self.resolution % PATCH:
            raise UserError(
                f"quality.extractor.resolution of dinov2 is a multiple of {PATCH} from {PATCH} to 1022 pixels, "
                f"not {self.resolution}"
            )


ExtractorConfig: TypeAlias = EfficientNetLite0Extractor | InceptionV3Extractor | DinoV2Extractor

LAYERS: dict[str, tuple[Layer, ...]] = {
    "efficientnet_lite0": ("features", "logits"),
    "inception_v3": ("features", "spatial", "logits"),
    "dinov2": ("features",),
}
"""What each kind of extractor gives."""


def extractor_name(config: ExtractorConfig) -> str:
    """How the extractor is called in a label, after `FD-` or `KID-`."""
    if isinstance(config, InceptionV3Extractor):
        return "Inception"
    return f"{'DINOv2' if isinstance(config, DinoV2Extractor) else 'EffLite0'}@{config.resolution}"


def extractor_identity(config: ExtractorConfig) -> dict[str, Any]:
    """What decides an extractor's output: its weights, its resolution, how it resizes."""
    if isinstance(config, InceptionV3Extractor):
        weights, resolution, resize = INCEPTION_V3_SHA256, 299, "tensorflow-1-bilinear"
    elif isinstance(config, DinoV2Extractor):
        weights, resolution, resize = dinov2_digest(dinov2_folder(config)), config.resolution, "bicubic-antialias"
    else:
        weights, resolution, resize = EFFICIENTNET_LITE0_SHA256[:8], config.resolution, "bilinear-antialias"
    return {"kind": config.kind, "weights": weights, "resolution": resolution, "resize": resize}


def dinov2_folder(config: DinoV2Extractor) -> Path:
    """The folder of its configuration and weights; UserError where there is none."""
    folder = config.weights
    if folder is None or not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        missing = "no folder is named" if folder is None else f"{folder} has no config.json and *.safetensors"
        raise UserError(
            f"DINOv2's features need its weights, and {missing}; give a folder of Hugging Face's Dinov2Model as "
            "quality.extractor.weights=FOLDER"
        )
    return folder


def dinov2_digest(folder: Path) -> str:
    """16 hex digits: of the content of its configuration and weights."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    lines = [f"{file.name} {known_sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
