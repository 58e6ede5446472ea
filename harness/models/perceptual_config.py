"""By which network's features two pictures are compared: `st_lpips` or `lpips`. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import NOT_IDENTITY
from harness.records.store import known_sha256

ST_LPIPS_SHA256 = "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250"
"""weights/vST0.0/vgg_shift_tolerant.pth of stlpips-pytorch 0.0.2."""
TRUNK_SHA256 = "397923af"
"""torchvision's vgg16-397923af.pth, ImageNet's VGG16, as its name says."""
HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
"""weights/v0.1/vgg.pth of the package lpips 0.1.4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StLpips:
    """Shift-tolerant LPIPS (Ghildyal and Liu 2022, arXiv 2207.13686) of VGG16, whose trunk and heads come with the
    package stlpips-pytorch."""

    kind: Literal["st_lpips"] = "st_lpips"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lpips:
    """LPIPS 0.1 of VGG16 (Zhang et al. 2018, arXiv 1801.03924)."""

    kind: Literal["lpips"] = "lpips"
    trunk: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """torchvision's vgg16-397923af.pth."""
    heads: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """weights/v0.1/vgg.pth of the package lpips."""


PerceptualConfig: TypeAlias = StLpips | Lpips


def smallest_side(config: PerceptualConfig) -> int:
    """Of a picture that it takes: of 16 pixels four halvings leave one; blurred ones are padded by reflection."""
    return 18 if isinstance(config, StLpips) else 16


def perceptual_name(config: PerceptualConfig) -> str:
    """How it is called in a label. LPIPS is it with the published trunk and heads alone."""
    if isinstance(config, StLpips):
        return "ST-LPIPS-VGG"
    trunk, heads = (known_sha256(path) for path in lpips_files(config))
    if trunk.startswith(TRUNK_SHA256) and heads == HEADS_SHA256:
        return "LPIPS-VGG"
    return f"LPIPS-VGG with other weights ({trunk[:8]}, {heads[:8]})"


def perceptual_identity(config: PerceptualConfig) -> dict[str, Any]:
    """What decides its numbers."""
    if isinstance(config, StLpips):
        return {"kind": config.kind, "weights": [ST_LPIPS_SHA256[:16]]}
    return {"kind": config.kind, "weights": [known_sha256(path)[:16] for path in lpips_files(config)]}


def lpips_files(config: Lpips) -> tuple[Path, Path]:
    """Trunk and heads. UserError where they are not named, or not there."""
    files = {
        "trunk": (config.trunk, "torchvision's vgg16-397923af.pth"),
        "heads": (config.heads, "weights/v0.1/vgg.pth of the package lpips"),
    }
    for name, (path, what) in files.items():
        if path is None or not path.is_file():
            said = "it is not named" if path is None else f"{path} is no file"
            raise UserError(f"perceptual.kind=lpips needs {what}, and {said}; give its path as perceptual.{name}=FILE")
    assert config.trunk is not None
    assert config.heads is not None
    return config.trunk, config.heads
