"""Frozen feature extractors: the right network, the right preprocessing, the right weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from sklearn.datasets import load_sample_images
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from harness.models import feature_extractor
from harness.models.efficientnet_lite0 import EfficientNetLite0, SameConv2d, load_efficientnet_lite0
from harness.models.extractor_config import EfficientNetLite0Extractor, InceptionV3Extractor, extractor_identity
from harness.models.feature_extractor import BATCH, REGISTERED_NAME, load_extractor
from harness.records.errors import UserError
from harness.records.plain import from_plain, identity

IMAGENET = {"palace": 698, "daisy": 985}


@pytest.fixture(scope="module")
def extractor():
    return load_extractor(EfficientNetLite0Extractor())


def test_it_has_the_published_size():
    network = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008  # published: 4.652 M


@pytest.mark.parametrize(("photo", "name"), [(0, "palace"), (1, "daisy")])
def test_it_recognises_photographs(photo, name):
    """scikit-learn's two photos: the Summer Palace in Beijing, a flower. Wrong padding or scaling loses them."""
    pixels = np.array(load_sample_images().images[photo])  # (427, 640, 3)
    left = (pixels.shape[1] - pixels.shape[0]) // 2
    square = torch.from_numpy(pixels[:, left : left + pixels.shape[0]].copy()).permute(2, 0, 1)[None]
    extractor = load_extractor(EfficientNetLite0Extractor(resolution=224))
    features = extractor.features(square)
    assert features.shape == (1, 1280)
    assert extractor.module.network.logits(features).argmax().item() == IMAGENET[name]


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (7, 3, 2), (16, 5, 2), (9, 5, 2), (8, 5, 1)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    """tf.nn.conv2d: ceil(size / stride) outputs; the total padding's smaller half goes to the left and top."""
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    image = torch.randn(1, 1, size, size)
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    padded = torch.zeros(1, 1, size + total, size + total)
    padded[..., total // 2 : total // 2 + size, total // 2 : total // 2 + size] = image
    expected = nn.functional.conv2d(padded, conv.weight, stride=stride)
    assert expected.shape[-1] == outputs
    torch.testing.assert_close(conv(image), expected)


def test_gray_is_gray_in_colour(extractor):
    gray = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert extractor.features(gray).equal(extractor.features(gray.repeat(1, 3, 1, 1)))


def test_preprocessing_is_the_stated_one(extractor):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    x = images.double() / 255
    expected = load_efficientnet_lite0()(((x * 255 - 127) / 128).float())
    torch.testing.assert_close(extractor.features(images), expected, atol=1e-4, rtol=1e-4)


def test_no_tensor_cores_round_the_features(extractor, monkeypatch):
    """Reference features may be cached from another device, and TF32 keeps 10 bits of a float32's mantissa."""
    allowed, compute = [], type(extractor.module).forward

    def forward(module, images):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return compute(module, images)

    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(type(extractor.module), "forward", forward)
    extractor.features(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_only_uint8_images_are_taken(extractor):
    with pytest.raises(ValueError, match="uint8"):
        extractor.features(torch.rand(1, 3, 8, 8))


def test_torch_fidelity_knows_it_by_name():
    class Some(torch.utils.data.Dataset):
        def __init__(self, seed: int) -> None:
            generator = torch.Generator().manual_seed(seed)
            self.images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=generator)

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.images[index]

    metrics = torch_fidelity.calculate_metrics(
        input1=Some(0), input2=Some(1), feature_extractor=REGISTERED_NAME, kid=True, kid_subset_size=8,
        kid_subsets=2, cuda=False, cache=False, verbose=False,
    )  # fmt: skip
    assert np.isfinite(metrics["kernel_inception_distance_mean"])


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory) -> Path:
    """A weight file of random numbers in the original Inception's shape."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=folder / "empty.pth")
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def test_inception_needs_its_own_weights_by_path(inception_weights):
    with pytest.raises(UserError, match=r"quality\.extractor\.weights=PATH"):
        load_extractor(InceptionV3Extractor())
    with pytest.raises(UserError, match="cannot read"):
        load_extractor(InceptionV3Extractor(weights=Path("/missing.pth")))
    with pytest.raises(UserError, match="not the weight file meant"):
        load_extractor(InceptionV3Extractor(weights=inception_weights))


def test_inception_gives_2048_features_of_gray_or_colour(inception_weights, monkeypatch):
    monkeypatch.setattr(feature_extractor, "INCEPTION_V3_SHA256", "")
    extractor = load_extractor(InceptionV3Extractor(weights=inception_weights))
    assert extractor.features(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 2048)


def test_an_extractors_identity_is_its_weights_and_resolution_not_a_path():
    assert extractor_identity(EfficientNetLite0Extractor(resolution=64)) != extractor_identity(
        EfficientNetLite0Extractor(resolution=96)
    )
    assert identity(InceptionV3Extractor(weights=Path("a"))) == identity(InceptionV3Extractor(weights=Path("b")))
    with pytest.raises(UserError, match="32 to 1024"):
        from_plain(EfficientNetLite0Extractor, {"resolution": 8})


def test_a_long_extraction_says_how_far_it_is_where_it_is_told_of_what(extractor, monkeypatch, capsys):
    monkeypatch.setattr("harness.records.eta.LINE_EVERY_S", 0.0)
    images = torch.zeros((2 * BATCH, 1, 8, 8), dtype=torch.uint8)
    silent = extractor.features(images)
    assert capsys.readouterr().err == ""
    assert extractor.features(images, "my folder").equal(silent)
    assert capsys.readouterr().err.startswith("features of my folder, in batches: 1 of 2, about ")
