"""One trial, the cheap phases first: count, check the limits, export, time, train, sample, score, store.

Each phase adds its quantities. A phase that fails for the network's sake (it does not convert, it diverges) leaves
`Failed` where its numbers would be; a mistake of the user's and a broken machine are errors and end the attempt.
"""

import contextlib
import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.launch.attempt import shared_folder
from harness.launch.config import processes_of, threads_of
from harness.launch.events import log_steps, report_progress
from harness.launch.together import Place, followed
from harness.launch.worker import AttemptStopped
from harness.measure.quality import quality, samples_for, say_if_fewer
from harness.measure.quality_features import extract
from harness.measure.quality_reference import WHOLE, Reference, load_reference
from harness.models.pixels import NotFiniteError
from harness.models.weights import Training, tensors_sha256, write_weights
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import Counted, Failed, Measured, Quantity, value_of
from harness.records.record import CurvePoint, State, TrialRecord
from harness.records.store import write_atomic
from harness.tracking.tracker import Run, Tracker, flat, tracker
from harness.training.device import resolve_device, use_threads
from harness.training.loop import train
from harness.training.objectives import build_objective
from harness.training.outcomes import Diverged, Effort, Interrupted, Trained
from harness.training.parallel import process_group
from harness.training.speed import Speed
from harness.trials.costs import before_training, cost_of, measure_coreml, measure_latency, measure_twin
from harness.trials.outcomes import all_unavailable, finished, learnt, record_of, rejected, with_own_twin
from harness.trials.prepared import Prepared, cache_folder, check_unchanged, prepare
from harness.trials.samples import (
    by_class,
    initialised_network,
    sampled_batches,
    sampled_labels,
    sampling_conditions,
    write_grid,
)
from harness.trials.scores.parts import Arrays, Parts, part_ranges, scorer_of
from harness.trials.spec import TrialSpec

CHECKPOINTS = "checkpoints"
"""Where they lie in the folder that a trial's attempts share, unless the spec says where."""
SAMPLES = "samples"
"""There too: the parts of the samples, until the record is stored."""
SAMPLES_LOG = "samples.log"
"""Beside that folder: which attempt sampled which part."""

SHOWN_FLAT = ("recipe", "sampling", "quality")
"""Sections of the protocol whose settings a dashboard plots; the others have names of classes and prompts."""

KEPT_SAMPLES = 1024
"""Of a trial's samples, where there are too many to keep all."""

HOW_COMPUTED = ("gradient_checkpointing", "compile", "channels_last")
"""Settings of a recipe that change the time of a training and nothing it finds: conditions of that time, where on."""

GRID_ROWS = 8
GRID_MOST_COLUMNS = 12


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
            tracking.finish(record.quantities, trial.pictures())
    spec.store.put(record)
    shutil.rmtree(shared_folder(attempt_folder), ignore_errors=True)  # last: a death before this repeats no training
    return record


def follow_trial(spec: TrialSpec, attempt_folder: Path, place: Place) -> None:
    """In a process beside the one that runs the trial: its share of the training. Errors: as `run_trial`."""
    use_threads(threads_of(spec.settings.launcher))
    prepared = prepare(spec.settings)
    check_unchanged(spec.protocol, prepared)
    with contextlib.suppress(Diverged):  # which the other process tells
        train_share(spec, prepared, attempt_folder, place)


def train_share(spec: TrialSpec, prepared: Prepared, attempt_folder: Path, place: Place, **listeners: Any) -> Trained:
    """The training, as one of the processes that share it. Raises AttemptStopped where it was asked to end, and
    Diverged."""
    recipe, data, (_, prompts) = spec.settings.recipe, prepared.network_data, prepared.training_data
    network = initialised_network(
        spec.architecture,
        spec.seed,
        checkpointing=recipe.gradient_checkpointing,
        depthwise_gain=recipe.depthwise_gain,
    )
    where, device = f"tcp://{place.host}:{place.port}", resolve_device(recipe.device)
    try:
        with process_group(place.rank, place.size, where, device):
            return train(
                network,
                build_objective(spec.settings.objective, data, prompts, recipe),
                data,
                recipe,
                architecture=spec.architecture.fingerprint,
                seed=spec.seed,
                folder=spec.checkpoints or shared_folder(attempt_folder) / CHECKPOINTS,
                parallel=spec.settings.parallel,
                **listeners,
            )
    except Interrupted as error:
        raise AttemptStopped(str(error)) from error


