"""How a trial can end, as a record: complete, rejected by a limit, failed; which of them are the last word; and what a
record is given later, a phone's answer or what another study's settings ask for."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.device.queue import FolderQueue
from harness.device.targets import same_chip
from harness.latency.backend import LatencyBackend, QueuedBackend
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Failed, Known, Measured, Quantity, Unavailable
from harness.records.record import Measurement, State, TrialRecord, measurement_key
from harness.records.store import Store
from harness.trials.costs import (
    REQUEST,
    before_training,
    latency_backends,
    latency_of,
    latency_settings,
    measure_coreml,
    measure_latency,
    measure_twin,
    timed_by,
    twin_latency_backends,
)
from harness.trials.limits import COUNTED, first_refusal
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec
from harness.trials.twins import PREFIX, PREFLIGHT, conditions_of_twin, under

TRAINED = ("validation_loss", "train_seconds")

WORKER = "worker"
"""The phase of a failure that was no result of the trial: a crash, a lost machine. The same command tries it again."""


def record_of(spec: TrialSpec, state: State, quantities: Mapping[str, Quantity], **more: Any) -> TrialRecord:
    """The trial's record; `more` are further fields of TrialRecord."""
    plain: Any = to_plain(spec.architecture)
    return TrialRecord(
        name=spec.name,
        architecture=plain,
        architecture_fingerprint=spec.architecture.fingerprint,
        protocol=spec.protocol.sections,
        protocol_fingerprint=spec.protocol.fingerprint,
        seed=spec.seed,
        state=state,
        quantities=quantities,
        parent=spec.parent,
        fidelity=spec.fidelity,
        **more,
    )


def rejected(spec: TrialSpec) -> TrialRecord | None:
    """The record of a trial that violates a hard limit, which it names; None where all limits are met."""
    if not spec.limits:
        return None
    quantities = before_training(spec)
    reason = first_refusal(quantities, spec.limits)
    if reason is None:
        return None
    absent = all_unavailable(learnt(spec.settings), f"rejected before training: {reason}")
    return record_of(spec, "rejected", quantities | absent)


def failed_record(spec: TrialSpec, phase: str, message: str) -> TrialRecord:
    """The record of a trial that failed outside its own phases."""
    return record_of(spec, "failed", {name: Failed(phase=phase, message=message) for name in learnt(spec.settings)})


def learnt(settings: Settings) -> tuple[str, ...]:
    """The quantities that only a trained network has: of its training, and its task's scores."""
    return (*TRAINED, *settings.task.scoring(settings).scores)


def quantity_names(settings: Settings) -> tuple[str, ...]:
    """The quantities that trials of these settings can have a value of."""
    exported = ("coreml_bytes",) if settings.coreml.kind != "none" else ()
    timed = tuple(backend.quantity for backend in latency_backends(settings))
    return (*COUNTED, *exported, *timed, *_of_twin(settings), *(() if settings.count_only else learnt(settings)))


def _of_twin(settings: Settings) -> tuple[str, ...]:
    if settings.twin is None:
        return ()
    timed = (backend.quantity for backend in twin_latency_backends(settings))
    return tuple(f"{PREFIX}{name}" for name in (*COUNTED, PREFLIGHT, *timed))


def all_unavailable(names: tuple[str, ...], reason: str) -> dict[str, Quantity]:
    return {name: Unavailable(reason=reason) for name in names}


def finished(spec: TrialSpec) -> TrialRecord | None:
    """The trial's record, if nothing is left to be done for it."""
    record = spec.store.trial(spec.key)
    return record if record is not None and is_final(record) else None


def is_final(record: TrialRecord) -> bool:
    """Complete, or failed by itself (it diverged). A rejection depends on the limits, a crash on the machine."""
    if record.state == "failed":
        return all(quantity.phase != WORKER for quantity in record.quantities.values() if isinstance(quantity, Failed))
    return record.state == "complete"


def with_current_costs(spec: TrialSpec, record: TrialRecord) -> TrialRecord:
    """A finished trial's record with the counts, export and latencies that the settings ask for now; stored if changed.

    They are no part of a trial's identity, so another `latent` or number of threads trains nothing anew. What the
    settings leave out, the record keeps.
    """
    if record.state != "complete":
        return record
    at = (spec.store, spec.architecture, spec.settings, spec.latent)
    current = {**before_training(spec), **measure_latency(*at), **measure_twin(spec)}
    if not spec.settings.count_only:
        current |= measure_coreml(*at)
    before = record.quantities if _is_of_its_twin(spec, record) else _without_twin(record.quantities)
    kept = {name: quantity for name, quantity in before.items() if _keeps_its_own(spec, name, current, quantity)}
    quantities = {**before, **current, **kept}
    if quantities != record.quantities:
        record = replace(record, quantities=quantities)
        spec.store.put(record)
    return record


