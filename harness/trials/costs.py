"""What an architecture costs, before it is trained: counted, exported, timed.

No seed changes these, so they are taken once, kept in the store and copied into every record. A second seed, a second
study or a sweep that meets the same architecture finds them. Timing needs a quiet machine, so a driver calls
`measure_latency` for all its architectures, one after another, before it starts any training job.

A latency on a phone may come later. The export that its request needs is expensive, so the store keeps which request
stands for which architecture, latent, settings and versions; asking for the answer exports nothing.
"""

import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.coreml.config import Mlprogram
from harness.coreml.export import CoremlExportError, export_package
from harness.coreml.preflight import preflight
from harness.latency.backend import LatencyBackend, QueuedBackend
from harness.latency.predicted import PredictedLatency
from harness.measure import cost
from harness.measure.touched import Anatomy, anatomy
from harness.models.build import build, example_inputs
from harness.processes.locks import FileLock
from harness.records.plain import identity
from harness.records.provenance import completed_provenance, provenance, versions
from harness.records.quantity import Counted, Failed, Predicted, Quantity, Unavailable
from harness.records.record import Measurement, measurement_key
from harness.records.store import Store
from harness.trials.limits import LATENCY, TWIN_PREFLIGHT, LatencyLimit
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec
from harness.trials.twins import PREFIX, PREFLIGHT, Twin

LOCK_WAIT_S = 3600.0  # another worker measures the same: its result is worth the wait

REQUEST = "latency_request"
"""The subject of a remembered request; its settings are those of the latency that it asks for."""


def cost_of(architecture: ArchitectureConfig, latent: int) -> cost.Cost:
    """Counted on the meta device: no memory, no arithmetic."""
    with torch.device("meta"):
        module = build(architecture)
    return cost.count(module, example_inputs(architecture, latent=latent, device="meta"))


def counted(architecture: ArchitectureConfig, latent: int) -> dict[str, Counted]:
    """params, macs, macs_without_attention, flops_fvcore, of one forward pass on one latent."""
    return dict(_counted(architecture, latent))


@functools.lru_cache(maxsize=10_000)
def _counted(architecture: ArchitectureConfig, latent: int) -> dict[str, Counted]:
    """Once a process: a driver gates what it then trains, and of every seed."""
    context_length = architecture.context_length if isinstance(architecture, Denoiser) else None
    return cost.quantities(cost_of(architecture, latent), latent=latent, context_length=context_length)


@functools.lru_cache(maxsize=100)
def anatomy_of(architecture: ArchitectureConfig, latent: int) -> Anatomy:
    """Its modules and what each of them computes, counted on the meta device."""
    with torch.device("meta"):
        module = build(architecture)
    return anatomy(module, example_inputs(architecture, latent=latent, device="meta"))


def measure_coreml(
    store: Store, architecture: ArchitectureConfig, settings: Settings, latent: int
) -> dict[str, Quantity]:
    """`coreml_bytes`: of the exported package, which is not kept; Failed where the network does not convert."""
    if not isinstance(settings.coreml, Mlprogram):
        return {"coreml_bytes": Unavailable(reason="Core ML export is switched off (coreml=none)")}
    config, latent = settings.coreml, settings.coreml.latent or latent
    what = {
        "architecture": architecture.fingerprint,
        "latent": latent,
        "export": identity(config),
        "versions": versions(("coremltools", "torch")),  # another converter may convert, and to another size
    }

    def export() -> tuple[dict[str, Quantity], dict[str, Any]]:
        folder = Path(tempfile.mkdtemp(prefix="export-"))
        try:
            inputs = example_inputs(architecture, latent=latent)
            summary = export_package(build(architecture), inputs, folder / "unet.mlpackage", config)
        except CoremlExportError as error:
            return {"coreml_bytes": Failed(phase="coreml", message=str(error))}, {}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        details = {"operators": dict(summary.operators), "seconds": summary.seconds, "versions": dict(summary.versions)}
        return {"coreml_bytes": summary.quantity}, details

    return _stored_or_measured(store, "coreml", what, export)


def measure_latency(
    store: Store, architecture: ArchitectureConfig, settings: Settings, latent: int
) -> dict[str, Quantity]:
    """One quantity a backend that is asked: `latency_cpu`, `latency_iphone`, ..."""
    latent = settings.latency.latent or latent
    latencies = {
        backend.quantity: latency_of(store, backend, architecture, latent) for backend in latency_backends(settings)
    }
    if settings.twin is None:
        return latencies
    names = [backend.quantity for backend in settings.latency.backends if backend.of_deployment]
    instead = "a study with a deployment twin asks for that one's instead"
    return latencies | {name: Unavailable(reason=f"{instead}: {PREFIX}{name}") for name in names}


