"""A decoder's trial small enough for a test: pictures of 16 px in two colours, an autoencoder with random weights."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_study import SETTINGS

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.models import tiny_autoencoder
from harness.trials.prepared import prepare
from harness.trials.settings import settings_of

CHANNELS, SIZE = 4, 16
TINY = {
    "latent_channels": CHANNELS,
    "stages.*.channels": 8,
    "stages.*.blocks": 1,
    "norm.groups": 4,
    "convolution.expansion": 1,
}
OF_DENOISING = ("sampling.", "quality.")
DECODING = {name: value for name, value in SETTINGS.items() if not name.startswith(OF_DENOISING) and name != "data"} | {
    "task": "decode",
    "task.pictures": 12,
    "task.extractor.resolution": 32,
    "task.perceptual": None,
    "objective.perceptual_weight": 0,
    "objective.discriminator.layers": 1,
    "objective.discriminator.width": 8,
    "objective.adversarial_start": 2,
    "recipe.log_every": 1,
}
SQUARED_ERROR_ALONE = (
    "objective.adversarial_weight=0",
    "objective.adversarial_start=0",
    "objective.discriminator.layers=3",
    "objective.discriminator.width=64",
)
"""The same without a discriminator, of which nothing may be said then."""


def lay_out(folder: Path) -> Path:
    """Pictures, and the two files of an autoencoder, for `made_by`."""
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / "images" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 90, (2, 2, 3)) + np.array([[150, 0, 0], [0, 0, 150]])[number % 2]
        Image.fromarray(coarse.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path)
    torch.manual_seed(0)
    encoder = tiny_autoencoder.encoder(CHANNELS, pooled=False)
    pictures = torch.tensor(np.stack([np.asarray(Image.open(path)) for path in (folder / "images").rglob("*.png")]))
    with torch.no_grad():  # a trained one's channels have means of about 0, and deviations of about 1
        latents = encoder(pictures.permute(0, 3, 1, 2) / 255)
        encoder[-1].bias -= latents.mean((0, 2, 3))
        encoder[-1].weight /= latents.std((0, 2, 3))[:, None, None, None]
        encoder[-1].bias /= latents.std((0, 2, 3))
    torch.save(encoder.state_dict(), folder / "encoder.pth")
    torch.save(tiny_autoencoder.decoder(CHANNELS, pooled=False).state_dict(), folder / "decoder.pth")
    return folder


def made_by(folder: Path) -> list[str]:
    files = [f"autoencoder.{half}={folder}/{half}.pth" for half in ("encoder", "decoder")]
    return ["autoencoder=tiny", *files]


def pictures(folder: Path) -> list[str]:
    return ["data=image_folder", f"data.path={folder}/images", f"data.size={SIZE}", "data.heldout=0.4"]


def lay_out_prepared(folder: Path) -> Path:
    """The same, and the pictures' latents in `folder/prepared`."""
    lay_out(folder)
    words = ["data", "prepare", *(each.removeprefix("data=") for each in pictures(folder))]
    assert main([*words, *made_by(folder), f"to={folder}/prepared", f"out={folder}/runs", "scale_pictures=16"]) == 0
    return folder


def prepared_data(folder: Path) -> list[str]:
    return ["data=prepared", f"data.path={folder}/prepared"]


def tiny_decoder():
    return with_edits(architecture("decoder/tiny"), TINY)


def decoding_spec(folder: Path, *overrides: str, **more):
    """Of pictures that are encoded on the fly, unless the overrides have other data."""
    data = [] if any(each.startswith("data=") for each in overrides) else pictures(folder)
    settings = settings_of([*data, *made_by(folder), *overrides], DECODING)
    return prepare(settings).spec("tiny", tiny_decoder(), 0, **more)
