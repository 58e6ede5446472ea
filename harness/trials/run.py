"""One trial, the cheap phases first: count, check the limits, export, time, train, the stages of its task, store.

Each phase adds its quantities. A phase that fails for the network's sake (it does not convert, it diverges) leaves
`Failed` where its numbers would be; a mistake of the user's and a broken machine are errors and end the attempt.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from harness.launch.attempt import AttemptStopped, shared_folder
from harness.launch.config import processes_of, threads_of
from harness.launch.events import log_steps, report_progress
from harness.launch.team import Place
from harness.launch.together import followed
from harness.models.pixels import NotFiniteError
from harness.models.weights import write_weights
from harness.records.judging import REAL_PICTURES
from harness.records.plain import to_plain
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import Counted, Failed, Measured, Quantity, value_of
from harness.records.record import CurvePoint, State, TrialRecord
from harness.records.store import write_atomic
from harness.tracking.tracker import Run, Tracker, flat, nested, tracker
from harness.training.device import resolve_device, use_device, use_threads
from harness.training.listeners import Listeners, NoWatcher
from harness.training.loop import train
from harness.training.outcomes import Diverged, Effort, Interrupted, Trained
from harness.training.parallel import process_group
from harness.training.speed import FORWARD, WITH_BACKWARD, Speed
from harness.trials.computed import computed_by
from harness.trials.costs import before_training, cost_of, measure_coreml, measure_latency, measure_twin
from harness.trials.heads import heads_of
from harness.trials.judges import judges_of
from harness.trials.outcomes import all_unavailable, finished, learnt, record_of, rejected, with_own_twin
from harness.trials.prepared import Prepared, check_unchanged, prepare
from harness.trials.reported import Latest
from harness.trials.samples import initialised_network
from harness.trials.settings import encoded_by
from harness.trials.spec import TrialSpec
from harness.trials.task import Task
from harness.trials.trained import WEIGHTS
from harness.trials.watching import GRID, WATCHED, Seen

CHECKPOINTS = "checkpoints"
"""Where they lie in the folder that a trial's attempts share, unless the spec says where."""

NOT_PLOTTED = ("data", "autoencoder", "text")
"""Sections of the protocol that have names of classes and prompts; the settings of the others a dashboard plots."""


def run_trial(spec: TrialSpec, attempt_folder: Path) -> TrialRecord:
    """The trial's record, which is in the store when this returns; at once, if it was there before.

    Checkpoints lie where the spec says, or in the folder that the attempts at one key share, so a later attempt goes on
    from them. Raises UserError, and AttemptStopped when the process was asked to end: the next attempt continues.
    """
    record = finished(spec)
    record = rejected(spec) if record is None else with_own_twin(spec, record)
    if record is None:
        use_threads(threads_of(spec.settings.launcher))
        with tracker(spec.settings.tracker, _tracked(spec), spec.settings.out / "tracking") as tracking:
            trial = Trial(spec, attempt_folder, tracking)
            record = trial.run()
            tracking.keep(trial.weights())
            tracking.finish(record.quantities, trial.pictures())
    spec.store.put(record)
    shutil.rmtree(shared_folder(attempt_folder), ignore_errors=True)  # last: a death before this repeats no training
    return record


def follow_trial(spec: TrialSpec, attempt_folder: Path, place: Place) -> None:
    """In a process beside the one that runs the trial: its share of the training. Errors: as `run_trial`."""
    use_threads(threads_of(spec.settings.launcher))
    use_device(resolve_device(spec.settings.recipe.device), place.local)
    prepared = prepare(spec.settings)
    check_unchanged(spec.protocol, prepared)
    watcher = prepared.task.watcher(partial(spec.store.artifact, spec.key), lambda _seen: None)
    with contextlib.suppress(Diverged):  # which the other process tells
        train_share(spec, prepared, attempt_folder, place, Listeners(watcher=watcher or NoWatcher()))