def latency_backends(settings: Settings) -> tuple[LatencyBackend, ...]:
    """The chosen ones; where trials only count, without those that would run the network on this machine. Those that
    stand for a phone are asked for the deployment twin instead, where there is one."""
    chosen = settings.latency.backends
    if settings.twin is not None:
        chosen = tuple(backend for backend in chosen if not backend.of_deployment)
    return _without_this_machine(chosen) if settings.count_only else chosen


def twin_latency_backends(settings: Settings) -> tuple[LatencyBackend, ...]:
    """Those that are asked for a deployment twin: the predictor always, and the chosen ones that stand for a phone."""
    chosen = tuple(backend for backend in settings.latency.backends if backend.of_deployment)
    if settings.latency.predicted is None:
        chosen = (PredictedLatency(), *chosen)
    return _without_this_machine(chosen) if settings.count_only else chosen


def _without_this_machine(chosen: tuple[LatencyBackend, ...]) -> tuple[LatencyBackend, ...]:
    return tuple(backend for backend in chosen if not backend.needs_weights or isinstance(backend, QueuedBackend))


def before_training(spec: TrialSpec) -> dict[str, Quantity]:
    """What a limit may be on: the counts and, if the study's limits have one, `latency_ms` on its chip; the same of the
    deployment twin, where there is one, and the latency predicted of it; its preflight, if a limit is on that."""
    quantities: dict[str, Quantity] = {**counted(spec.architecture, spec.latent)}
    if isinstance(limit := spec.settings.limits.get(LATENCY), LatencyLimit):
        quantities[LATENCY] = _latency_under(limit, spec, *timed_by(LATENCY, spec))
    if (twin := spec.twin) is None:
        return quantities
    of_twin = _counted_once(spec.store, twin)
    predictor = spec.settings.latency.predicted or PredictedLatency()
    of_twin[predictor.quantity] = latency_of(spec.store, predictor, twin.architecture, twin.latent)
    if isinstance(limit := spec.settings.limits.get(f"{PREFIX}{LATENCY}"), LatencyLimit):
        of_twin[LATENCY] = _latency_under(limit, spec, twin.architecture, twin.latent)
    if TWIN_PREFLIGHT in spec.settings.limits:
        of_twin |= _preflight_once(spec.store, twin, spec.settings)
    return quantities | twin.named(of_twin)


def measure_twin(spec: TrialSpec) -> dict[str, Quantity]:
    """What the deployment twin costs beside that: the known limits that it meets, its latency on phones."""
    if (twin := spec.twin) is None:
        return {}
    costs = _preflight_once(spec.store, twin, spec.settings)
    for backend in twin_latency_backends(spec.settings):
        costs[backend.quantity] = latency_of(spec.store, backend, twin.architecture, twin.latent)
    return twin.named(costs)


def _counted_once(store: Store, twin: Twin) -> dict[str, Quantity]:
    """Counting a network at full size takes half a second, and every seed, study and restart asks for it."""
    what = {"architecture": twin.architecture.fingerprint, "latent": twin.latent, "versions": versions(("torch",))}
    return _stored_or_measured(store, "counts", what, lambda: ({**counted(twin.architecture, twin.latent)}, {}))


def _preflight_once(store: Store, twin: Twin, settings: Settings) -> dict[str, Quantity]:
    """How many of the Neural Engine's known limits it meets; which, is in the conditions."""
    config = settings.coreml if isinstance(settings.coreml, Mlprogram) else Mlprogram()
    what = {
        "architecture": twin.architecture.fingerprint,
        "latent": twin.latent,
        "export": identity(config),
        "versions": versions(("torch",)),
    }

    def measure() -> tuple[dict[str, Quantity], dict[str, Any]]:
        with torch.device("meta"):
            module = build(twin.architecture)
        inputs = example_inputs(twin.architecture, latent=twin.latent, device="meta")
        result = preflight(module, inputs, config)
        limits = {"limits": sorted({finding.limit for finding in result.findings})}
        return {PREFLIGHT: Counted(value=len(result.findings), unit="known limits met", conditions=limits)}, {}

    return _stored_or_measured(store, "preflight", what, measure)


