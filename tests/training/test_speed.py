"""Speed: of what counts, of which device; and batches that are made while others are trained on."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_training import RECIPE, run

from harness.records.errors import UserError
from harness.training import loop, speed
from harness.training.batches import made_ahead
from harness.training.outcomes import Trained
from harness.training.speed import Pace, Speed, stated_peak

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "precision", "tflops"),
    [
        ("NVIDIA H200", "bfloat16", 989),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100-PCIE-40GB", "float32", 156),
        ("NVIDIA L40S", "float32", None),
        ("NVIDIA L40S", "bfloat16", 362),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", None),  # a seventh of one
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", None),
        ("cpu", "float32", None),
    ],
)
def test_a_devices_peak_is_the_stated_one_or_none(device: str, precision: str, tflops: float | None) -> None:
    assert stated_peak(device, precision) == (None if tflops is None else pytest.approx(tflops * 1e12))


def test_utilisation_is_six_flop_a_multiply_add_over_the_peak() -> None:
    """10 pictures of a billion multiply-adds in half a second: 6 x 1e9 x 20 of 1e12."""
    pace = Pace(10, 10**9, 1e12)
    assert pace._speed(20) == Speed(images_per_second=20, mfu=pytest.approx(0.12))
    assert str(pace._speed(20)) == "20 images/s, MFU 12.0%"
    assert str(Pace(10, 10**9, None)._speed(1234.5)) == "1,234 images/s"


def test_the_pace_is_of_the_stretches_that_were_begun_and_the_median_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 20.5])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    pace = Pace(8, None, None)
    pace.end(5)  # of a stretch that nobody began: the first
    assert pace.newest is pace.typical is None
    for began, ended in ((5, 10), (10, 15), (15, 20)):
        pace.begin(began)
        pace.end(ended)
    assert pace.rates == [40, 20, 80]
    assert pace.newest == Speed(images_per_second=80, mfu=None)
    assert pace.typical == Speed(images_per_second=40, mfu=None)


def test_a_training_tells_its_speed_and_keeps_it_out_of_the_curve(tmp_path: Path, unbroken: Trained) -> None:
    heard: list[tuple[int, Speed]] = []
    trained = run(tmp_path, macs=10**6, on_speed=lambda step, speed: heard.append((step, speed)))
    assert [step for step, _ in heard] == [8, 12, 14]
    assert trained.effort.speed is not None
    assert trained.effort.speed.images_per_second > 0
    assert trained.effort.speed.mfu is None
    assert trained.curve == unbroken.curve


def test_batches_made_ahead_train_the_same(tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MADE_AHEAD", ("cpu",))
    assert run(tmp_path, RECIPE).curve == unbroken.curve
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_batches_are_made_ahead_in_order_and_errors_come_where_they_are_due() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number
        raise UserError("image 5 is damaged")

    ahead = made_ahead(numbers(), 2, CPU)
    assert next(ahead) == 0
    assert [next(ahead) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(UserError, match="image 5 is damaged"):
        next(ahead)
    stopped = made_ahead(iter(range(10**9)), 2, CPU)
    assert next(stopped) == 0
    stopped.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
