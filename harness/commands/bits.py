"""`harness bits KEY`: what few bits a weight cost in quality, by packages of one trained network at several sizes."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Measured, Quantity
from harness.records.terminal import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.measure.statistics import Interval
    from harness.trials.scores.bits import Shipped


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def check(arguments: argparse.Namespace) -> None:
    from harness.measure.quality import DISTANCES
    from harness.trials.checks import check_device
    from harness.trials.trained import network_and_settings

    overrides = [*arguments.overrides, "count_only=false"]
    arguments.trained, arguments.settings = network_and_settings(arguments.name, overrides, scored=True)
    if arguments.trained.package is not None:
        raise UserError(
            f"{arguments.name} is a package already; name the trial whose network it is, of which packages of several "
            "sizes are made, or score it alone with `harness evaluate`"
        )
    metrics = arguments.settings.quality.metrics
    if not DISTANCES.keys() & set(metrics):
        raise UserError(
            f"bits are judged by {' and '.join(DISTANCES)}, and quality.metrics has {', '.join(metrics)}; add one"
        )
    check_device(arguments.settings)


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.scores.bits import bits_curve, differences_of

    curve = bits_curve(arguments.trained, arguments.settings)
    differences = differences_of(curve)
    if arguments.json:
        rows = [{**_plain(each), "less": _less(each, differences)} for each in curve]
        print(json.dumps(rows))
        return 0
    print(_table(curve, differences, arguments.trained.title))
    return 0


def _plain(shipped: Shipped) -> dict[str, object]:
    plain = to_plain(shipped)
    assert isinstance(plain, dict)
    return dict(plain)


def _less(shipped: Shipped, differences: Mapping[tuple[str, str], Interval]) -> dict[str, object]:
    return {score: to_plain(interval) for (name, score), interval in differences.items() if name == shipped.name}


def _table(curve: Sequence[Shipped], differences: Mapping[tuple[str, str], Interval], title: str) -> str:
    from harness.measure.quality import DISTANCES

    names = [name for name in DISTANCES if name in curve[0].scores]
    measured = (each for each in curve[0].scores.values() if isinstance(each, Measured))
    label = next((str(each.conditions["label"]) for each in measured if "label" in each.conditions), "no score")
    columns = ["weights", "MB", "dB", "less"]
    for name in names:
        columns += [name, f"{name}, difference"]
    rows = [
        (
            each.name,
            "-" if each.bytes is None else f"{each.bytes / 1e6:.2f}",
            "-" if each.psnr_db is None else f"{each.psnr_db:.1f}",
            each.against or "-",
            *(cell for name in names for cell in (_score(each.scores[name]), _difference(each, name, differences))),
        )
        for each in curve
    ]
    return table(
        columns,
        rows,
        f"{title}, packages by the interpreter in fp16; {label}, the same noise for all. "
        "Behind a score its 95% interval; a difference is from the arm under `less`, its interval 95% for all of a "
        "column together. dB: of one pass, against the network",
    )


def _score(quantity: Quantity) -> str:
    if not isinstance(quantity, Measured):
        return quantity.kind
    if quantity.low is None or quantity.high is None:
        return f"{quantity.value:.4g}"
    return f"{quantity.value:.4g} ({quantity.low:.3g} to {quantity.high:.3g})"


def _difference(shipped: Shipped, score: str, differences: Mapping[tuple[str, str], Interval]) -> str:
    interval = differences.get((shipped.name, score))
    if interval is None:
        return "-"
    return f"{interval.value:+.3g} ({interval.low:+.2g} to {interval.high:+.2g})"


VERB = Verb(
    summary="score a trained network's Core ML packages of 16, 8, 6, 4 and mixed bits with the same noise",
    name="a trial's key or its first digits, a file of weights, or a promoted YAML",
    example="harness bits winner.yaml",
    operands="KEY",
    flags=flags,
    check=check,
    run=run,
)
