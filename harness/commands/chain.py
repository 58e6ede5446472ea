"""`harness chain NAME`: search, promote, teach, train, distil, fewer steps, export, total; then one page of it all."""

from __future__ import annotations

import argparse
import sys

from harness.commands.verb import Verb
from harness.records.errors import UserError, unknown_name


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="show every stage, its commands and what it would take; run nothing"
    )
    parser.add_argument("--until", metavar="STAGE", help="end behind that stage; the same command goes on from there")


def check(arguments: argparse.Namespace) -> None:
    from harness.chain.definition import STAGES, chain_study
    from harness.commands.report import check_page
    from harness.records.judging import GENERATED_PICTURES

    study, file, _ = chain_study(arguments.name, arguments.overrides)
    if study.report is not None:
        check_page("chain", file.stem, study.report, GENERATED_PICTURES)
    if arguments.until is not None and arguments.until not in study.stages:
        if arguments.until in STAGES:
            raise UserError(f"--until {arguments.until}: this chain has no such stage, but {', '.join(study.stages)}")
        raise unknown_name("stage", arguments.until, study.stages)


def run(arguments: argparse.Namespace) -> int:
    """0, or what the command of a stage ended with."""
    from harness.chain.definition import chain_study
    from harness.chain.plan import Plan, check_chain, plan_lines
    from harness.chain.runner import StageError, run_chain
    from harness.chain.stages import Chain
    from harness.commands.report import chain_report
    from harness.records.terminal import console
    from harness.trials.rehearsal import NOTHING_DONE

    chain = Chain(*chain_study(arguments.name, arguments.overrides))
    check_chain(chain)
    if arguments.dry_run:
        for line in plan_lines(chain, arguments.until):
            print(line)
        print(NOTHING_DONE)
        return 0
    terminal, plan = console(stderr=True), Plan(chain, arguments.until)
    try:
        run_chain(
            chain,
            lambda text: terminal.print(text, soft_wrap=True),
            until=arguments.until,
            left=plan.left,
        )
    except StageError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.status
    if any(chain.record(stage) is not None for stage in chain.study.trained if stage != "teacher"):
        print(chain_report(chain, arguments.command))
    return 0


VERB = Verb(
    summary="run a chain: search, promote, train, distil, fewer steps, export; each stage from where it stands",
    name="a chain in sweeps/chains/, or the path of its YAML",
    example="harness chain digits --until train",
    settings="STAGE.SETTING of one stage alone, such as search.trials or train.recipe.steps",
    lists="chains",
    flags=flags,
    check=check,
    run=run,
)
