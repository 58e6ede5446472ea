"""What a score means: the scores of real images, nonsense, and a network that has learnt nothing.

Each is a Measurement of its own, computed once for a protocol: subject `control`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.launch.config import threads_of
from harness.launch.events import report_progress
from harness.records.errors import UserError
from harness.records.plain import Plain, from_plain, to_plain
from harness.records.provenance import completed_provenance, provenance
from harness.records.record import Measurement, Protocol, measurement_key
from harness.records.store import Store
from harness.training.device import use_threads
from harness.trials.prepared import Prepared, check_unchanged, prepare
from harness.trials.queue import TrialQueue
from harness.trials.settings import Settings
from harness.trials.spec import store_of


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
        measurements, names = [], control_names(self.settings)
        for number, name in enumerate(names):
            report_progress(attempt_folder, name, number, len(names))
            measurement = store.measurement(control_key(name, prepared, self.base))
            if measurement is None:
                measurement = _measure(name, prepared, self.base)
                store.put(measurement)
            measurements.append(to_plain(measurement))
        return measurements


def control_names(settings: Settings) -> tuple[str, ...]:
    """Of the study's task; none where trials only count."""
    return () if settings.count_only else tuple(settings.task.judged(settings).controls)


def submit_controls(queue: TrialQueue, prepared: Prepared, base: ArchitectureConfig) -> None:
    """Have the missing controls computed, beside the trials."""
    store = store_of(prepared.settings.out)
    keys = [control_key(name, prepared, base) for name in control_names(prepared.settings)]

    def is_done() -> bool:
        return all(store.measurement(key) is not None for key in keys)

    if is_done():
        return
    key = f"controls-{measurement_key('controls', {'controls': keys})}"
    job = ControlsJob(prepared.settings, prepared.protocol, base)
    queue.submit_job(key, job, store, partial(_collect, store), is_done)


def control_key(name: str, prepared: Prepared, base: ArchitectureConfig) -> str:
    return measurement_key("control", _settings(name, prepared, base))


def _settings(name: str, prepared: Prepared, base: ArchitectureConfig) -> Mapping[str, Any]:
    """All that can change a control."""
    own = prepared.task.control_identity(name, base)
    return {"control": name, "protocol": prepared.protocol.sections, **own}


def _measure(name: str, prepared: Prepared, base: ArchitectureConfig) -> Measurement:
    start = provenance(threads=threads_of(prepared.settings.launcher))
    what, quantities = _settings(name, prepared, base), prepared.task.control(name, base)
    return Measurement(subject="control", settings=what, quantities=quantities, provenance=completed_provenance(start))


def _collect(store: Store, plain: Plain) -> None:
    """Keep what a job returned, where the store does not have it (any more)."""
    if not isinstance(plain, list):
        raise UserError(f"the controls' job returned {type(plain).__name__}, not a list; delete its attempts' folder")
    for item in plain:
        measurement = from_plain(Measurement, item)
        if store.measurement(measurement.key) is None:
            store.put(measurement)
