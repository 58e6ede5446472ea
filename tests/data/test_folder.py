"""Any folder of class folders: what is read, what is left out, what stays where it is."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import write_image
from PIL import Image

from harness.data import folder as folder_module
from harness.data import index as index_module
from harness.data.config import ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.data.images import FileImages, stack
from harness.records.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(("black_cat", "dog")):
        for number in range(20):
            write_image(tmp_path / "images" / name / f"{number}.png", 100 * index + number)
    return tmp_path / "images"


def load(root: Path, **settings):
    cache = settings.pop("cache", None)
    return load_dataset(ImageFolderConfig(path=root, **settings), cache=cache)


def everything(data) -> dict[bytes, int]:
    return {image.numpy().tobytes(): label for part in (data.train, data.heldout) for image, label in part}


def test_class_folders_become_classes_and_prompt_names(root):
    data = load(root)
    assert data.class_names == ("black cat", "dog")
    assert len(data.train) + len(data.heldout) == 40
    assert (data.channels, data.size) == (3, 32)
    assert data.unreadable == ()
    assert data.warning is None
    assert len(data.heldout) > 0


def test_a_file_added_moves_no_other(root):
    before = load(root)
    write_image(root / "dog" / "new.png", 999)
    after = load(root)
    for part in ("train", "heldout"):
        old = {image.numpy().tobytes() for image, _ in getattr(before, part)}
        new = {image.numpy().tobytes() for image, _ in getattr(after, part)}
        assert old <= new
    assert before.fingerprint != after.fingerprint


def test_a_file_under_two_names_is_in_one_part_only(root):
    """A network judged on an image that it was trained on is judged too well."""
    for path in sorted(root.glob("*/*.png")):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    data = load(root)
    trained, held = ({image.numpy().tobytes() for image, _ in part} for part in (data.train, data.heldout))
    assert len(trained | held) == 40
    assert trained & held == set()
    assert (len(data.train), len(data.heldout)) == (2 * len(trained), 2 * len(held))


@pytest.mark.parametrize("kind", ["folders", "pixels"])
def test_a_damaged_cache_is_one_sentence(root, tmp_path, kind):
    load(root, cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache" / kind).iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError) as refused:
        load(root, cache=tmp_path / "cache")
    assert str(refused.value).startswith(f"the cache {path} is damaged (")
    assert str(refused.value).endswith("; remove it and run the same command again")
    path.unlink()
    assert len(load(root, cache=tmp_path / "cache").train) > 0


def test_the_data_are_of_the_content_not_of_place_and_names(root, tmp_path):
    """Whatever then chooses some of them by their place chooses the same pictures."""
    for number, path in enumerate(sorted(root.glob("*/*.png"))):
        new = tmp_path / "elsewhere" / path.parent.name / f"{7 * number % 40:02}.png"
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, new)
    one, other = load(root), load(tmp_path / "elsewhere")
    assert one.fingerprint == other.fingerprint
    for part in ("train", "heldout"):
        first, second = getattr(one, part), getattr(other, part)
        assert np.array_equal(first.pixels, second.pixels)
        assert np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize("change", [{"size": 16}, {"color": "grayscale"}, {"heldout": 0.3}])
def test_the_fingerprint_follows_what_changes_the_images(root, change):
    assert load(root).fingerprint != load(root, **change).fingerprint


def test_a_pixel_changed_changes_the_fingerprint_even_with_a_warm_cache(root, tmp_path):
    before = load(root, cache=tmp_path / "cache")
    path = root / "dog" / "3.png"
    status = path.stat()
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` would
    after = load(root, cache=tmp_path / "cache")
    assert before.fingerprint != after.fingerprint


def broken_files(root: Path) -> set[str]:
    """Five ways of not being an image."""
    (root / "dog" / "empty.png").write_bytes(b"")
    (root / "dog" / "text.jpg").write_text("not an image")
    whole = (root / "dog" / "1.png").read_bytes()
    (root / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    noise = np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    (root / "black_cat" / "garbage.webp").write_bytes(b"RIFF" + noise)
    (root / "black_cat" / "dangling.png").symlink_to("nowhere.png")
    return {"dog/empty.png", "dog/text.jpg", "dog/cut.png", "black_cat/garbage.webp", "black_cat/dangling.png"}


def test_unreadable_images_are_named_once_and_shift_nothing(root):
    clean = load(root)
    broken = broken_files(root)
    data = load(root)
    assert {line.split(":")[0] for line in data.unreadable} == broken
    assert data.warning is not None
    assert data.warning.startswith("5 unreadable images are left out: ")
    assert "\n" not in data.warning
    assert data.fingerprint == clean.fingerprint
    assert np.array_equal(data.train.pixels, clean.train.pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_any_mode_and_shape_becomes_one_shape(root, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    write_image(root / "dog" / f"odd.{suffix}", 5, mode=mode, size=(57, 9))
    data = load(root)
    assert data.unreadable == ()
    assert data.train.pixels.shape[1:] == (3, 32, 32)


def test_transparency_lies_on_white(root):
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(root / "dog" / "clear.png")
    assert np.full((3, 32, 32), 255, np.uint8).tobytes() in everything(load(root))


def test_grayscale_files_give_one_channel(tmp_path):
    for number in range(40):
        write_image(tmp_path / "only" / f"{number}.png", number, mode="L")
    assert load(tmp_path).channels == 1
    assert load(tmp_path, color="rgb").channels == 3


def test_an_image_of_the_right_size_is_untouched_and_a_wide_one_is_cropped_in_the_centre(root):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = np.random.default_rng(7).integers(0, 256, (32, 32, 3))
    Image.fromarray(wide).save(root / "dog" / "wide.png")
    centre = np.ascontiguousarray(wide[:, 32:64].transpose(2, 0, 1))
    assert centre.tobytes() in everything(load(root))


def test_a_large_folder_stays_in_its_files_with_the_same_images(root, monkeypatch):
    small = load(root)
    monkeypatch.setattr(folder_module, "IN_MEMORY_BYTES", 1000)
    large = load(root)
    assert isinstance(large.train, FileImages)
    assert np.array_equal(stack(large.train, range(len(large.train))).numpy(), small.train.pixels)
    assert large.fingerprint == small.fingerprint
    (root / large.train.names[0]).unlink()
    with pytest.raises(UserError, match="changed while in use"):
        large.train[0]


def test_a_second_start_reads_no_file_again(root, tmp_path, monkeypatch):
    broken_files(root)
    first = load(root, cache=tmp_path / "cache")
    monkeypatch.setattr(index_module, "_inspect", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(FileImages, "array", lambda *_: pytest.fail("decoded again"))
    second = load(root, cache=tmp_path / "cache")
    assert second.fingerprint == first.fingerprint
    assert second.unreadable == first.unreadable
    assert np.array_equal(second.train.pixels, first.train.pixels)


def make_empty(root: Path) -> Path:
    (root.parent / "empty").mkdir()
    return root.parent / "empty"


def make_flat(root: Path) -> Path:
    return root / "dog"


def make_file(root: Path) -> Path:
    return root / "dog" / "1.png"


def make_small_class(root: Path) -> Path:
    write_image(root / "rare" / "1.png", 1)
    return root


def make_empty_class(root: Path) -> Path:
    (root / "nothing").mkdir()
    return root


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: root / "missing", "must be a folder of class folders"),
        (make_file, "must be a folder of class folders"),
        (make_empty, "has no class folders"),
        (make_flat, "has no class folders"),
        (make_small_class, "'rare' .* has 1 readable image,"),
        (make_empty_class, "'nothing' .* has 0 readable images"),
    ],
)
def test_a_wrong_folder_is_one_sentence(root, make, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load(make(root))
    assert "\n" not in str(caught.value)
