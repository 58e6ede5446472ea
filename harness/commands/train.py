"""`harness train NAME`: one architecture, trained as long as asked; a promoted one from where its sweep left it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.manifest import Manifest, Rung, study_folder, write_manifest
from harness.records.record import TrialRecord, why
from harness.records.terminal import quantities_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from harness.architecture.config import ArchitectureConfig
    from harness.trials.progress import Show
    from harness.trials.promoted import Origin
    from harness.trials.settings import Settings
    from harness.trials.spec import TrialSpec

WEIGHTS = "ema.safetensors"
UNDER_TORCHRUN = "torchrun --nproc-per-node 2 -m harness train winner.yaml launcher=debug parallel=ddp"


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what it would take; run and write nothing")
    parser.epilog = f"{parser.epilog}\nin the processes that torchrun starts, for example\n  {UNDER_TORCHRUN}"


def check(arguments: argparse.Namespace) -> None:
    from harness.architecture.catalogue import architecture
    from harness.trials.checks import check_study
    from harness.trials.promoted import promoted_in
    from harness.trials.settings import settings_of
    from harness.trials.single import defaults_of

    config = architecture(arguments.name)
    of_file = promoted_in(Path(arguments.name)).settings
    settings = settings_of(arguments.overrides, {**defaults_of(config), **of_file})
    check_study(settings, [config], dry_run=arguments.dry_run)


def run(arguments: argparse.Namespace) -> int:
    from harness.architecture.catalogue import architecture
    from harness.records.manifest import TRAINING
    from harness.trials.compose import merged, parsed
    from harness.trials.prepared import prepare
    from harness.trials.progress import Show
    from harness.trials.promoted import promoted_in
    from harness.trials.settings import settings_of
    from harness.trials.single import defaults_of, specs_of

    show, config, promoted = Show(), architecture(arguments.name), promoted_in(Path(arguments.name))
    origin, of_file = _unedited(promoted.origin, arguments.name, config, show), promoted.settings
    composed = settings_of(arguments.overrides, {**defaults_of(config), **of_file})
    if composed.twin is not None:
        raise UserError(
            "a deployment twin is what a study's edits make of another base, and `harness train` edits nothing; leave "
            "out twin, and count an architecture at its size with `harness measure NAME --latent N`"
        )
    if of_file:
        show.note(f"trains by the settings in {arguments.name}, but for those of the command line")
    if arguments.dry_run:
        print(planned_training(Path(arguments.name).stem, config, composed))
        return 0
    prepared = prepare(composed)
    if promoted.origin is not None and not composed.count_only:
        promoted.origin.under(arguments.overrides).check_trained_on(prepared.protocol.sections)
    settings, name = prepared.settings, Path(arguments.name).stem
    specs = specs_of(prepared, name, config, origin)
    for spec in specs:
        _check_new(spec)
    study = f"{TRAINING}{name}"
    folder = study_folder(settings.out, study)
    chosen = merged(of_file, parsed(arguments.overrides))
    manifest = _manifest(study, specs, chosen, arguments.command)
    write_manifest(folder, replace(manifest, promotion=None if origin is None else origin.promotion))
    records = _train(folder, specs, origin, show)
    for spec, record in zip(specs, records, strict=True):
        print(quantities_table(spec.label, record.quantities))
        if record.state != "complete":
            print(why(record))
        elif WEIGHTS in record.artifacts:  # none where trials only count
            print(spec.store.artifact(record.key, WEIGHTS))
    if origin is not None and not settings.count_only:
        _show_page(settings.out, study, show)
    return 0 if all(record.state == "complete" for record in records) else 1


VERB = Verb(
    summary="train one architecture at full length",
    name="an architecture of the catalogue, or the path of its YAML",
    example="harness train winner.yaml recipe.steps=20000",
    lists="architectures",
    flags=flags,
    check=check,
    run=run,
)


def _show_page(out: Path, study: str, show: Show) -> None:
    """Last, and no part of the outcome: a page that cannot be drawn takes nothing of what was trained."""
    from harness.commands.report import report

    try:
        show.note(f"what was promised beside what it gave: {report(out, study)}")
    except (UserError, OSError) as error:
        show.note(f"no page of what was promised beside what it gave: {error}; `harness report {study}` draws it")


def planned_training(name: str, config: ArchitectureConfig, settings: Settings) -> str:
    """What a training of each seed would take, from step 0; and how its job would be submitted."""
    from harness.trials.estimates import lines_of
    from harness.trials.memory import memory_lines, memory_of
    from harness.trials.rehearsal import NOTHING_DONE, rehearse
    from harness.trials.spec import store_of

    rehearsed = rehearse(settings, {"": config})
    (one,), trains = rehearsed.trainings.values(), not settings.count_only
    size = f"{one.params / 1e6:.4g} M parameters, {one.macs / 1e9:.4g} G multiply-adds"
    fate = f"as trained, {one.steps:,} steps" if trains else f"at {rehearsed.latent}; count_only trains nothing"
    trainings = [*rehearsed.left.values()] * len(settings.seeds) if trains else []
    records = list(store_of(settings.out).trials()) if trainings else []
    lines = [
        *rehearsed.about_data,
        f"{size} {fate}",
        *rehearsed.about_limits,
        *(f"refused: {why}" for why in rehearsed.refused.values()),
        *lines_of(trainings, settings, records, with_controls=False),
    ]
    if trainings:
        (network,) = rehearsed.networks.values()
        lines += memory_lines(memory_of(network, rehearsed.side, settings, records, rehearsed.teacher))
        lines.append(f"\nhow: {_submission(name, settings)}")
    return "\n".join([*lines, NOTHING_DONE])


def _submission(name: str, settings: Settings) -> str:
    """How the launcher would start its jobs; KEY stands for a trial's key, which hangs on the data."""
    from harness.launch.executors import submission_of
    from harness.records.manifest import TRAINING
    from harness.trials.spec import scratch_copy

    with scratch_copy(settings.out) as place:
        root = study_folder(place, f"{TRAINING}{name}") / "attempts"
        keys = [f"KEY-{seed}" for seed in settings.seeds] if len(settings.seeds) > 1 else ["KEY"]
        said = submission_of(settings.launcher, root, keys)
        return said.replace(str(place), str(settings.out.absolute()))


