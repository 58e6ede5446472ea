"""`harness dashboard NAME`: optuna-dashboard on a sweep, with samples and packages as artifacts, until Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.operands import PUBLISHED, begun_study, out_of, published_flag
from harness.commands.verb import Verb
from harness.records.errors import UserError


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8080, help="default %(default)s; 0: any free one")
    parser.add_argument(
        "--host", default="127.0.0.1", help="default %(default)s, this machine alone; it asks nobody for a password"
    )
    published_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    from harness.dashboards.serve import application, serve
    from harness.search.study import SWEEP_FILE

    name, folder = begun_study(out_of(arguments.overrides, arguments.name), arguments.name)
    if not (folder / SWEEP_FILE).exists():
        raise UserError(f"'{name}' is no sweep, and only a sweep has an Optuna study; see `harness report {name}`")
    app = application(folder, name, [Path(each) for each in arguments.published])
    serve(app, arguments.host, arguments.port, lambda address: print(f"{name}: {address} (Ctrl-C ends it)", flush=True))
    return 0


VERB = Verb(
    summary="serve optuna-dashboard on a sweep: candidates, constraints, samples and packages, re-scored values",
    name="the sweep",
    example="harness dashboard laptop --port 8081",
    flags=flags,
    run=run,
    repeated=(PUBLISHED,),
    lists="sweeps",
)
