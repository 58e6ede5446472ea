"""A folder of images to score is read as a data set's is: the same files, the same names, the same words."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.data.config import DigitsConfig, ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.store import Store
from harness.trials.scores.pictures import NOT_BY_CLASS, read_images

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
    images = zip(folder.read(range(45)), folder.labels, strict=True)
    scored = {(image.numpy().tobytes(), int(label)) for image, label in images}
    assert folder.count == 45
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
        (("n01", "cat"), "some are called as the data's folders, others as its classes"),
    ],
)
def test_images_of_no_class_say_why(config, tmp_path, folders, reason):
    folder = read_images(write_folder(tmp_path / "generated", folders, each=3), load_dataset(config), config)
    assert (folder.labels, folder.unlabelled) == (None, NOT_BY_CLASS), "the stored reason names no folder"
    assert folder.remarks == (f"no classes are known, since {NOT_BY_CLASS}: {reason}",)


def test_a_folder_with_nothing_to_score_says_what_lies_in_it(config, tmp_path):
    root = write_folder(tmp_path / "generated", ("n01",), each=1)
    (root / "n01" / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"has 1 readable image \(left out: 1 \.txt file, .*, and a score needs"):
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


def test_twelve_bits_in_sixteen_are_refused_by_adms_reading_too(config, tmp_path):
    """Of colours it takes the upper 8, of grey levels none."""
    adm = replace(config, crop="adm", color="rgb")
    (tmp_path / "scan").mkdir()
    for number in range(4):
        content = deep_png(np.full((8, 8, 3), 4095 - number), 2)
        (tmp_path / "scan" / f"{number}.png").write_bytes(content)
    with pytest.raises(UserError, match=r"they use 12 bits .* nearly black: convert them to 8 bits"):
        read_images(tmp_path / "scan", load_dataset(adm), adm)


def test_names_do_not_order_what_is_scored(config, tmp_path):
    for number in range(6):
        image = Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8))
        for folder, name in (("one", f"{number}.png"), ("two", f"{5 - number}.png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            image.save(tmp_path / folder / name)
    one, two = (read_images(tmp_path / folder, load_dataset(config), config) for folder in ("one", "two"))
    assert one.read(range(6)).equal(two.read(range(6)))
    assert one.identity == two.identity


def test_names_and_equal_pictures_change_nothing_of_what_is_scored_and_classes_do(config, tmp_path):
    """Two classes have an equal picture: their order is that of the classes, whatever the folders are called."""
    data = load_dataset(config)
    for root, names in (("one", ("n01", "n02")), ("two", ("hot dog", "cat")), ("other", ("cat", "hot dog"))):
        for at, name in enumerate(names):
            (tmp_path / root / name).mkdir(parents=True)
            for number in range(at, at + 2):
                grey = Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8))
                grey.save(tmp_path / root / name / f"{root}{number}.png")
    one, two, other = (read_images(tmp_path / root, data, config) for root in ("one", "two", "other"))
    assert one.labels.equal(two.labels)
    assert one.identity == two.identity != other.identity


# What others made: files of images and of statistics, through the command


@pytest.fixture
def scored(tmp_path, capsys):
    """`harness evaluate WORDS`, as JSON, with small features and without a classifier."""

    def run(*words: str) -> dict[str, Any]:
        fixed = ("quality.extractor.resolution=32", "quality.metrics=[fd,precision]", "quality.reference_samples=40")
        assert main(["evaluate", *words, "--json", f"out={tmp_path / 'runs'}", *fixed]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Twenty held-out digits, in the field's form."""
    heldout = load_dataset(DigitsConfig()).heldout
    path = tmp_path / "samples.npz"
    np.savez(path, arr_0=heldout.pixels[60:80].transpose(0, 2, 3, 1), arr_1=heldout.labels[60:80])
    return path


def at(path: Path) -> tuple[str, str]:
    return "quality.reference=path", f"quality.reference_path={path}"


def test_a_file_of_images_is_scored_like_a_folder_of_them(pictures, tmp_path, scored):
    for number, image in enumerate(np.load(pictures)["arr_0"]):
        (tmp_path / "folder").mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / "folder" / f"{number}.png")
    of_file, of_folder = scored(str(pictures)), scored(str(tmp_path / "folder"))
    assert set(of_file) == {"fd", "precision"}
    assert of_file["fd"]["conditions"]["label"] == "FD-EffLite0@32, N=20 against 40"
    assert of_file["fd"]["value"] == pytest.approx(of_folder["fd"]["value"], rel=1e-5)
    assert of_file["precision"]["value"] == of_folder["precision"]["value"]


