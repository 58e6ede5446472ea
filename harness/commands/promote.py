"""`harness promote NAME (TRIAL | --best)`: the architecture of a trial as a YAML file."""

import argparse
import sys
from pathlib import Path

from harness.commands.places import out_of
from harness.measure.statistics import Scores
from harness.records.errors import UserError
from harness.records.record import TrialRecord
from harness.records.store import check_file_writable, write_atomic
from harness.search.conclusions import ties_of
from harness.search.promote import candidates, choose, kept_checkpoints, promoted_yaml, rescored, rescored_text


def run(arguments: argparse.Namespace) -> int:
    if (arguments.trial is None) == (not arguments.best):
        raise UserError("name one trial, or give --best: `harness promote NAME TRIAL` or `harness promote NAME --best`")
    out, study = out_of(arguments.overrides, arguments.name), Path(arguments.name).stem
    if arguments.to is not None:
        check_file_writable(Path(arguments.to))
    again = rescored(out, study)
    record = choose(candidates(out, study), arguments.trial, again)
    if arguments.best and record.name in again:
        print(_said(record, again), file=sys.stderr)
    path = Path(arguments.to or f"{study}-{record.name}.yaml")
    kept = kept_checkpoints(out, study, record)
    write_atomic(
        path, promoted_yaml(record, study, list(again.get(record.name, {}).values()), checkpoints=kept).encode()
    )
    print(path)
    return 0


def _said(record: TrialRecord, again: Scores) -> str:
    """By what the best was chosen."""
    own = list(again[record.name].values())
    ties = ties_of({"kid": again})["kid"][record.name]
    apart = f"; not told apart from {', '.join(ties)}" if ties else ""
    return f"the best of {len(again)} re-scored finalists is {record.name}: {rescored_text(record, own)}{apart}"
