"""Published networks that neither the catalogue nor timm nor diffusers has, built from their descriptions.

Whisper's encoders, DistilBERT and SAM's mask decoder are transformers' own classes at the published sizes; the others
are put together here, in the form that is deployed (branches merged). No weights: shapes are all that is used.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Network = tuple[nn.Module, tuple[Tensor, ...]]


class Called(nn.Module):
    """A transformers module that takes its tensors by these names and gives its first result."""

    def __init__(self, module: nn.Module, *names: str, **constants: Any) -> None:
        super().__init__()
        self.module, self.names, self.constants = module, names, constants

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        out: Tensor = self.module(**given, **self.constants)[0]
        return out


def whisper_encoder(width: int, layers: int, heads: int, mels: int = 80) -> Network:
    """30 seconds of sound: 3,000 frames, of which two convolutions make 1,500 tokens (Radford et al. 2022)."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    sizes: dict[str, Any] = {"d_model": width, "encoder_layers": layers, "encoder_attention_heads": heads}
    module: Any = WhisperEncoder(WhisperConfig(**sizes, encoder_ffn_dim=4 * width, num_mel_bins=mels))
    return Called(module, "input_features"), (torch.empty(1, mels, 3000),)


def distilbert(tokens: int = 128) -> Network:
    from transformers import DistilBertConfig, DistilBertModel

    module: Any = DistilBertModel(DistilBertConfig())
    return Called(module, "input_ids"), (torch.zeros(1, tokens, dtype=torch.long),)


def clip_layers(layers: int, width: int = 512, heads: int = 8) -> nn.Module:
    """CLIP's pre-norm transformer layers, from embedded tokens on: looking those up is nearly nothing."""
    from transformers import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPEncoder

    config: Any = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads
    )
    config._attn_implementation = "sdpa"
    module: Any = CLIPEncoder(config)
    return Called(module, "inputs_embeds", attention_mask=None)


class TokenMixer(nn.Module):
    """MobileCLIP-S0's (Vasu et al. 2023): a merged depthwise convolution over tokens, and a feed-forward with one."""

    def __init__(self, width: int = 512, kernel: int = 11) -> None:
        super().__init__()
        over_tokens = partial(nn.Conv2d, width, width, (1, kernel), padding=(0, kernel // 2), groups=width)
        self.mixer, self.conv = over_tokens(), over_tokens()
        self.first, self.second = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T, C)
        x = self.mixer(tokens.transpose(1, 2).unsqueeze(2))
        mixed: Tensor = x + self.second(F.gelu(self.first(self.conv(x))))
        return mixed.squeeze(2).transpose(1, 2)


def mobileclip_text(*, mixers: bool) -> Network:
    """12 layers, or 4 between two token mixers (S0's); then a norm and the projection of one token."""
    layers = [TokenMixer(), clip_layers(4), TokenMixer()] if mixers else [clip_layers(12)]
    return nn.Sequential(*layers, nn.LayerNorm(512), nn.Linear(512, 512, bias=False)), (torch.empty(1, 77, 512),)


class ChunkMixer(nn.Module):
    """RepNeXt's (Zhao et al. 2024, arXiv 2406.16004): quarters of the channels: kept, 3x3, 7x7, 1x11 and 11x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.small, self.medium = depthwise(channels // 4, 3), depthwise(channels // 4, 7)
        self.large = nn.Sequential(depthwise(channels // 4, (1, 11)), depthwise(channels // 4, (11, 1)))

    def forward(self, x: Tensor) -> Tensor:
        kept, small, medium, large = x.chunk(4, 1)
        return torch.cat([kept, self.small(small), self.medium(medium), self.large(large)], 1)


class DoublingMixer(nn.Module):
    """RepNeXt's downsampling: the same channels through a 3x3 and a 7x7, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.small, self.medium = depthwise(channels, 3, stride=2), depthwise(channels, 7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.small(x), self.medium(x)], 1)


class RepNextBlock(nn.Module):
    """Tokens, a batch norm, a feed-forward of ratio 2. The shortcut starts before the mixer; doubling, behind it."""

    def __init__(self, channels: int, *, doubles: bool = False) -> None:
        super().__init__()
        self.mixer: nn.Module = DoublingMixer(channels // 2) if doubles else ChunkMixer(channels)
        self.norm, self.doubles = nn.BatchNorm2d(channels), doubles
        self.first, self.second = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.norm(self.mixer(x))
        fed: Tensor = self.second(F.gelu(self.first(mixed))) + (mixed if self.doubles else x)
        return fed


class RepNext(nn.Sequential):
    def __init__(self, width: int, depths: tuple[int, ...]) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width // 2, 3, 2, 1), nn.GELU(), nn.Conv2d(width // 2, width, 3, 2, 1)]
        for stage, depth in enumerate(depths):
            channels = width * 2**stage
            layers += [RepNextBlock(channels, doubles=True)] if stage else []
            layers += [RepNextBlock(channels) for _ in range(depth)]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 8, 1000))
        super().__init__(*layers, *head)


