"""Prepared data: what is in a folder, that kills change nothing of it, and that what is damaged is refused by name."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import write_folder

from harness.cli import main
from harness.data.config import ImageFolderConfig, PreparedConfig
from harness.data.dataset import load_dataset
from harness.data.prepare import PrepareConfig, prepare_data
from harness.data.prepared import LOG, MANIFEST, read_manifest
from harness.data.rows import Latents, Rows
from harness.models import tiny_autoencoder
from harness.models.autoencoder import load_matching
from harness.models.autoencoder_config import PixelsAutoencoder, TinyAutoencoder
from harness.models.pixels import to_model_range
from harness.records.errors import UserError
from harness.training.randomness import generator, normals

CPU = torch.device("cpu")


def no_draws(_row):
    pytest.fail("nothing is drawn here")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """48 pictures of two classes."""
    folder = write_folder(tmp_path_factory.mktemp("source"), ("cat", "dog"), each=24)
    return load_dataset(ImageFolderConfig(path=folder, size=16, color="rgb"))


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = TinyAutoencoder(encoder=folder / "encoder.pth", decoder=folder / "decoder.pth")
    torch.save(tiny_autoencoder.encoder(6, pooled=True).state_dict(), config.encoder)
    torch.save(tiny_autoencoder.decoder(6, pooled=True).state_dict(), config.decoder)
    return config


def how(folder: Path, **more) -> PrepareConfig:
    return PrepareConfig(to=folder, **{"shard": 7, "batch": 3, "scale_pictures": 8, **more})


def read(folder: Path):
    return load_dataset(PreparedConfig(path=folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.np*"))}


def log_of(folder: Path) -> list[str]:
    return [json.loads(line)["shard"] for line in (folder / LOG).read_text().splitlines()]


@pytest.fixture
def filled(tmp_path, source, autoencoder) -> Path:
    prepare_data(how(tmp_path / "made", flips=True), source, autoencoder, CPU)
    return tmp_path / "made"


def test_rows_are_the_latents_of_the_pictures_in_their_order(filled, source, autoencoder):
    data = read(filled)
    latents = data.latents
    assert (data.size, data.channels, data.class_names) == (16, 3, ("cat", "dog"))
    assert data.class_sizes == source.class_sizes
    loaded = load_matching(autoencoder, CPU, latents.autoencoder)
    for part, rows in (("train", latents.train), ("heldout", latents.heldout)):
        images = getattr(source, part)
        for number in (0, len(images) - 1):
            picture, label = images[number]
            row, read_label = rows[number]
            assert (label, row.dtype, tuple(row.shape)) == (read_label, torch.float16, (6, 2, 2))
            assert torch.allclose(row.float(), loaded.encode(picture[None]).mean[0], atol=5e-3)
    count = len(source.train)
    assert len(latents.train) == 2 * count
    flipped = loaded.encode(source.train[4][0].flip(-1)[None]).mean[0]
    assert torch.allclose(latents.train[count + 4][0].float(), flipped, atol=5e-3)
    assert latents.train.labels.tolist() == [*source.train.labels] * 2


def test_a_log_whose_last_line_was_cut_is_gone_on_with(tmp_path, source):
    """Its shard is found anew, and the folder is finished."""
    folder = tmp_path / "made"
    prepare_data(how(folder), source, PixelsAutoencoder(), CPU)
    whole, fingerprint = read_manifest(folder).sha256, read(folder).fingerprint
    for length in (-1, -30):
        (folder / LOG).write_bytes((folder / LOG).read_bytes()[:length])
        (folder / MANIFEST).unlink()
        prepare_data(how(folder), source, PixelsAutoencoder(), CPU)
        assert read_manifest(folder).sha256 == whole
        assert read(folder).fingerprint == fingerprint


def test_pictures_are_kept_for_scores(filled, source):
    data = read(filled)
    assert all(torch.equal(data.heldout[i][0], source.heldout[i][0]) for i in range(len(source.heldout)))
    assert all(torch.equal(data.train[i][0], source.train[i][0]) for i in range(len(source.train)))


def test_so_many_training_pictures_are_kept_as_asked(tmp_path, source):
    prepare_data(how(tmp_path, pictures=10), source, PixelsAutoencoder(), CPU)
    data = read(tmp_path)
    assert np.bincount(data.train.labels).tolist() == [5, 5]
    assert data.class_sizes == source.class_sizes
    known = {source.train[i][0].numpy().tobytes() for i in range(len(source.train))}
    assert {data.train[i][0].numpy().tobytes() for i in range(10)} <= known


def test_scaled_latents_have_about_unit_deviation(filled):
    rows = torch.stack([read(filled).latents.train[i][0] for i in range(20)]).float()
    assert 0.8 < float(rows.std()) < 1.25


def test_pixels_without_an_autoencoder(tmp_path, source):
    prepare_data(how(tmp_path), source, PixelsAutoencoder(), CPU)
    latents = read(tmp_path).latents
    rows = torch.stack([latents.train[i][0] for i in range(5)])
    expected = torch.stack([source.train[i][0] for i in range(5)])
    assert torch.equal(rows, expected)
    assert torch.equal(latents.network_inputs(rows, no_draws), to_model_range(expected))


def test_a_distribution_is_drawn_from_anew(tmp_path):
    """Rows are mean and standard deviation; what is drawn has them, and depends on the generator alone."""
    empty = Rows((), np.zeros(0, np.int64), np.zeros(0, np.int64))
    latents = Latents(
        train=empty, heldout=empty, fingerprint="", autoencoder={}, is_sampled=True, pictures=empty.labels
    )
    rows = torch.cat([torch.full((4000, 1, 2, 2), 3.0), torch.full((4000, 1, 2, 2), 0.5)], dim=1).half()
    drawn = latents.network_inputs(rows, normals(generator(0, "encoding", 0), len(rows)))
    assert drawn.shape == (4000, 1, 2, 2)
    assert float(drawn.mean()) == pytest.approx(3, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(drawn, latents.network_inputs(rows, normals(generator(0, "encoding", 0), len(rows))))
    assert not torch.equal(drawn, latents.network_inputs(rows, normals(generator(1, "encoding", 0), len(rows))))


@pytest.mark.parametrize("shape", [(3, 5, 7), (16, 32, 32)])  # a row of 210 bytes, and of some pages
def test_rows_of_many_files_are_gathered_as_from_one(shape, tmp_path):
    content = np.random.default_rng(0).standard_normal((50, *shape)).astype(np.float16)
    files = tuple(tmp_path / f"{number}.npy" for number in range(8))
    for number, path in enumerate(files):
        np.save(path, content[7 * number : 7 * number + 7])
    rows, chosen = Rows(files, 7 * np.arange(8), np.arange(50) % 3), [49, 0, 7, 6, 20, 20, 48]
    read, labels = rows.rows(chosen)
    assert np.array_equal(read.numpy(), content[chosen])
    assert labels.tolist() == [number % 3 for number in chosen]
    read.zero_()  # its own memory: the files stay as they are
    again, _ = pickle.loads(pickle.dumps(rows)).rows(range(50))
    assert np.array_equal(again.numpy(), content)
    assert len(pickle.dumps(rows)) < content.nbytes
    held = [each.resolve() for each in Path("/proc/self/fd").glob("*")]
    assert not set(files) & set(held)  # a descriptor a shard would be thousands


# Killed and started again

FILL = """
import os, signal, sys
from pathlib import Path
import torch
from harness.data import prepare
from harness.data.config import ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.models.autoencoder_config import TinyAutoencoder

