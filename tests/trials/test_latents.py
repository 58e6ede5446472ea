"""A trial in an autoencoder's latents: a network fits the latent, a score the picture; no other decodes it."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_study import SETTINGS, TINY

import harness
from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.models import tiny_autoencoder
from harness.models.autoencoder_config import TinyAutoencoder
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.search.promote import promoted_yaml
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of
from harness.trials.tasks.denoise import Sizes

LATENT_CHANNELS = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures of 32 px in two colours, an autoencoder, and what `harness data prepare` makes of the two."""
    folder = tmp_path_factory.mktemp("latents")
    random = np.random.default_rng(0)
    for number in range(80):
        path = folder / "images" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (32, 32, 3)) + np.array([[150, 0, 0], [0, 0, 150]])[number % 2]
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    torch.manual_seed(0)
    encoder = tiny_autoencoder.encoder(LATENT_CHANNELS, pooled=False)
    pictures = torch.tensor(np.stack([np.asarray(Image.open(path)) for path in (folder / "images").rglob("*.png")]))
    with torch.no_grad():  # a trained one's channels have means of about 0
        encoder[-1].bias -= encoder(pictures.permute(0, 3, 1, 2) / 255).mean((0, 2, 3))
    torch.save(encoder.state_dict(), folder / "encoder.pth")
    torch.save(tiny_autoencoder.decoder(LATENT_CHANNELS, pooled=False).state_dict(), folder / "decoder.pth")
    words = ["data", "prepare", "image_folder", f"data.path={folder / 'images'}", f"to={folder / 'prepared'}"]
    assert main([*words, *made_by(folder), f"out={folder / 'runs'}", "scale_pictures=16", "shard=20"]) == 0
    return folder


def made_by(folder):
    return [
        "autoencoder=tiny",
        f"autoencoder.encoder={folder}/encoder.pth",
        f"autoencoder.decoder={folder}/decoder.pth",
    ]


def settings(place, *more):
    of_data = ["data=prepared", f"data.path={place / 'prepared'}", f"out={place / 'runs'}"]
    return settings_of([*of_data, *more], {key: value for key, value in SETTINGS.items() if key != "data"})


@pytest.fixture(scope="module")
def trained(place):
    prepared = prepare(settings(place, *made_by(place)))
    config = with_edits(architecture("laptop/thin_sdxl"), TINY)
    spec = prepared.spec("tiny", config, 0)
    return prepared, spec, run_trial(spec, place / "attempt")


def test_the_network_fits_the_latent_and_the_score_the_picture(trained):
    prepared, spec, record = trained
    assert prepared.task.sizes == Sizes(image=(3, 32, 32), latent=(LATENT_CHANNELS, 4, 4))
    assert (spec.architecture.latent_channels, spec.latent) == (LATENT_CHANNELS, 4)
    assert record.state == "complete"
    with np.load(spec.store.artifact(record.key, "samples.npz")) as samples:
        assert samples["images"].shape == (16, 3, 32, 32)
    assert {"kid", "fd", "class_agreement", "validation_loss"} <= set(record.quantities)
    assert record.quantities["macs"].conditions["latent"] == 4


def test_the_autoencoder_is_part_of_the_protocol_by_its_content(trained, place):
    _, spec, record = trained
    section = to_plain(record.protocol)["autoencoder"]
    assert section["kind"] == "tiny"
    assert len(section["scale"]) == LATENT_CHANNELS
    assert str(place) not in str(to_plain(record.protocol))
    training = read_weights(spec.store.artifact(record.key, "ema.safetensors")).training
    assert (training.latent, to_plain(training.autoencoder)) == (4, section)
    assert "  latent: 4" in promoted_yaml(record, {}).splitlines()


def test_from_python_too_samples_are_decoded(trained, place):
    *_, record = trained
    config = TinyAutoencoder(encoder=place / "encoder.pth", decoder=place / "decoder.pth")
    images = harness.load(record.key, out=place / "runs", autoencoder=config).images(["a photo of a red"], steps=2)
    assert images.shape == (1, 3, 32, 32)
    with pytest.raises(UserError, match="autoencoder=pixels did not make these latents"):
        harness.load(record.key, out=place / "runs")


def test_settings_that_do_not_go_together(place):
    with pytest.raises(
        UserError, match=r"autoencoder=pixels did not make these latents: its kind is pixels, theirs tiny"
    ):
        prepare(settings(place))
    pictures = ["data=image_folder", f"data.path={place / 'images'}", f"out={place / 'runs'}", *made_by(place)]
    with pytest.raises(
        UserError, match=r"latents, which are prepared once: `harness data prepare image_folder to=FOLDER"
    ):
        prepare(settings_of(pictures, SETTINGS))
    big = with_edits(architecture("laptop/uvit"), {"latent_size": 8})
    with pytest.raises(
        UserError, match=r"data.size=32, a latent of 4, does not fit the architecture: .*; give data.size=64"
    ):
        prepare(settings(place, *made_by(place))).adapt_to_data(big)


@pytest.mark.parametrize("words", [[], ["to="]])
def test_a_folder_is_needed_to_prepare_into(words, capsys):
    assert main(["data", "prepare", "digits", *words]) != 0
    assert "give to=FOLDER" in capsys.readouterr().err


def test_its_path_is_taken_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["data", "prepare", "digits", "to=~/my [own], data", "data_of=x"]) == 2  # a typo is answered first
    assert main(["data", "prepare", "digits", "to=~/my [own], data", f"out={tmp_path}/runs", "pictures=20"]) == 0
    assert (tmp_path / "my [own], data" / "manifest.json").is_file()
