"""An ablation: named architectures, each trained with every seed, compared in a report.

    OUT/NAME/manifest.json    what it consists of: written first, read by the report
    OUT/NAME/attempts/        the jobs: logs, locks, checkpoints

The same command continues a stopped one: records are in the store, checkpoints in the jobs' folders. Latency is
measured before the first training starts, because a busy machine is slow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import OF_TRAINING
from harness.architecture.ladder import LadderRung
from harness.launch.pool import Pool
from harness.measure.touched import touched_share
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.manifest import Manifest, Rung, read_manifest, study_folder, write_manifest
from harness.records.plain import to_plain
from harness.records.record import TrialRecord
from harness.trials.ablation_study import AblationStudy, ablation_study, refusals, trainings_of, twins_of
from harness.trials.checks import check_sizes, check_task
from harness.trials.controls import control_key, control_names, submit_controls
from harness.trials.costs import anatomy_of, measure_latency, measure_twin
from harness.trials.initial import INITIAL
from harness.trials.outcomes import finished, rejected
from harness.trials.prepared import Prepared, prepare
from harness.trials.progress import Show
from harness.trials.queue import TrialQueue, run_all
from harness.trials.scored_at import score_all
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec
from harness.trials.twins import Twin


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    name: str
    study: AblationStudy
    prepared: Prepared
    """Of the first rung, and of all that are trained as it is."""
    trained: Mapping[str, Prepared]
    """Of those that are not, by rung."""
    rungs: tuple[tuple[LadderRung, ArchitectureConfig], ...]  # fitted to the data
    twins: Mapping[str, Twin]  # by rung; empty without a deployment twin
    command: str

    @property
    def settings(self) -> Settings:
        return self.prepared.settings

    @property
    def folder(self) -> Path:
        return study_folder(self.settings.out, self.name)

    @property
    def remarks(self) -> list[str]:
        """A line about images that could not be read, and one about each combination that a rule refuses."""
        task = self.prepared.loaded
        return [*([task.warning] if task is not None and task.warning is not None else []), *refusals(self.study)]

    def prepared_for(self, rung: str) -> Prepared:
        return self.trained.get(rung, self.prepared)

    def specs(self) -> list[TrialSpec]:
        """Every (rung, seed), the first seed of all rungs first: a stopped study has compared them all once."""
        return [
            self.prepared_for(rung.name).spec(
                rung.name,
                config,
                seed,
                group=self.name,
                limits=self.settings.limits,
                twin=self.twins.get(rung.name),
                knobs=rung.levels,
            )
            for seed in self.settings.seeds
            for rung, config in self.rungs
        ]

    def manifest(self) -> Manifest:
        settings, base = self.settings, self.rungs[0][1]
        touched = self._touched()
        return Manifest(
            name=self.name,
            rungs=tuple(
                Rung(
                    name=rung.name,
                    title=rung.title or rung.name,
                    levels=rung.levels,
                    architecture_fingerprint=config.fingerprint,
                    against=rung.against,
                    edits=_plain(rung.all_edits if rung.base is None else {"base": rung.base, **rung.all_edits}),
                    **self._trained_otherwise(rung.name),
                    **self._twin(rung.name),
                    touched=touched[rung.name],
                )
                for rung, config in self.rungs
            ),
            seeds=self.settings.seeds,
            protocol=self.prepared.protocol.sections,
            protocol_fingerprint=self.prepared.protocol.fingerprint,
            judging=settings.task.judged(settings),
            controls={name: control_key(name, self.prepared, base) for name in control_names(settings)},
            command=self.command,
            twin=_plain(self.settings.twin) if self.settings.twin is not None else None,
            report=self.study.report,
            settings=self.study.settings,
            refused=self.study.architecture.refused,
        )

    def _twin(self, rung: str) -> dict[str, Any]:
        if not self.twins:
            return {}
        twin = self.twins[rung].architecture
        return {"twin_fingerprint": twin.fingerprint, "twin_architecture": _plain(twin)}

    def _trained_otherwise(self, rung: str) -> dict[str, Any]:
        """What the manifest says of a rung's training, where that is not as the study's settings have it."""
        edits, here = self.study.architecture.trainings(), self.prepared_for(rung)
        said: dict[str, Any] = {"trained": _plain(edits[rung])} if edits[rung] else {}
        if here.of_seeds:
            said |= {**here.of_seeds, "varied": (INITIAL,)}
        if rung not in self.trained:
            return said
        own, usual = here.protocol, self.prepared.protocol
        paths = sorted({path for each in edits.values() for path in each})
        sections = dict.fromkeys((*usual.sections, *own.sections))
        apart = (name for name in sections if own.sections.get(name) != usual.sections.get(name))
        others = (name for name in apart if name not in OF_TRAINING)  # as the teacher that an objective has
        compared = dict.fromkeys((*paths, *others, *said.get("varied", ())))
        return {**said, "protocol_fingerprint": own.fingerprint, "varied": tuple(compared)}

    def _touched(self) -> dict[str, dict[str, float]]:
        """Rung -> the share of the work of its `against` that its edits touch, at both sizes; nothing where it is that
        network, trained otherwise."""
        latent = self.prepared.cost_latent
        sizes = {"network": {rung.name: (config, latent) for rung, config in self.rungs}}
        if self.twins:
            sizes["twin"] = {name: (twin.architecture, twin.latent) for name, twin in self.twins.items()}
        parts = {size: {name: anatomy_of(*at) for name, at in rungs.items()} for size, rungs in sizes.items()}
        networks = {rung.name: config.fingerprint for rung, config in self.rungs}
        return {
            rung.name: {size: touched_share(part[rung.against], part[rung.name]) for size, part in parts.items()}
            if rung.against is not None and networks[rung.against] != networks[rung.name]
            else {}
            for rung, _ in self.rungs
        }


def ablation(name: str, overrides: Sequence[str], command: str) -> Ablation:
    """The ablation of `sweeps/NAME.yaml` with the settings of the command line; loads its data."""
    study, settings = ablation_study(name, overrides)
    twins = twins_of(study, settings)
    for _, architecture in study.architecture.architectures():
        check_task(settings, architecture)
        check_sizes(settings, architecture)
    each = trainings_of(study, settings)
    usual = next(iter(each.values()))
    prepared = prepare(usual)
    others = {rung: prepared.under(own) for rung, own in each.items() if own != usual}
    rungs = tuple(
        (rung, others.get(rung.name, prepared).adapt_to_data(config))
        for rung, config in study.architecture.architectures()
    )
    _check_distinct({rung.name: (config, others.get(rung.name, prepared)) for rung, config in rungs})
    return Ablation(
        name=Path(name).stem, study=study, prepared=prepared, trained=others, rungs=rungs, twins=twins, command=command
    )


def _check_distinct(rungs: Mapping[str, tuple[ArchitectureConfig, Prepared]]) -> None:
    """Refuse a rung that is another one over again: a page would compare a trial with itself. Edits alone do not tell,
    as of a setting that changes no result."""
    first: dict[tuple[str, ...], str] = {}
    for rung, (architecture, prepared) in rungs.items():
        protocols = [prepared.of_seed(seed).protocol.fingerprint for seed in prepared.settings.seeds]
        same = first.setdefault((architecture.fingerprint, *protocols), rung)
        if same != rung:
            raise UserError(
                f"rungs '{same}' and '{rung}' are the same network, trained alike; leave one out, or edit what changes "
                "a result"
            )


def run_ablation(job: Ablation, show: Show) -> tuple[list[tuple[TrialSpec, TrialRecord]], list[str]]:
    """Run what the store does not have yet.

    Returns all trials with their records, in the order of `specs`, and a sentence for each other job that failed.
    """
    with Pool(job.folder / "attempts", job.settings.launcher) as pool:
        manifest = job.manifest()
        if (note := _replaced(job, manifest)) is not None:
            show.note(note)
        write_manifest(job.folder, manifest)
        specs = job.specs()
        _time_architectures(job, specs, show)
        queue = TrialQueue(pool, on_loss=show.lost)
        if not job.settings.count_only:
            submit_controls(queue, job.prepared, job.rungs[0][1])
        with show.board(specs):
            records = run_all(queue, specs, show)
    results = [(spec, records[spec.key]) for spec in specs]
    at = None if job.settings.count_only else job.study.scored_at
    return results, [*queue.failures, *(() if at is None else score_all(at, results))]


def _replaced(job: Ablation, manifest: Manifest) -> str | None:
    """What a study of the same name that was another one loses by this one: its page, and no record."""
    try:
        before = read_manifest(job.settings.out, job.name)
    except UserError:  # there is none, or one that is damaged, which this one replaces
        return None
    if not (gone := before.keys - manifest.keys):
        return None
    return (
        f"{len(gone)} of the {len(before.keys)} trainings of the {job.name} that is in {job.settings.out} so far are "
        f"not in this one: its page is replaced, its records stay, and `{before.command}` draws it again; another file "
        "name or out=FOLDER keeps both"
    )


def _time_architectures(job: Ablation, specs: Sequence[TrialSpec], show: Show) -> None:
    """Latency of every architecture that is still to be trained, on a machine that does nothing else."""
    if job.settings.count_only or not (job.settings.latency.backends or job.twins):
        return
    waiting = {spec.architecture: spec for spec in specs if finished(spec) is None and rejected(spec) is None}
    for spec in with_eta(waiting.values(), "timing architectures", len(waiting), console=show.console):
        show.note(f"latency of {spec.name}")
        measure_latency(spec.store, spec.architecture, spec.settings, spec.latent)
        measure_twin(spec)


def _plain(settings: Any) -> dict[str, Any]:
    plain: Any = to_plain(settings)
    return dict(plain)
