"""How unlike two pictures look: distances of a frozen VGG16's features, weighed channel by channel (LPIPS, Zhang et al.
2018, arXiv 1801.03924; shift-tolerant, Ghildyal and Liu 2022, arXiv 2207.13686).

    d(x, y) = sum over five depths of  mean over places of  sum_c w_c (f_c(x) / |f(x)| - f_c(y) / |f(y)|)^2

f are the features behind the last ReLU before each pooling and the last of all; |.| is over channels, at a place; w
are the heads, learned from people's judgements and not below 0. Pictures in -1..1 are shifted and scaled to ImageNet's
mean and deviation first.

LPIPS has the trunk's own pooling, 2 x 2 with stride 2. The shift-tolerant one has 2 x 2 with stride 1, then a 3 x 3
binomial blur with stride 2 over two pixels of reflection, and a trunk that was trained on with it: its files hold that.

Files are state dicts of plain tensors, read with `weights_only`, so that no code of theirs runs.
"""

import functools
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.perceptual_config import (
    ST_LPIPS_SHA256,
    Lpips,
    PerceptualConfig,
    lpips_files,
    perceptual_identity,
)
from harness.models.weights import packaged_file
from harness.records.errors import UserError, first_line

ST_LPIPS_PACKAGE, ST_LPIPS_FILE = "stlpips_pytorch", "weights/vST0.0/vgg_shift_tolerant.pth"
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Of VGG16's convolutions, between its poolings."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALL = 1e-10
"""Of a norm's denominator."""


class PerceptualDistance(nn.Module):
    def __init__(self, *, is_blurred: bool) -> None:
        super().__init__()
        inputs = [3, *(width for widths in WIDTHS for width in widths)]
        self.convolutions = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(inputs[place + number], width, 3, padding=1) for number, width in enumerate(widths))
            for place, widths in zip((0, 2, 4, 7, 10), WIDTHS, strict=True)
        )
        self.heads = nn.ParameterList(torch.zeros(widths[-1]) for widths in WIDTHS)
        self.pool = BlurredPool() if is_blurred else nn.MaxPool2d(2)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) in -1..1, twice -> (B,) float32. Gradients go to x alone."""
        with torch.no_grad():
            of_y = self.features(y)
        distances = [
            (head.view(-1, 1, 1) * (_unit(one) - _unit(other)).square()).sum(1).flatten(1).mean(1)
            for head, one, other in zip(self.heads, self.features(x), of_y, strict=True)
        ]
        return torch.stack(distances).sum(0)

    def features(self, pictures: Tensor) -> list[Tensor]:
        maps: Tensor = (pictures.expand(-1, 3, -1, -1) - self.shift) / self.scale  # type: ignore[operator]
        maps_of_taps = []
        for depth, convolutions in enumerate(self.convolutions):
            maps = maps if depth == 0 else self.pool(maps)
            for convolution in convolutions:  # type: ignore[attr-defined]
                maps = F.relu(convolution(maps))
            maps_of_taps.append(maps)
        return maps_of_taps


class BlurredPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        weights = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("blur", (weights[:, None] * weights).view(1, 1, 3, 3))

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H // 2 + 1, W // 2 + 1)
        padded = F.pad(F.max_pool2d(maps, 2, stride=1), (2, 2, 2, 2), mode="reflect")
        channels = maps.shape[1]
        return F.conv2d(padded, self.blur.to(maps.dtype).expand(channels, 1, 3, 3), stride=2, groups=channels)  # type: ignore[operator]


def _unit(features: Tensor) -> Tensor:
    """Of length 1 at each place; where nothing is felt 0, which has a gradient too: 0."""
    features = features.float()
    norm = features.square().sum(1, keepdim=True).clamp_min(SMALL**2).sqrt()
    return features / (norm + SMALL)


def load_perceptual(config: PerceptualConfig, device: torch.device) -> PerceptualDistance:
    """Frozen, in float32. UserError for files that are missing, damaged or of another network."""
    check_perceptual(config)
    return _loaded(config, tuple(perceptual_identity(config)["weights"]), device)


@functools.lru_cache(maxsize=2)  # of the loss and of the scores, each trial's
def _loaded(config: PerceptualConfig, _weights: tuple[str, ...], device: torch.device) -> PerceptualDistance:
    distance = PerceptualDistance(is_blurred=not isinstance(config, Lpips))
    _fill(distance, config)
    return distance.to(device).eval().requires_grad_(False)


def check_perceptual(config: PerceptualConfig) -> None:
    """Refuse weights that are missing, altered or of another network, before anything is trained."""
    if isinstance(config, Lpips):
        _check_files(config, tuple(perceptual_identity(config)["weights"]))
    else:
        st_lpips_file()


@functools.lru_cache(maxsize=2)
def _check_files(config: Lpips, _weights: tuple[str, ...]) -> None:
    with torch.device("meta"):
        distance = PerceptualDistance(is_blurred=False)
    _fill(distance, config, assign=True)


def _fill(distance: PerceptualDistance, config: PerceptualConfig, *, assign: bool = False) -> None:
    tensors: Mapping[str, Tensor]
    if isinstance(config, Lpips):
        trunk, heads = lpips_files(config)
        names, tensors = _torchvisions(), {**_tensors(trunk), **_tensors(heads)}
        what = f"{trunk} and {heads} hold"
    else:
        path = st_lpips_file()
        names, tensors, what = _shift_tolerants(), _tensors(path), f"{path} holds"
    try:
        state = {own: tensors[theirs].float() for own, theirs in names.items()}
        state |= {f"heads.{depth}": tensors[f"lin{depth}.model.1.weight"].float().flatten() for depth in range(5)}
        distance.load_state_dict(state, strict=False, assign=assign)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{what} no VGG16 with heads of LPIPS ({reason}); fetch them again") from error


def st_lpips_file() -> Path:
    return packaged_file(ST_LPIPS_PACKAGE, ST_LPIPS_FILE, ST_LPIPS_SHA256)


def _torchvisions() -> dict[str, str]:
    """Our names of the trunk's tensors -> torchvision's, by the place among convolutions, ReLUs and poolings."""
    return _named("features.{place}.{tensor}", after_pool=1)


def _shift_tolerants() -> dict[str, str]:
    """The same of the package's, whose pooling is two modules, and whose five parts are named."""
    return _named("net.slice{part}.{place}.{tensor}", after_pool=2)


def _named(pattern: str, *, after_pool: int) -> dict[str, str]:
    names, place = {}, 0
    for depth, widths in enumerate(WIDTHS):
        place += after_pool if depth else 0
        for number in range(len(widths)):
            for tensor in ("weight", "bias"):
                own = f"convolutions.{depth}.{number}.{tensor}"
                names[own] = pattern.format(part=depth + 1, place=place, tensor=tensor)
            place += 2  # and its ReLU
    return names


def _tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = first_line(error)[:120]
        raise UserError(f"{path} is no whole state dict of torch.save ({reason}); fetch it again") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} holds no state dict of tensors; fetch it again")
    return tensors