def train_share(
    spec: TrialSpec,
    prepared: Prepared,
    attempt_folder: Path,
    place: Place,
    listeners: Listeners,
    macs: int | None = None,
) -> Trained:
    """The training, as one of the processes that share it. Raises AttemptStopped where it was asked to end, and
    Diverged."""
    recipe, task = spec.settings.recipe, prepared.task
    network = initialised_network(
        spec.architecture,
        spec.seed,
        checkpointing=recipe.gradient_checkpointing,
        depthwise_gain=recipe.depthwise_gain,
    )
    if prepared.initial is not None:
        prepared.initial.load_into(network)
    where, device = (place.host, place.port), resolve_device(recipe.device)
    use_device(device, place.local)
    try:
        with process_group(place.rank, place.size, where, device, place.listener):
            return train(
                network,
                task.objective(spec.architecture, spec.seed),
                task.data,
                recipe,
                architecture=spec.architecture.fingerprint,
                initial=None if prepared.initial is None else prepared.initial.identity,
                seed=spec.seed,
                folder=spec.checkpoints or shared_folder(attempt_folder) / CHECKPOINTS,
                parallel=spec.settings.parallel,
                macs=macs,
                listeners=listeners,
            )
    except Interrupted as error:
        raise AttemptStopped(str(error)) from error


