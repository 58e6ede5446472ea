"""The published numbers that counting can check, target beside count: Fig. 3, Tab. 1, Tab. 2, the two sizes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from harness.architecture.catalogue import architecture, catalogue_names
from harness.commands.tables import table
from harness.measure.cost import Cost
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.reporting.published import LABELS, Published, PublishedCell
from harness.trials.costs import cost_of
from harness.trials.prepared import FULL_LATENT
from harness.trials.studies import read_study

POINTS = 1.5
"""How many percentage points a counted change may be off a printed one."""
SAME = 1.0
"""A change of at most so many points is `about the same`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """One file of reports/published/, and how its numbers are counted."""

    name: str
    latent: int  # where the architecture is not made for one of its own
    quantities: Mapping[str, tuple[str, float]]  # published column -> property of Cost, its unit in counts
    tolerance: Mapping[str, float] = field(default_factory=dict)  # column -> percent
    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # row -> the same, where it differs


SHEETS = (
    Sheet(name="fig3", latent=FULL_LATENT, quantities={"params": ("params", 1), "flops": ("macs", 1)}),
    Sheet(
        name="tab1",
        latent=32,
        quantities={"params": ("params", 1e6), "flops": ("macs", 1e9)},
        tolerance={"params": 1, "flops": 2},
        rows={"snapgen": {"flops": 4}},
    ),
    Sheet(
        name="tab2",
        latent=FULL_LATENT,
        quantities={"params": ("params", 1e6), "flops": ("flops_fvcore", 1e9)},
        # Half of the last digit. Of FLOPs three are meant: 4970 is printed for two decoders that differ by 0.9 G.
        tolerance={"params": 0.011, "flops": 0.1},
        rows={"decoder/tiny": {"params": 2, "flops": 3}},
    ),
    Sheet(name="on_device", latent=FULL_LATENT, quantities={"params": ("params", 1e6)}, tolerance={"params": 1}),
)

State = Literal["hit", "miss", "not built"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    table: str
    name: str
    quantity: str  # how it is counted: `params`, `macs`, `flops_fvcore`
    latent: int  # height and width
    channels: int | None  # of the latent; None where the name is not in the catalogue
    target: str
    labels: str
    counted: str
    off: str  # from the target: points for changes, percent for values
    tolerance: str
    state: State
    why: str = ""
    target_value: float | None = None  # in `unit`; None where only a direction is printed
    counted_value: float | None = None
    unit: str = "%"


def compare_paper(*, as_json: bool) -> str:
    checks = [check for sheet in SHEETS for check in checks_of(sheet)]
    if as_json:
        return json.dumps({"checks": [asdict(check) for check in checks], "labels": LABELS})
    columns = ("table", "name", "quantity", "latent", "target", "labels", "counted", "off", "tolerance", "state")
    rows = [tuple((asdict(check) | {"latent": _latent_size(check)})[name] for name in columns) for check in checks]
    missed = sum(check.state == "miss" for check in checks)
    built = sum(check.state != "not built" for check in checks)
    notes = dict.fromkeys(f"{check.name}: {check.why}" for check in checks if check.why)
    legend = [f"[{label}] {meaning}" for label, meaning in LABELS.items()]
    return "\n".join(
        [table(columns, rows, "published and counted"), f"{built - missed} of {built} hit", *notes, *legend]
    )


def _latent_size(check: Check) -> str:
    """`64x64x3`"""
    return f"{check.latent}x{check.latent}" + (f"x{check.channels}" if check.channels else "")


def checks_of(sheet: Sheet) -> Iterator[Check]:
    """A check for every published number of the sheet that counting can answer, in its order."""
    published = from_plain(Published, read_study("reports/published", sheet.name))
    costs: dict[str, Cost | str] = {}
    for name, row in published.rows.items():
        for column, cell in row.cells.items():
            relative = cell.value is None
            if column in sheet.quantities and not (relative and row.against is None):
                for needed in (name, *([row.against] if row.against else [])):
                    costs[needed] = costs.get(needed) or _cost(needed, sheet.latent)
                yield _check(sheet, name, row.against, column, cell, costs)


def _cost(name: str, latent: int) -> Cost | str:
    """What it costs, or why it cannot be counted."""
    if name not in catalogue_names():
        return "not in the catalogue"
    try:
        return cost_of(architecture(name), _latent(name, latent))
    except UserError as error:
        return str(error)


def _latent(name: str, latent: int) -> int:
    return (architecture(name).native_latent if name in catalogue_names() else None) or latent


def _check(
    sheet: Sheet, name: str, against: str | None, column: str, cell: PublishedCell, costs: Mapping[str, Cost | str]
) -> Check:
    quantity, unit = sheet.quantities[column]
    cost, base = costs[name], costs[against] if against else None
    latent = _latent(name, sheet.latent)
    channels = architecture(name).latent_channels if name in catalogue_names() else None
    shown: dict[str, Any] = {"table": sheet.name, "name": name, "quantity": quantity, "latent": latent}
    shown |= {"channels": channels, "labels": cell.source}
    for found in (cost, base):
        if isinstance(found, str):
            empty = "-"
            return Check(
                **shown, target=cell.shown, counted=empty, off=empty, tolerance=empty, state="not built", why=found
            )
    assert isinstance(cost, Cost)
    if cell.value is not None:
        tolerance = (sheet.tolerance | sheet.rows.get(name, {}))[column]  # type: ignore[operator]
        return _value(shown, cell.value, getattr(cost, quantity) / unit, unit, tolerance)
    assert isinstance(base, Cost)
    return _change(shown, cell, 100 * (getattr(cost, quantity) / getattr(base, quantity) - 1), f" on {against}")


def _value(shown: dict[str, Any], target: float, counted: float, unit: float, tolerance: float) -> Check:
    prefix = {1e6: "M", 1e9: "G"}[unit]
    off = 100 * (counted / target - 1)
    return Check(
        **shown,
        target=f"{target:g} {prefix}",
        counted=f"{counted:.2f} {prefix}",
        off=f"{off:+.2f}%",
        tolerance=f"{tolerance:g}%",
        state="hit" if abs(off) <= tolerance else "miss",
        target_value=target,
        counted_value=counted,
        unit=prefix,
    )


def _change(shown: dict[str, Any], cell: PublishedCell, counted: float, against: str) -> Check:
    """A printed change in points; or where only a direction is printed, that direction."""
    if cell.change is not None:
        target = 100 * cell.change
        hit, off, tolerance = abs(counted - target) <= POINTS, f"{counted - target:+.2f}", f"{POINTS:g} points"
    else:
        target, off = None, "-"
        tolerance = f"{SAME:g} point" if cell.direction == "same" else "its sign"
        hit = {"lower": counted < 0, "higher": counted > 0, "same": abs(counted) <= SAME}[cell.direction or "same"]
    return Check(
        **shown,
        target=cell.shown + against,
        counted=f"{counted:+.2f}%",
        off=off,
        tolerance=tolerance,
        state="hit" if hit else "miss",
        target_value=target,
        counted_value=counted,
    )
