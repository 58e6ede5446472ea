"""The tiny decoder on a real autoencoder's latents: its PSNR over the steps that it is trained for, beside
the autoencoder's own decoder, on held-out pictures. What it asks, and what was fixed beforehand, stands in
docs/evidence/decoder.md.

    WORK/pictures/all/    the JPEGs
    WORK/store/           a record for each number of steps: what is there is not trained again
    WORK/...              their checkpoints: killed, the same command goes on

Skipped where the pictures and the autoencoder's two files are not at hand.
"""

import os
import tarfile
from pathlib import Path

import pytest

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.records.quantity import Measured
from harness.records.store import Store
from harness.trials.prepared import prepare
from harness.trials.settings import settings_of

pytestmark = [pytest.mark.benchmark(group="decoder"), pytest.mark.timeout(0)]
SHARED = Path(os.environ.get("HARNESS_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
FILES = ("imagenet-samples.tar", "taef2_encoder.pth", "taef2_decoder.pth")
WORK = Path(os.environ.get("HARNESS_DECODER_WORK", "runs/bench_decoder"))
STEPS = tuple(int(each) for each in os.environ.get("HARNESS_DECODER_STEPS", "62,250,1000").split(","))
SCORES = ("psnr", "ssim", "colour_error", "reconstruction_fd")


def lay_out(work: Path) -> Path:
    folder = work / "pictures" / "all"
    if not folder.is_dir():
        with tarfile.open(SHARED / FILES[0]) as archive:
            pictures = [member for member in archive if member.isfile() and member.name.endswith(".JPEG")]
            for member in pictures:
                member.name = Path(member.name).name
            archive.extractall(folder, members=pictures, filter="data")
    return folder.parent


def words(work: Path) -> list[str]:
    return [
        "task=decode", "task.perceptual=null", "data=image_folder", f"data.path={lay_out(work)}", "data.size=256",
        "data.color=rgb", "autoencoder=tiny", f"autoencoder.encoder={SHARED / FILES[1]}",
        f"autoencoder.decoder={SHARED / FILES[2]}", "objective.patch=128", "objective.perceptual_weight=0",
        "objective.adversarial_weight=0", "recipe.batch_size=8", "recipe.learning_rate=0.001",
        "recipe.validate_every=250", "recipe.checkpoint_every=250", f"out={work}",
    ]  # fmt: skip


@pytest.mark.skipif(not all((SHARED / name).exists() for name in FILES), reason="the shared pictures are not here")
def test_psnr_over_steps_beside_the_autoencoders_own_decoder():
    work = WORK.resolve()
    for steps in STEPS:
        assert main(["train", "decoder/tiny", *words(work), f"recipe.steps={steps}"]) == 0
    task = prepare(settings_of(words(work))).task
    own = task.control("own_decoder", architecture("decoder/tiny"))
    print(f"\n{len(task.data.train)} pictures to learn from, {task.samples} held out")
    print(f"{'steps':>12}", *(f"{name:>18}" for name in SCORES))
    print(f"{'own decoder':>12}", *(f"{own[name].value:18.4g}" for name in SCORES))
    records = {int(record.protocol["recipe"]["steps"]): record for record in Store(work / "store").trials()}
    for steps in STEPS:
        found = records[steps].quantities
        assert isinstance(found["psnr"], Measured)
        print(f"{steps:12,}", *(f"{found[name].value:18.4g}" for name in SCORES))