def _latency_under(limit: LatencyLimit, spec: TrialSpec, architecture: ArchitectureConfig, latent: int) -> Quantity:
    """Measured on the limit's chip by a chosen backend, if the store has that already; else predicted."""
    for backend in spec.settings.latency.backends:
        key = measurement_key("latency", latency_settings(backend, architecture, latent))
        measurement = spec.store.measurement(key)
        if measurement is not None and limit.fits(quantity := measurement.quantities[backend.quantity]):
            return quantity
    return latency_of(spec.store, limit.predictor, architecture, latent)


def latency_settings(backend: LatencyBackend, architecture: ArchitectureConfig, latent: int) -> dict[str, Any]:
    """All that tells one latency from another: the identity of its measurement."""
    return {
        "architecture": architecture.fingerprint,
        "latent": latent,
        "backend": backend.name,
        "settings": identity(backend),
        **backend.instrument(),
    }


def latency_of(store: Store, backend: LatencyBackend, architecture: ArchitectureConfig, latent: int) -> Quantity:
    settings = latency_settings(backend, architecture, latent)

    def build_with_inputs() -> tuple[nn.Module, tuple[Tensor, ...]]:
        device = torch.device("cpu" if backend.needs_weights else "meta")
        with device:
            module = build(architecture)
        return module, example_inputs(architecture, latent=latent, device=device)

    def measure() -> tuple[dict[str, Quantity], dict[str, Any]]:
        if isinstance(backend, QueuedBackend):
            quantity = ask(store, backend, settings, build_with_inputs)
        else:
            quantity = backend.measure(*build_with_inputs())
        return {backend.quantity: quantity}, {}

    latency = _stored_or_measured(store, "latency", settings, measure)[backend.quantity]
    if not isinstance(backend, QueuedBackend) or not isinstance(latency, Unavailable) or backend.queue is None:
        return latency
    predictor = backend.predictor
    expected = None if predictor is None else latency_of(store, predictor, architecture, latent)
    return replace(latency, expected=expected) if isinstance(expected, Predicted) else latency


def timed_by(name: str, spec: TrialSpec) -> tuple[ArchitectureConfig, int]:
    """The architecture that is timed for this quantity, and its latent."""
    if name.startswith(PREFIX) and spec.twin is not None:
        return spec.twin.architecture, spec.twin.latent
    return spec.architecture, spec.settings.latency.latent or spec.latent


def ask(
    store: Store,
    backend: QueuedBackend,
    settings: Mapping[str, Any],
    build_with_inputs: Callable[[], tuple[nn.Module, Sequence[Any]]],
) -> Quantity:
    """The answer, or Unavailable while it waits; submits the request unless the queue has it. Never waits.

    `made` builds the module and its inputs, and is called only where they must be exported.
    """
    if (obstacle := backend.obstacle()) is not None or backend.queue is None:
        return obstacle or Unavailable(reason="needs a queue")
    remembered = store.measurement(measurement_key(REQUEST, settings))
    if remembered is not None and (answer := backend.collect(remembered.provenance["request"])) is not None:
        return answer
    request = backend.submit(*build_with_inputs())
    if not isinstance(request, str):
        return request
    answer = backend.collect(request) or Unavailable(reason=f"request {request} was removed from the queue")
    where = {"request": request, "queue": str(backend.queue.expanduser().absolute())}
    waits = Unavailable(reason="asked for in a queue", awaits=request)
    store.put(Measurement(subject=REQUEST, settings=settings, quantities={backend.quantity: waits}, provenance=where))
    return answer


def _stored_or_measured(
    store: Store,
    subject: str,
    settings: Mapping[str, Any],
    measure: Callable[[], tuple[dict[str, Quantity], dict[str, Any]]],
) -> dict[str, Quantity]:
    """The stored quantities, or those that `measure` finds; one process measures, others wait for it."""
    key = measurement_key(subject, settings)
    if (measurement := store.measurement(key)) is not None:
        return dict(measurement.quantities)
    lock = FileLock.acquire(store.root / "locks" / key, wait_s=LOCK_WAIT_S)
    try:
        if (measurement := store.measurement(key)) is None:
            start = provenance()
            quantities, more = measure()
            origin = completed_provenance(start, **more)
            measurement = Measurement(subject=subject, settings=settings, quantities=quantities, provenance=origin)
            if not any(isinstance(quantity, Unavailable) for quantity in quantities.values()):
                store.put(measurement)  # what is not available now may be tomorrow
        return dict(measurement.quantities)
    finally:
        if lock is not None:
            lock.release()
