"""Which files of a folder are read, what is said of the others, and layouts: known or refused, never guessed."""

import os
import re
import shutil

import numpy as np
import pytest
from pictures import deep_png, write_folder, write_image
from PIL import Image

from harness.data import listing as listing_module
from harness.data.config import ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.data.listing import list_images
from harness.records.errors import UserError

CLASSES = ("cat", "dog")


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "images", CLASSES)


def load(root, **settings):
    return load_dataset(ImageFolderConfig(path=root, size=8, **settings))


def total(data) -> int:
    return len(data.train) + len(data.heldout)


def test_nothing_is_left_out_unsaid(root, monkeypatch):
    monkeypatch.setattr(listing_module, "extensions", lambda: frozenset({".png", ".jpeg"}))
    write_image(root / "dog" / "PHOTO.JPEG", 1)
    for number in range(3):
        (root / "dog" / f"IMG_{number}.HEIC").write_bytes(b"x")
    (root / "cat" / "notes.txt").write_text("x")
    (root / "cat" / "raw").write_bytes(b"x")
    (root / "cat" / "._1.png").write_bytes(b"a resource fork")
    (root / ".ipynb_checkpoints").mkdir()
    (root / "__MACOSX").mkdir()
    shutil.copy(root / "dog" / "1.png", root / "cover.png")
    (root / "cat" / "gone").symlink_to("nowhere")
    os.mkfifo(root / "cat" / "pipe.png")  # reading it would wait for ever
    data = load(root)
    assert total(data) == 41
    assert data.unreadable == ()
    heic = "reading them needs the package pillow-heif (pip install 'unet-harness[heic]')"
    assert sorted(map(str, data.left_out)) == [
        "1 .png file, e.g. cat/pipe.png: not a regular file",
        "1 .txt file, e.g. cat/notes.txt: not an image's extension",
        "1 file without extension, e.g. cat/gone: a link that leads nowhere",
        "1 file without extension, e.g. cat/raw: not an image's extension",
        "1 image, e.g. cover.png: they lie beside the class folders, in none of them",
        f"3 .heic files, e.g. dog/IMG_0.HEIC: {heic}",
        "3 entries, e.g. .ipynb_checkpoints: hidden",
    ]
    assert data.warning is not None
    assert "3 .heic files" in data.warning
    assert "hidden" not in data.warning  # every system leaves some
    assert "\n" not in data.warning


def test_linked_folders_are_followed_but_not_into_themselves(root, tmp_path):
    write_folder(tmp_path / "elsewhere", ("more",), each=5, seed=900)
    (root / "dog" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "bird").symlink_to(write_folder(tmp_path / "birds", ("all",), seed=500) / "all")
    (root / "cat" / "again").symlink_to(root)
    (root / "cat" / "itself").symlink_to("itself")
    data = load(root)
    assert data.class_names == ("bird", "cat", "dog")
    assert total(data) == 65
    assert "1 folder, e.g. cat/again: a link to a folder that it lies in" in [str(each) for each in data.left_out]
    assert any("cat/itself: a link that leads nowhere" in line for line in map(str, data.left_out))


def test_a_folder_that_may_not_be_read_is_said(root, monkeypatch):
    write_image(root / "dog" / "secret" / "1.png", 3)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "1 folder, e.g. dog/secret: a folder that cannot be read (Permission denied)" in [
        str(each) for each in load(root).left_out
    ]


def test_an_image_that_may_not_be_read_is_named(root, monkeypatch):
    from pathlib import Path

    real = Path.read_bytes

    def read_bytes(path):
        if path.name == "7.png":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert load(root).unreadable == ("cat/7.png: Permission denied", "dog/7.png: Permission denied")


