"""`harness latency collect`: fill the answers that arrived in queues into the records of finished trials."""

import argparse
from pathlib import Path

from harness.records.errors import UserError
from harness.trials.compose import compose_plain
from harness.trials.spec import store_of
from harness.trials.waiting import collect


def run(arguments: argparse.Namespace) -> int:
    if arguments.name is not None:
        raise UserError(f"`harness latency collect` takes no name ('{arguments.name}'); say where with out=FOLDER")
    filled = collect(store_of(Path(str(compose_plain(arguments.overrides)["out"]))))
    print(f"{filled} {'number' if filled == 1 else 'numbers'} filled in")
    return 0
