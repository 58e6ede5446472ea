"""Which frozen network gives the features that images are compared by: `efficientnet_lite0` or `inception_v3`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import NOT_IDENTITY

EFFICIENTNET_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_V3_SHA256 = "6726825d"  # weights-inception-2015-12-05-6726825d.pth, converted from the original FID's graph


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


ExtractorConfig: TypeAlias = EfficientNetLite0Extractor | InceptionV3Extractor


def extractor_name(config: ExtractorConfig) -> str:
    """How the extractor is called in a label, after `FD-` or `KID-`."""
    return "Inception" if isinstance(config, InceptionV3Extractor) else f"EffLite0@{config.resolution}"


def extractor_identity(config: ExtractorConfig) -> dict[str, Any]:
    """What decides an extractor's output: its weights, its resolution, how it resizes."""
    if isinstance(config, InceptionV3Extractor):
        weights, resolution, resize = INCEPTION_V3_SHA256, 299, "tensorflow-1-bilinear"
    else:
        weights, resolution, resize = EFFICIENTNET_LITE0_SHA256[:8], config.resolution, "bilinear-antialias"
    return {"kind": config.kind, "weights": weights, "resolution": resolution, "resize": resize}
