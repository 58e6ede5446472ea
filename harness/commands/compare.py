"""`harness compare A B`: the knobs in which B differs from A, and what each costs. `harness compare paper`: the counts
of the catalogue beside the published numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.architecture.latents import FULL_LATENT
from harness.commands.measure import PLACES
from harness.commands.operands import latent_of, say_latent
from harness.commands.report import published_numbers
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.architecture.config import ArchitectureConfig
    from harness.architecture.difference import Change
    from harness.measure.cost import Cost
    from harness.reporting.published import PublishedCell

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
SHOWN = ("params", "macs", "macs_without_attention", "activations")


@dataclass(frozen=True, kw_only=True, slots=True)
class KnobCost:
    """What one knob, turned alone on A, adds to each of SHOWN; `impossible` says which rule forbids it alone."""

    change: Change
    added: dict[str, int]
    impossible: str = ""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("other", metavar="B", nargs="?", help="the architecture to compare with; none with `paper`")
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: the trained one's, or 128")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    shown.add_argument("--html", action="store_true", help="write a page, of two trials too: OUT/pages/A_and_B.html")
    parser.add_argument(
        "--linked",
        action="store_true",
        help="of a page: plotly's script (5 MB) lies once in OUT, and the page links to it",
    )


def run(arguments: argparse.Namespace) -> int:
    from harness.architecture.catalogue import architecture
    from harness.trials.costs import cost_of

    if arguments.html:
        print(_page(arguments))
        return 0
    if arguments.linked:
        raise UserError("--linked is said of a page, which --html writes; leave it out, or give both")
    if arguments.overrides:
        raise UserError(
            f"compare takes no settings, and '{arguments.overrides[0]}' is one; write the YAML of a variant"
        )
    if arguments.name == "paper":
        if arguments.other or arguments.latent:
            raise UserError("`harness compare paper` takes neither a second name nor --latent: the paper fixes both")
        print(compare_paper(as_json=arguments.json))
        return 0
    if arguments.other is None:
        raise UserError(
            f"compare takes two architectures, and '{arguments.name}' is one; name another, or use "
            "`harness compare paper`"
        )
    a, b = architecture(arguments.name), architecture(arguments.other)
    if type(a) is not type(b):
        raise UserError(
            f"{arguments.name} and {arguments.other} are of different families, with no knob in common; "
            "measure each with `harness measure`"
        )
    latent = latent_of(arguments.latent, a, arguments.name, arguments.other)
    for name in (arguments.name, arguments.other):
        say_latent(latent, name)
    costs = cost_of(a, latent), cost_of(b, latent)
    knobs = knob_costs(a, b, costs[0], latent)
    shown = _plain if arguments.json else _tables
    print(shown((arguments.name, arguments.other), latent, costs, knobs))
    return 0


def _page(arguments: argparse.Namespace) -> Path:
    from harness.commands.operands import out_of
    from harness.commands.pages import comparison_page

    if arguments.other is None:
        raise UserError(f"--html compares two trials or two architectures, and '{arguments.name}' is one; name another")
    out = out_of(arguments.overrides)
    return comparison_page(out, arguments.name, arguments.other, arguments.latent, linked=arguments.linked)


VERB = Verb(
    summary="show in what two architectures differ and what each knob costs, or the counts beside the paper's",
    name="an architecture of the catalogue or the path of its YAML; with --html also a trial's key; or `paper`",
    operands="(A B | paper)",
    example="harness compare mqa first_stage_ca",
    lists="architectures",
    flags=flags,
    run=run,
)


def knob_costs(a: ArchitectureConfig, b: ArchitectureConfig, before: Cost, latent: int) -> list[KnobCost]:
    """One entry for each edit of `edits_between`, each turned alone on A, whose cost is `before`."""
    from harness.architecture.difference import edits_between

    return [_knob_cost(a, change, before, latent) for change in edits_between(a, b)]


def _knob_cost(a: ArchitectureConfig, change: Change, before: Cost, latent: int) -> KnobCost:
    from harness.architecture.edits import with_edits
    from harness.trials.costs import cost_of

    try:
        after = cost_of(with_edits(a, {change.path: change.after}), latent)
    except UserError as error:
        return KnobCost(change=change, added={}, impossible=str(error))
    return KnobCost(change=change, added={name: getattr(after, name) - getattr(before, name) for name in SHOWN})


def together(costs: tuple[Cost, Cost], knobs: list[KnobCost]) -> dict[str, int]:
    """What the knobs change only together: the whole difference without the sum of what each changes alone."""
    whole = {name: getattr(costs[1], name) - getattr(costs[0], name) for name in SHOWN}
    return {name: whole[name] - sum(knob.added.get(name, 0) for knob in knobs) for name in SHOWN}


def _plain(names: tuple[str, str], latent: int, costs: tuple[Cost, Cost], knobs: list[KnobCost]) -> str:
    totals = [{name: getattr(cost, name) for name in SHOWN} for cost in costs]
    places = [
        {"place": place, **{name: list(pair) for name, pair in values.items()}}
        for place, values in _places(costs).items()
    ]
    return json.dumps(
        {
            "a": names[0],
            "b": names[1],
            "latent": latent,
            "total": {name: [totals[0][name], totals[1][name]] for name in SHOWN},
            "knobs": [
                {"path": k.change.path, "a": k.change.before, "b": k.change.after, "alone": k.added}
                | ({"impossible_alone": k.impossible} if k.impossible else {})
                for k in knobs
            ],
            "only_together": together(costs, knobs),
            "by_stage": places,
        }
    )


def _tables(names: tuple[str, str], latent: int, costs: tuple[Cost, Cost], knobs: list[KnobCost]) -> str:
    """The edits, what each costs alone, and the stages in which anything changes."""
    a, b = costs
    lines = [f"{names[0]} -> {names[1]} at a {latent}x{latent} latent"]
    lines += [f"  {k.change.path}: {_yaml(k.change.before)} -> {_yaml(k.change.after)}" for k in knobs]
    lines += [f"  {k.change.path} is not possible alone: {k.impossible}" for k in knobs if k.impossible]
    rows = [(k.change.path, *_row(k.added, a)) for k in knobs if not k.impossible]
    if len(knobs) > 1:
        rows.append(("only together", *_row(together(costs, knobs), a)))
    rows.append(("all", *_row({name: getattr(b, name) - getattr(a, name) for name in SHOWN}, a)))
    lines.append(table(("knob, turned alone", *SHOWN), rows))
    places = [
        (place, *(_signed(after - before, before) for before, after in values.values()))
        for place, values in _places(costs).items()
        if any(before != after for before, after in values.values())
    ]
    return "\n".join([*lines, table(("stage", *SHOWN), places)] if places else lines)


def _row(added: dict[str, int], whole: Cost) -> tuple[str, ...]:
    return tuple(_signed(added[name], getattr(whole, name)) for name in SHOWN)


def _yaml(value: Any) -> str:
    from harness.records.yaml_text import write_yaml

    return write_yaml(value, flow=True, width=10_000).removesuffix("\n...\n").strip()


def _places(costs: tuple[Cost, Cost]) -> dict[str, dict[str, tuple[int, int]]]:
    """Place -> quantity -> the two values; a place that one of them lacks costs 0 there."""
    a, b = (cost.by_place(PLACES["stage"]) for cost in costs)
    return {
        place or "(itself)": {
            name: tuple(getattr(side[place], name) if place in side else 0 for side in (a, b))  # type: ignore[misc]
            for name in SHOWN
        }
        for place in dict.fromkeys((*a, *b))
    }


def _signed(change: int, whole: int) -> str:
    """`+15.71 G (+135.0%)`"""
    if not change:
        return "0"
    size, unit = next(((size, unit) for size, unit in UNITS if abs(change) >= size), (1, ""))
    share = f" ({100 * change / whole:+.1f}%)" if whole else ""
    return f"{change / size:+.4g} {unit}".rstrip() + share


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
    from harness.reporting.published import LABELS

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
    published = published_numbers(sheet.name)
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
    from harness.architecture.catalogue import architecture
    from harness.trials.costs import cost_of

    if not _is_built(name):
        return "not in the catalogue"
    try:
        return cost_of(architecture(name), _latent(name, latent))
    except UserError as error:
        return str(error)


def _is_built(name: str) -> bool:
    from harness.architecture.catalogue import catalogue_names

    return name in catalogue_names()


def _latent(name: str, latent: int) -> int:
    from harness.architecture.catalogue import architecture

    return (architecture(name).native_latent if _is_built(name) else None) or latent


def _check(
    sheet: Sheet, name: str, against: str | None, column: str, cell: PublishedCell, costs: Mapping[str, Cost | str]
) -> Check:
    from harness.architecture.catalogue import architecture
    from harness.measure.cost import Cost

    quantity, unit = sheet.quantities[column]
    cost, base = costs[name], costs[against] if against else None
    latent = _latent(name, sheet.latent)
    channels = architecture(name).latent_channels if _is_built(name) else None
    shown: dict[str, Any] = {"table": sheet.name, "name": name, "quantity": quantity, "latent": latent}
    shown |= {"channels": channels, "labels": cell.source}
    for counted in (cost, base):
        if isinstance(counted, str):
            empty = "-"
            return Check(
                **shown, target=cell.shown, counted=empty, off=empty, tolerance=empty, state="not built", why=counted
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
