"""The chips that latency is predicted for, of phones and of Macs, with the public numbers that the physics starts from.

Multiply-adds are in fp16, the Neural Engine's arithmetic. Apple's "TOPS" count two operations a multiply-add; up to the
A16 in fp16, from the A17 Pro on in int8, which is twice the fp16 number: the M4's 38 TOPS measure as 19 TFLOPS in fp16
(https://maderix.substack.com/p/inside-the-m4-apple-neural-engine-615), and the A17 Pro's 35 came with the same change.
They are starting points: calibration moves each by as much as the measurements of its chip ask.

A Pro, Max or Ultra has more memory channels for its GPU; one Neural Engine is taken to draw no more than the base
chip's DRAM gives, and a network to run on one engine: Stable Diffusion's UNet takes 726 ms on an M1 Max of 400 GB/s and
700 on an M1 of 68 (published.csv).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.records.errors import UserError, unknown_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    name: str
    tops: float  # of the Neural Engine, as Apple announced it
    tera_macs: float  # fp16 multiply-adds a second, in 10^12
    bandwidth_gb_s: float  # of DRAM, that one Neural Engine can draw on
    devices: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if min(self.tops, self.tera_macs, self.bandwidth_gb_s) <= 0:
            raise UserError(f"a chip's throughput and bandwidth are above 0: {self.name}")

    @property
    def is_phones(self) -> bool:
        return all(device.startswith("iPhone") for device in self.devices)


_M1 = "Apple, 2020-11-10: 11 trillion operations a second an engine (an Ultra has two); the M1's LPDDR4X-4266, 128 bit"
_M2 = "Apple, 2022-06-06: 15.8 trillion operations a second; the M2's LPDDR5-6400, 128 bit, 100 GB/s"

CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="A14",
            tops=11.0,
            tera_macs=5.5,
            bandwidth_gb_s=34.1,
            devices=("iPhone 12",),
            source="Apple, 2020-10-13: 11 trillion operations a second; LPDDR4X-4266, 64 bit",
        ),
        Chip(
            name="A15",
            tops=15.8,
            tera_macs=7.9,
            bandwidth_gb_s=34.1,
            devices=("iPhone 13", "iPhone 14", "iPhone 14 Plus"),
            source="Apple, 2021-09-14: 15.8 trillion operations a second; LPDDR4X-4266, 64 bit",
        ),
        Chip(
            name="A16",
            tops=17.0,
            tera_macs=8.5,
            bandwidth_gb_s=51.2,
            devices=("iPhone 14 Pro", "iPhone 15"),
            source="Apple, 2022-09-07: nearly 17 trillion operations a second, 50% more memory bandwidth; LPDDR5-6400",
        ),
        Chip(
            name="A17 Pro",
            tops=35.0,
            tera_macs=8.75,
            bandwidth_gb_s=51.2,
            devices=("iPhone 15 Pro",),
            source="Apple, 2023-09-12: 35 trillion operations a second (int8); LPDDR5-6400",
        ),
        Chip(
            name="A18 Pro",
            tops=35.0,
            tera_macs=8.75,
            bandwidth_gb_s=60.0,
            devices=("iPhone 16 Pro",),
            source="Apple, 2024-09-09: 35 trillion operations a second (int8), 17% more memory bandwidth; LPDDR5X-7500",
        ),
        *(
            Chip(name=name, tops=11.0, tera_macs=5.5, bandwidth_gb_s=68.3, devices=devices, source=_M1)
            for name, devices in (
                ("M1", ("iPad Pro 2021", "MacBook Air 2020")),
                ("M1 Pro", ("MacBook Pro 2021",)),
                ("M1 Max", ("MacBook Pro 2021", "Mac Studio 2022")),
                ("M1 Ultra", ("Mac Studio 2022",)),
            )
        ),
        *(
            Chip(name=name, tops=15.8, tera_macs=7.9, bandwidth_gb_s=102.4, devices=devices, source=_M2)
            for name, devices in (
                ("M2", ("iPad Pro 2022", "MacBook Air 2022")),
                ("M2 Pro", ("MacBook Pro 2023", "Mac mini 2023")),
            )
        ),
        Chip(
            name="M3 Max",
            tops=18.0,
            tera_macs=9.0,
            bandwidth_gb_s=102.4,
            devices=("MacBook Pro 2023",),
            source="Apple, 2023-10-30: 18 trillion operations a second (fp16, as the A16's); the M3's LPDDR5-6400",
        ),
        Chip(
            name="M5 Pro",
            tops=38.0,
            tera_macs=9.5,
            bandwidth_gb_s=153.6,
            devices=("MacBook Pro 2026",),
            source="no operations a second announced: the M4's 38 trillion (int8), which 18.8 TFLOPS measured on an M5 "
            "(arXiv 2606.22283) agree with; the M5's LPDDR5X-9600, Apple, 2025-10-15: 153 GB/s",
        ),
    )
}


def chip_named(name: str) -> Chip:
    """The chip of that name; another one is a UserError that lists them."""
    if name not in CHIPS:
        raise unknown_name("chip", name, CHIPS)
    return CHIPS[name]
