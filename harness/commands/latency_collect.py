"""`harness latency collect`: fill the answers that arrived in queues into the records of finished trials."""

import argparse

from harness.records.errors import UserError
from harness.trials.settings import settings_of
from harness.trials.spec import store_of
from harness.trials.waiting import collect


def run(arguments: argparse.Namespace) -> int:
    if arguments.name is not None:
        raise UserError(f"`harness latency collect` takes no name ('{arguments.name}'); say where with out=FOLDER")
    store = store_of(settings_of(arguments.overrides).out)
    if not store.root.is_dir():
        raise UserError(f"there is no store {store.root}; say where the study wrote with out=FOLDER")
    filled = collect(store)
    print(f"{filled} {'number' if filled == 1 else 'numbers'} filled in")
    return 0
