"""How close reconstructed pictures are to their originals, picture by picture; all of uint8, clamped and rounded.

    PSNR          10 log10(255^2 / E), E the squared error of a picture, a mean over its pixels and channels; in dB, a
                  mean over pictures. A picture without any error counts as one with a single value one level off,
                  since its PSNR is infinite.
    SSIM          Wang et al. 2004 (IEEE TIP 13:4, eq. 13): an 11 x 11 Gaussian window of deviation 1.5, K1 = 0.01, K2 =
                  0.03, L = 255; of each channel, a mean over the windows that lie in the picture, over channels and
                  over pictures
    colour error  | mean colour of the reconstruction - mean colour of the original |, in grey levels, a mean over
                  channels and over pictures: a shift of the whole picture's colour, which the other two hardly see
    LPIPS         of the trunk and heads that `harness.models.perceptual` reads, a mean over pictures; it is called what
                  these are: ST-LPIPS is another number
    FD            the Frechet distance of the features of the reconstructions to those of their originals: `rFID` of the
                  field in Inception's features, and in those alone
    in tiles      PSNR of a large picture decoded in tiles to the same decoded whole: as above with 2 for 255, of
                  pictures in -1..1 that are not rounded; a mean over pictures

Intervals are of which pictures were taken (delete-a-group jackknife), and say nothing of another training seed.

N pictures, C channels, H W their height and width.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from harness.measure.quality_config import score_name
from harness.measure.quality_distances import FEWEST, Gaussian, Groups, frechet_distance, jackknife_groups
from harness.measure.statistics import jackknife_interval
from harness.models.extractor_config import ExtractorConfig, extractor_identity
from harness.models.feature_extractor import load_extractor
from harness.models.perceptual import load_perceptual
from harness.models.perceptual_config import PerceptualConfig, perceptual_identity, perceptual_name, smallest_side
from harness.models.pixels import to_model_range
from harness.records.quantity import Measured, Quantity, Unavailable

PEAK = 255.0
WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03
AT_ONCE = 16
"""Pictures whose features of VGG16 are there together."""
NAMES = {"psnr": "PSNR", "ssim": "SSIM", "colour_error": "colour error"}
"""As labels call them."""
UNITS = {"psnr": "dB", "colour_error": "grey levels"}
"""Of the others 1."""


def psnr(decoded: Tensor, originals: Tensor) -> Tensor:
    """(N,) float64 of uint8 (N, C, H, W)."""
    error = (decoded.double() - originals.double()).square().flatten(1).mean(1)
    least = 1 / originals[0].numel()
    return 10 * torch.log10(PEAK**2 / error.clamp_min(least))


def tiled_psnr(tiled: Tensor, whole: Tensor) -> float:
    """In dB, of pictures (B, C, H, W) in -1..1, neither clamped nor rounded; at most what float32 can tell apart."""
    error = (tiled.double() - whole.double()).square().mean()
    return float(20 * math.log10(2) - 10 * torch.log10(error.clamp_min((2 * torch.finfo(torch.float32).eps) ** 2)))


def ssim(decoded: Tensor, originals: Tensor) -> Tensor:
    """(N,) float64 of uint8 (N, C, H, W), from 11 pixels on."""
    x, y = decoded.double().flatten(0, 1)[:, None], originals.double().flatten(0, 1)[:, None]  # (N C, 1, H, W)
    window = _window(x)
    mean_x, mean_y = _filtered(x, window), _filtered(y, window)
    var_x, var_y = (_filtered(each * each, window) for each in (x, y))
    var_x, var_y = var_x - mean_x**2, var_y - mean_y**2
    covariance = _filtered(x * y, window) - mean_x * mean_y
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    map_ = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return map_.flatten(1).mean(1).view(len(decoded), -1).mean(1)


def _window(like: Tensor) -> Tensor:
    """(11,) of sum 1."""
    offsets = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * DEVIATION**2))
    return weights / weights.sum()


def _filtered(maps: Tensor, window: Tensor) -> Tensor:
    """(M, 1, H - 10, W - 10)"""
    return F.conv2d(F.conv2d(maps, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def colour_error(decoded: Tensor, originals: Tensor) -> Tensor:
    """(N,) float64 of uint8 (N, C, H, W)."""
    means = [each.double().flatten(2).mean(2) for each in (decoded, originals)]  # (N, C)
    return (means[0] - means[1]).abs().mean(1)


BY_PICTURE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "colour_error": colour_error,
}


class ReconstructionScorer:
    """Of pictures that come in parts, in order; `labels` (N,) are those of all. With `perceptual` None how unlike they
    look is not told."""

    def __init__(
        self, labels: Tensor, extractor: ExtractorConfig, perceptual: PerceptualConfig | None, device: torch.device
    ) -> None:
        self.groups, self.device = jackknife_groups(labels), device
        self.config, self.extractor = extractor, load_extractor(extractor, device)
        self.perceptual = perceptual
        self.least = {"ssim": WINDOW}
        if perceptual is not None:
            self.least[perceptual.kind] = smallest_side(perceptual)
        self.values: dict[str, list[Tensor]] = {name: [] for name in {**BY_PICTURE, **self.least}}
        self.features: tuple[list[Tensor], list[Tensor]] = ([], [])

    def add(self, decoded: Tensor, originals: Tensor) -> None:
        """uint8 (n, C, H, W) on the CPU."""
        if decoded.shape != originals.shape or decoded.dtype != torch.uint8 or originals.dtype != torch.uint8:
            raise ValueError(f"uint8 pictures of one shape are compared, not {decoded.shape} with {originals.shape}")
        for name, values in self.values.items():
            if min(decoded.shape[2:]) >= self.least.get(name, 1):
                values.append(BY_PICTURE.get(name, self._unlike)(decoded, originals))
        for kept, images in zip(self.features, (decoded, originals), strict=True):
            kept.append(self.extractor.features(images))

    def quantities(self, under: Mapping[str, Any]) -> dict[str, Quantity]:
        """With `under` as conditions beside their own."""
        scores: dict[str, Quantity] = {}
        for name, values in self.values.items():
            called = NAMES.get(name) or perceptual_name(self._perceptual)
            more = {} if name in NAMES else {"network": perceptual_identity(self._perceptual)}
            scores[name] = (
                of_pictures(called, UNITS.get(name, "1"), torch.cat(values), self.groups, {**more, **under})
                if values
                else Unavailable(reason=f"{called} is of pictures from {self.least[name]} px, and these have fewer")
            )
        return {**scores, "reconstruction_fd": self._distance(under)}

    @property
    def _perceptual(self) -> PerceptualConfig:
        assert self.perceptual is not None
        return self.perceptual

    @torch.no_grad()
    def _unlike(self, decoded: Tensor, originals: Tensor) -> Tensor:
        """(n,)"""
        distance = load_perceptual(self._perceptual, self.device)
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            parts = [
                distance(*(to_model_range(each).to(self.device) for each in pair))
                for pair in zip(torch.split(decoded, AT_ONCE), torch.split(originals, AT_ONCE), strict=True)
            ]
        return torch.cat(parts).double().cpu()

    def _distance(self, under: Mapping[str, Any]) -> Measured:
        decoded, originals = (torch.cat(each).double() for each in self.features)
        estimate = frechet_distance(decoded, Gaussian.of(originals), self.groups)
        count, label = len(decoded), score_name("FD", self.config)
        conditions = {
            "label": f"{label} of reconstructions, N={count}",
            "samples": count,
            "extractor": extractor_identity(self.config),
            **under,
        }
        return _measured(estimate.value, estimate.replicates, "1", count, conditions)


def of_pictures(called: str, unit: str, values: Tensor, groups: Groups, under: Mapping[str, Any]) -> Measured:
    """The mean of a score of each picture, (N,)."""
    count = len(values)
    conditions = {"label": f"{called}, a mean over {count} pictures", "samples": count, **under}
    replicates = _without_each(values.numpy(), groups) if count >= FEWEST else ()
    return _measured(float(values.mean()), replicates, unit, count, conditions)


def _without_each(values: NDArray[np.float64], groups: Groups) -> tuple[float, ...]:
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups)
    return tuple(((sums.sum() - sums) / (len(values) - sizes)).tolist())


def _measured(
    value: float, replicates: tuple[float, ...], unit: str, count: int, conditions: Mapping[str, Any]
) -> Measured:
    if not replicates:
        return Measured(value=value, unit=unit, conditions=conditions)
    interval = jackknife_interval(value, replicates)
    return Measured(
        value=value,
        unit=unit,
        low=interval.low,
        high=interval.high,
        spread=f"95%, which {count} pictures were taken (jackknife, {len(replicates)} groups)",
        replicates=replicates,
        conditions=conditions,
    )