def test_names_that_are_no_text_stay_on_one_line(root):
    write_image(root / "dog" / "two\nlines.png", 3)
    (root / "dog" / "two\nlines.png").write_bytes(b"")
    shutil.copy(root / "dog" / "1.png", os.fsencode(root / "dog") + b"/caf\xe9.png")
    data = load(root)
    assert data.unreadable == ("dog/two\\nlines.png: an empty file",)
    assert tuple(map(str, data.left_out)) == ("1 .png file, e.g. dog/caf\\udce9.png: its name is not UTF-8",)


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (
            ["train_images/cat", "train_images/dog"],
            "not in 'train_images', .*; give data.path=ROOT/train_images, whose folders are 'cat', 'dog'",
        ),
        (["a/b/cat", "a/b/dog"], "give data.path=ROOT/a/b, whose folders are 'cat', 'dog'"),
        (["only/cat"], "give data.path=ROOT/only, whose folders are 'cat'"),
        (["part1/cat", "part1/dog", "part2/cat"], "give one of them, e.g. data.path=ROOT/part1, or put all"),
        (["photos/train/cat", "photos/test/cat"], "give data.path=ROOT/photos, whose folders are 'test', 'train'"),
        (["train/cat", "train/dog"], "holds splits .train., not classes: .*data.path=ROOT/train"),
        (["test/cat", "val/cat"], "holds splits .val., not classes"),
        (["train/cat", "extra"], "holds splits .train., not classes"),
        (["train", "test"], "ROOT/train has no class folders of images"),
        (["train/x/cat", "train/x/dog", "val/cat"], "ROOT/train has no class folders of images"),
        (["train/cat", "train/dog", "test"], "ROOT/test has no class folders of images"),
        (["train/cat", "val/cat", "val/dog"], "ROOT/val has a class 'dog' that ROOT/train lacks"),
    ],
)  # fmt: skip
def test_a_layout_is_never_guessed(tmp_path, folders, sentence):
    root = write_folder(tmp_path, tuple(folders), each=6)
    with pytest.raises(UserError, match=sentence.replace("ROOT", re.escape(str(root)))) as refused:
        load(root)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("heldout", ["test", "val", "Validation"])
def test_a_split_that_is_there_is_the_split(tmp_path, heldout):
    root = write_folder(tmp_path, ("train/hot_dog", "train/cat", f"{heldout}/hot_dog", f"{heldout}/cat"), each=5)
    data = load(root)
    assert data.class_names == ("cat", "hot dog")
    assert (len(data.train), len(data.heldout)) == (10, 10)
    held = {image.numpy().tobytes() for image, _ in data.heldout}
    shutil.rmtree(root / heldout / "cat")
    write_folder(root, (f"{heldout}/cat",), each=6, seed=777)
    assert load(root).fingerprint != data.fingerprint
    assert {image.numpy().tobytes() for image, label in load(root).heldout if label == 1} < held


def test_of_val_and_test_val_is_held_out_and_test_is_left_alone(tmp_path):
    data = load(write_folder(tmp_path, ("train/cat", "val/cat", "test/unknown"), each=5))
    assert data.class_names == ("cat",)
    assert (len(data.train), len(data.heldout)) == (5, 5)
    assert tuple(map(str, data.left_out)) == (
        "5 images, e.g. test/unknown/0.png: only train/ is trained on and val/ held out, by their class folders",
    )


def test_an_image_on_both_sides_of_a_split_is_said(tmp_path):
    root = write_folder(tmp_path, ("train/cat", "val/cat"), each=5)
    shutil.copy(root / "train" / "cat" / "3.png", root / "val" / "cat" / "copy.png")
    assert load(root).remarks == (
        "images that lie in both parts: what is trained on is held out too: 1, e.g. val/cat/copy.png",
    )


def test_an_image_in_two_classes_is_said(tmp_path):
    root = write_folder(tmp_path / "images", ("cat", "dog"), each=20)
    (root / "copy").symlink_to(root / "cat")
    (remark,) = load(root).remarks
    assert remark.startswith("images that lie in several classes, of which no network can tell which is meant: 40, e.g")


def test_a_class_of_folders_beside_classes_of_images_is_said(tmp_path):
    root = write_folder(tmp_path / "images", ("cat", "pets/dog", "pets/bird"), each=20)
    (remark,) = load(root).remarks
    assert remark.startswith("all images of class 'pets' lie in folders, which are no classes, e.g. pets/bird/")
    (tmp_path / "names.txt").write_text("cat cat\npets pet\n")
    assert load(root, names=tmp_path / "names.txt").remarks == (), "a names file says that it is meant"


