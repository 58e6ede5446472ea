"""Prepared data: reading rows beside a memory map, encoding beside the bare autoencoder, memory over many shards.

Bars: 0.8 of the rows a second of one memory map at the same numbers; 0.9 of the autoencoder's pictures a second;
resident memory of the second half of a preparation at most 5% above that of the first.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.images import ArrayImages, ImageData
from harness.data.prepare import Preparation, PrepareConfig, encoder_of, prepare_data
from harness.data.rows import Rows
from harness.models import tiny_autoencoder
from harness.models.autoencoder import load_codec
from harness.models.autoencoder_config import PixelsAutoencoder, TinyAutoencoder
from harness.training.batches import stacked

from .interleaved import ratio_of_times

pytestmark = pytest.mark.benchmark(group="prepared")
ROWS, SHARD, BATCH = 2048, 512, 256


@pytest.mark.parametrize("channels", [16, 32])  # SD3's latents at 256 px: means; means and standard deviations
def test_rows_a_second_beside_a_memory_map(channels, benchmark, tmp_path):
    content = np.random.default_rng(0).standard_normal((ROWS, channels, 32, 32)).astype(np.float16)
    np.save(tmp_path / "all.npy", content)
    for number in range(ROWS // SHARD):
        np.save(tmp_path / f"{number}.npy", content[number * SHARD : (number + 1) * SHARD])
    files = tuple(tmp_path / f"{number}.npy" for number in range(ROWS // SHARD))
    rows = Rows(files, np.arange(ROWS // SHARD) * SHARD, np.zeros(ROWS, np.int64))
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).split(BATCH)

    def ours() -> None:
        for numbers in order:
            stacked(rows, numbers.tolist())

    def bare() -> None:
        for numbers in order:
            torch.from_numpy(mapped[numbers.numpy()])

    name = f"rows of {2 * channels} KB beside a memory map: time"
    ratio = ratio_of_times(benchmark, ours, bare, name=name, pairs=60)
    assert ratio.median <= 1 / 0.8


def _pictures(count: int, size: int) -> ImageData:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    train, heldout = ArrayImages(pixels, np.arange(count) % 2), ArrayImages(pixels[:2], np.arange(2))
    return ImageData(
        kind="noise", channels=3, size=size, class_names=("a", "b"), train=train, heldout=heldout, fingerprint="noise"
    )  # fmt: skip


def test_encoding_beside_the_bare_autoencoder(benchmark, tmp_path):
    torch.manual_seed(0)
    config = TinyAutoencoder(encoder=tmp_path / "encoder.pth", decoder=tmp_path / "decoder.pth")
    torch.save(tiny_autoencoder.encoder(16, pooled=True).state_dict(), config.encoder)
    torch.save(tiny_autoencoder.decoder(16, pooled=True).state_dict(), config.decoder)
    data, cpu = _pictures(64, 64), torch.device("cpu")
    how = PrepareConfig(to=tmp_path / "made", shard=64, batch=16, pictures=2, scale_pictures=16)
    preparation = prepare_data(how, data, config, cpu)
    encode, codec = encoder_of(preparation.plan, config, cpu), load_codec(config, cpu)
    batches = [batch.float() / 255 for batch in torch.from_numpy(data.train.pixels).split(16)]

    def bare() -> None:
        with torch.no_grad():
            for batch in batches:
                codec.encode(batch)

    ratio = ratio_of_times(
        benchmark, lambda: preparation.make("train-00000.npy", encode), bare, name="encoding a shard: time", pairs=5
    )
    assert ratio.median <= 1 / 0.9


def _resident() -> float:
    """MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def test_memory_does_not_grow_with_the_number_of_pictures(benchmark, tmp_path, monkeypatch):
    resident, make = [], Preparation.make

    def noted(self, name, encode):
        make(self, name, encode)
        resident.append(_resident())

    monkeypatch.setattr(Preparation, "make", noted)
    how = PrepareConfig(to=tmp_path, shard=64, batch=32)
    data, cpu = _pictures(6400, 32), torch.device("cpu")
    benchmark.pedantic(lambda: prepare_data(how, data, PixelsAutoencoder(), cpu), rounds=1)
    half = len(resident) // 2
    benchmark.extra_info["resident MB"] = [max(resident[:half]), max(resident[half:])]
    assert max(resident[half:]) <= 1.05 * max(resident[:half])
