"""`harness compare A B`: the knobs in which B differs from A, and what each costs. `harness compare paper`: the counts
of the catalogue beside the published numbers."""

import argparse
import json
from dataclasses import dataclass
from typing import Any

import yaml

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.difference import Change, edits_between
from harness.architecture.edits import with_edits
from harness.commands.compare_paper import compare_paper
from harness.commands.measure import PLACES, latent_of
from harness.commands.tables import table
from harness.measure.cost import Cost
from harness.records.errors import UserError
from harness.trials.costs import cost_of

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
SHOWN = ("params", "macs", "macs_without_attention", "activations")


@dataclass(frozen=True, kw_only=True, slots=True)
class KnobCost:
    """What one knob, turned alone on A, adds to each of SHOWN; `impossible` says which rule forbids it alone."""

    change: Change
    added: dict[str, int]
    impossible: str = ""


def run(arguments: argparse.Namespace) -> int:
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
    latent = latent_of(arguments.latent, a)
    costs = cost_of(a, latent), cost_of(b, latent)
    knobs = knob_costs(a, b, costs[0], latent)
    shown = _plain if arguments.json else _tables
    print(shown((arguments.name, arguments.other), latent, costs, knobs))
    return 0


def knob_costs(a: ArchitectureConfig, b: ArchitectureConfig, before: Cost, latent: int) -> list[KnobCost]:
    """One entry for each edit of `edits_between`, each turned alone on A, whose cost is `before`."""
    return [_knob_cost(a, change, before, latent) for change in edits_between(a, b)]


def _knob_cost(a: ArchitectureConfig, change: Change, before: Cost, latent: int) -> KnobCost:
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
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("\n...\n").strip()


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