def with_own_twin(spec: TrialSpec, record: TrialRecord) -> TrialRecord:
    """The record itself, unless another study with another twin wrote it: then as this one asks for it."""
    return record if _is_of_its_twin(spec, record) else with_current_costs(spec, record)


def _is_of_its_twin(spec: TrialSpec, record: TrialRecord) -> bool:
    """Whether a twin's costs in the record, if a twin is asked for, are of that one."""
    return spec.twin is None or conditions_of_twin(f"{PREFIX}macs", record.quantities) == spec.twin.conditions


def _without_twin(quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
    return {name: quantity for name, quantity in quantities.items() if not name.startswith(PREFIX)}


def _keeps_its_own(spec: TrialSpec, name: str, current: Mapping[str, Quantity], own: Quantity) -> bool:
    """Whether the record's own is worth more than the current one: a number, where none is there and none will come. A
    latency that the settings ask for must be of their latent and chip."""
    instead = current.get(name)
    if not isinstance(instead, Unavailable) or instead.awaits or not isinstance(own, Known):
        return False
    backend = _backends(spec.settings).get(name)
    if backend is None:
        return True
    chip = getattr(backend, "chip", None)  # None: any
    of_chip = chip is None or same_chip(str(own.conditions.get("chip", "")), chip)
    return of_chip and own.conditions.get("latent") == timed_by(name, spec)[1]


def queued_backends(settings: Settings) -> dict[str, QueuedBackend]:
    """The quantities that queues are asked for; a deployment twin's among them."""
    return {name: backend for name, backend in _backends(settings).items() if isinstance(backend, QueuedBackend)}


def _backends(settings: Settings) -> dict[str, LatencyBackend]:
    """What takes which latency; a deployment twin's among them."""
    backends = {backend.quantity: backend for backend in latency_backends(settings)}
    if settings.twin is not None:
        backends |= {f"{PREFIX}{backend.quantity}": backend for backend in twin_latency_backends(settings)}
    return backends


def with_arrived_answers(spec: TrialSpec, record: TrialRecord) -> TrialRecord:
    """The record with the measurements that came since, stored if there are some; asks again for what no queue has."""
    record = with_own_twin(spec, record)
    arrived: dict[str, Quantity] = {}
    for name, backend in queued_backends(spec.settings).items():
        before = record.quantities.get(name)
        if not isinstance(before, Unavailable):
            continue
        latency = latency_of(spec.store, backend, *timed_by(name, spec))
        if not isinstance(latency, Unavailable) or latency.awaits not in ("", before.awaits):
            arrived[name] = under(latency, conditions_of_twin(name, record.quantities))
    if arrived:
        record = replace(record, quantities={**record.quantities, **arrived})
        spec.store.put(record)
    return record


def measurements_to_queue(spec: TrialSpec) -> dict[str, str]:
    """What queues would be asked for by this trial: quantity -> the key of its measurement, where there is none yet."""
    keys = {
        name: measurement_key("latency", latency_settings(backend, *timed_by(name, spec)))
        for name, backend in queued_backends(spec.settings).items()
    }
    return {name: key for name, key in keys.items() if spec.store.measurement(key) is None}


def collect(store: Store) -> int:
    """Fill the answers that arrived since into the store's records; how many numbers. A queue out of reach gives none.

    An answer becomes a measurement of its own too, so that a later trial of the same architecture has it.
    """
    requests = (each for each in store.measurements() if each.subject == REQUEST)
    tickets = {ticket.provenance["request"]: ticket for ticket in requests}
    if not tickets:
        return 0
    answers = {request: answer for request, ticket in tickets.items() if (answer := _answer(ticket)) is not None}
    for request, quantity in answers.items():
        ticket = tickets[request]
        (name,) = ticket.quantities
        store.put(replace(ticket, subject="latency", quantities={name: quantity}))
    filled = 0
    for record in list(store.readable_trials()):  # nobody can say what a damaged one waits for
        arrived = {
            name: under(answers[quantity.awaits], conditions_of_twin(name, record.quantities))
            for name, quantity in record.quantities.items()
            if isinstance(quantity, Unavailable) and quantity.awaits in answers
        }
        if arrived:
            store.put(replace(record, quantities={**record.quantities, **arrived}))
            filled += len(arrived)
    return filled


def _answer(ticket: Measurement) -> Measured | Failed | None:
    try:
        return FolderQueue(Path(ticket.provenance["queue"])).answer(ticket.provenance["request"])
    except (UserError, OSError):
        return None