class Trial:
    """Of a denoiser: that is what `train`, `sample` and `score` are for, with the quantities that `outcomes` names for
    them. Counting, export, latency and records are of any network."""

    def __init__(self, spec: TrialSpec, attempt_folder: Path, tracking: Tracker) -> None:
        self.spec, self.folder, self.tracking = spec, attempt_folder, tracking
        self.quantities: dict[str, Quantity] = {}
        self.artifacts: dict[str, str] = {}
        self.curve: dict[tuple[int, str], CurvePoint] = {}
        self.seconds: dict[str, float] = {}
        self.speed = ""  # of the newest steps, for people
        self.start = provenance(threads=threads_of(spec.settings.launcher))

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
        try:
            trained = self.train(prepared)
        except Diverged as error:
            self.curve = {(point.step, point.name): point for point in error.curve}  # earlier attempts' points too
            self.quantities |= {name: Failed(phase="train", message=str(error)) for name in learnt(self.spec.settings)}
            return self.record("failed", error.effort)
        try:
            images, labels = self.sample_and_score(trained, prepared)
        except NotFiniteError as error:
            self.quantities |= {
                name: Failed(phase="sample", message=str(error)) for name in self.spec.settings.quality.metrics
            }
            return self.record("failed", trained.effort)
        self.keep_samples(images, labels)
        self.keep_weights(trained, prepared)
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
        recipe, processes = self.spec.settings.recipe, processes_of(self.spec.settings.launcher)
        with self.phase("train"), followed(self.folder, processes) as place:
            trained = train_share(
                self.spec,
                prepared,
                self.folder,
                place,
                on_point=self.point,
                macs=self.trained_macs(prepared),
                on_progress=lambda step, of: report_progress(self.folder, "train", step, of, self.speed),
                on_speed=self.hear_speed,
                on_steps=partial(log_steps, self.folder),
            )
        self.curve = {(point.step, point.name): point for point in trained.curve}
        effort = trained.effort
        under = {"device": effort.device, "precision": effort.precision, "steps": trained.steps}
        self.quantities["validation_loss"] = Measured(value=trained.validation_loss, unit="1", conditions=under)
        under |= {name: True for name in HOW_COMPUTED if getattr(recipe, name)}
        if processes > 1:
            under = {**under, "processes": processes, "parallel": self.spec.settings.parallel.kind}
        self.quantities["train_seconds"] = Measured(value=effort.seconds, unit="s", conditions=under)
        return trained

    def trained_macs(self, prepared: Prepared) -> int:
        """Multiply-adds of the network for one sample of the size that it is trained on."""
        latent, counted = prepared.sizes.latent[-1], self.quantities["macs"]
        if isinstance(counted, Counted) and counted.conditions.get("latent") == latent:
            return int(counted.value)
        return cost_of(self.spec.architecture, latent).macs

    def hear_speed(self, step: int, speed: Speed) -> None:
        """For people and dashboards: no part of the curve, which is the same however fast it was drawn."""
        self.speed = str(speed)
        for name, value in speed_fields(speed).items():
            if value is not None:
                self.tracking.log(CurvePoint(step=step, name=name, value=value))

    def point(self, point: CurvePoint) -> None:
        self.curve[point.step, point.name] = point
        self.tracking.log(point)

    def sample_and_score(self, trained: Trained, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """The samples that are kept, with their labels: all of them, or of more than WHOLE the first KEPT_SAMPLES.

        No more than a part of them is held at once, beside those; each is sampled once, whatever ends the attempt.
        """
        data, _ = prepared.training_data
        say_if_fewer(self.spec.settings.quality, data)
        labels = sampled_labels(prepared, samples_for(self.spec.settings.quality, data))
        kept = len(labels) if len(labels) <= WHOLE else KEPT_SAMPLES
        with self.phase("sample"):
            reference = None if kept == len(labels) else self.reference(prepared)
            parts = self.sample(trained.model, prepared, labels, kept, reference)
        with self.phase("score"):
            images = torch.cat([torch.from_numpy(arrays["images"]) for _, arrays in parts.read(range(kept))])[:kept]
            under = self.made_under(trained.effort)
            if reference is None:
                self.quantities |= quality(images, labels, self.reference(prepared), under)
            else:
                self.quantities |= scorer_of(parts, labels, reference).quantities(under)
        return images, labels[:kept]

    def sample(
        self, network: nn.Module, prepared: Prepared, labels: Tensor, kept: int, reference: Reference | None
    ) -> Parts:
        """The parts of the samples, all there: of the first `kept` the images, with a reference the features of all."""
        config, count = self.spec.settings.sampling, len(labels)
        folder, sections = shared_folder(self.folder) / SAMPLES, prepared.protocol.sections
        identity = {"weights_sha256": tensors_sha256(network.state_dict()), "protocol": sections, "kept": kept}
        ranges = part_ranges(count, config.micro_batch)
        parts = Parts(folder, self.folder.parent / SAMPLES_LOG, identity, ranges)
        parts.begin()

        def arrays(part: range) -> Arrays:
            images = torch.cat([each for _, each in sampled_batches(network, prepared, labels, part)])
            features = {} if reference is None else extract(images, reference).arrays()
            return features if part.start >= kept else {**features, "images": images.numpy()}

        for part in ranges:
            if not parts.make(part, arrays, lambda: False):
                raise UserError(
                    f"another process samples this trial, {folder}; wait for it or stop it, then run the "
                    "same command again"
                )
            report_progress(self.folder, "sample", part.stop, count)
        return parts

    def reference(self, prepared: Prepared) -> Reference:
        settings, (data, _) = self.spec.settings, prepared.training_data
        device = resolve_device(settings.recipe.device)
        return load_reference(settings.quality, data, cache=cache_folder(settings.out), device=device)

    def made_under(self, effort: Effort) -> dict[str, Any]:
        """Conditions of the scores: how the images were made."""
        made_on = {"training_device": effort.device, "precision": effort.precision}
        return {**made_on, **sampling_conditions(self.spec.settings.sampling)}

    def keep_samples(self, images: Tensor, labels: Tensor) -> None:
        """The grid for people, the samples for other scores."""
        store, key = self.spec.store, self.spec.key
        shown, columns = by_class(images, labels, rows=GRID_ROWS, most_columns=GRID_MOST_COLUMNS)
        write_grid(shown, store.artifact(key, "samples.png"), columns=columns)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images.numpy(), labels=labels.numpy())
        write_atomic(store.artifact(key, "samples.npz"), buffer.getvalue())
        self.artifacts |= {name: name for name in ("samples.png", "samples.npz")}

    def keep_weights(self, trained: Trained, prepared: Prepared) -> None:
        """The averaged weights, with what they are of: to sample from, export and promote; snapshots of others."""
        key, (_, prompts) = self.spec.key, prepared.training_data
        made_by = prepared.protocol.sections.get("autoencoder")
        training = Training(trial=key, latent=prepared.sizes.latent[-1], text=prompts.identity, autoencoder=made_by)
        path = self.spec.store.artifact(key, "ema.safetensors")
        write_weights(path, trained.model.state_dict(), self.spec.architecture, training)
        self.artifacts[path.name] = path.name
        for snapshot in trained.snapshots:
            write_atomic(self.spec.store.artifact(key, snapshot.name), snapshot.read_bytes())
            self.artifacts[snapshot.name] = snapshot.name

    def pictures(self) -> dict[str, Path]:
        """What a dashboard shows."""
        grids = [name for name in self.artifacts if name.endswith(".png")]
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
        size = sum(self.spec.store.artifact(self.spec.key, name).stat().st_size for name in self.artifacts)
        origin = completed_provenance(self.start, stage_seconds=self.seconds, artifact_bytes=size, **learnt)
        curve = tuple(self.curve[at] for at in sorted(self.curve))
        return record_of(
            self.spec, state, self.quantities, curve=curve, artifacts=self.artifacts, provenance=origin
        )  # fmt: skip

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        report_progress(self.folder, name, 0, 1)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def speed_fields(speed: Speed) -> dict[str, float | None]:
    return {"images_per_second": speed.images_per_second, "model_flops_utilisation": speed.mfu}


def _tracked(spec: TrialSpec) -> Run:
    """Architecture and recipe by the paths that edits and overrides have, and the knobs by the study's names."""
    sections: Any = to_plain(spec.protocol.sections)
    config: dict[str, Any] = {
        **flat(to_plain(spec.architecture)),
        **flat({name: sections[name] for name in SHOWN_FLAT if name in sections}),
        **{name: section for name, section in sections.items() if name not in SHOWN_FLAT},
        **{f"knob.{name}": value for name, value in spec.knobs.items()},
        "name": spec.name,
        "seed": spec.seed,
        "parent": spec.parent,
    }
    budget = () if spec.settings.count_only else (f"{spec.settings.recipe.steps} steps",)
    kind = "trial" if spec.fidelity == "search" else spec.fidelity
    group = spec.group or spec.name
    return Run(id=spec.key, name=spec.label, group=group, job_type=kind, config=config, tags=(group, kind, *budget))