def test_a_folders_score_is_stored_and_asked_again_needs_no_extractor(pictures, tmp_path, capsys, monkeypatch):
    """By content: a copy under other names is the same, and the same reason stands where there are no classes."""
    for copy in ("one", "two"):
        (tmp_path / copy).mkdir()
        for number, image in enumerate(np.load(pictures)["arr_0"]):
            Image.fromarray(image[..., 0]).save(tmp_path / copy / f"{copy}{number}.png")
        (tmp_path / copy / "notes.txt").write_text("x")

    def scored(copy: str) -> tuple[str, str]:
        fixed = ("quality.extractor.resolution=32", "quality.metrics=[fd,class_agreement]", "quality.samples=16")
        words = ("evaluate", str(tmp_path / copy), "--json", f"out={tmp_path / 'runs'}", *fixed)
        assert main([*words, "quality.reference_samples=40"]) == 0
        printed = capsys.readouterr()
        return printed.out, printed.err

    first, said = scored("one")
    agreement = json.loads(first)["class_agreement"]
    assert (agreement["kind"], agreement["reason"]) == ("unavailable", NOT_BY_CLASS)
    (stored,) = Store(tmp_path / "runs" / "store").measurements("score")
    assert set(stored.settings) == {"pictures", "samples", "quality", "data"}
    assert str(tmp_path) not in json.dumps(to_plain(stored.settings)) + first
    assert not any((tmp_path / "runs" / "scores" / "parts").iterdir())
    monkeypatch.setattr("harness.trials.scores.score.load_reference", lambda *_, **__: pytest.fail("scored again"))
    assert scored("two") == (first, said.replace("one", "two")), "remarks are of the folder, and said each time"
    assert "left out: 1 .txt file" in said


def test_statistics_that_were_written_are_a_reference_and_can_be_scored_without_images(pictures, tmp_path, scored):
    own = tmp_path / "own.npz"
    against_data = scored(str(pictures), "--to", str(own))
    assert scored(str(own))["fd"]["value"] == pytest.approx(against_data["fd"]["value"], rel=1e-5)
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((4, 16, 16, 1), np.uint8))
    assert main(["evaluate", str(own), *at(tmp_path / "large.npz"), "quality.extractor.resolution=32"]) == 2
    for what in (pictures, own):
        itself = scored(str(what), *at(own))
        assert itself["fd"]["value"] == pytest.approx(0, abs=1e-3)
        assert itself["fd"]["conditions"]["label"] == "FD-EffLite0@32, N=20"
        assert itself["precision"]["kind"] == "unavailable"


def test_statistics_of_inception_need_no_weights_to_be_compared(tmp_path, capsys):
    """Two published files: FID by the closed form."""
    for name, mean in (("one", 0.0), ("two", 3.0)):
        np.savez(tmp_path / f"{name}.npz", mu=np.full(4, mean), sigma=np.diag([1.0, 4, 9, 16]) * (1 + mean))
    words = ["quality=fid", *at(tmp_path / "two.npz"), "quality.reference_build=adm", f"out={tmp_path / 'runs'}"]
    assert main(["evaluate", str(tmp_path / "one.npz"), "--build", "torch_fidelity", "--json", *words]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["fd"]["value"] == pytest.approx(4 * 9 + 30 * (2 - 1) ** 2)
    assert scores["fd"]["conditions"]["label"].startswith("FID, N=unknown against two.npz (")
    assert {name for name, of in scores.items() if of["kind"] == "measured"} == {"fd"}


EIGHT = np.zeros((4, 8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    ("make", "words", "sentence"),
    [
        ({"arr_0": np.zeros((4, 9, 9, 1), np.uint8)}, (), "and the data's are 8 x 8 with 1"),
        ({"arr_0": np.zeros((4, 8, 8, 3), np.uint8)}, (), "8 x 8 with 3 channels, and the data's are"),
        ({"arr_0": np.zeros((4, 8, 8), np.uint8)}, (), "must be uint8 (N, height, width, 1 or 3)"),
        (
            {"arr_0": EIGHT, "arr_1": np.arange(4) + 7},
            (),
            "labels from 7 to 10, and the data",
        ),
        ({"arr_0": EIGHT, "labels": np.zeros(3)}, (), "labels of"),
        ({"arr_1": np.zeros(3)}, (), "has no arr_0 that can be read"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, (), "does not say which network its statistics are of"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, ("--to", "x.npz"), "holds statistics already; leave out --to"),
        (
            {"arr_0": EIGHT},
            ("--build", "adm"),
            "--build names who made a file of statistics",
        ),
        ({"arr_0": EIGHT}, ("--to", "x.txt"), "--to names an .npz file, not x.txt"),
        ({"arr_0": EIGHT}, ("--guidance", "2"), "are of a trained network or a pipeline, and made.npz is neither"),
        ({"arr_0": EIGHT}, ("launcher=slurm",), "is there already and scored in this process; leave out launcher"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(tmp_path, monkeypatch, capsys, make, words, sentence):
    monkeypatch.chdir(tmp_path)
    np.savez("made.npz", **make)
    assert main(["evaluate", "made.npz", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said


def test_pictures_of_another_size_than_the_references_are_refused(pictures, tmp_path, capsys):
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((4, 16, 16, 1), np.uint8))
    assert main(["evaluate", str(pictures), *at(tmp_path / "large.npz"), f"out={tmp_path / 'runs'}"]) == 2
    assert "is of pictures of 16 x 16, and the images to score are 8 x 8" in capsys.readouterr().err
