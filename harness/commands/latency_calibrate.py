"""`harness latency calibrate [out=runs] [--to FILE] [--count]`: fit the predictor again, on all there is."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.latency_published import left_out_errors, scores_table
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.store import check_file_writable
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.predictor.calibration import Calibration


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FILE", help="where the calibration goes; default: the installed package's own")
    parser.add_argument("--count", action="store_true", help="count the published networks' operators again before it")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.settings import settings_of

    settings_of(arguments.overrides)


def run(arguments: argparse.Namespace) -> int:
    from harness.predictor.calibration import PACKAGED, calibrate_and_test, read, write
    from harness.predictor.networks import counted_networks
    from harness.predictor.own import described, own_points
    from harness.predictor.published import COUNTS, published_points, published_rows, write_counts
    from harness.predictor.ratios import published_pairs
    from harness.trials.settings import settings_of
    from harness.trials.spec import store_of

    if arguments.name is not None:
        raise UserError(f"`harness latency calibrate` takes no name ('{arguments.name}'); say where with out=FOLDER")
    path = Path(arguments.to).expanduser() if arguments.to else PACKAGED
    check_file_writable(path)
    store = store_of(settings_of(arguments.overrides).out)
    if arguments.count:
        write_counts(counted_networks(published_rows()))
        print(f"wrote the operators of the published networks: {COUNTS}")
    published, (own, unused) = published_points(), own_points(store)
    for latency in unused:
        print(f"not used: {latency.quantity} of measurement {latency.key}: {latency.why}")
    print(f"fitting to {described(published, own)} ({len(own)} found in {store.root})", flush=True)
    points = [*published, *own]
    calibration, errors = calibrate_and_test(points, published_pairs(), fitted_on=described(published, own))
    print(_parameters(calibration))
    print(scores_table(points, left_out_errors(points, errors)))
    write(calibration, path)
    read.cache_clear()
    use = "every prediction uses it" if path == PACKAGED else f"predict with it: --calibration {path}"
    print(f"wrote {path}; {use}")
    return 0


VERB = Verb(
    summary="fit the predictor to the published latencies and to those measured under out=",
    name="",
    operands="",
    example="harness latency calibrate out=runs --to mine.yaml",
    flags=flags,
    check=check,
    run=run,
)


def _parameters(calibration: Calibration) -> str:
    rows = [(name, f"{value:.4g}") for name, value in asdict(calibration.physics).items()]
    for chip, scale in calibration.scales.items():
        rows += [(f"{chip}: {name}", f"{value:.3f}") for name, value in asdict(scale).items()]
        rows.append((f"{chip}: latencies", str(calibration.points.get(chip, 0))))
    rows.append(("interval: times or divided by", f"{exp(calibration.half_width):.2f}"))
    rows.append(("interval, extrapolated", f"{exp(calibration.half_width_extrapolated):.2f}"))
    return table(("parameter", "value"), rows, f"fitted on {calibration.fitted_on}")
