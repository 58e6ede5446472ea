"""Frozen feature extractors: the right network, the right preprocessing, the right weights."""

import shutil
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
from harness.models.extractor_config import (
    DinoV2Extractor,
    EfficientNetLite0Extractor,
    InceptionV3Extractor,
    extractor_identity,
)
from harness.models.feature_extractor import BATCH, REGISTERED_NAME, check_extractor, load_extractor
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


# Layers


def test_inceptions_layers_are_torch_fidelitys_and_the_spatial_one_is_as_tensorflow_lays_it_out(
    inception_weights, monkeypatch
):
    """`mixed_6/conv` of the original graph: the 1 x 1 branch of the third of four 17 x 17 blocks, after its ReLU;
    height, then width, then 7 channels."""
    monkeypatch.setattr(feature_extractor, "INCEPTION_V3_SHA256", "")
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = load_extractor(InceptionV3Extractor(weights=inception_weights), layers=("features", "spatial", "logits"))
    branch = []
    ours.module.Mixed_6d.branch1x1.register_forward_hook(lambda _module, _inputs, output: branch.append(output.clone()))
    layers = ours.layers(images)
    theirs = FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], feature_extractor_weights_path=inception_weights
    )(images)
    assert layers["features"].equal(theirs[0])
    assert layers["logits"].equal(theirs[1])
    assert layers["spatial"].shape == (2, 2023)
    for height, width, channel in ((0, 0, 0), (0, 0, 6), (0, 1, 0), (16, 16, 6), (3, 5, 2)):
        at = (height * 17 + width) * 7 + channel
        assert layers["spatial"][:, at].equal(branch[0][:, channel, height, width])
    assert (branch[0] >= 0).all()


def test_layers_that_an_extractor_has_not_are_refused(extractor):
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    layers = load_extractor(EfficientNetLite0Extractor(), layers=("features", "logits")).layers(images)
    assert layers["features"].equal(extractor.features(images))
    assert layers["logits"].equal(extractor.module.network.logits(layers["features"]))
    with pytest.raises(UserError, match="gives features, logits, and no spatial"):
        load_extractor(EfficientNetLite0Extractor(), layers=("features", "spatial"))


# DINOv2


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory) -> Path:
    """Random weights, two layers of 48."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=28, patch_size=14)
    folder = tmp_path_factory.mktemp("dinov2")
    Dinov2Model(config).save_pretrained(folder)
    return folder


def test_dinov2_gives_its_class_token(dinov2):
    from transformers import Dinov2Model

    images = torch.randint(0, 256, (3, 3, 42, 42), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor = load_extractor(DinoV2Extractor(weights=dinov2, resolution=42))
    mean, deviation = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = (images / 255 - mean) / deviation
    with torch.inference_mode():
        expected = Dinov2Model.from_pretrained(dinov2)(x).pooler_output
    torch.testing.assert_close(extractor.features(images), expected, atol=1e-5, rtol=1e-4)
    gray = images[:, :1]
    assert extractor.features(gray).equal(extractor.features(gray.repeat(1, 3, 1, 1)))


def test_dinov2_is_identified_by_its_content(dinov2, tmp_path):
    shutil.copytree(dinov2, tmp_path / "copy")
    one, copied = (extractor_identity(DinoV2Extractor(weights=folder)) for folder in (dinov2, tmp_path / "copy"))
    assert one == copied
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert extractor_identity(DinoV2Extractor(weights=tmp_path / "copy")) != one


def test_dinov2_without_its_weights_is_one_sentence(dinov2, tmp_path):
    with pytest.raises(UserError, match="no folder is named; give a folder"):
        check_extractor(DinoV2Extractor())
    with pytest.raises(UserError, match=r"has no config\.json and \*\.safetensors"):
        check_extractor(DinoV2Extractor(weights=tmp_path))
    shutil.copytree(dinov2, tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(UserError, match="are not those of a Dinov2Model with its config"):
        check_extractor(DinoV2Extractor(weights=tmp_path / "other"))
    check_extractor(DinoV2Extractor(weights=dinov2))
