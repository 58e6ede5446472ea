"""How fast a training is: images a second, and the share of what its device computes at most.

A forward pass of one picture takes M multiply-adds, counted; each is two floating-point operations (FLOP), and a
backward pass takes two forward passes:

    training   6 M a picture; 8 M where blocks are computed twice, which no other training has to
    MFU        6 M x pictures a second / the device's stated peak

Model FLOPs utilisation is Chowdhery et al.'s (2022, arXiv 2204.02311, appendix B): what is computed twice counts once.
"""

import re
import time
from dataclasses import dataclass
from statistics import median

FORWARD, WITH_BACKWARD, RECOMPUTED = 2, 6, 8
"""FLOP a multiply-add of one forward pass: sampling; training; training that computes blocks twice."""

PEAKS_TFLOPS: dict[str, tuple[float, float | None]] = {
    "b200": (2250, None),
    "gh200": (989, 494),
    "h200": (989, 494),
    "h100": (989, 494),
    "h100 nvl": (835, None),
    "h100 pcie": (756, 378),
    "a100": (312, 156),
    "a100 pcie": (312, 156),
    "l40s": (362, None),
}
"""10^12 dense FLOP a second by a device's name, as tables of other projects cite NVIDIA's data sheets (half of what a
sheet has with sparsity): in bfloat16, and in TF32, in which PyTorch's convolutions compute float32. None, and a device
that is not here, have no MFU."""
SAID_BESIDE = re.compile(r"nvidia|sxm\d?|hbm\d?e?|\d+gb")
"""Words of PyTorch's name for a device that change no peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    images_per_second: float
    mfu: float | None
    """From 0 to 1; None where the multiply-adds were not told, or nothing states the device's peak."""

    def __str__(self) -> str:
        """`1,230 images/s, MFU 41.2%`."""
        rate = self.images_per_second
        images = f"{rate:,.0f} images/s" if rate >= 100 else f"{rate:.3g} images/s"
        return images if self.mfu is None else f"{images}, MFU {self.mfu:.1%}"


def stated_peak(device: str, precision: str) -> float | None:
    """FLOP a second of a device, by PyTorch's name for it; None where it is not in `PEAKS_TFLOPS`."""
    words = re.split(r"[ -]", device.lower())
    name = " ".join(word for word in words if not SAID_BESIDE.fullmatch(word))
    in_bfloat16, in_float32 = PEAKS_TFLOPS.get(name, (None, None))
    peak = in_bfloat16 if precision == "bfloat16" else in_float32
    return None if peak is None else peak * 1e12


class Pace:
    """Images a second of a training, from one point of its curve to the next: without validation and checkpoints, and
    without the first stretch, in which blocks are compiled and caches filled."""

    def __init__(self, batch_size: int, macs: int | None, peak: float | None) -> None:
        """`macs` of a forward pass of one picture; `peak` FLOP a second of all its devices together."""
        self.batch_size, self.macs, self.peak = batch_size, macs, peak
        self.rates: list[float] = []
        self._began: tuple[int, float] | None = None

    def begin(self, step: int) -> None:
        """The steps behind this one begin, and the device has done all others."""
        self._began = (step, time.perf_counter())

    def end(self, step: int) -> None:
        """They are done up to this one."""
        if self._began is not None and step > self._began[0]:
            seconds = time.perf_counter() - self._began[1]
            self.rates.append(self.batch_size * (step - self._began[0]) / seconds)
        self._began = None

    @property
    def newest(self) -> Speed | None:
        """Of the last stretch of steps; None before the second is over."""
        return self._speed(self.rates[-1]) if self.rates else None

    @property
    def typical(self) -> Speed | None:
        """The median of all stretches."""
        return self._speed(median(self.rates)) if self.rates else None

    def _speed(self, rate: float) -> Speed:
        if self.macs is None or self.peak is None:
            return Speed(images_per_second=rate, mfu=None)
        return Speed(images_per_second=rate, mfu=WITH_BACKWARD * self.macs * rate / self.peak)