def test_a_class_that_only_one_part_of_a_split_has_is_said(tmp_path):
    root = write_folder(tmp_path, ("train/cat", "train/dog", "val/cat"), each=6)
    assert load(root).remarks == ("classes without a held-out image: 1, e.g. dog",)


def test_a_fraction_is_refused_where_the_split_is_there(tmp_path):
    root = write_folder(tmp_path, ("train/cat", "val/cat"), each=5)
    with pytest.raises(UserError, match=r"holds its own held-out part, val/: leave data\.heldout=0\.3 out"):
        load(root, heldout=0.3)
    assert total(load(root / "train", heldout=0.3)) == 5


def test_a_names_file_says_that_folders_of_folders_are_classes(tmp_path):
    root = write_folder(tmp_path / "images", ("animals/cat", "animals/dog", "cars/small"))
    with pytest.raises(UserError, match="lie one level deeper"):
        load(root)
    names = tmp_path / "names.txt"
    names.write_text("animals animal\ncars car\n")
    assert load(root, names=names).class_names == ("animal", "car")


def test_classes_may_hold_folders_beside_images(root):
    write_image(root / "dog" / "2024" / "1.png", 77)
    assert total(load(root)) == 41


def test_a_class_of_files_that_cannot_be_read_says_so(root, monkeypatch):
    monkeypatch.setattr(listing_module, "extensions", lambda: frozenset({".png"}))
    (root / "bird").mkdir()
    for number in range(30):
        (root / "bird" / f"{number}.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"'bird' .* has 0 readable images \(30 \.heic files, .*pillow-heif"):
        load(root)
    shutil.rmtree(root / "bird")
    for number in range(19):
        (root / "dog" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"'dog' .* \(19 cannot be read, e\.g\. dog/0\.png: not an image"):
        load(root)


def test_twelve_bits_in_sixteen_are_refused_with_the_setting_that_reads_them(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (20, 8, 8)).astype(np.uint16)
    values[0, 0, 0] = 4095
    for number, image in enumerate(values):
        (tmp_path / "scan").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "scan" / f"{number}.png")
    with pytest.raises(UserError, match=r"hold none above 4095, so they use 12 bits and would be read as nearly black: "
                                        r"give data\.bits=12, or data\.bits=16 if"):  # fmt: skip
        load(tmp_path)
    data = load(tmp_path, bits=12)
    pixels = np.concatenate([data.train.pixels, data.heldout.pixels])
    assert sorted(p.tobytes() for p in pixels) == sorted((v >> 4).astype(np.uint8).tobytes() for v in values)
    dark = load(tmp_path, bits=16)
    assert max(dark.train.pixels.max(), dark.heldout.pixels.max()) == 15
    assert dark.remarks == ("images that have 16 bits but small values, and are nearly black: 20, e.g. scan/0.png",)
    assert dark.fingerprint != data.fingerprint
    for number, image in enumerate(values):
        (tmp_path / "scan" / f"{number}.png").write_bytes(deep_png(np.stack([image] * 3, -1), 2))
    with pytest.raises(UserError, match="colour images are to be converted to 8 bits"):
        load(tmp_path)


def test_one_dark_file_among_bright_ones_is_said(tmp_path):
    write_folder(tmp_path, ("cat",))
    (tmp_path / "cat" / "bright.png").write_bytes(deep_png(np.full((8, 8), 60_000), 0))
    (tmp_path / "cat" / "dim.png").write_bytes(deep_png(np.full((8, 8), 4_000), 0))
    assert load(tmp_path).remarks == (
        "images that have 16 bits but small values, and are nearly black: 1, e.g. cat/dim.png",
    )


def test_several_frames_are_said(root):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(root / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    assert load(root).remarks == (
        "images that have several frames, of which the first is taken: 1, e.g. dog/moving.gif",
    )


def test_a_flat_folder_and_a_deep_one_are_listed_alike(root):
    (root / "loose.png").write_bytes(b"x")
    listing = list_images(root)
    assert listing.folders == ["cat", "dog"]
    assert len(listing.images) == 41
    assert listing.images[-1] == "loose.png"
