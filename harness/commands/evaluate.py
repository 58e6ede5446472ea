"""`harness evaluate (KEY | FOLDER)`: the quality of a stored checkpoint, or of any folder of images."""

import argparse
import json
import sys

from harness.commands.tables import quantities_table
from harness.records.plain import to_plain
from harness.trials.evaluate import differences, evaluate
from harness.trials.prepared import prepare
from harness.trials.settings import settings_of


def run(arguments: argparse.Namespace) -> int:
    prepared = prepare(settings_of([*arguments.overrides, "count_only=false"]))
    quantities, remark = evaluate(arguments.name, prepared)
    if arguments.beside is not None:
        other, _ = evaluate(arguments.beside, prepared)
        quantities |= differences(quantities, other, arguments.beside)
    if remark is not None:
        print(remark, file=sys.stderr)
    if arguments.json:
        print(json.dumps(to_plain(quantities)))
        return 0
    data, _ = prepared.trained_on
    print(quantities_table(f"{arguments.name} against {data.kind}", quantities))
    return 0
