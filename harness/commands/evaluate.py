"""`harness evaluate (KEY | FOLDER | FILE)`: the quality of a stored checkpoint, or of images that others made."""

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

from harness.commands.verb import Verb
from harness.measure.quality_config import Build
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Measured
from harness.records.store import check_file_writable
from harness.records.terminal import quantities_table


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beside", metavar="KEY", help="another trial: the difference too, sampled from the same noise"
    )
    parser.add_argument("--to", type=Path, metavar="FILE.npz", help="write the images' statistics, mu and sigma, too")
    parser.add_argument("--build", choices=get_args(Build), help="who made a FILE of statistics that does not say so")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.checks import check_device
    from harness.trials.settings import settings_of

    check_device(settings_of(arguments.overrides))
    if arguments.to is not None and arguments.to.suffix != ".npz":
        raise UserError(f"--to names an .npz file, not {arguments.to}")
    if arguments.to is not None:
        check_file_writable(arguments.to)


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.evaluate import differences, evaluate
    from harness.trials.settings import settings_of

    settings = settings_of([*arguments.overrides, "count_only=false"])
    evaluated = evaluate(arguments.name, settings, to=arguments.to, build=arguments.build)
    quantities = evaluated.quantities
    if arguments.beside is not None:
        other = evaluate(arguments.beside, settings)
        quantities |= differences(quantities, other.quantities, arguments.beside)
    for remark in evaluated.remarks:
        print(remark, file=sys.stderr)
    if arguments.json:
        print(json.dumps(to_plain(quantities)))
        return 0
    measured = (each for each in quantities.values() if isinstance(each, Measured))
    labels = dict.fromkeys(str(each.conditions["label"]) for each in measured if "label" in each.conditions)
    title = (
        f"{arguments.name} against {evaluated.against}: {'; '.join(labels)}"  # `KID-EffLite0@64, N=60 against 14; ...`
    )
    print(quantities_table(title, quantities))
    return 0


VERB = Verb(
    summary="score a trial's checkpoint, or images that others made, against a data set or a reference file",
    name="a trial's key, a folder of images, an .npz of images (arr_0) or of statistics (mu, sigma)",
    example="harness evaluate ~/generated data=digits --json",
    flags=flags,
    check=check,
    run=run,
)
