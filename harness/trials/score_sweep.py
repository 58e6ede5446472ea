"""One checkpoint, many scores: guidance scales times solver steps, all from the same noise and for the same classes.

A score is a Measurement of (weights, sampling, quality), not a trial. Each is stored when it is there, so a sweep that
was killed goes on with those that are missing, and a wider one computes only what is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.data.dataset import load_dataset
from harness.data.images import ImageData
from harness.diffusion.config import SamplingConfig
from harness.launch.config import threads_of
from harness.measure.quality import Scorer, samples_for
from harness.measure.quality_config import METRICS, QualityConfig
from harness.measure.quality_reference import Reference, load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.extractor_config import InceptionV3Extractor
from harness.models.pixels import NotFiniteError
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import Failed, Quantity
from harness.records.record import Measurement, measurement_key
from harness.training.device import resolve_device
from harness.trials.prepared import cache_folder
from harness.trials.samples import sampling_conditions
from harness.trials.sampling_run import SamplingRun, sampling_run
from harness.trials.settings import Settings
from harness.trials.spec import store_of
from harness.trials.trained import TrainedNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    sampling: SamplingConfig
    scores: Mapping[str, Quantity]


def sampling_grid(
    base: SamplingConfig, guidance: Sequence[float] | None, steps: Sequence[int] | None
) -> list[SamplingConfig]:
    """Every guidance scale with every number of steps; None: the base's. UserError for what sampling refuses, and for
    a value given twice."""
    scales, numbers = guidance or (base.guidance_scale,), steps or (base.steps,)
    for name, values in (("--guidance", scales), ("--steps", numbers)):
        if len(set(values)) < len(values):
            raise UserError(f"{name} names a value twice: {', '.join(f'{value:g}' for value in values)}; give it once")
    return [replace(base, steps=number).with_guidance(scale) for number in numbers for scale in scales]


def ranked_by(config: QualityConfig) -> str:
    """The score that tells which point is best: FID in Inception's features, as published; elsewhere KID."""
    wanted = ("fd", "kid") if isinstance(config.extractor, InceptionV3Extractor) else ("kid", "fd")
    return next(name for name in (*wanted, *METRICS) if name in config.metrics)


def score_sweep(trained: TrainedNetwork, settings: Settings, grid: Sequence[SamplingConfig]) -> list[SweepPoint]:
    """The scores at each point of the grid, from the store where it has them.

    UserError where the data is not the one that the network was trained on.
    """
    data = load_dataset(settings.data, cache=cache_folder(settings.out))
    run = sampling_run(trained, settings, samples_for(settings.quality, data))
    if tuple(run.class_names) != data.class_names:
        raise UserError(
            f"trial {trained.key} knows other classes than data={settings.data.kind} has; give the data that it was "
            "trained on, data=..."
        )
    sweep = _Sweep(run, data, settings)
    return [
        SweepPoint(sampling=config, scores=sweep.scores(config, f"[{number}/{len(grid)}] "))
        for number, config in enumerate(grid, start=1)
    ]


class _Sweep:
    """The reference is loaded when the first score is missing."""

    def __init__(self, run: SamplingRun, data: ImageData, settings: Settings) -> None:
        self.run, self.data, self.settings = run, data, settings
        self.store, self.device = store_of(settings.out), resolve_device(settings.recipe.device)
        self._reference: Reference | None = None

    @property
    def reference(self) -> Reference:
        if self._reference is None:
            cache = cache_folder(self.settings.out)
            self._reference = load_reference(self.settings.quality, self.data, cache=cache, device=self.device)
        return self._reference

    def scores(self, config: SamplingConfig, place: str) -> Mapping[str, Quantity]:
        run = self.run.with_sampling(config)
        identity = self._identity(run)
        stored = self.store.measurement(measurement_key("score", identity))
        if stored is not None:
            return stored.quantities
        start = provenance(threads=threads_of(self.settings.launcher))
        quantities = self._computed(run, place)
        made = completed_provenance(start)
        self.store.put(Measurement(subject="score", settings=identity, quantities=quantities, provenance=made))
        return quantities

    def _identity(self, run: SamplingRun) -> Mapping[str, Any]:
        """All that can change the scores."""
        quality = quality_identity(self.settings.quality, self.data.size)
        return {**run.identity, "samples": len(run), "quality": quality, "data": self.data.identity}

    def _computed(self, run: SamplingRun, place: str) -> Mapping[str, Quantity]:
        scorer, config = Scorer(self.reference, run.labels), run.config
        what = f"{place}guidance {config.guidance_scale:g}, {config.steps} steps: samples, in parts"
        try:
            for part, images in with_eta(run.batches(), what, -(-len(run) // config.micro_batch)):
                scorer.add(images, part)
        except NotFiniteError as error:  # of a scale that is too high; others may do
            return {name: Failed(phase="sample", message=str(error)) for name in self.settings.quality.metrics}
        return scorer.quantities(_conditions(config))


def _conditions(config: SamplingConfig) -> Mapping[str, Any]:
    how = {"guidance_scale": config.guidance_scale, "steps": config.steps, "evaluations": config.evaluations}
    return {**sampling_conditions(config), "solver": config.solver, **how}
