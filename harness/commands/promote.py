"""`harness promote NAME (TRIAL | --best)`: the architecture of a trial as a YAML file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.operands import out_of
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.manifest import study_folder
from harness.records.record import TrialRecord
from harness.records.store import check_file_writable, write_atomic

if TYPE_CHECKING:
    from harness.measure.statistics import Scores


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trial", metavar="TRIAL", nargs="?", help="the trial's name or key, as the report shows it")
    parser.add_argument(
        "--best",
        action="store_true",
        help="the best by the task's first score, KID; of a sweep with finalists, by their re-scored means",
    )
    parser.add_argument("--to", metavar="FILE", help="the YAML to write; default NAME-TRIAL.yaml here")


def check(arguments: argparse.Namespace) -> None:
    out_of(arguments.overrides, arguments.name)


def run(arguments: argparse.Namespace) -> int:
    from harness.search.promote import candidates, choose, kept_checkpoints, promoted_yaml, rescored

    if (arguments.trial is None) == (not arguments.best):
        raise UserError("name one trial, or give --best: `harness promote NAME TRIAL` or `harness promote NAME --best`")
    out, study = out_of(arguments.overrides, arguments.name), Path(arguments.name).stem
    if arguments.to is not None:
        check_file_writable(Path(arguments.to))
    again = rescored(out, study)
    record = choose(candidates(out, study, arguments.trial), arguments.trial, again)
    if arguments.best and record.name in again:
        print(_chosen_by(out, study, record, again), file=sys.stderr)
    path = Path(arguments.to or f"{study}-{record.name}.yaml")
    kept = kept_checkpoints(out, study, record)
    write_atomic(
        path, promoted_yaml(record, study, list(again.get(record.name, {}).values()), checkpoints=kept).encode()
    )
    print(path)
    return 0


VERB = Verb(
    summary="write the architecture of a chosen trial as a YAML file",
    name="the sweep or ablation",
    operands="NAME (TRIAL | --best)",
    example="harness promote laptop --best --to winner.yaml",
    lists="studies",
    flags=flags,
    check=check,
    run=run,
)


def _chosen_by(out: Path, study: str, record: TrialRecord, again: Scores) -> str:
    """By what the best was chosen."""
    from harness.search.finalists import conclude
    from harness.search.promote import rescored_text, score_of
    from harness.search.study import stored_study

    scores, stored = list(again[record.name].values()), stored_study(study_folder(out, study), study)
    conclusions = conclude(stored) if stored else None
    finalists = {finalist.name: finalist for finalist in conclusions.finalists} if conclusions else {}
    objective = finalists[record.name].objectives.get(score_of(record)) if record.name in finalists else None
    ties = objective.ties if objective is not None else ()
    apart = f"; not told apart from {', '.join(ties)}" if ties else ""
    return f"the best of {len(again)} re-scored finalists is {record.name}: {rescored_text(record, scores)}{apart}"
