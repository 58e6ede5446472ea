"""`harness ablate NAME`: run an ablation, list what failed, write its report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.report import check_page, report
from harness.commands.verb import Verb
from harness.records.quantities import title_of
from harness.records.quantity import value_of
from harness.records.record import why
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.diffusion.config import SamplingConfig
    from harness.trials.ablation import Ablation
    from harness.trials.ablation_study import AblationStudy
    from harness.trials.settings import Settings
    from harness.trials.spec import TrialSpec


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would run and how; run and write nothing")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.ablation_study import ablation_study, trainings_of, twins_of
    from harness.trials.checks import check_study

    study, settings = ablation_study(arguments.name, arguments.overrides)
    trainings_of(study, settings)
    check_page("ablation", Path(arguments.name).stem, study.report, settings.task.judging)
    twins_of(study, settings)
    if study.scored_at is not None:
        study.scored_at.grid(settings.sampling)
    architectures = [architecture for _, architecture in study.architecture.architectures()]
    check_study(settings, architectures, name=Path(arguments.name).stem, dry_run=arguments.dry_run)


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
    """Every (rung, seed): whether the store has it, a limit refuses it, or it would be trained; how; and what that
    takes, as an estimate."""
    from harness.launch.executors import submission_of
    from harness.trials.ablation import ablation
    from harness.trials.ablation_study import ablation_study
    from harness.trials.rehearsal import NOTHING_DONE
    from harness.trials.spec import scratch_copy

    study, settings = ablation_study(name, overrides)
    if settings.lacks_data:
        return _without_data(study, settings)
    out = settings.out
    with scratch_copy(out) as place:
        job = ablation(name, [*overrides, f"out={place}"], "")
        specs = {spec.key: spec for spec in job.specs()}
        fates = {key: _expected_ending(spec) for key, spec in specs.items()}
        rows = [(spec.name, str(spec.seed), fates[key]) for key, spec in specs.items()]
        waiting = [spec for key, spec in specs.items() if fates[key] == "would run"]
        submission = submission_of(
            job.settings.launcher, job.folder / "attempts", [each.key for each in waiting] or ["KEY"]
        )
        submission = submission.replace(str(place), str(Path(out).absolute()))
        estimated = _estimated(job, waiting)
    lines = [table(("rung", "seed", "what becomes of it"), rows), f"{len(waiting)} of {len(rows)} would run"]
    lines += [*_then_scored(study, settings), *job.remarks, *estimated]
    return "\n".join([*lines, f"\nhow: {submission}", NOTHING_DONE])


def _then_scored(study: AblationStudy, settings: Settings) -> list[str]:
    if not (grid := _grid(study, settings)):
        return []
    return [f"all are then scored at {len(grid)} settings of sampling, where they are not yet: {study.scored_at}"]


def _grid(study: AblationStudy, settings: Settings) -> Sequence[SamplingConfig]:
    return () if study.scored_at is None or settings.count_only else study.scored_at.grid(settings.sampling)


def _estimated(job: Ablation, waiting: Sequence[TrialSpec]) -> list[str]:
    """What the trainings take; nothing where there are none."""
    from harness.trials.estimates import Training, lines_of, training_of
    from harness.trials.spec import store_of

    if job.settings.count_only:
        return []
    latent = job.prepared.task.shape[-1]
    each: dict[str, Training] = {}
    for spec in waiting:
        teacher = job.prepared_for(spec.name).task.teacher
        each.setdefault(spec.name, training_of(spec.architecture, latent, spec.settings, teacher))
    trainings, grid = [each[spec.name] for spec in waiting], _grid(job.study, job.settings)
    return lines_of(trainings, job.settings, store_of(job.settings.out).trials(), grid=grid)


def _without_data(study: AblationStudy, settings: Settings) -> str:
    """The same of a study that names no data: its networks counted, ImageNet's pictures assumed."""
    from harness.trials.ablation_study import trainings_of, twins_of
    from harness.trials.estimates import lines_of
    from harness.trials.rehearsal import NOTHING_DONE, rehearse
    from harness.trials.spec import store_of

    rungs = {rung.name: architecture for rung, architecture in study.architecture.architectures()}
    rehearsed = rehearse(settings, rungs, twins=twins_of(study, settings))
    own = {name: each for name, each in trainings_of(study, settings).items() if each != settings}
    trained = {name: rehearse(each, {name: rungs[name]}).trainings[name] for name, each in own.items()}
    rehearsed = replace(rehearsed, trainings={**rehearsed.trainings, **trained})
    rows = [
        (
            name,
            f"{one.params / 1e6:.4g} M",
            f"{one.macs / 1e9:.4g} G",
            f"refused: {rehearsed.refused[name]}" if name in rehearsed.refused else "would run",
        )
        for name, one in rehearsed.trainings.items()
    ]
    trainings = [one for one in rehearsed.left.values() for _ in settings.seeds]
    lines = [
        *rehearsed.about_data,
        table(("rung", "params", f"multiply-adds at {rehearsed.latent}", "what becomes of it"), rows),
        f"{len(trainings)} trainings of {settings.recipe.steps:,} steps, {len(settings.seeds)} a rung",
        *_then_scored(study, settings),
        *rehearsed.about_limits,
        *lines_of(trainings, settings, store_of(settings.out).trials(), grid=_grid(study, settings)),
    ]
    return "\n".join([*lines, NOTHING_DONE])


def _expected_ending(spec: TrialSpec) -> str:
    from harness.trials.outcomes import finished, rejected

    if (record := finished(spec)) is not None:
        score = spec.settings.task.judging.first
        value = value_of(record.quantities.get(score))
        return f"in the store: {record.state}" + (f", {title_of(score)} {value:.4g}" if value is not None else "")
    if (refused := rejected(spec)) is not None:
        return f"refused: {why(refused)}"
    return "would run"
