"""The taesd repository's autoencoders from their `.pth` pairs: pictures in 0..1, latents at an eighth of the size.

Residual blocks of three 3x3 convolutions with ReLU, 64 wide; three strided convolutions down, three nearest-neighbour
upsamplings up; what is decoded is first bounded by 3 tanh(z / 3). taef2's has in its three blocks at the lowest
resolution a further branch, added to the block's input: 1x1 to four times the width, GroupNorm of 4 groups, ReLU, 1x1
back. diffusers' AutoencoderTiny has no place for that branch, hence these networks.

Source: github.com/madebyollin/taesd, whose layers' order names the files' tensors; the place of the branch was found by
what decodes real pictures best: 29.1 dB for the sum before the block, 28.3 dB for a sum behind its convolutions.

B batch, L latent channels, H W the picture's size, h w = H / 8, W / 8.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.models.codec import Codec, Description, files_hash
from harness.records.errors import UserError, first_line

WIDTH, GROUPS, BOUND = 64, 4, 3.0
DOWNSAMPLING = 8


class Block(nn.Module):
    """relu(conv(x) + x), of x + pool(x) where there is a pooled branch."""

    def __init__(self, *, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH))
        self.pool = _pool() if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Bounded(nn.Module):
    """3 tanh(z / 3)."""

    def forward(self, latents: Tensor) -> Tensor:
        return BOUND * torch.tanh(latents / BOUND)


def encoder(latent_channels: int, *, pooled: bool) -> nn.Sequential:
    """(B, 3, H, W) in 0..1 -> (B, L, h, w)."""
    layers: list[nn.Module] = [_conv(3, WIDTH), Block()]
    for is_lowest in (False, False, True):
        down = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, stride=2, bias=False)
        layers += [down, *(Block(pooled=pooled and is_lowest) for _ in range(3))]
    return nn.Sequential(*layers, _conv(WIDTH, latent_channels))


def decoder(latent_channels: int, *, pooled: bool) -> nn.Sequential:
    """(B, L, h, w) -> (B, 3, H, W), in 0..1 but for a little overshoot."""
    layers: list[nn.Module] = [Bounded(), _conv(latent_channels, WIDTH), nn.ReLU()]
    for is_lowest in (True, False, False):
        layers += [Block(pooled=pooled and is_lowest) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, Block(), _conv(WIDTH, 3))


def described(encoder_file: Path, decoder_file: Path) -> Description:
    return Description(
        kind="tiny", weights=files_hash([encoder_file, decoder_file]), channels=latent_channels(encoder_file),
        downsampling=DOWNSAMPLING, input_range=(0.0, 1.0), scale=None,
    )  # fmt: skip


def load(encoder_file: Path, decoder_file: Path, device: torch.device) -> Codec:
    encoder, decoder = load_pair(encoder_file, decoder_file)
    encoder.to(device)
    return Codec(lambda images: (encoder(images), None), decoder.to(device), decoder, encoder)


def load_pair(encoder_file: Path, decoder_file: Path) -> tuple[nn.Sequential, nn.Sequential]:
    """Both halves in float32, frozen. UserError for a file that is damaged, of another network, or of another half."""
    halves = []
    for path, build in ((encoder_file, encoder), (decoder_file, decoder)):
        tensors = _tensors(path)
        channels = _latent_channels(path, tensors, is_encoder=build is encoder)
        network = build(channels, pooled=any(".pool." in name for name in tensors))
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            reason = " ".join(str(error).split()[:24])
            raise UserError(f"{path} is no network of the taesd repository's at 1/8 of the size ({reason})") from error
        halves.append((network.eval().requires_grad_(False), channels))
    (first, latent), (second, decoded) = halves
    if latent != decoded:
        raise UserError(
            f"{encoder_file} makes {latent} latent channels and {decoder_file} reads {decoded}; give a pair of files"
        )
    return first, second


def latent_channels(encoder_file: Path) -> int:
    """Of the file's last convolution."""
    return _latent_channels(encoder_file, _tensors(encoder_file), is_encoder=True)


def _tensors(path: Path) -> Mapping[str, Tensor]:
    """The file's tensors, all finite; read with `weights_only`, so that no code of the file's runs."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give the path of an existing file") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = first_line(error)[:120]
        raise UserError(f"{path} is no whole state dict of torch.save ({reason}); fetch it again") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} holds no state dict of tensors; give the taesd repository's .pth file")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path} is not finite: '{name}' has values that are no number; fetch it again")
    return tensors


def _latent_channels(path: Path, tensors: Mapping[str, Tensor], *, is_encoder: bool) -> int:
    """By the convolution that meets the latents: the encoder's last, the decoder's first."""
    numbers = [int(match[1]) for name in tensors if (match := re.fullmatch(r"(\d+)\.weight", name))]
    place, axis = (max(numbers, default=-1), 0) if is_encoder else (1, 1)
    weight = tensors.get(f"{place}.weight")
    if weight is None or weight.dim() != 4:
        half = "encoder" if is_encoder else "decoder"
        raise UserError(f"{path} is no {half} of the taesd repository's; give autoencoder.{half}=FILE.pth")
    return int(weight.shape[axis])


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _pool() -> nn.Sequential:
    wide = GROUPS * WIDTH
    return nn.Sequential(
        nn.Conv2d(WIDTH, wide, 1, bias=False),
        nn.GroupNorm(GROUPS, wide),
        nn.ReLU(),
        nn.Conv2d(wide, WIDTH, 1, bias=False),
    )
