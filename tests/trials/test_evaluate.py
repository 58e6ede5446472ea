"""A folder of images to score is read as a data set's is: the same files, the same names, the same words."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.config import DigitsConfig, ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.records.errors import UserError
from harness.trials.evaluate import read_images

sys.path.insert(0, str(Path(__file__).parent.parent / "data"))
from pictures import deep_png, write_folder, write_image

CLASSES = ("n01", "n02")


@pytest.fixture
def config(tmp_path) -> ImageFolderConfig:
    names = tmp_path / "names.txt"
    names.write_text("n01 hot dog\nn02 cat\n")
    return ImageFolderConfig(path=write_folder(tmp_path / "images", CLASSES), size=8, names=names)


def test_what_training_reads_is_what_is_scored(config):
    """Upper case, AVIF, linked folders; not what is hidden, broken or no image."""
    root = config.path
    write_image(root / "n01" / "PHOTO.JPEG", 1)
    write_image(root / "n02" / "photo.avif", 2)
    write_image(root / "n02" / ".ipynb_checkpoints" / "1-checkpoint.png", 3)
    (root / "n01" / "linked").symlink_to(write_folder(root.parent / "more", ("x",), each=3, seed=7) / "x")
    (root / "n02" / "broken.png").write_bytes(b"no image")
    (root / "n02" / "notes.txt").write_text("x")
    write_image(root / "cover.png", 4)
    data = load_dataset(config)
    folder = read_images(root, data, config)
    assert folder.labels is not None
    trained = {(image.numpy().tobytes(), label) for part in (data.train, data.heldout) for image, label in part}
    scored = {(image.numpy().tobytes(), int(label)) for image, label in zip(folder.images, folder.labels, strict=True)}
    assert len(folder.images) == 45
    assert scored == trained
    assert folder.remarks[0] == "1 unreadable image is left out: n02/broken.png: not an image"
    assert sorted(folder.remarks[1:]) == [
        "left out: 1 .txt file, e.g. n02/notes.txt: not an image's extension",
        "left out: 1 entry, e.g. n02/.ipynb_checkpoints: hidden",
        "left out: 1 image, e.g. cover.png: they lie beside the class folders, in none of them",
    ]


@pytest.mark.parametrize("folders", [CLASSES, ("hot dog", "cat"), ("hot_dog", "cat")])
def test_folders_may_be_called_as_the_datas_or_as_the_classes(config, tmp_path, folders):
    root = write_folder(tmp_path / "generated", folders, each=2)
    write_image(root / folders[1] / "deep" / "er" / "1.png", 5)
    labels = read_images(root, load_dataset(config), config).labels
    assert labels is not None
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (("000000", "001000"), "'000000' is none of hot dog, cat"),
        (("n01", "dog"), "'dog' is none of hot dog, cat"),
        ((".",), "some lie in no folder"),
    ],
)
def test_images_of_no_class_say_why(config, tmp_path, folders, reason):
    folder = read_images(write_folder(tmp_path / "generated", folders, each=3), load_dataset(config), config)
    assert folder.labels is None
    assert folder.unlabelled.endswith(reason)


def test_a_folder_with_nothing_to_score_says_what_lies_in_it(config, tmp_path):
    root = write_folder(tmp_path / "generated", ("n01",), each=1)
    (root / "n01" / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"has 1 readable images \(left out: 1 \.txt file, .*, and a score needs"):
        read_images(root, load_dataset(config), config)


def test_twelve_bits_in_sixteen_are_refused_here_too(config, tmp_path):
    (tmp_path / "scan").mkdir()
    for number in range(4):
        content = deep_png(np.full((8, 8), 1000 * number), 0)
        (tmp_path / "scan" / f"{number}.png").write_bytes(content)
    with pytest.raises(UserError, match=r"they use 12 bits .*: give data\.bits=12"):
        read_images(tmp_path / "scan", load_dataset(config), config)
    with pytest.raises(UserError, match=r"they use 12 bits .* nearly black: convert them to 8 bits"):
        read_images(tmp_path / "scan", load_dataset(DigitsConfig()), DigitsConfig())


def test_names_do_not_order_what_is_scored(config, tmp_path):
    for number in range(6):
        image = Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8))
        for folder, name in (("one", f"{number}.png"), ("two", f"{5 - number}.png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            image.save(tmp_path / folder / name)
    one, two = (read_images(tmp_path / folder, load_dataset(config), config).images for folder in ("one", "two"))
    assert one.equal(two)