source, encoder, decoder, to, at, where, threads = sys.argv[1:]
made, log = 0, prepare.Preparation.log

def dies(self, name, event):
    global made
    made += 1
    if made == int(at) and where == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    log(self, name, event)
    if made == int(at):
        os.kill(os.getpid(), signal.SIGKILL)

prepare.Preparation.log = dies
data = load_dataset(ImageFolderConfig(path=Path(source), size=16, color="rgb"))
autoencoder = TinyAutoencoder(encoder=Path(encoder), decoder=Path(decoder))
how = prepare.PrepareConfig(to=Path(to), shard=7, batch=3, scale_pictures=8, flips=True)
torch.set_num_threads(int(threads))  # the encoder's rounding depends on their number
prepare.prepare_data(how, data, autoencoder, torch.device("cpu"))
"""


@pytest.mark.slow
def test_after_kills_no_shard_is_made_twice_and_all_bytes_are_equal(tmp_path, autoencoder):
    """Killed between a shard and its line in the log, and behind the line; then continued here."""
    folder, killed = write_folder(tmp_path / "source", ("cat", "dog"), each=24), tmp_path / "killed"
    for at, where in ((3, "before"), (2, "after")):
        words = [folder, autoencoder.encoder, autoencoder.decoder, killed, at, where, torch.get_num_threads()]
        done = subprocess.run([sys.executable, "-c", FILL, *map(str, words)], check=False, env=os.environ)
        assert done.returncode == -signal.SIGKILL
        with pytest.raises(UserError, match=r"is half done, \d+ of \d+ shards; run the same"):
            read(killed)
    data = load_dataset(ImageFolderConfig(path=folder, size=16, color="rgb"))
    for place in (killed, tmp_path / "whole"):
        prepare_data(how(place, flips=True), data, autoencoder, CPU)
    made = log_of(killed)
    assert sorted(made) == sorted(set(made))
    assert set(made) == set(read_manifest(killed).plan.shards)
    assert contents(killed) == contents(tmp_path / "whole")


def test_run_again_it_checks_and_makes_nothing(filled, source, autoencoder):
    before, lines = contents(filled), log_of(filled)
    prepare_data(how(filled, flips=True), source, autoencoder, CPU)
    assert (contents(filled), log_of(filled)) == (before, lines)


# Damaged, half done, foreign


def test_what_is_damaged_is_named(filled, source, autoencoder):
    shard = filled / "train-00001.npy"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"train-00001.npy: .* bytes, where .* were written"):
        read(filled)
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    read(filled)  # its size is right
    with pytest.raises(UserError, match=r"train-00001.npy: its content is not what was written"):
        prepare_data(how(filled, flips=True), source, autoencoder, CPU)
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00001.npy: it is missing; remove manifest.json, and run"):
        read(filled)
    (filled / MANIFEST).unlink()  # as the sentence advises
    prepare_data(how(filled, flips=True), source, autoencoder, CPU)
    assert shard.read_bytes() == content


def test_another_preparation_is_not_mixed_in(filled, source, autoencoder, tmp_path):
    with pytest.raises(UserError, match=r"holds another preparation \(shard: 7 -> 8\)"):
        prepare_data(how(filled, flips=True, shard=8), source, autoencoder, CPU)
    with pytest.raises(UserError, match=r"holds another preparation \(autoencoder.kind: tiny -> pixels"):
        prepare_data(how(filled, flips=True), source, PixelsAutoencoder(), CPU)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds something else than prepared data, such as thesis.txt"):
        prepare_data(how(tmp_path / "mine"), source, autoencoder, CPU)
    with pytest.raises(UserError, match=r"is no folder of prepared data: it has no manifest.json"):
        read(tmp_path / "mine")
    with pytest.raises(UserError, match=r"give data.path=FOLDER"):
        load_dataset(PreparedConfig())
    with pytest.raises(UserError, match=r"is prepared already"):
        prepare_data(how(tmp_path / "twice"), read(filled), autoencoder, CPU)


def test_prepared_data_whose_autoencoder_is_not_here(filled, autoencoder, tmp_path, monkeypatch, capsys):
    """What needs it is refused in one sentence, before anything is trained; a study of it is printed."""
    monkeypatch.chdir(tmp_path)
    gone = tmp_path / "gone.pth"
    words = [
        "data=prepared", f"data.path={filled}", "autoencoder=tiny", f"autoencoder.encoder={gone}",
        f"autoencoder.decoder={autoencoder.decoder}", "coreml=none", "latency=none", "tracker=none", f"out={tmp_path}",
    ]  # fmt: skip
    assert main(["train", "laptop/thin_sdxl", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness: ")
    assert str(gone) in said
    assert not (tmp_path / "store" / "trials").exists()
    assert main(["config", "fig3", *words]) == 0
    printed = capsys.readouterr()
    assert f"autoencoder.encoder: {gone}" in printed.out
    assert "harness: " in printed.err


@pytest.mark.parametrize(("change", "said"), [
    (lambda plain: plain.pop("sha256"), "missing setting 'sha256'"),
    (lambda plain: plain["plan"].update(format="prepared-0"), "has the format prepared-0"),
    (lambda plain: plain["plan"].update(shard="many"), "'plan.shard' must be a whole number"),
    (lambda plain: plain["plan"]["parts"]["train"].update(rows=9000), "it is missing|were written"),
    (lambda plain: plain["plan"].update(index_sha256="0"), "index.npy: it is missing, or not what was written"),
])  # fmt: skip
def test_a_manifest_that_is_not_of_its_folder(filled, change, said):
    plain = json.loads((filled / MANIFEST).read_text())
    change(plain)
    (filled / MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(UserError, match=said):
        read(filled)


def test_pictures_that_the_autoencoder_cannot_take(tmp_path, autoencoder):
    folder = write_folder(tmp_path / "grey", ("cat", "dog"), each=24)
    grey = load_dataset(ImageFolderConfig(path=folder, size=16, color="grayscale"))
    with pytest.raises(UserError, match=r"prepare them with data.color=rgb"):
        prepare_data(how(tmp_path / "to"), grey, autoencoder, CPU)
    odd = load_dataset(ImageFolderConfig(path=folder, size=12, color="rgb"))
    with pytest.raises(UserError, match=r"give data.size=16|give data.size=8"):
        prepare_data(how(tmp_path / "to"), odd, autoencoder, CPU)


# Real pictures

SHARED = Path(os.environ.get("HARNESS_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.mark.skipif(not (SHARED / "taef2_encoder.pth").exists(), reason="the real data are not here")
def test_real_pictures_come_back_from_their_stored_latents(tmp_path):
    """taef2's are worth 29.4 dB at 256 px (docs/evidence/latents.md); small pictures hold more detail a pixel."""
    with tarfile.open(SHARED / "imagenet-samples.tar") as archive:
        for member in [each for each in archive if each.name.endswith(".JPEG")][::7]:
            path = tmp_path / "source" / "picture" / Path(member.name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(member).read())
    data = load_dataset(ImageFolderConfig(path=tmp_path / "source", size=64, crop="adm"))
    config = TinyAutoencoder(encoder=SHARED / "taef2_encoder.pth", decoder=SHARED / "taef2_decoder.pth")
    prepare_data(PrepareConfig(to=tmp_path / "made", shard=16, batch=8), data, config, CPU)
    made = read(tmp_path / "made")
    loaded = load_matching(config, CPU, made.latents.autoencoder)
    pictures, rows = (torch.stack([part[i][0] for i in range(len(part))]) for part in (made.train, made.latents.train))
    decoded = loaded.decode(made.latents.network_inputs(rows, no_draws))
    error = (decoded.double() - pictures.double()).square().flatten(1).mean(1)
    assert float((10 * torch.log10(255**2 / error)).mean()) > 22