class Trial:
    """Counting, export, latency, training, weights and record are of any network; the rest is its task's. It is the
    task's `Work`."""

    def __init__(self, spec: TrialSpec, attempt_folder: Path, tracking: Tracker) -> None:
        self.spec, self.folder, self.tracking = spec, attempt_folder, tracking
        self.quantities: dict[str, Quantity] = {}
        self.artifacts: dict[str, str] = {}
        self.curve: dict[tuple[int, str], CurvePoint] = {}
        self.seconds: dict[str, float] = {}
        self.latest = Latest()
        self.seen: dict[int, Seen] = {}  # by step
        self.stage = ""
        self.start = provenance(threads=threads_of(spec.settings.launcher), **encoded_by(spec.settings))

    def run(self) -> TrialRecord:
        self.count()
        if self.spec.settings.count_only:
            self.time()
            backends = self.spec.settings.latency.backends
            absent = ("coreml_bytes", *(backend.quantity for backend in backends), *learnt(self.spec.settings))
            self.quantities = {**all_unavailable(absent, "this study counts only"), **self.quantities}
            return self.record("complete")
        self.export()
        self.time()
        prepared = prepare(self.spec.settings)
        check_unchanged(self.spec.protocol, prepared)
        settings, task = self.spec.settings, prepared.task
        try:
            trained = self.train(prepared)
        except Diverged as error:
            self.curve = {(point.step, point.name): point for point in error.curve}  # earlier attempts' points too
            self.quantities |= {name: Failed(phase=self.stage, message=str(error)) for name in learnt(settings)}
            return self.record("failed", error.effort)
        try:
            self.quantities |= task.score(trained, self)
        except NotFiniteError as error:
            failed = Failed(phase=self.stage, message=str(error))
            self.quantities |= dict.fromkeys(settings.task.scoring(settings).scores, failed)
            return self.record("failed", trained.effort)
        self.keep_weights(trained, task)
        return self.record("complete", trained.effort)

    def count(self) -> None:
        with self.phase("count"):
            self.quantities |= before_training(self.spec)
        numbers = {name: value_of(quantity) for name, quantity in self.quantities.items()}
        self.tracking.configure({name: value for name, value in numbers.items() if value is not None})

    def export(self) -> None:
        with self.phase("export"):
            self.quantities |= measure_coreml(
                self.spec.store, self.spec.architecture, self.spec.settings, self.spec.latent
            )

    def time(self) -> None:
        with self.phase("latency"):
            self.quantities |= measure_latency(
                self.spec.store, self.spec.architecture, self.spec.settings, self.spec.latent
            ) | measure_twin(self.spec)

    def train(self, prepared: Prepared) -> Trained:
        settings = self.spec.settings
        recipe, launcher = settings.recipe, settings.launcher
        watcher = prepared.task.watcher(partial(self.spec.store.artifact, self.spec.key), self.hear_seen) or NoWatcher()
        if settings.watch.score_every is not None:
            with self.phase("reference"):
                watcher.prepare()
        if prepared.task.teacher is not None:  # before others follow, who find them in the cache
            with self.phase("teacher's prompts"):
                prepared.task.teacher.read_prompts()
        with self.phase("train"), followed(self.folder, processes_of(launcher)) as place:
            self.latest.processes = place.size
            listeners = Listeners(
                on_point=self.point,
                on_progress=partial(self.tell, "train"),
                on_look=partial(self.tell, "look"),
                on_speed=self.hear_speed,
                on_steps=partial(log_steps, self.folder),
                watcher=watcher,
            )
            trained = train_share(self.spec, prepared, self.folder, place, listeners, self.trained_macs(prepared))
        self.curve = {(point.step, point.name): point for point in trained.curve}
        effort = trained.effort
        under: dict[str, Any] = {"device": effort.device, "precision": effort.precision, "steps": trained.steps}
        under |= recipe.rounded_otherwise
        validated = {**under, **settings.objective.validated_by}
        self.quantities["validation_loss"] = Measured(value=trained.validation_loss, unit="1", conditions=validated)
        under = {**under, **self.looks(effort)}  # which change the time alone, as what follows
        judges = judges_of(self.spec.architecture, prepared.task.shape[-1], settings)
        under = {**under, **computed_by(settings, place.size, prepared.task.teacher, judges)}
        self.quantities["train_seconds"] = Measured(value=effort.seconds, unit="s", conditions=under)
        return trained

    def tell(self, phase: str, step: int, of: int) -> None:
        report_progress(self.folder, phase, step, of, **self.latest.at(step, of))

    def looks(self, effort: Effort) -> dict[str, Any]:
        """A condition of the time that a training took: what was seen meanwhile, whichever attempt looked."""
        grids = sum(seen.grid is not None for seen in self.seen.values())
        scores = sum(bool(seen.scores) for seen in self.seen.values())
        return {"watch": {"grids": grids, "scores": scores}} if effort.look_seconds else {}

    def trained_macs(self, prepared: Prepared) -> int:
        """Multiply-adds of the network for one sample of the size that it is trained on; and a third of those of all
        else, its teacher's and its own passes and what judges it, where training takes three times a pass."""
        latent, counted, teacher = prepared.task.shape[-1], self.quantities["macs"], prepared.task.teacher
        if isinstance(counted, Counted) and counted.conditions.get("latent") == latent:
            own = int(counted.value)
        else:
            own = cost_of(self.spec.architecture, latent).macs
        objective = self.spec.settings.objective
        passes, heads = objective.passes, heads_of(objective, teacher)
        taught = 0 if teacher is None else passes.of_teacher * teacher.macs
        taught += 0 if heads is None else heads.step_macs(objective)
        judges = judges_of(self.spec.architecture, latent, self.spec.settings)
        taught += 0 if judges is None else judges.step_macs
        return own + (taught + passes.beside(WITH_BACKWARD // FORWARD) * own) // (WITH_BACKWARD // FORWARD)

    def hear_speed(self, step: int, speed: Speed) -> None:
        """For people and dashboards: no part of the curve, which is the same however fast it was drawn."""
        self.latest.speed = speed
        for name, value in speed_fields(speed).items():
            if value is not None:
                self.tracking.log(CurvePoint(step=step, name=name, value=value))

    def hear_seen(self, seen: Seen) -> None:
        """What the watcher saw, of earlier attempts too."""
        self.artifact(WATCHED)
        for name, value in seen.values.items():
            self.latest.points[name] = CurvePoint(step=seen.step, name=name, value=value)
            self.tracking.log(self.latest.points[name])
        if seen.grid is not None and (grid := self.artifact(seen.grid)).exists():
            self.tracking.show(seen.step, {GRID: grid})
        self.seen[seen.step] = seen

    def point(self, point: CurvePoint) -> None:
        self.curve[point.step, point.name] = point
        if point.name == "validation_loss":
            self.latest.points[point.name] = point
        self.tracking.log(point)

    def keep_weights(self, trained: Trained, task: Task) -> None:
        """The averaged weights, with what they are of: to sample from, export and promote; snapshots of others."""
        path = self.artifact(WEIGHTS)
        write_weights(path, trained.model.state_dict(), self.spec.architecture, task.told(self.spec.key))
        for snapshot in trained.snapshots:
            write_atomic(self.artifact(snapshot.name), snapshot.read_bytes())

    def artifact(self, name: str) -> Path:
        self.artifacts[name] = name
        return self.spec.store.artifact(self.spec.key, name)

    def weights(self) -> dict[str, Path]:
        """The averaged ones, where there are any."""
        names = [name for name in self.artifacts if name == WEIGHTS]
        return {name: self.spec.store.artifact(self.spec.key, name) for name in names}

    def pictures(self) -> dict[str, Path]:
        """What a dashboard shows in the end."""
        seen = [name for name in self.artifacts if name.endswith(".png") and not name.startswith(GRID)]
        grids = [name for name in seen if name != REAL_PICTURES]
        return {name.removesuffix(".png"): self.spec.store.artifact(self.spec.key, name) for name in grids}

    def record(self, state: State, effort: Effort | None = None) -> TrialRecord:
        learnt: dict[str, Any] = {}
        if effort is not None:
            learnt = {
                "device": effort.device,
                "precision": effort.precision,
                "cpu_seconds": effort.cpu_seconds,
                "gpu_seconds": effort.gpu_seconds,
                "continued_from": list(effort.continued_from),
                "notes": list(effort.notes),
                **({} if effort.peak_memory_bytes is None else {"peak_memory_bytes": effort.peak_memory_bytes}),
                **({} if effort.speed is None else speed_fields(effort.speed)),
            }
            if effort.look_seconds:
                self.seconds["watch"] = round(effort.look_seconds, 3)  # of `train_seconds`: of all attempts
        self.forget_removed()
        size = sum(self.spec.store.artifact(self.spec.key, name).stat().st_size for name in self.artifacts)
        origin = completed_provenance(self.start, stage_seconds=self.seconds, artifact_bytes=size, **learnt)
        curve = tuple(self.curve[at] for at in sorted(self.curve))
        return record_of(
            self.spec, state, self.quantities, curve=curve, artifacts=self.artifacts, provenance=origin
        )  # fmt: skip

    def forget_removed(self) -> None:
        """What was seen lies there from early on, and somebody may have removed it since."""
        for name in [name for name in self.artifacts if name.startswith(GRID)]:
            if not self.spec.store.artifact(self.spec.key, name).exists():
                del self.artifacts[name]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        report_progress(self.folder, name, 0, 1)
        self.stage = name  # still, where this one fails
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def speed_fields(speed: Speed) -> dict[str, float | None]:
    return {"images_per_second": speed.images_per_second, "model_flops_utilisation": speed.mfu}


def _tracked(spec: TrialSpec) -> Run:
    """Architecture and recipe by the paths that edits and overrides have, and the knobs by the study's names; under
    `tree` the same as a tree, where a dot is none of a name's: charts reach a knob as `tree.knob.NAME`."""
    sections: Any = to_plain(spec.protocol.sections)
    plotted = {name: section for name, section in sections.items() if name not in NOT_PLOTTED}
    config: dict[str, Any] = {
        **flat(to_plain(spec.architecture)),
        **flat(plotted),
        **{name: sections[name] for name in NOT_PLOTTED if name in sections},
        **{f"knob.{name}": value for name, value in spec.knobs.items()},
        "name": spec.name,
        "seed": spec.seed,
        "parent": spec.parent,
        "tree": {"knob": nested(spec.knobs), "architecture": to_plain(spec.architecture), **plotted},
    }
    budget = () if spec.settings.count_only else (f"{spec.settings.recipe.steps} steps",)
    kind = "trial" if spec.fidelity == "search" else spec.fidelity
    group = spec.group or spec.name
    return Run(id=spec.key, name=spec.label, group=group, job_type=kind, config=config, tags=(group, kind, *budget))
