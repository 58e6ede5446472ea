"""`harness measure NAME [path.of.knob=value ...]`: what an architecture costs, counted, and where."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.commands.operands import edited, latent_of, say_latent
from harness.commands.verb import Verb
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.measure.cost import Cost, Tally

TOTALS = ("params", "macs", "macs_without_attention", "flops_fvcore")
SHARED = ("params", "macs", "activations")  # shown with their share of the whole
PLACES = {"stage": 2, "block": 4}  # names of a module's path: `down.1`, `down.1.block.0`


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: its own, or 128")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--by", choices=("stage", "block", "operator"), help="one table; default: stage and operator")


def check(arguments: argparse.Namespace) -> None:
    edited(arguments.name, arguments.overrides)


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.costs import cost_of

    architecture = edited(arguments.name, arguments.overrides)
    latent = latent_of(arguments.latent, architecture, arguments.name)
    say_latent(latent, arguments.name)
    cost = cost_of(architecture, latent)
    if arguments.json:
        head = {"name": arguments.name, **{name: getattr(cost, name) for name in TOTALS}}
        print(json.dumps(head | {"latent": latent, "fingerprint": architecture.fingerprint, **by_everything(cost)}))
        return 0
    tokens = getattr(architecture, "context_length", None)  # a decoder has none
    reads = f", its prompts of {tokens} token{'s' if tokens != 1 else ''}" if tokens is not None else ""
    print(f"{arguments.name} at a {latent}x{latent} latent{reads} ({architecture.fingerprint})")
    for by in (arguments.by,) if arguments.by else ("stage", "operator"):
        print(cost_table(cost, by))
    print("activations: numbers that the operators write in one forward pass, views apart; 2 bytes each in fp16")
    return 0


VERB = Verb(
    summary="count an architecture: parameters, multiply-adds, activations, by place",
    name="an architecture of the catalogue, or the path of its YAML",
    example="harness measure snapgen --latent 128 --by block",
    lists="architectures",
    flags=flags,
    check=check,
    run=run,
)


def tallies(cost: Cost, by: str) -> Mapping[str, Tally]:
    """By `stage` or `block`, in the order of execution; or by `operator`, the most expensive first."""
    if by != "operator":
        return cost.by_place(PLACES[by])
    return dict(sorted(cost.by_operator().items(), key=lambda item: (-item[1].macs, -item[1].activations)))


def by_everything(cost: Cost) -> dict[str, dict[str, dict[str, int]]]:
    """`by_stage`, `by_block` and `by_operator`, plain."""
    return {f"by_{by}": {k: asdict(tally) for k, tally in tallies(cost, by).items()} for by in (*PLACES, "operator")}


def cost_table(cost: Cost, by: str) -> str:
    """Rows by stage, block or operator; the whole is the first."""
    (whole,) = cost.by_place(0).values()
    shown = [("all", whole), *((name or "(itself)", tally) for name, tally in tallies(cost, by).items())]
    columns = [column for name in SHARED if by != "operator" or name != "params" for column in (name, "%")]
    rows = [
        (name, *_cells(tally, whole, with_params=by != "operator"), *(getattr(tally, total) for total in TOTALS[2:]))
        for name, tally in shown
    ]
    return table((by, *columns, *TOTALS[2:]), rows)


def _cells(tally: Tally, whole: Tally, *, with_params: bool) -> list[object]:
    cells: list[object] = []
    for name in SHARED if with_params else SHARED[1:]:
        value, total = getattr(tally, name), getattr(whole, name)
        cells += [value, f"{100 * value / total:.1f}" if total else "-"]
    return cells
