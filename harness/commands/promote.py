"""`harness promote NAME (TRIAL | --best)`: the architecture of a trial as a YAML file."""

import argparse
from pathlib import Path

from harness.records.errors import UserError
from harness.records.store import check_file_writable, write_atomic
from harness.search.promote import candidates, choose, promoted_yaml
from harness.trials.settings import settings_of


def run(arguments: argparse.Namespace) -> int:
    if (arguments.trial is None) == (not arguments.best):
        raise UserError("name one trial, or give --best: `harness promote NAME TRIAL` or `harness promote NAME --best`")
    out, study = settings_of(arguments.overrides).out, Path(arguments.name).stem
    if arguments.to is not None:
        check_file_writable(Path(arguments.to))
    record = choose(candidates(out, study), arguments.trial)
    path = Path(arguments.to or f"{study}-{record.name}.yaml")
    write_atomic(path, promoted_yaml(record, study).encode())
    print(path)
    return 0
