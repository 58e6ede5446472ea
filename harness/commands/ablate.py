"""`harness ablate NAME`: run an ablation, list what failed, write its report."""

import argparse

from harness.commands.dry_run import planned_ablation
from harness.commands.report import report
from harness.records.record import why
from harness.trials.ablation import ablation, run_ablation
from harness.trials.progress import Show
from harness.trials.studies import find_study


def run(arguments: argparse.Namespace) -> int:
    """0; 1 if a trial failed: the report is written all the same."""
    show = Show()
    if arguments.dry_run:
        print(planned_ablation(arguments.name, arguments.overrides))
        return 0
    job = ablation(arguments.name, arguments.overrides, arguments.command)
    if (warning := job.warning) is not None:
        show.note(warning)
    find_study("reports", job.study.report or job.name)  # a missing definition shows before the training, not after
    results, failures = run_ablation(job, show)
    failures = [
        *(f"{spec.label}: {record.state}, {why(record)}" for spec, record in results if record.state != "complete"),
        *failures,
    ]
    for failure in failures:
        show.note(failure)
    print(report(job.settings.out, job.name, job.study))
    return 1 if failures else 0