def depthwise(channels: int, kernel: int | tuple[int, int], stride: int = 1) -> nn.Conv2d:
    tall, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(channels, channels, (tall, wide), stride, (tall // 2, wide // 2), groups=channels)


def sam_decoder() -> Network:
    """From a 64x64 map of 256 channels and one point (two tokens) to masks (Kirillov et al. 2023)."""
    from transformers import SamConfig
    from transformers.models.sam.modeling_sam import SamMaskDecoder

    config: Any = SamConfig().mask_decoder_config
    config._attn_implementation = "sdpa"
    names = ("image_embeddings", "image_positional_embeddings", "sparse_prompt_embeddings", "dense_prompt_embeddings")
    maps = [torch.empty(1, 256, 64, 64) for _ in range(3)]
    module: Any = SamMaskDecoder(config)
    return Called(module, *names, multimask_output=True), (maps[0], maps[1], torch.empty(1, 1, 2, 256), maps[2])


class EdgeSam(nn.Module):
    """EdgeSAM (Zhou et al. 2023): RepViT's stages, its last two joined at 1/16 of 1024 px, a neck, SAM's decoder. The
    upsampling between them is nearest here, and bicubic there."""

    def __init__(self) -> None:
        super().__init__()
        import timm
        from timm.utils.model import reparameterize_model

        backbone = timm.create_model("repvit_m0_9", pretrained=False, num_classes=0).eval()
        self.backbone: Any = reparameterize_model(backbone)
        self.third, self.fourth = nn.Conv2d(192, 256, 1, bias=False), nn.Conv2d(384, 256, 1, bias=False)
        self.neck = nn.Sequential(
            nn.Conv2d(256, 256, 1), ChannelNorm(256), nn.Conv2d(256, 256, 3, 1, 1), ChannelNorm(256)
        )
        self.decoder = sam_decoder()[0]

    def forward(self, image: Tensor, position: Tensor, points: Tensor, mask: Tensor) -> Tensor:
        x = self.backbone.stem(image)
        maps = [x := stage(x) for stage in self.backbone.stages]
        joined = self.third(maps[2]) + F.interpolate(self.fourth(maps[3]), scale_factor=2)
        out: Tensor = self.decoder(self.neck(joined), position, points, mask)
        return out


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def edge_sam() -> Network:
    return EdgeSam(), (torch.empty(1, 3, 1024, 1024), *sam_decoder()[1][1:])


def _repnext(width: int, depths: tuple[int, ...]) -> Callable[[int], Network]:
    return lambda side: (RepNext(width, depths), (torch.empty(1, 3, side, side),))


def _one_size(build: Callable[[], Network]) -> Callable[[int], Network]:
    return lambda _: build()


DESCRIBED: Mapping[str, Callable[[int], Network]] = {
    "repnext_m0": _repnext(40, (2, 2, 9, 1)),
    "repnext_m1": _repnext(48, (3, 3, 15, 2)),
    "repnext_m2": _repnext(56, (3, 3, 15, 2)),
    "repnext_m3": _repnext(64, (3, 3, 13, 2)),
    "repnext_m4": _repnext(64, (5, 5, 25, 4)),
    "repnext_m5": _repnext(80, (7, 7, 35, 2)),
    "Whisper tiny encoder, 1500 tokens": _one_size(partial(whisper_encoder, 384, 4, 6)),
    "Whisper base encoder, 1500 tokens": _one_size(partial(whisper_encoder, 512, 6, 8)),
    "Whisper small encoder, 1500 tokens": _one_size(partial(whisper_encoder, 768, 12, 12)),
    "Whisper medium encoder, 1500 tokens": _one_size(partial(whisper_encoder, 1024, 24, 16)),
    "Whisper large-v3-turbo encoder, 1500 tokens": _one_size(partial(whisper_encoder, 1280, 32, 20, mels=128)),
    "distilbert-base, 128 tokens": _one_size(distilbert),
    "MobileCLIP text encoder, 77 tokens": _one_size(partial(mobileclip_text, mixers=False)),
    "MobileCLIP-S0 text encoder, 77 tokens": _one_size(partial(mobileclip_text, mixers=True)),
    "SAM mask decoder": _one_size(sam_decoder),
    "EdgeSAM encoder and decoder": _one_size(edge_sam),
}
"""By the `model` of a published row: the network for an image of that side, and its inputs."""


def described_network(model: str, side: int) -> Network:
    """On the meta device."""
    with torch.device("meta"):
        module, inputs = DESCRIBED[model](side)
        return module.eval(), inputs
