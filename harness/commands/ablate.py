"""`harness ablate NAME`: run an ablation, list what failed, write its report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.report import check_page, report
from harness.commands.verb import Verb
from harness.records.quantity import value_of
from harness.records.record import why
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.trials.spec import TrialSpec


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would run and how; run and write nothing")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.ablation_study import ablation_study, twins_of
    from harness.trials.checks import check_study

    study, settings = ablation_study(arguments.name, arguments.overrides)
    check_page("ablation", Path(arguments.name).stem, study.report)
    twins_of(study, settings)
    rungs = study.architecture.architectures()
    check_study(settings, (architecture for _, architecture in rungs), name=Path(arguments.name).stem)


def run(arguments: argparse.Namespace) -> int:
    """0; 1 if a trial failed: the report is written all the same."""
    from harness.trials.ablation import ablation, run_ablation
    from harness.trials.progress import Show

    show = Show()
    if arguments.dry_run:
        print(planned_ablation(arguments.name, arguments.overrides))
        return 0
    job = ablation(arguments.name, arguments.overrides, arguments.command)
    for remark in job.remarks:
        show.note(remark)
    results, failures = run_ablation(job, show)
    failures = [
        *(f"{spec.label}: {record.state}, {why(record)}" for spec, record in results if record.state != "complete"),
        *failures,
    ]
    for failure in failures:
        show.note(failure)
    print(report(job.settings.out, job.name, job.study.report))
    return 1 if failures else 0


VERB = Verb(
    summary="train and compare the rungs of an ablation, then write its report",
    name="an ablation in sweeps/, or the path of its YAML",
    example="harness ablate fig3 data=image_folder data.path=~/my_images",
    lists="ablations",
    flags=flags,
    check=check,
    run=run,
)


def planned_ablation(name: str, overrides: Sequence[str]) -> str:
    """Every (rung, seed): whether the store has it, a limit refuses it, or it would be trained; and how."""
    from harness.launch.executors import submission_of
    from harness.trials.ablation import ablation
    from harness.trials.ablation_study import ablation_study
    from harness.trials.spec import scratch_copy

    out = ablation_study(name, overrides)[1].out
    with scratch_copy(out) as place:
        job = ablation(name, [*overrides, f"out={place}"], "")
        specs = {spec.key: spec for spec in job.specs()}
        fates = {key: _expected_ending(spec) for key, spec in specs.items()}
        rows = [(spec.name, str(spec.seed), fates[key]) for key, spec in specs.items()]
        keys = [key for key, fate in fates.items() if fate == "would run"] or ["KEY"]
        submission = submission_of(job.settings.launcher, job.folder / "attempts", keys)
        submission = submission.replace(str(place), str(Path(out).absolute()))
    runs = sum(fate == "would run" for fate in fates.values())
    lines = [table(("rung", "seed", "what becomes of it"), rows), f"{runs} of {len(rows)} would run", *job.remarks]
    return "\n".join([*lines, f"\njobs: {submission}", "dry run: nothing was run or written"])


def _expected_ending(spec: TrialSpec) -> str:
    from harness.trials.outcomes import finished, rejected

    if (record := finished(spec)) is not None:
        kid = value_of(record.quantities.get("kid"))
        return f"in the store: {record.state}" + (f", KID {kid:.4g}" if kid is not None else "")
    if (refused := rejected(spec)) is not None:
        return f"refused: {why(refused)}"
    return "would run"
