"""`harness latency collect`: fill the answers that arrived in queues into the records of finished trials."""

import argparse

from harness.commands.verb import Verb
from harness.records.errors import UserError


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.settings import settings_of

    settings_of(arguments.overrides)


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.outcomes import collect
    from harness.trials.settings import settings_of
    from harness.trials.spec import store_of

    if arguments.name is not None:
        raise UserError(f"`harness latency collect` takes no name ('{arguments.name}'); say where with out=FOLDER")
    store = store_of(settings_of(arguments.overrides).out)
    if not store.root.is_dir():
        raise UserError(f"there is no store {store.root}; say where the study wrote with out=FOLDER")
    filled = collect(store)
    print(f"{filled} {'number' if filled == 1 else 'numbers'} filled in")
    return 0


VERB = Verb(
    summary="fill latencies that were answered since into the records of finished trials",
    name="",
    operands="",
    example="harness latency collect out=runs",
    check=check,
    run=run,
)
