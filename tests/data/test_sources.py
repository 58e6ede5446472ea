"""Golden files of every layout, small: read alike, whatever they lie in; what is damaged is one sentence."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pictures import deep_png
from PIL import Image
from scipy.io import savemat

from harness.data.config import ImageNetConfig, MetadataConfig, ParquetConfig
from harness.data.crop import square
from harness.data.dataset import load_dataset
from harness.data.sources.wordnet import class_names_of, names_by_wnid
from harness.records.errors import UserError

WNIDS = ("n01440764", "n02012849", "n03126707")  # tench, and both of the thousand that are called crane
SIZE = 8


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    random = np.random.default_rng(seed)
    width, height = random.integers(9, 40, 2)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


PICTURES = {
    f"{wnid}_{number}": (wnid, number == 3, jpeg(10 * place + number, ("RGB", "L", "CMYK", "RGB")[number]))
    for place, wnid in enumerate(WNIDS)
    for number in range(4)
}
"""Name -> class, whether it is held out, content. One of each class is held out."""


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def validation() -> dict[int, tuple[str, bytes]]:
    held = [(wnid, content) for wnid, is_held, content in PICTURES.values() if is_held]
    return dict(enumerate(reversed(held), start=1))  # not in the classes' order


def write_folders(root: Path) -> None:
    for name, (wnid, held, content) in PICTURES.items():
        put(root / ("val" if held else "train") / wnid / f"{name}.JPEG", content)


def write_kaggle(root: Path) -> None:
    base = root / "ILSVRC" / "Data" / "CLS-LOC"
    for name, (wnid, held, content) in PICTURES.items():
        if not held:
            put(base / "train" / wnid / f"{name}.JPEG", content)
    lines = [("ImageId", "PredictionString")]
    for number, (wnid, content) in validation().items():
        put(base / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", content)
        lines.append((f"ILSVRC2012_val_{number:08d}", f"{wnid} 1 2 3 4 "))
    buffer = io.StringIO()
    csv.writer(buffer).writerows(lines)
    put(root / "LOC_val_solution.csv", buffer.getvalue())


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_tars(root: Path) -> None:
    inner = {
        f"{wnid}.tar": tar_of(
            {f"{name}.JPEG": c for name, (of, held, c) in PICTURES.items() if of == wnid and not held}
        )
        for wnid in WNIDS
    }
    put(root / "ILSVRC2012_img_train.tar", tar_of(inner))
    held = {f"ILSVRC2012_val_{number:08d}.JPEG": content for number, (_, content) in validation().items()}
    put(root / "ILSVRC2012_img_val.tar", tar_of(held))
    numbers = {wnid: 7 * (place + 1) for place, wnid in enumerate(reversed(WNIDS))}  # their own, in no order of ours
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(numbers[wnid], wnid, "words", "gloss", 0) for wnid in WNIDS] + [(1001, "n00000001", "entity", "all", 3)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=kind)})
    truth = "".join(f"{numbers[wnid]}\n" for wnid, _ in validation().values())
    files = {"data/meta.mat": meta.getvalue(), "data/ILSVRC2012_validation_ground_truth.txt": truth.encode()}
    files = {f"ILSVRC2012_devkit_t12/{name}": content for name, content in files.items()}
    put(root / "ILSVRC2012_devkit_t12.tar.gz", tar_of(files, "w:gz"))


def write_metadata(root: Path) -> None:
    for part, is_held in (("train", False), ("validation", True)):
        lines = []
        for name, (wnid, held, content) in PICTURES.items():
            if held == is_held:
                put(root / part / f"{name}.jpg", content)
                lines.append(json.dumps({"file_name": f"{name}.jpg", "label": wnid, "text": f"a photo  of {wnid}"}))
        put(root / part / "metadata.jsonl", "\n".join(lines) + "\n\n")


def write_parquet(root: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    features = {"info": {"features": {"label": {"names": list(WNIDS), "_type": "ClassLabel"}}}}
    root.mkdir(exist_ok=True)
    for part, is_held in (("train", False), ("validation", True)):
        chosen = [(name, *rest) for name, *rest in ((n, *v) for n, v in PICTURES.items()) if rest[1] == is_held]
        table = pa.table({
            "image": [{"bytes": content, "path": f"{name}.jpg"} for name, _, _, content in chosen],
            "label": [WNIDS.index(wnid) for _, wnid, _, _ in chosen],
        })  # fmt: skip
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        parquet.write_table(table, root / f"{part}-00000-of-00001.parquet", row_group_size=4)


LAYOUTS = {
    "folders": (write_folders, ImageNetConfig),
    "kaggle": (write_kaggle, ImageNetConfig),
    "tars": (write_tars, ImageNetConfig),
    "metadata": (write_metadata, MetadataConfig),
    "parquet": (write_parquet, ParquetConfig),
}


def load(root: Path, layout: str, **more):
    return load_dataset(LAYOUTS[layout][1](path=root, size=SIZE, **more), cache=root.parent / "cache")


@pytest.fixture(params=LAYOUTS)
def written(request, tmp_path):
    LAYOUTS[request.param][0](tmp_path / "source")
    return request.param, tmp_path / "source"


def content_of(images, classes) -> set[tuple[str, bytes]]:
    return {(classes[images[i][1]], images[i][0].numpy().tobytes()) for i in range(len(images))}


def test_every_layout_holds_the_same_pictures_of_the_same_classes(written):
    layout, root = written
    data = load(root, layout)
    classes = data.class_folders or data.class_names
    assert classes == WNIDS
    for part, is_held in (("train", False), ("heldout", True)):
        expected = {(w, square(c, "adm", SIZE, 3).tobytes()) for w, held, c in PICTURES.values() if held == is_held}
        assert content_of(getattr(data, part), classes) == expected
    again = load(root, layout)  # from the cache
    assert again.fingerprint == data.fingerprint


def test_lines_of_metadata_in_another_order_are_the_same_data(tmp_path):
    write_metadata(tmp_path / "source")
    before = load(tmp_path / "source", "metadata")
    for path in (tmp_path / "source").glob("*/metadata.jsonl"):
        path.write_text("\n".join(reversed(path.read_text().split("\n"))))
    after = load(tmp_path / "source", "metadata")
    assert before.fingerprint == after.fingerprint
    for one, other in ((before.train, after.train), (before.heldout, after.heldout)):
        assert np.array_equal(one.labels, other.labels)
        assert all(np.array_equal(one[at][0], other[at][0]) for at in range(len(one)))


def test_a_changed_picture_is_another_data_set(written):
    layout, root = written
    before = load(root, layout).fingerprint
    changed = dict(PICTURES)
    wnid, held, _ = PICTURES["n01440764_0"]
    PICTURES["n01440764_0"] = (wnid, held, jpeg(99))
    try:
        LAYOUTS[layout][0](root)
    finally:
        PICTURES.update(changed)
    assert load(root, layout).fingerprint != before


def test_a_truncated_picture_is_named(written):
    layout, root = written
    kept = PICTURES["n01440764_0"]
    PICTURES["n01440764_0"] = (*kept[:2], kept[2][:200])
    try:
        LAYOUTS[layout][0](root)
    finally:
        PICTURES["n01440764_0"] = kept
    data = load(root, layout)
    with pytest.raises(UserError, match=r"the picture .* cannot be read \(.*\); replace it, or take it out"):
        [data.train[i] for i in range(len(data.train))]


@pytest.mark.parametrize("crop", ["centre", "adm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_in_sixteen_are_refused_by_every_source(written, monkeypatch, crop, channels):
    """They would be nearly black, or unreadable; a cache of what was read refuses them again."""
    layout, root = written
    shape = (9, 9) if channels == 1 else (9, 9, channels)
    dark = deep_png(np.full(shape, 4095, np.uint16), 0 if channels == 1 else 2)
    for name, (wnid, held, _) in list(PICTURES.items()):
        monkeypatch.setitem(PICTURES, name, (wnid, held, dark))
    LAYOUTS[layout][0](root)
    for _ in range(2):
        with pytest.raises(UserError, match=r"the 12 images of 16 bits a value in .* they use 12 bits .* to 8 bits"):
            load(root, layout, crop=crop)


# ImageNet's names


def test_the_thousand_names_differ_and_the_two_cranes_are_told_apart():
    names = names_by_wnid()
    assert len(names) == len(set(names.values())) == 1000
    assert class_names_of(WNIDS) == ("tench", "crane bird", "crane")
    with pytest.raises(UserError, match=r"'n99999999' is none of ImageNet-1k's"):
        class_names_of(["n99999999"])


# Damaged


def test_a_folder_in_no_layout(tmp_path):
    with pytest.raises(UserError, match=r"has neither ILSVRC2012_img_train.tar, nor ILSVRC/Data/CLS-LOC/, nor train/"):
        load(tmp_path, "folders")
    with pytest.raises(UserError, match=r"give data.path=FOLDER"):
        load_dataset(ImageNetConfig())
    with pytest.raises(UserError, match=r"no .parquet files"):
        load(tmp_path, "parquet")
    with pytest.raises(UserError, match=r"has no metadata.jsonl"):
        load(tmp_path, "metadata")


def test_folders_of_other_names_or_other_classes(tmp_path):
    write_folders(tmp_path)
    put(tmp_path / "val" / "n02088364" / "x.JPEG", jpeg(1))
    with pytest.raises(UserError, match=r"holds out pictures of the class n02088364, of which it has no training"):
        load(tmp_path, "folders")
    put(tmp_path / "train" / "beagle" / "x.JPEG", jpeg(1))
    with pytest.raises(UserError, match=r"lies in no folder that is called by a WordNet id"):
        load(tmp_path, "folders")


def test_folders_of_one_part_are_cut_and_what_is_no_picture_is_said(tmp_path):
    for name, (wnid, _, content) in PICTURES.items():
        put(tmp_path / "source" / wnid / f"{name}.JPEG", content)
    put(tmp_path / "source" / WNIDS[0] / "notes.txt", "")
    data = load(tmp_path / "source", "folders")
    assert len(data.train) + len(data.heldout) == len(PICTURES)
    assert len(data.heldout) >= 2
    assert "1 .txt file, e.g. n01440764/notes.txt" in data.warning


def test_tars_that_are_cut_off_or_do_not_belong_together(tmp_path):
    write_tars(tmp_path)
    train = tmp_path / "ILSVRC2012_img_train.tar"
    content = train.read_bytes()
    train.write_bytes(content[:700])
    with pytest.raises(UserError, match=r"is no whole tar|is no class's tar"):
        load(tmp_path, "tars")
    train.write_bytes(content)
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(tar_of({"ILSVRC2012_val_00000001.JPEG": jpeg(1)}))
    with pytest.raises(UserError, match=r"holds 1 pictures, and .* says the classes of 3"):
        load(tmp_path, "tars")
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"no tar")
    with pytest.raises(UserError, match=r"does not say the classes of the validation pictures"):
        load(tmp_path, "tars")


def test_kaggle_without_its_solution(tmp_path):
    write_kaggle(tmp_path)
    put(tmp_path / "LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1\n")
    with pytest.raises(UserError, match=r"has no class for the picture ILSVRC2012_val_00000002"):
        load(tmp_path, "kaggle")
    write_kaggle(tmp_path)
    solution = tmp_path / "LOC_val_solution.csv"
    usual = load(tmp_path, "kaggle").fingerprint
    put(solution, b"\xef\xbb\xbf" + solution.read_bytes())
    assert load(tmp_path, "kaggle").fingerprint == usual
    put(solution, solution.read_text() + "ILSVRC2012_val_00000002,n01440764 1\n")
    with pytest.raises(UserError, match=r"has ILSVRC2012_val_00000002 in two lines"):
        load(tmp_path, "kaggle")
    solution.unlink()
    with pytest.raises(UserError, match=r"LOC_val_solution.csv does not say the classes"):
        load(tmp_path, "kaggle")


@pytest.mark.parametrize(("line", "said"), [
    ("no JSON", "line 1: no mapping with 'file_name' and 'label'"),
    ('{"file_name": "n01440764_0.jpg"}', "line 1: no mapping with 'file_name' and 'label' .KeyError"),
    ('{"file_name": "gone.jpg", "label": "x"}', "line 1: the picture gone.jpg is not there"),
    ('{"file_name": "n01440764_0.jpg", "label": " "}', "line 1: 'label' of n01440764_0.jpg is empty"),
    ('{"file_name": "n01440764_0.jpg", "label": null}', "line 1: 'label' of n01440764_0.jpg is empty"),
    ('{"file_name": "n01440764_0.jpg", "label": ["x"]}', "line 1: 'label' of n01440764_0.jpg is one text, not"),
    ('{"file_name": 1, "label": "x"}', "line 1: 'file_name' is a text, not 1"),
    ('{"file_name": "n01440764_0.jpg", "label": "x", "label": "y"}', "line 1: the key 'label' stands twice"),
    ('{"file_name": "n01440764_0.jpg", "label": "x"}\n\n{"file_name": "./n01440764_0.jpg", "label": "x"}',
     "line 3: the picture ./n01440764_0.jpg stands in line 1 too"),
    ('{"file_name": "n01440764_0.jpg", "label": "x"}\n{"label": "caf\xe9"}'.encode("latin-1"),
     r"train/metadata.jsonl, line 2: not UTF-8 \(.*\); save the file as UTF-8"),
])  # fmt: skip
def test_lines_of_metadata_that_are_wrong(tmp_path, line, said):
    write_metadata(tmp_path)
    put(tmp_path / "train" / "metadata.jsonl", line)
    with pytest.raises(UserError, match=said):
        load(tmp_path, "metadata")


def test_a_mark_before_utf_8_and_a_line_separator_in_a_caption_are_no_mistakes(tmp_path):
    """U+2028 ends a line for `str.splitlines` alone; in a caption it is a space."""
    write_metadata(tmp_path)
    path = tmp_path / "train" / "metadata.jsonl"
    usual = load(tmp_path, "metadata", column="text")
    put(path, b"\xef\xbb\xbf" + path.read_bytes().replace(b"a photo  of", "a\u2028photo of".encode()))
    assert load(tmp_path, "metadata", column="text").fingerprint == usual.fingerprint


def test_captions_are_classes_of_their_own_and_a_fraction_can_be_held_out(tmp_path):
    write_metadata(tmp_path)
    data = load(tmp_path, "metadata", column="text")
    assert data.class_names == tuple(f"a photo of {wnid}" for wnid in WNIDS)
    with pytest.raises(UserError, match=r"holds its own held-out part; leave data.heldout=0.3 out"):
        load(tmp_path, "metadata", heldout=0.3)
    cut = load(tmp_path / "train", "metadata", heldout=0.4)
    assert len(cut.train) + len(cut.heldout) == 9
    assert len(cut.heldout) >= 2


def test_a_caption_may_be_held_out_alone_and_a_class_may_not(tmp_path):
    write_metadata(tmp_path)
    path = tmp_path / "validation" / "metadata.jsonl"
    entry, *others = map(json.loads, path.read_text().split("\n")[:-2])
    path.write_text("\n".join(json.dumps(each) for each in ({**entry, "text": "a new one"}, *others)))
    with pytest.raises(UserError, match=r"has 1 of 4 classes without a training picture, such as 'a new one'"):
        load(tmp_path, "metadata", column="text")
    data = load(tmp_path, "metadata", column="text", captions=True)
    assert data.identity["captions"] is True
    assert data.class_sizes[data.class_names.index("a new one")] == 0
    assert sum(data.heldout_sizes) == len(data.heldout) == 3


def write_captions(root: Path, layout: str, pictures: list[tuple[str, bytes]]) -> None:
    """(caption, content) of each."""
    if layout == "metadata":
        lines = []
        for number, (text, content) in enumerate(pictures):
            put(root / f"{number}.jpg", content)
            lines.append(json.dumps({"file_name": f"{number}.jpg", "label": text}))
        return put(root / "metadata.jsonl", "\n".join(lines))
    import pyarrow as pa
    from pyarrow import parquet

    root.mkdir()
    images = [{"bytes": content, "path": None} for _, content in pictures]
    return parquet.write_table(pa.table({"image": images, "label": [text for text, _ in pictures]}), root / "a.parquet")


@pytest.mark.parametrize("layout", ["metadata", "parquet"])
def test_whole_captions_are_held_out_where_that_is_asked(tmp_path, layout):
    """Six captions of four pictures each, one of these a copy of another caption's."""
    pictures = [(f"thing {caption}", jpeg(4 * caption + each)) for caption in range(6) for each in range(3)]
    pictures += [(f"thing {caption}", jpeg(0)) for caption in range(1, 6)]
    write_captions(tmp_path / "source", layout, pictures)
    usual, whole = (
        load(tmp_path / "source", layout, captions=True, heldout=0.5, **more)
        for more in ({}, {"heldout_by": "caption"})
    )
    assert usual.fingerprint != whole.fingerprint
    asked, trained = set(usual.heldout.labels.tolist()), set(usual.train.labels.tolist())
    assert f"held-out captions: {len(asked)}, of which {len(asked & trained)} are trained on too" in usual.warning
    assert asked & trained
    asked, trained = set(whole.heldout.labels.tolist()), set(whole.train.labels.tolist())
    assert (asked | trained, asked & trained) == (set(range(6)), set())
    assert "held-out captions" not in whole.warning
    copies = sum(label > 0 for label in asked) + (0 in asked)
    assert f"held-out pictures: {len(whole.heldout)}, of which {copies} are trained on too" in whole.warning
    other = tmp_path / "other"
    write_captions(other, layout, [(text, jpeg(100 + number)) for number, (text, _) in enumerate(pictures)])
    again = load(other, layout, captions=True, heldout=0.5, heldout_by="caption")
    assert set(again.heldout.labels.tolist()) == asked, "of other pictures the same captions"


