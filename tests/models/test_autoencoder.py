"""One contract over every autoencoder, and each against diffusers' own code and against real pictures."""

import dataclasses
import os
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image

from harness.models import tiny_autoencoder
from harness.models.autoencoder import (
    Autoencoder,
    check_standard_deviation,
    describe,
    load_autoencoder,
    load_codec,
    load_matching,
    measured_scale,
    raw_latents,
)
from harness.models.autoencoder_config import KlAutoencoder, PixelsAutoencoder, TinyAutoencoder
from harness.models.pixels import NotFiniteError, to_model_range, to_uint8
from harness.records import store
from harness.records.errors import UserError
from harness.records.store import file_sha256

CPU = torch.device("cpu")
SHARED = Path(os.environ.get("HARNESS_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
real_data = pytest.mark.skipif(not (SHARED / "taef2_encoder.pth").exists(), reason="the real data are not here")


def pictures(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def write_kl(folder: Path, **config) -> AutoencoderKL:
    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1, **config,
    )  # fmt: skip
    network.save_pretrained(folder)
    return network.eval()


def write_pair(folder: Path, channels: int = 5, *, pooled: bool = False) -> TinyAutoencoder:
    torch.manual_seed(1)
    config = TinyAutoencoder(encoder=folder / "encoder.pth", decoder=folder / "decoder.pth")
    torch.save(tiny_autoencoder.encoder(channels, pooled=pooled).state_dict(), config.encoder)
    torch.save(tiny_autoencoder.decoder(channels, pooled=pooled).state_dict(), config.decoder)
    return config


def edited(folder: Path, **changes) -> None:
    """The folder's config.json with other values; None takes an entry out."""
    import json

    plain = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({name: value for name, value in plain.items() if value is not None}))


@pytest.fixture(params=["pixels", "kl", "kl_mean", "tiny_folder", "tiny_pair", "tiny_pooled"])
def made(request, tmp_path) -> Autoencoder:
    """A loaded autoencoder of each form."""
    if request.param == "pixels":
        return load_autoencoder(PixelsAutoencoder(), CPU)
    if request.param.startswith("kl"):
        write_kl(tmp_path, scaling_factor=0.7, shift_factor=0.2)
        encoding = "mean" if request.param == "kl_mean" else "sampled"
        return load_autoencoder(KlAutoencoder(name=str(tmp_path), encoding=encoding), CPU)
    if request.param == "tiny_folder":
        torch.manual_seed(2)
        AutoencoderTiny(encoder_block_out_channels=(64,) * 4, decoder_block_out_channels=(64,) * 4).save_pretrained(
            tmp_path
        )
        return load_autoencoder(TinyAutoencoder(name=str(tmp_path)), CPU)
    config = write_pair(tmp_path, pooled=request.param == "tiny_pooled")
    return load_autoencoder(config, CPU, scale=(0.5, 1.0, 1.5, 2.0, 3.0))


# Every kind


def test_shapes_types_and_no_gradients(made):
    images = pictures()
    encoded = made.encode(images)
    shape = (3, *made.latent_shape(3, 32))
    assert encoded.mean.shape == shape
    assert encoded.mean.dtype == torch.float32
    assert (encoded.std is not None) == (made.description.encoding == "sampled")
    assert encoded.std is None or (encoded.std.shape == shape and bool((encoded.std > 0).all()))
    decoded = made.decode(encoded.mean)
    assert (decoded.shape, decoded.dtype, decoded.device) == (images.shape, torch.uint8, CPU)
    assert not encoded.mean.requires_grad


def test_a_picture_depends_on_itself_alone(made):
    images = pictures()
    assert torch.allclose(made.encode(images).mean[1:2], made.encode(images[1:2]).mean, atol=1e-5)


def test_shift_and_scale_are_undone_before_decoding(made):
    raw, _ = made.codec.encode(torch.zeros(1, 3, 32, 32))
    scaled = (raw - made.description.shift) * made.scale
    low, high = made.description.input_range
    by_hand = to_uint8((made.codec.decode(raw).detach() - low) * (2 / (high - low)) - 1)
    assert (made.decode(scaled).int() - by_hand.int()).abs().max() <= 1


def test_what_is_not_finite_is_refused(made):
    latents = torch.zeros(2, *made.latent_shape(3, 32))
    latents[1] = float("nan")
    with pytest.raises(NotFiniteError, match=r"1 of 2"):
        made.decode(latents)


def test_pixels_are_what_they_were():
    pixels, images = load_autoencoder(PixelsAutoencoder(), CPU), pictures()
    assert pixels.latent_shape(1, 28) == (1, 28, 28)
    assert torch.equal(pixels.encode(images).mean, to_model_range(images))
    assert torch.equal(pixels.decode(3 * to_model_range(images)), to_uint8(3 * to_model_range(images)))


# Against diffusers


def test_kl_is_diffusers_shifted_and_scaled(tmp_path):
    network, images = write_kl(tmp_path, scaling_factor=1.5305, shift_factor=0.0609), pictures()
    made = load_autoencoder(KlAutoencoder(name=str(tmp_path)), CPU)
    with torch.no_grad():
        expected = network.encode(to_model_range(images)).latent_dist
        assert torch.allclose(made.encode(images).mean, (expected.mean - 0.0609) * 1.5305, atol=1e-6)
        assert torch.allclose(made.encode(images).std, expected.std * 1.5305, atol=1e-6)
        latents = torch.randn(2, 4, 8, 8)
        decoded = network.decode(latents / 1.5305 + 0.0609).sample
    assert torch.equal(made.decode(latents), to_uint8(decoded))


def test_without_the_branch_the_pair_is_diffusers_tiny(tmp_path):
    """The same weights in both: diffusers' class takes -1..1 and gives it back, the repository's files 0..1."""
    config = write_pair(tmp_path, channels=4)
    twin = AutoencoderTiny().eval()
    for half in ("encoder", "decoder"):
        weights = torch.load(getattr(config, half), weights_only=True)
        theirs = getattr(twin, half).state_dict()
        getattr(twin, half).load_state_dict(dict(zip(theirs, weights.values(), strict=True)))
    images, made = pictures(), load_autoencoder(config, CPU, scale=(1.0,) * 4)
    with torch.no_grad():
        assert torch.allclose(made.encode(images).mean, twin.encode(to_model_range(images)).latents, atol=1e-5)
        latents = torch.randn(2, 4, 4, 4)
        assert (made.decode(latents).int() - to_uint8(twin.decode(latents).sample).int()).abs().max() <= 1


# Shift and scale


def test_a_missing_shift_is_0_and_a_missing_scale_is_measured(tmp_path):
    write_kl(tmp_path, scaling_factor=0.5)
    edited(tmp_path, scaling_factor=None, shift_factor=None)
    config, images = KlAutoencoder(name=str(tmp_path), encoding="mean"), pictures(9)
    description, codec = describe(config), load_codec(config, CPU)
    assert (description.shift, description.scale) == (0.0, None)
    scale = measured_scale([raw_latents(codec, description, part) for part in images.split(4)], description)
    made = Autoencoder(description, codec, scale, CPU)
    assert torch.allclose(made.encode(images).mean.std((0, 2, 3)), torch.ones(4), atol=1e-5)
    assert check_standard_deviation(made.encode(images).mean, description) < 2
    with pytest.raises(ValueError, match=r"has none of its own"):
        Autoencoder(description, codec, None, CPU)


def test_a_measured_scale_is_that_of_what_is_drawn(tmp_path):
    write_kl(tmp_path)
    edited(tmp_path, scaling_factor=None)
    config, images = KlAutoencoder(name=str(tmp_path)), pictures(8)
    description, codec = describe(config), load_codec(config, CPU)
    scale = measured_scale([raw_latents(codec, description, images)], description)
    encoded = Autoencoder(description, codec, scale, CPU).encode(images)
    drawn = encoded.mean + encoded.std * torch.randn(200, *encoded.mean.shape)
    assert torch.allclose(drawn.std((0, 1, 3, 4)), torch.ones(4), atol=0.02)


@pytest.mark.parametrize("factor", [0.4, 2.1])
def test_latents_of_another_scale_are_refused(factor):
    description = describe(PixelsAutoencoder())
    unit = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    assert check_standard_deviation(unit, description) == pytest.approx(1, abs=0.05)
    with pytest.raises(UserError, match=r"standard deviation of .* where 0.5 to 2.0 is right"):
        check_standard_deviation(factor * unit, description)


# Identity


def test_identity_is_the_weights_and_not_the_place(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, same = (describe(write_pair(tmp_path / name)) for name in "ab")
    assert one.identity() == same.identity()
    tensors = torch.load(tmp_path / "b" / "decoder.pth", weights_only=True)
    tensors["1.bias"][0] += 1
    torch.save(tensors, tmp_path / "b" / "decoder.pth")
    config = TinyAutoencoder(encoder=tmp_path / "b" / "encoder.pth", decoder=tmp_path / "b" / "decoder.pth")
    assert describe(config).identity() != one.identity()
    measured = (1.0, 2.0, 3.0, 4.0, 5.0)
    first = TinyAutoencoder(encoder=tmp_path / "a" / "encoder.pth", decoder=tmp_path / "a" / "decoder.pth")
    assert load_matching(first, CPU, one.identity(measured)).scale.flatten().tolist() == list(measured)
    with pytest.raises(UserError, match=r"did not make these latents: its weights"):
        load_matching(config, CPU, one.identity(measured))


def test_a_file_is_hashed_once_and_again_when_it_was_changed(tmp_path, monkeypatch):
    config, hashed = write_pair(tmp_path), []
    monkeypatch.setattr(store, "file_sha256", lambda path: hashed.append(path) or file_sha256(path))
    before = describe(config)
    assert describe(config) == before
    assert len(hashed) == 2
    write_pair(tmp_path, channels=7)
    assert describe(config) != before


# Mistakes, one sentence each


def test_sizes_that_an_autoencoder_cannot_take(tmp_path):
    description = describe(write_pair(tmp_path))
    assert description.latent_shape(3, 64) == (5, 8, 8)
    with pytest.raises(UserError, match=r"multiple of 8, not 60; give data.size=64"):
        description.latent_shape(3, 60)
    with pytest.raises(UserError, match=r"3 channels, and these have 1; prepare them with data.color=rgb"):
        description.latent_shape(1, 64)


def test_files_that_are_no_autoencoder(tmp_path):
    config = write_pair(tmp_path)
    with pytest.raises(UserError, match=r"give autoencoder.decoder=FILE.pth too"):
        TinyAutoencoder(encoder=config.encoder)
    with pytest.raises(UserError, match=r"leave out either 'x' or the files"):
        TinyAutoencoder(name="x", encoder=config.encoder, decoder=config.decoder)
    with pytest.raises(UserError, match=r"autoencoder=tiny needs its weights"):
        describe(TinyAutoencoder())
    with pytest.raises(UserError, match=r"no decoder of the taesd repository's|no network of the taesd"):
        load_codec(dataclasses.replace(config, decoder=config.encoder), CPU)
    with pytest.raises(UserError, match=r"cannot read .*none.pth"):
        describe(dataclasses.replace(config, encoder=tmp_path / "none.pth"))
    content = config.encoder.read_bytes()
    config.encoder.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"no whole state dict of torch.save"):
        describe(config)
    torch.save({"0.weight": 3}, config.encoder)
    with pytest.raises(UserError, match=r"holds no state dict"):
        describe(config)


def test_folders_that_are_no_autoencoder(tmp_path):
    with pytest.raises(UserError, match=r"has no config.json"):
        describe(KlAutoencoder(name=str(tmp_path)))
    write_kl(tmp_path)
    with pytest.raises(UserError, match=r"holds an AutoencoderKL, and autoencoder=kl reads"):
        describe(TinyAutoencoder(name=str(tmp_path)))
    edited(tmp_path, latent_channels=8)
    with pytest.raises(UserError, match=r"does not load as an AutoencoderKL|are not those of its config.json"):
        load_codec(KlAutoencoder(name=str(tmp_path)), CPU)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"no configuration of diffusers' autoencoders"):
        describe(KlAutoencoder(name=str(tmp_path)))


# Real pictures


@real_data
def test_real_pictures_survive_a_real_autoencoder():
    config = TinyAutoencoder(encoder=SHARED / "taef2_encoder.pth", decoder=SHARED / "taef2_decoder.pth")
    with tarfile.open(SHARED / "imagenet-samples.tar") as archive:
        files = [member for member in archive if member.name.endswith(".JPEG")][::50]
        opened = [Image.open(BytesIO(archive.extractfile(file).read())).convert("RGB") for file in files]
    images = torch.stack([
        torch.from_numpy(np.array(image.resize((128, 128), Image.Resampling.BICUBIC))).permute(2, 0, 1)
        for image in opened
    ])  # fmt: skip
    description, codec = describe(config), load_codec(config, CPU)
    assert description.latent_shape(3, 256) == (32, 32, 32)
    made = Autoencoder(description, codec, measured_scale([raw_latents(codec, description, images)], description), CPU)
    decoded = made.decode(made.encode(images).mean)
    error = (decoded.double() - images.double()).square().flatten(1).mean(1)
    assert float((10 * torch.log10(255**2 / error)).mean()) > 25
