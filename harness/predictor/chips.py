"""The iPhone chips that latency is predicted for, with the public numbers that the physics starts from.

Multiply-adds are in fp16, the Neural Engine's arithmetic. Apple's "TOPS" count two operations a multiply-add; up to the
A16 in fp16, from the A17 Pro on in int8, which is twice the fp16 number: the M4's 38 TOPS measure as 19 TFLOPS in fp16
(https://maderix.substack.com/p/inside-the-m4-apple-neural-engine-615), and the A17 Pro's 35 came with the same change.
They are starting points: calibration moves each by as much as the measurements of its chip ask.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.records.errors import UserError, unknown_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    name: str
    tops: float  # of the Neural Engine, as Apple announced it
    tera_macs: float  # fp16 multiply-adds a second, in 10^12
    bandwidth_gb_s: float  # DRAM
    phones: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if min(self.tops, self.tera_macs, self.bandwidth_gb_s) <= 0:
            raise UserError(f"a chip's throughput and bandwidth are above 0: {self.name}")


CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="A14",
            tops=11.0,
            tera_macs=5.5,
            bandwidth_gb_s=34.1,
            phones=("iPhone 12",),
            source="Apple, 2020-10-13: 11 trillion operations a second; LPDDR4X-4266, 64 bit",
        ),
        Chip(
            name="A15",
            tops=15.8,
            tera_macs=7.9,
            bandwidth_gb_s=34.1,
            phones=("iPhone 13", "iPhone 14", "iPhone 14 Plus"),
            source="Apple, 2021-09-14: 15.8 trillion operations a second; LPDDR4X-4266, 64 bit",
        ),
        Chip(
            name="A16",
            tops=17.0,
            tera_macs=8.5,
            bandwidth_gb_s=51.2,
            phones=("iPhone 14 Pro", "iPhone 15"),
            source="Apple, 2022-09-07: nearly 17 trillion operations a second, 50% more memory bandwidth; LPDDR5-6400",
        ),
        Chip(
            name="A17 Pro",
            tops=35.0,
            tera_macs=8.75,
            bandwidth_gb_s=51.2,
            phones=("iPhone 15 Pro",),
            source="Apple, 2023-09-12: 35 trillion operations a second (int8); LPDDR5-6400",
        ),
        Chip(
            name="A18 Pro",
            tops=35.0,
            tera_macs=8.75,
            bandwidth_gb_s=60.0,
            phones=("iPhone 16 Pro",),
            source="Apple, 2024-09-09: 35 trillion operations a second (int8), 17% more memory bandwidth; LPDDR5X-7500",
        ),
    )
}


def chip_named(name: str) -> Chip:
    """The chip of that name; another one is a UserError that lists them."""
    if name not in CHIPS:
        raise unknown_name("chip", name, CHIPS)
    return CHIPS[name]
