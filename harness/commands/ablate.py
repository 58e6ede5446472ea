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
    from harness.trials.ablation import Ablation
    from harness.trials.ablation_study import AblationStudy
    from harness.trials.settings import Settings
    from harness.trials.spec import TrialSpec


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would run and how; run and write nothing")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.ablation_study import ablation_study, twins_of
    from harness.trials.checks import check_study, lacks_data

    study, settings = ablation_study(arguments.name, arguments.overrides)
    check_page("ablation", Path(arguments.name).stem, study.report)
    twins_of(study, settings)
    architectures = [architecture for _, architecture in study.architecture.architectures()]
    name = Path(arguments.name).stem
    if arguments.dry_run and lacks_data(settings):  # counted: it would run where the data is, which is asked nothing
        from harness.trials.estimates import check_without_data

        check_without_data(settings, architectures, name=name)
    else:
        check_study(settings, architectures, name=name)


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
    from harness.trials.checks import lacks_data
    from harness.trials.spec import scratch_copy

    study, settings = ablation_study(name, overrides)
    if lacks_data(settings):
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
    lines += [*job.remarks, *estimated]
    return "\n".join([*lines, f"\nhow: {submission}", "dry run: nothing was run or written"])


def _estimated(job: Ablation, waiting: Sequence[TrialSpec]) -> list[str]:
    """What the trainings take; nothing where there are none."""
    from harness.trials.estimates import estimate, estimate_lines, pictures_of, training_of
    from harness.trials.spec import store_of

    if not waiting or job.settings.count_only:
        return []
    latent, steps = job.prepared.sizes.latent[-1], job.settings.recipe.steps
    each = {spec.architecture: training_of(spec.architecture, latent, steps) for spec in waiting}
    trainings = [each[spec.architecture] for spec in waiting]
    store = store_of(job.settings.out)
    return estimate_lines(estimate(trainings, job.settings, pictures_of(job.settings), store), job.settings)


def _without_data(study: AblationStudy, settings: Settings) -> str:
    """The same of a study whose prepared data is not here: its networks counted, ImageNet's pictures assumed."""
    from harness.trials.ablation_study import twins_of
    from harness.trials.estimates import (
        estimate,
        estimate_lines,
        fitted_to_latents,
        how_to_prepare,
        latent_of,
        limits_left,
        pictures_of,
        refusal_by_counts,
        training_of,
    )
    from harness.trials.spec import store_of

    pictures = pictures_of(settings)
    channels, side = latent_of(settings, pictures)
    rungs = {
        rung.name: fitted_to_latents(architecture, channels)
        for rung, architecture in study.architecture.architectures()
    }
    each = {name: training_of(one, side, settings.recipe.steps) for name, one in rungs.items()}
    twins = twins_of(study, settings)
    refused = {
        name: refusal_by_counts(one, settings.latent or side, settings.limits, twins.get(name))
        for name, one in rungs.items()
    }
    fates = {name: "would run" if reason is None else f"refused: {reason}" for name, reason in refused.items()}
    rows = [(name, f"{one.params / 1e6:.4g} M", f"{one.macs / 1e9:.4g} G", fates[name]) for name, one in each.items()]
    trainings = [one for name, one in each.items() if refused[name] is None for _ in settings.seeds]
    lines = [
        how_to_prepare(settings),
        table(("rung", "params", f"multiply-adds at {side}x{side}x{channels}", "what becomes of it"), rows),
        f"{len(trainings)} trainings of {settings.recipe.steps:,} steps, {len(settings.seeds)} a rung",
        *limits_left(settings.limits),
    ]
    if trainings:
        lines += estimate_lines(estimate(trainings, settings, pictures, store_of(settings.out)), settings)
    return "\n".join([*lines, "dry run: nothing was run or written"])


def _expected_ending(spec: TrialSpec) -> str:
    from harness.trials.outcomes import finished, rejected

    if (record := finished(spec)) is not None:
        kid = value_of(record.quantities.get("kid"))
        return f"in the store: {record.state}" + (f", KID {kid:.4g}" if kid is not None else "")
    if (refused := rejected(spec)) is not None:
        return f"refused: {why(refused)}"
    return "would run"
