"""Frozen feature extractors behind torch-fidelity's seam, chosen by `kind`.

efficientnet_lite0  the embedded default, 1,280 features; bilinear resize, antialiased when shrinking
inception_v3        torch-fidelity's own, 2,048 features, with TensorFlow 1's bilinear resize to 299 px
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from harness.models.efficientnet_lite0 import load_efficientnet_lite0
from harness.models.extractor_config import (
    INCEPTION_V3_SHA256,
    EfficientNetLite0Extractor,
    ExtractorConfig,
    InceptionV3Extractor,
)
from harness.models.weights import verified
from harness.records.errors import UserError
from harness.records.eta import with_eta

BATCH = 64
REGISTERED_NAME = "efficientnet-lite0"


class EfficientNetLite0Features(FeatureExtractorBase):  # type: ignore[misc]
    """uint8 images (N, 1 or 3, H, W) -> a tuple of one tensor (N, 1280); usable in torch-fidelity by its name."""

    def __init__(self, name: str, features_list: Sequence[str], resolution: int = 64, **_: Any) -> None:
        super().__init__(name, list(features_list))
        self.resolution = resolution
        self.network = load_efficientnet_lite0()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("1280",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return {"fid": "1280", "kid": "1280", "prc": "1280"}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 64, 64, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        size = (self.resolution, self.resolution)
        x = images.expand(-1, 3, -1, -1).float()
        x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        x = (x - 127) / 128  # (255 x - 127) / 128 for x in [0, 1]
        return (self.network(x.contiguous(memory_format=torch.channels_last)),)


if REGISTERED_NAME not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor(REGISTERED_NAME, EfficientNetLite0Features)


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """A loaded extractor: images in, features out."""

    module: FeatureExtractorBase
    device: torch.device

    @torch.inference_mode()
    def features(self, images: Tensor, what: str = "") -> Tensor:
        """uint8 (N, 1 or 3, H, W) -> float32 (N, D) on the CPU, in batches of a fixed size.

        With `what` they are called, standard error says how far a long extraction is.

        Convolutions are in full float32: TF32, which NVIDIA's GPUs would choose, is not what another device computes,
        and cached reference features may come from one.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"features need uint8 images (N, 1 or 3, H, W), not {images.dtype} {tuple(images.shape)}")
        batches = torch.split(images, BATCH)
        shown = with_eta(batches, f"features of {what}, in batches", len(batches)) if what else batches
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            return torch.cat(
                [self.module(batch.to(self.device).expand(-1, 3, -1, -1))[0].float().cpu() for batch in shown]
            )


def load_extractor(config: ExtractorConfig, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Load and verify the weights; a missing or altered file is a UserError."""
    module = _inception(config) if isinstance(config, InceptionV3Extractor) else _efficientnet(config)
    return FeatureExtractor(module.to(device), torch.device(device))


def check_extractor(config: ExtractorConfig) -> None:
    """Refuse weights that are missing or altered, before anything is trained."""
    if isinstance(config, InceptionV3Extractor):
        _inception_weights(config)


def _efficientnet(config: EfficientNetLite0Extractor) -> FeatureExtractorBase:
    return EfficientNetLite0Features(REGISTERED_NAME, ["1280"], resolution=config.resolution)


def _inception(config: InceptionV3Extractor) -> FeatureExtractorBase:
    path = str(_inception_weights(config))
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=path)


def _inception_weights(config: InceptionV3Extractor) -> Path:
    if config.weights is None:
        raise UserError(
            "FID needs the original Inception's weights; give the path of weights-inception-2015-12-05-6726825d.pth "
            "(torch-fidelity's releases have it) as quality.extractor.weights=PATH"
        )
    return verified(config.weights, INCEPTION_V3_SHA256)