def _manifest(study: str, specs: list[TrialSpec], chosen: Mapping[str, Any], command: str) -> Manifest:
    """What its page is of: one network, with every seed."""
    from harness.trials.initial import INITIAL

    first, protocols = specs[0], tuple(spec.protocol.fingerprint for spec in specs)
    of_seeds: dict[str, Any] = {}
    if len(set(protocols)) > 1:  # each begins with weights of its own
        of_seeds = {"seed_protocols": protocols, "varied": (INITIAL,)}
    name, fingerprint = first.name, first.architecture.fingerprint
    return Manifest(
        name=study,
        rungs=(Rung(name=name, title=name, architecture_fingerprint=fingerprint, against=None, edits={}, **of_seeds),),
        seeds=tuple(spec.seed for spec in specs),
        protocol=first.protocol.sections,
        protocol_fingerprint=first.protocol.fingerprint,
        judging=first.settings.task.judged(first.settings),
        controls={},
        command=command,
        settings=chosen,
    )


def _train(folder: Path, specs: list[TrialSpec], origin: Origin | None, show: Show) -> list[TrialRecord]:
    from harness.launch.pool import Pool
    from harness.trials.outcomes import finished
    from harness.trials.promoted import go_on
    from harness.trials.queue import TrialQueue, run_all

    with Pool(folder / "attempts", specs[0].settings.launcher) as pool, show.board(specs):
        for spec in specs:
            if origin is not None and finished(spec) is None:
                show.note(go_on(spec, origin, pool.folder))
        queue = TrialQueue(pool, on_loss=show.lost)
        records = run_all(queue, specs, show)
    return [records[spec.key] for spec in specs]


def _unedited(origin: Origin | None, name: str, config: ArchitectureConfig, show: Show) -> Origin | None:
    """The trial that the file was promoted from, unless the file was edited since."""
    from harness.trials.single import unedited

    unedited_origin = unedited(origin, config)
    if unedited_origin is None and origin is not None and origin.trial:
        show.note(f"{name} was edited since its promotion: the new record has no parent")
    return unedited_origin


def _check_new(spec: TrialSpec) -> None:
    from harness.trials.outcomes import finished

    record = finished(spec)
    if record is not None and record.fidelity != "full":
        raise UserError(
            f"{record.name} was trained with exactly these settings already (trial {record.key}); "
            f"train it longer: recipe.steps={2 * spec.settings.recipe.steps}"
        )