def test_whole_captions_are_held_out_of_captions_alone_and_where_none_are(tmp_path):
    with pytest.raises(UserError, match=r"data.heldout_by=caption holds out whole captions, and of classes every one"):
        MetadataConfig(heldout_by="caption")
    write_metadata(tmp_path)
    with pytest.raises(UserError, match=r"holds its own held-out part; leave data.heldout_by=caption out"):
        load(tmp_path, "metadata", captions=True, heldout_by="caption")


def test_pictures_without_a_caption_are_counted(tmp_path):
    write_metadata(tmp_path)
    put(tmp_path / "train" / "more" / "x.jpg", jpeg(1))
    assert "1 image, e.g. train/more/x.jpg: no line of metadata.jsonl names them" in load(tmp_path, "metadata").warning


def test_parquet_files_are_found_as_images_are_and_what_is_not_read_is_said(tmp_path):
    write_parquet(tmp_path / "source")
    usual = load(tmp_path / "source", "parquet")
    root, file = tmp_path / "source", tmp_path / "source" / "train-00000-of-00001.parquet"
    for name in ("test-0.parquet", "extra.parquet", ".cache/train-0.parquet", "notes.txt"):
        put(root / name, b"never read")
    said = load(root, "parquet")
    assert said.fingerprint == usual.fingerprint
    reason = "only train* is trained on and validation* held out, by the files' names"
    assert sorted(map(str, said.left_out)) == [
        "1 .txt file, e.g. notes.txt: not a parquet file's extension",
        "1 entry, e.g. .cache: hidden",
        f"2 .parquet files, e.g. extra.parquet: {reason}",
    ]
    put(tmp_path / "elsewhere" / "train-1.parquet", file.read_bytes())
    (root / "more").symlink_to(tmp_path / "elsewhere")
    put(root / "train-2.PARQUET", file.read_bytes())
    assert len(load(root, "parquet").train) == 3 * len(usual.train)


def test_parquet_that_is_wrong(tmp_path):
    write_parquet(tmp_path)
    with pytest.raises(UserError, match=r"has no column 'img', but image, label; give data.image=COLUMN"):
        load(tmp_path, "parquet", image="img")
    file = tmp_path / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"is no whole parquet file"):
        load(tmp_path, "parquet")
