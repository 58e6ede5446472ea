"""What a score means: the scores of real images, nonsense, and a network that has learnt nothing.

Each is a Measurement of its own, computed once for a protocol: subject `control`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.launch.config import threads_of
from harness.launch.events import report_progress
from harness.measure.quality import Scorer, samples_for
from harness.measure.quality_controls import Part, control_parts, images_at_once
from harness.measure.quality_reference import Reference, load_reference
from harness.records.errors import UserError
from harness.records.plain import Plain, from_plain, to_plain
from harness.records.provenance import completed_provenance, provenance
from harness.records.record import Measurement, Protocol, measurement_key
from harness.records.store import Store
from harness.training.device import resolve_device, use_threads
from harness.trials.prepared import Prepared, cache_folder, check_unchanged, prepare
from harness.trials.queue import TrialQueue
from harness.trials.samples import initialised_network, sampled_batches, sampled_labels, sampling_conditions
from harness.trials.settings import Settings
from harness.trials.spec import store_of

CONTROLS = ("floor", "untrained", "noise", "pixel_gaussian")
UNTRAINED_SEED = 0


@dataclass(frozen=True, slots=True)
class ControlsJob:
    """What a worker calls: all controls that the store does not have."""

    settings: Settings
    protocol: Protocol  # as the driver planned it
    base: ArchitectureConfig  # fitted; the network that stays untrained

    def __call__(self, attempt_folder: Path) -> Plain:
        use_threads(threads_of(self.settings.launcher))
        prepared, store = prepare(self.settings), store_of(self.settings.out)
        check_unchanged(self.protocol, prepared)
        data, _ = prepared.training_data
        device = resolve_device(self.settings.recipe.device)
        reference = load_reference(self.settings.quality, data, cache=cache_folder(self.settings.out), device=device)
        measurements = []
        for number, name in enumerate(CONTROLS):
            report_progress(attempt_folder, name, number, len(CONTROLS))
            measurement = store.measurement(control_key(name, prepared, self.base))
            if measurement is None:
                measurement = _measure(name, prepared, self.base, reference)
                store.put(measurement)
            measurements.append(to_plain(measurement))
        return measurements


def submit_controls(queue: TrialQueue, prepared: Prepared, base: ArchitectureConfig) -> None:
    """Have the missing controls computed, beside the trials."""
    store = store_of(prepared.settings.out)
    keys = [control_key(name, prepared, base) for name in CONTROLS] if prepared.data is not None else []

    def is_done() -> bool:
        return all(store.measurement(key) is not None for key in keys)

    if is_done():
        return
    key = f"controls-{measurement_key('controls', _settings('untrained', prepared.protocol, base))}"
    job = ControlsJob(prepared.settings, prepared.protocol, base)
    queue.submit_job(key, job, store, partial(_collect, store), is_done)


def control_key(name: str, prepared: Prepared, base: ArchitectureConfig) -> str:
    return measurement_key("control", _settings(name, prepared.protocol, base))


def _settings(name: str, protocol: Protocol, base: ArchitectureConfig) -> Mapping[str, Any]:
    """All that can change a control: only the untrained network's depends on an architecture."""
    network = {"architecture": base.fingerprint, "seed": UNTRAINED_SEED} if name == "untrained" else {}
    return {"control": name, "protocol": protocol.sections, **network}


def _measure(name: str, prepared: Prepared, base: ArchitectureConfig, reference: Reference) -> Measurement:
    settings, (data, _) = prepared.settings, prepared.training_data
    start = provenance(threads=threads_of(settings.launcher))
    under: Mapping[str, Any] = {}
    if name == "untrained":
        labels = sampled_labels(prepared, samples_for(settings.quality, data))
        network = initialised_network(base, UNTRAINED_SEED).to(resolve_device(settings.recipe.device))
        parts = _sampled_parts(network, prepared, labels)
        under = sampling_conditions(settings.sampling)
    else:
        labels, parts = control_parts(name, data, settings.quality, settings.sampling)
    scorer = Scorer(reference, labels)
    for indices, images in parts:
        scorer.add(images, indices)
    quantities = scorer.quantities(under)
    what = _settings(name, prepared.protocol, base)
    return Measurement(subject="control", settings=what, quantities=quantities, provenance=completed_provenance(start))


def _sampled_parts(network: nn.Module, prepared: Prepared, labels: Tensor) -> Iterator[Part]:
    """All samples, as many at a time as the other controls are."""
    data, _ = prepared.training_data
    size, begin, held = images_at_once(data, prepared.settings.sampling.micro_batch), 0, []
    for indices, images in sampled_batches(network, prepared, labels):
        held.append(images)
        if indices.stop % size == 0 or indices.stop == len(labels):
            yield range(begin, indices.stop), torch.cat(held)
            begin, held = indices.stop, []


def _collect(store: Store, plain: Plain) -> None:
    """Keep what a job returned, where the store does not have it (any more)."""
    if not isinstance(plain, list):
        raise UserError(f"the controls' job returned {type(plain).__name__}, not a list; delete its attempts' folder")
    for item in plain:
        measurement = from_plain(Measurement, item)
        if store.measurement(measurement.key) is None:
            store.put(measurement)
