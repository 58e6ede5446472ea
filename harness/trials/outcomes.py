"""How a trial can end, as a record: complete, rejected by a limit, failed; and which of them are the last word."""

from collections.abc import Mapping
from typing import Any

from harness.records.plain import to_plain
from harness.records.quantity import Failed, Quantity, Unavailable
from harness.records.record import State, TrialRecord
from harness.trials.limits import COUNTED, violated
from harness.trials.once import asked_backends, before_training, twins_backends
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec
from harness.trials.twins import PREFIX, PREFLIGHT

SCORES = ("kid", "fd", "class_agreement")
"""The quantities of a network's samples."""

LEARNT = ("validation_loss", "train_seconds", *SCORES)
"""The quantities that only a trained network has."""

WORKER = "worker"
"""The stage of a failure that was no result of the trial: a crash, a lost machine. The same command tries it again."""


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
    reason = violated(quantities, spec.limits)
    if reason is None:
        return None
    return record_of(spec, "rejected", quantities | missing(LEARNT, f"rejected before training: {reason}"))


def failed_record(spec: TrialSpec, stage: str, message: str) -> TrialRecord:
    """The record of a trial that failed outside its own stages."""
    return record_of(spec, "failed", {name: Failed(stage=stage, message=message) for name in LEARNT})


def quantity_names(settings: Settings) -> tuple[str, ...]:
    """The quantities that trials of these settings can have a value of."""
    exported = ("coreml_bytes",) if settings.coreml.kind != "none" else ()
    timed = tuple(backend.quantity for backend in asked_backends(settings))
    return (*COUNTED, *exported, *timed, *_of_twin(settings), *(() if settings.count_only else LEARNT))


def _of_twin(settings: Settings) -> tuple[str, ...]:
    if settings.twin is None:
        return ()
    timed = (backend.quantity for backend in twins_backends(settings))
    return tuple(f"{PREFIX}{name}" for name in (*COUNTED, PREFLIGHT, *timed))


def missing(names: tuple[str, ...], reason: str) -> dict[str, Quantity]:
    return {name: Unavailable(reason=reason) for name in names}


def finished(spec: TrialSpec) -> TrialRecord | None:
    """The trial's record, if nothing is left to be done for it."""
    record = spec.store.trial(spec.key)
    return record if record is not None and is_final(record) else None


def is_final(record: TrialRecord) -> bool:
    """Complete, or failed by itself (it diverged). A rejection depends on the limits, a crash on the machine."""
    if record.state == "failed":
        return all(quantity.stage != WORKER for quantity in record.quantities.values() if isinstance(quantity, Failed))
    return record.state == "complete"
