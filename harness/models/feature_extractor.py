"""Frozen feature extractors behind torch-fidelity's seam, chosen by `kind`; images in, up to three layers out.

efficientnet_lite0  the embedded default, 1,280 features; bilinear resize, antialiased when shrinking
inception_v3        torch-fidelity's own, 2,048 features, with TensorFlow 1's bilinear resize to 299 px; spatial: the
                    first 7 channels of `mixed_6/conv` (17 x 17 x 7 = 2,023 values in TensorFlow's order, height first
                    and channels last: sFID, Nash et al. 2021, arXiv 2103.03841, as guided-diffusion computes it)
dinov2              a Hugging Face Dinov2Model, the class token of its last layer
"""

import functools
from collections.abc import Mapping, Sequence
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
    LAYERS,
    DinoV2Extractor,
    EfficientNetLite0Extractor,
    ExtractorConfig,
    InceptionV3Extractor,
    Layer,
    dinov2_folder,
)
from harness.models.weights import verified
from harness.records.errors import UserError, first_line
from harness.records.eta import with_eta

BATCH = 64
REGISTERED_NAME = "efficientnet-lite0"
SPATIAL_CHANNELS = 7
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EfficientNetLite0Features(FeatureExtractorBase):  # type: ignore[misc]
    """uint8 images (N, 1 or 3, H, W) -> a tuple of (N, 1280), (N, 1000); usable in torch-fidelity by its name."""

    def __init__(self, name: str, features_list: Sequence[str], resolution: int = 64, **_: Any) -> None:
        super().__init__(name, list(features_list))
        self.resolution = resolution
        self.network = load_efficientnet_lite0()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("1280", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return {"fid": "1280", "kid": "1280", "prc": "1280", "isc": "logits"}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 64, 64, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        size = (self.resolution, self.resolution)
        x = images.expand(-1, 3, -1, -1).float()
        x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        x = (x - 127) / 128  # (255 x - 127) / 128 for x in [0, 1]
        features = self.network(x.contiguous(memory_format=torch.channels_last))
        return tuple(features if name == "1280" else self.network.logits(features) for name in self.features_list)


if REGISTERED_NAME not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor(REGISTERED_NAME, EfficientNetLite0Features)


class InceptionFeatures(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """torch-fidelity's Inception with the spatial layer beside its own: `mixed_6` of TensorFlow is `Mixed_6d` here."""

    def __init__(self, features_list: Sequence[str], weights: str) -> None:
        super().__init__("inception-v3-compat", list(features_list), feature_extractor_weights_path=weights)
        self.wanted = list(features_list)
        self.features_list = [name for name in features_list if name != "spatial"]
        self.spatial: Tensor | None = None
        self.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return (*FeatureExtractorInceptionV3.get_provided_features_list(), "spatial")

    def _keep_spatial(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        """(N, 192, 17, 17) -> (N, 2023)."""
        self.spatial = output[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1).float()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.features_list, super().forward(images), strict=True))
        if self.spatial is not None:
            given["spatial"], self.spatial = self.spatial, None
        return tuple(given[name] for name in self.wanted)


class DinoV2Features(FeatureExtractorBase):  # type: ignore[misc]
    """uint8 images (N, 3, H, W) -> a tuple of one tensor (N, width)."""

    def __init__(self, folder: Path, resolution: int) -> None:
        super().__init__("dinov2", ["dinov2"])
        self.resolution, self.network = resolution, _dinov2(folder)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("dinov2",)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        size = (self.resolution, self.resolution)
        x = F.interpolate(images.float(), size, mode="bicubic", align_corners=False, antialias=True)
        mean, deviation = (x.new_tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        x = (x.clamp(0, 255) / 255 - mean) / deviation
        return (self.network(pixel_values=x).last_hidden_state[:, 0],)


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """A loaded extractor: images in, the layers that it was loaded for out."""

    module: FeatureExtractorBase
    device: torch.device
    names: tuple[Layer, ...] = ("features",)

    def features(self, images: Tensor, what: str = "") -> Tensor:
        """uint8 (N, 1 or 3, H, W) -> float32 (N, D) on the CPU, in batches of a fixed size."""
        return self.layers(images, what)["features"]

    @torch.inference_mode()
    def layers(self, images: Tensor, what: str = "") -> Mapping[Layer, Tensor]:
        """uint8 (N, 1 or 3, H, W) -> each of `names`, float32 (N, its width) on the CPU, in batches of a fixed size.

        With `what` they are called, standard error says how far a long extraction is.

        Convolutions are in full float32: TF32, which NVIDIA's GPUs would choose, is not what another device computes,
        and cached reference features may come from one.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"features need uint8 images (N, 1 or 3, H, W), not {images.dtype} {tuple(images.shape)}")
        batches = torch.split(images, BATCH)
        shown = with_eta(batches, f"features of {what}, in batches", len(batches)) if what else batches
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            rows = [
                [layer.float().cpu() for layer in self.module(batch.to(self.device).expand(-1, 3, -1, -1))]
                for batch in shown
            ]
        return {name: torch.cat(parts) for name, parts in zip(self.names, zip(*rows, strict=True), strict=True)}


def load_extractor(
    config: ExtractorConfig, device: torch.device | str = "cpu", layers: Sequence[Layer] = ("features",)
) -> FeatureExtractor:
    """Load and verify the weights; a missing or altered file is a UserError, as is a layer that it does not have."""
    if absent := [layer for layer in layers if layer not in LAYERS[config.kind]]:
        raise UserError(f"the extractor {config.kind} gives {', '.join(LAYERS[config.kind])}, and no {absent[0]}")
    if isinstance(config, InceptionV3Extractor):
        own_names = {"features": "2048", "spatial": "spatial", "logits": "logits_unbiased"}
        module = InceptionFeatures([own_names[layer] for layer in layers], str(_inception_weights(config)))
    elif isinstance(config, DinoV2Extractor):
        module = DinoV2Features(dinov2_folder(config), config.resolution)
    else:
        module = _efficientnet(config, tuple(layers), torch.device(device))
    return FeatureExtractor(module.to(device), torch.device(device), tuple(layers))


def check_extractor(config: ExtractorConfig) -> None:
    """Refuse weights that are missing or altered, before anything is trained."""
    if isinstance(config, InceptionV3Extractor):
        _inception_weights(config)
    elif isinstance(config, DinoV2Extractor):
        _dinov2(dinov2_folder(config))


@functools.lru_cache(maxsize=4)  # a sweep in one process loads it for every trial
def _efficientnet(
    config: EfficientNetLite0Extractor, layers: tuple[Layer, ...], device: torch.device
) -> FeatureExtractorBase:
    own_names = ["1280" if layer == "features" else layer for layer in layers]
    return EfficientNetLite0Features(REGISTERED_NAME, own_names, resolution=config.resolution).to(device)


def _inception_weights(config: InceptionV3Extractor) -> Path:
    if config.weights is None:
        raise UserError(
            "FID needs the original Inception's weights; give the path of weights-inception-2015-12-05-6726825d.pth "
            "(torch-fidelity's releases have it) as quality.extractor.weights=PATH"
        )
    return verified(config.weights, INCEPTION_V3_SHA256)


def _dinov2(folder: Path) -> Any:
    """The frozen network; UserError for weights that are not the configuration's."""
    from transformers import Dinov2Model
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # a worker has no terminal
    try:
        loader: Any = Dinov2Model.from_pretrained
        network, loaded = loader(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(first_line(error).split())[:160]
        raise UserError(f"{folder} does not load as a Dinov2Model: {reason}") from error
    lacking = sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})
    lacking = [key for key in lacking if key != "embeddings.mask_token"]  # of masked training only
    if lacking:
        raise UserError(
            f"the weights in {folder} are not those of a Dinov2Model with its config.json: {len(lacking)} lack or have "
            f"another shape, such as '{lacking[0]}'; fetch them again"
        )
    return network.eval().requires_grad_(False)
