"""A diffusers pipeline's scores over guidance and steps: what `score_sweep` is for a network of one's own.

Each is a Measurement, stored when it is there: a sweep that was killed goes on with those that are missing. In the
place of a trial's key stands the digest of the pipeline's files.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from harness.data.dataset import load_dataset
from harness.data.images import ImageData
from harness.diffusion.config import SamplingConfig
from harness.launch.config import threads_of
from harness.measure.quality import Scorer, samples_for, say_if_fewer
from harness.measure.quality_reference import Reference, load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.pixels import NotFiniteError
from harness.records.eta import with_eta
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import Failed, Quantity, Unavailable
from harness.records.record import Measurement, measurement_key
from harness.training.device import resolve_device
from harness.trials.pipeline import Pipeline, PipelinePictures
from harness.trials.prepared import cache_folder
from harness.trials.score_sweep import SweepPoint
from harness.trials.settings import Settings
from harness.trials.spec import store_of


def pipeline_sweep(folder: Path, settings: Settings, grid: Sequence[SamplingConfig]) -> list[SweepPoint]:
    """The scores at each point of the grid, from the store where it has them. Errors: as `Pipeline.pictures`, all of
    them before anything is scored."""
    data = load_dataset(settings.data, cache=cache_folder(settings.out))
    pipeline, count = Pipeline(folder, resolve_device(settings.recipe.device)), samples_for(settings.quality, data)
    say_if_fewer(settings.quality, data)
    several = [pipeline.pictures(config, count, data) for config in grid]
    sweep = _Sweep(data, settings)
    return [
        SweepPoint(sampling=made.config, own=made.sampling, scores=sweep.scores(made, f"[{number}/{len(several)}] "))
        for number, made in enumerate(several, start=1)
    ]


class _Sweep:
    def __init__(self, data: ImageData, settings: Settings) -> None:
        self.data, self.settings, self.store = data, settings, store_of(settings.out)

    @cached_property
    def reference(self) -> Reference:
        """Loaded when the first score is missing."""
        cache, device = cache_folder(self.settings.out), resolve_device(self.settings.recipe.device)
        return load_reference(self.settings.quality, self.data, cache=cache, device=device)

    def scores(self, made: PipelinePictures, place: str) -> Mapping[str, Quantity]:
        what = self._identity(made)
        stored = self.store.measurement(measurement_key("score", what))
        if stored is not None:
            return stored.quantities
        start = provenance(threads=threads_of(self.settings.launcher))
        quantities = self._computed(made, place)
        finished = completed_provenance(start)
        self.store.put(Measurement(subject="score", settings=what, quantities=quantities, provenance=finished))
        return quantities

    def _identity(self, made: PipelinePictures) -> Mapping[str, Any]:
        """All that can change the scores."""
        return {
            "trial": made.files,
            "sampled_by": made.how,
            "sampling": made.sampling,
            "classes": "all",
            "samples": made.count,
            "quality": quality_identity(self.settings.quality, self.data.size),
            "data": self.data.identity,
        }

    def _computed(self, made: PipelinePictures, place: str) -> Mapping[str, Quantity]:
        labels = torch.zeros(made.count, dtype=torch.int64) if made.labels is None else made.labels
        scorer, config, start = Scorer(self.reference, labels), made.config, 0
        what = f"{place}guidance {config.guidance_scale:g}, {config.steps} steps: samples, in parts"
        try:
            for images in with_eta(made.batches(0), what, -(-made.count // config.micro_batch)):
                scorer.add(images, range(start, start + len(images)))
                start += len(images)
        except NotFiniteError as error:  # of a scale that is too high; others may do
            return {name: Failed(phase="sample", message=str(error)) for name in self.settings.quality.metrics}
        quantities = scorer.quantities(made.conditions)
        if made.labels is None and "class_agreement" in quantities:
            quantities["class_agreement"] = Unavailable(reason="the pipeline knows no classes")
        return quantities
