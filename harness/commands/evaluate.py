"""`harness evaluate (KEY | FOLDER)`: the quality of a stored checkpoint, or of any folder of images."""

import argparse
import json
import sys

from harness.commands.verb import Verb
from harness.records.plain import to_plain
from harness.records.quantity import Measured
from harness.records.terminal import quantities_table


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beside", metavar="KEY", help="another trial: the difference too, sampled from the same noise"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.checks import check_device
    from harness.trials.settings import settings_of

    check_device(settings_of(arguments.overrides))


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.evaluate import differences, evaluate
    from harness.trials.prepared import prepare
    from harness.trials.settings import settings_of

    prepared = prepare(settings_of([*arguments.overrides, "count_only=false"]))
    quantities, remarks = evaluate(arguments.name, prepared)
    if arguments.beside is not None:
        other, _ = evaluate(arguments.beside, prepared)
        quantities |= differences(quantities, other, arguments.beside)
    for remark in remarks:
        print(remark, file=sys.stderr)
    if arguments.json:
        print(json.dumps(to_plain(quantities)))
        return 0
    data, _ = prepared.training_data
    measured = (each for each in quantities.values() if isinstance(each, Measured))
    labels = dict.fromkeys(str(each.conditions["label"]) for each in measured if "label" in each.conditions)
    title = f"{arguments.name} against {data.kind}: {'; '.join(labels)}"  # `KID-EffLite0@64, N=60 against 14; ...`
    print(quantities_table(title, quantities))
    return 0


VERB = Verb(
    summary="score a trial's checkpoint, or a folder of images, against a data set",
    name="a trial's key, or a folder of images",
    example="harness evaluate ~/generated data=digits --json",
    flags=flags,
    check=check,
    run=run,
)
