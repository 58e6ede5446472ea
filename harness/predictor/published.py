"""The published latencies: every row of published.csv, and for each whether it can calibrate, or why not.

The columns: `model`, `family`, `series` (what is left out together: one architecture's sizes and kin), `input_px` (side
of the image), `device`, `chip`, `os` (the system's build), `compute_unit` (as the source says), `layout` (of attention,
as the source names it: ORIGINAL, SPLIT_EINSUM, ANE, ordinary), `params_m`, `gmacs`, `latency_ms` (a forward pass at
`batch`), `weight_bits` (below 16: palettised), `reparameterised` (folded into its inference form first), `rebuildable`
(where the network can be had: timm, diffusers, catalogue, or `described`, which is rebuilt.py), `confidence`, `source`;
`read` is `later` where a row was read when the others were fitted to, so that it tests what a fit of those says.
Empty cells are not known. Sources differ in how they measured.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.predictor.fit import Point
from harness.predictor.operators import COLUMNS, Operators
from harness.records.errors import UserError
from harness.records.store import write_atomic

FOLDER = Path(__file__).parent
TABLE = FOLDER / "published.csv"
COUNTS = FOLDER / "published_operators.csv"
NEURAL_ENGINE = ("ANE", "ANE (all units allowed)", "ANE (dominant unit)", "CPU_AND_NE", "CPU + ANE")
"""What a row's `compute_unit` says where it ran there."""
NOT_FIRST_HAND = ("second-hand", "unit unknown")
"""What a row's `confidence` says where it is an order of magnitude and no more."""
TRANSPOSED = ("ORIGINAL", "ordinary")
"""Layouts of attention with transpositions, which shapes do not show: 1.4 to 2.8 times the time of the others."""
OTHER_VERSIONS = {"lowformer_e3": 4.87, "mobilenetv4_conv_medium": 1.08}
"""Models whose multiply-adds in timm, in 10^9, are more than 8% from the printed ones."""

TEXT = (
    "model",
    "family",
    "series",
    "device",
    "chip",
    "os",
    "compute_unit",
    "layout",
    "rebuildable",
    "confidence",
    "source",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    model: str
    family: str
    series: str
    input_px: int | None  # of no image: none
    device: str
    chip: str
    os: str
    compute_unit: str
    layout: str
    gmacs: float | None
    latency_ms: float
    batch: int
    weight_bits: float
    folded: bool
    rebuildable: str
    confidence: str
    source: str
    later: bool

    @property
    def network(self) -> str:
        """What tells its operator list from another's: `repvit_m1_5 @ 512 px`."""
        return self.model if self.input_px is None else f"{self.model} @ {self.input_px} px"

    @property
    def exclusion(self) -> str | None:
        """Why the row cannot calibrate the Neural Engine; None where it can."""
        if self.compute_unit not in NEURAL_ENGINE:
            return f"ran on the {self.compute_unit}, not on the Neural Engine"
        if any(word in self.confidence for word in NOT_FIRST_HAND):
            return f"only an order of magnitude: {self.confidence}"
        if self.rebuildable.startswith("no"):
            return f"cannot be built: {self.rebuildable.partition(': ')[2]}"
        if self.layout in TRANSPOSED:
            return f"its attention is in the layout {self.layout}, whose transpositions shapes do not show"
        if self.model.startswith("efficientformer_") and self.input_px != 224:
            return "timm builds its attention for the 7 x 7 map of a 224 px image only"
        if self.model in OTHER_VERSIONS:
            return f"timm's has {OTHER_VERSIONS[self.model]} G multiply-adds, and {self.gmacs:g} are printed"
        return None


def published_rows() -> list[PublishedRow]:
    with TABLE.open(newline="") as file:
        return [_row(cells) for cells in csv.DictReader(file)]


def _row(cells: Mapping[str, str]) -> PublishedRow:
    return PublishedRow(
        **{name: cells[name] for name in TEXT},
        input_px=int(cells["input_px"]) if cells["input_px"] else None,
        gmacs=float(cells["gmacs"]) if cells["gmacs"] else None,
        latency_ms=float(cells["latency_ms"]),
        batch=int(cells["batch"]),
        weight_bits=float(cells["weight_bits"]),
        folded=cells["reparameterised"] == "yes",
        later=cells["read"] == "later",
    )


def published_points(rows: Sequence[PublishedRow] | None = None) -> list[Point]:
    """The rows that calibrate, with their operator lists."""
    counts = read_counts()
    used = [row for row in (published_rows() if rows is None else rows) if row.exclusion is None]
    return [
        Point(
            model=row.model,
            network=row.network,
            family=row.family,
            series=row.series,
            chip=row.chip,
            latency_ms=row.latency_ms,
            weight_bits=row.weight_bits,
            operators=counts[row.network],
        )
        for row in used
    ]


def read_counts() -> dict[str, Operators]:
    """The operator lists of the published networks, by `PublishedRow.network`, as `write_counts` left them."""
    tables: dict[str, list[list[float]]] = {}
    try:
        with COUNTS.open(newline="") as file:
            for network, *values in list(csv.reader(file))[1:]:
                tables.setdefault(network, []).append([float(value) for value in values])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {COUNTS} ({error}); `harness latency calibrate --count` writes it") from error
    return {network: np.array(table) for network, table in tables.items()}


def write_counts(counts: Mapping[str, Operators]) -> None:
    lines = [",".join(("network", "times", *COLUMNS))]
    for network, operators in counts.items():
        quoted = '"' + network + '"'
        lines += [",".join((quoted, *(f"{value:.0f}" for value in operator))) for operator in operators]
    write_atomic(COUNTS, ("\n".join(lines) + "\n").encode())
