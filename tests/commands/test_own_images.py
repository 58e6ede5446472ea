"""A user's folder of colour images, from `harness data` to a report; scores and exports from the command line."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from tiny_study import BASE, SETTINGS, SMALL, TINY, write_yaml

from harness.cli import main
from harness.records.store import Store

CLASSES = ("red car", "green tree", "blue_sky")
EACH = 30


@pytest.fixture
def images(tmp_path):
    """3 classes of 30 coloured images of 40 x 32 pixels; one grayscale, and one cut off in the middle."""
    folder, random = tmp_path / "my images (1)", np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(EACH):
            pixels = random.integers(0, 80, (32, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")
    Image.open(folder / CLASSES[0] / "03.png").convert("L").save(folder / CLASSES[0] / "03.png")
    whole = folder / CLASSES[1] / "07.png"
    whole.write_bytes(whole.read_bytes()[:400])
    return folder


def own(folder) -> list[str]:
    return ["data=image_folder", f"data.path={folder}", "data.size=32"]


def test_data_describes_a_folder_and_draws_its_grid(images, workplace, capsys):
    assert main(["data", "image_folder", *own(images)[1:]]) == 0
    shown = capsys.readouterr().out
    assert "32x32 pixels, 3 channel(s)" in shown
    assert "unreadable files: 1" in shown
    assert shown.count("07.png") == 1
    assert "blue sky" in shown
    with Image.open(workplace / shown.splitlines()[-1]) as grid:
        assert grid.mode == "RGB"


def test_data_describes_the_digits(workplace, capsys):
    assert main(["data", "digits", "--to", "digits.png"]) == 0
    shown = capsys.readouterr().out
    assert "digits: 8x8 pixels, 1 channel(s)" in shown  # one line, however narrow the table
    with Image.open(workplace / "digits.png") as grid:
        assert grid.size[0] > 8


@pytest.mark.slow
def test_an_ablation_on_a_users_own_images_ends_in_a_report(images, workplace, capsys):
    assert main(["ablate", "tiny", *own(images), "recipe.steps=4", "quality.reference_samples=12"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("07.png") == 1
    page = workplace / "runs" / "tiny" / "report.html"
    assert str(page.relative_to(workplace)) in printed.out.splitlines()[-1]
    assert any(image.mode == "RGB" for image in base64_images(page.read_text()))
    records = list(Store(workplace / "runs" / "store").trials())
    assert len(records) == 2
    for record in records:
        assert record.state == "complete"
        assert record.architecture["latent_channels"] == 3
        with Image.open(Store(workplace / "runs" / "store").artifact(record.key, "samples.png")) as grid:
            assert grid.mode == "RGB"
            assert np.ptp(np.asarray(grid).astype(int), axis=-1).max() > 0  # in colour


def base64_images(page: str) -> list[Image.Image]:
    texts = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts]


@pytest.mark.slow
def test_a_trial_and_a_folder_are_scored_by_the_same_command(workplace, capsys):
    tiny = [f"{name}={value}".replace(" ", "") for name, value in SETTINGS.items()]
    assert main(["ablate", "tiny"]) == 0
    capsys.readouterr()
    record = next(iter(Store(workplace / "runs" / "store").trials()))
    assert main(["evaluate", record.key, "--json", *tiny]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["kid"]["value"] == pytest.approx(record.quantities["kid"].value)  # the same samples again
    folder = workplace / "generated" / "seven"
    folder.mkdir(parents=True)
    for index in range(16):
        Image.fromarray(np.full((8, 8), 16 * index, dtype=np.uint8)).save(folder / f"{index}.png")
    assert main(["evaluate", str(folder.parent), "--json", *tiny]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    assert {"kid", "fd", "class_agreement"} <= set(json.loads(printed))
    assert main(["evaluate", str(folder.parent), *tiny]) == 0
    assert "against digits: KID-EffLite0@32, N=16 against 64; " in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_export_writes_a_package_and_lists_its_operators(workplace, quick_conversions, capsys):
    write_yaml(workplace / "tiny.yaml", {**BASE, "edits": TINY | SMALL})
    assert main(["export", "tiny.yaml", "--latent", "8", "--to", "out/tiny.mlpackage"]) == 0
    shown = capsys.readouterr().out
    assert "conv" in shown
    assert shown.splitlines()[-1] == "out/tiny.mlpackage"
    assert (workplace / "out" / "tiny.mlpackage" / "Manifest.json").exists()
