"""Specs in, records out: the pool of jobs seen as trials. `ablate`, `sweep` and `train` all run through here.

A trial whose record is in the store is not run, nor is one that another study trains now: its record is waited for. One
that violates a limit is rejected before it becomes a job; a job that crashes or is lost too often becomes a failed
record, which the same command tries again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from harness.architecture.kinds import builder_module
from harness.launch.attempt import shared_of
from harness.launch.events import Progress
from harness.launch.pool import Outcome, Pool
from harness.launch.team import Place
from harness.launch.worker import Call
from harness.records.errors import UserError
from harness.records.plain import Plain, from_plain, to_plain
from harness.records.quantity import Unavailable
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.training.checkpoint import copy_newest
from harness.trials.claims import Backlog, Left
from harness.trials.outcomes import (
    WORKER,
    failed_record,
    finished,
    queued_backends,
    rejected,
    with_arrived_answers,
    with_current_costs,
    with_own_twin,
)
from harness.trials.progress import Show
from harness.trials.run import CHECKPOINTS, follow_trial, run_trial
from harness.trials.spec import TrialSpec

POLL_S = 0.5
LOOK_EVERY_S = 10.0  # for measurements that came, at most
LOOK_REST = 20.0  # times as long as a look takes, it rests after one


@dataclass(frozen=True, slots=True)
class TrialJob:
    """What a worker calls."""

    spec: TrialSpec

    @property
    def imports(self) -> tuple[str, ...]:
        """What a worker would import only once it runs; a fork server does so before."""
        settings = self.spec.settings
        tracking = ("harness.tracking.wandb_run", "wandb.sdk.launch") if settings.tracker.kind == "wandb" else ()
        export = ("coremltools", "harness.coreml.layout") if settings.coreml.kind == "mlprogram" else ()
        built = map(builder_module, (self.spec.architecture, settings.task, settings.objective))
        return ("torch._dynamo", *built, *tracking, *export)

    @property
    def is_shared(self) -> bool:
        return not self.spec.settings.count_only

    def __call__(self, attempt_folder: Path) -> Plain:
        return to_plain(run_trial(self.spec, attempt_folder))

    def follow(self, attempt_folder: Path, place: Place) -> None:
        """What the training's other processes call."""
        follow_trial(self.spec, attempt_folder, place)


class Trials(Protocol):
    """What a driver needs of the queue."""

    @property
    def free(self) -> int: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def awaiting(self) -> int:
        """Of the trials that are expected again."""

    def submit(self, spec: TrialSpec) -> TrialRecord | None: ...

    def expect(self, spec: TrialSpec) -> None:
        """It ended without a measurement that another queue has been asked for: `poll` has it once more, when that is
        there. Until then it takes no room."""

    def progress(self) -> Mapping[str, Progress]: ...

    def poll(self, timeout_s: float) -> list[tuple[TrialSpec, TrialRecord]]: ...


class TrialQueue:
    def __init__(self, pool: Pool, *, on_loss: Callable[[str, str], None] = lambda _label, _why: None) -> None:
        """`on_loss` hears of attempts that died and are started again."""
        self.pool, self.on_loss = pool, on_loss
        self._specs: dict[str, TrialSpec] = {}
        self._collect: dict[str, Callable[[Plain], None]] = {}
        self._backlog = Backlog(pool)
        self._expected: dict[str, TrialSpec] = {}  # by trial key
        self._look_at = 0.0  # monotonic seconds; when to look for measurements
        self.failures: list[str] = []  # of jobs that are no trials

    @property
    def free(self) -> int:
        return self._backlog.free

    @property
    def in_flight(self) -> int:
        return self.pool.in_flight + len(self._backlog)

    @property
    def awaiting(self) -> int:
        return len(self._expected)

    def expect(self, spec: TrialSpec) -> None:
        self._expected[spec.key] = spec

    def progress(self) -> dict[str, Progress]:
        """Trial key -> how far it is."""
        return {**self.pool.progress(), **self._backlog.progress()}

    def submit(self, spec: TrialSpec) -> TrialRecord | None:
        """The record if there is one already, or a limit is violated; else None, and `poll` will have it."""
        if (record := finished(spec)) is not None:
            return with_current_costs(spec, record)
        if (record := rejected(spec)) is not None:
            spec.store.put(record)
            return record
        self._specs[spec.key] = spec
        checkpoints = spec.checkpoints or shared_of(self.pool.folder / spec.key) / CHECKPOINTS
        self._backlog.add(
            spec.key,
            TrialJob(spec),
            spec.store.root,
            is_done=lambda: finished(spec) is not None,
            holds=partial(_has_its_artifacts, spec),
            checkpoints=checkpoints,
            take_over=partial(self._take_over, spec, checkpoints),
        )
        return None

    def _take_over(self, spec: TrialSpec, checkpoints: Path, left: Left) -> None:
        """Lay the newest checkpoint of a study that is gone where the trial begins."""
        step = copy_newest(left.checkpoints, checkpoints, at_most=spec.settings.recipe.steps)
        at = "" if step is None else f" after a checkpoint at step {step:,}"
        self.on_loss(spec.label, f"study {left.study}, which trained it, ended{at}")

    def submit_job(
        self, key: str, call: Call, store: Store, collect: Callable[[Plain], None], is_done: Callable[[], bool]
    ) -> None:
        """A job that is no trial, which fills `store`; `collect` gets what it returns, now or from an earlier driver's
        attempt. `is_done` says whether the store has that already."""
        self._collect[key] = collect
        self._backlog.add(key, call, store.root, is_done=is_done)

    def poll(self, timeout_s: float) -> list[tuple[TrialSpec, TrialRecord]]:
        """The trials that ended since the last call, and those whose measurements came. A mistake of the user's (a full
        disk) is a UserError."""
        ended = self._completed_since() + self._done_elsewhere()
        wait_s = 0.0 if ended else timeout_s
        outcomes = self.pool.poll(wait_s)
        if (self._expected or self._backlog) and not outcomes and self.pool.in_flight == 0:
            time.sleep(wait_s)  # the pool does not wait for nothing
        for outcome in outcomes:
            if outcome.user_error:
                raise UserError(f"{self._label(outcome.key)}: {outcome.error}")
            if not outcome.is_final:
                self.on_loss(self._label(outcome.key), outcome.error)
                continue
            if outcome.key in self._collect:
                self._end_job(outcome)
            else:
                spec = self._specs.pop(outcome.key)
                ended.append((spec, _record(spec, outcome)))
            self._backlog.end(outcome.key)
        return ended

    def _done_elsewhere(self) -> list[tuple[TrialSpec, TrialRecord]]:
        """Start what there is room for; the trials that ended in another study."""
        keys = self._backlog.start()
        specs = [self._specs.pop(key) for key in keys if self._collect.pop(key, None) is None]
        return [(spec, record) for spec in specs if (record := self.submit(spec)) is not None]

    def _completed_since(self) -> list[tuple[TrialSpec, TrialRecord]]:
        """Those expected that are complete now. It looks seldom: a phone takes minutes, and a shared folder is slow."""
        if not self._expected or (began := time.monotonic()) < self._look_at:
            return []
        complete = []
        for spec in list(self._expected.values()):
            before = spec.store.trial(spec.key)
            record = None if before is None else with_arrived_answers(spec, before)
            if record is not None and record.state == "complete" and _waits(spec, record):
                continue
            del self._expected[spec.key]
            if record is not None:
                complete.append((spec, record))
            elif (again := self.submit(spec)) is not None:  # the store lost it
                complete.append((spec, again))
        now = time.monotonic()
        self._look_at = now + max(LOOK_EVERY_S, LOOK_REST * (now - began))
        return complete

    def _end_job(self, outcome: Outcome) -> None:
        collect = self._collect.pop(outcome.key)
        if outcome.state == "done":
            collect(outcome.result)
        else:
            self.failures.append(f"{outcome.key}: {outcome.error}{_traceback_note(outcome)}")

    def _label(self, key: str) -> str:
        return self._specs[key].label if key in self._specs else key


def run_all(queue: TrialQueue, specs: Sequence[TrialSpec], show: Show) -> dict[str, TrialRecord]:
    """Submit what the store does not have yet and wait for all that is in flight; trial key -> record."""
    records: dict[str, TrialRecord] = {}
    for spec in {spec.key: spec for spec in specs}.values():  # edits that change nothing make no new trial
        if (record := queue.submit(spec)) is not None:
            records[spec.key] = record
            show.ended(spec, record)
    while queue.in_flight:
        for spec, record in queue.poll(POLL_S):
            records[spec.key] = record
            show.ended(spec, record)
        show.running(queue.progress())
    return records


def _waits(spec: TrialSpec, record: TrialRecord) -> bool:
    return any(isinstance(record.quantities.get(name), Unavailable) for name in queued_backends(spec.settings))


def _has_its_artifacts(spec: TrialSpec, result: Plain) -> bool:
    """Whether a job's record can go back into a store that lost it: its files cannot, so they must be there."""
    record = from_plain(TrialRecord, result)
    return all(spec.store.artifact(record.key, name).is_file() for name in record.artifacts.values())


def _record(spec: TrialSpec, outcome: Outcome) -> TrialRecord:
    if outcome.state == "done":
        plain: Any = outcome.result
        record = from_plain(TrialRecord, plain)
        if spec.store.trial(record.key) is None:  # the job ended before, and its record was deleted since
            spec.store.put(record)
        return with_own_twin(spec, record)  # the job may have ended under an earlier command, with another twin
    record = failed_record(spec, WORKER, f"{outcome.error}{_traceback_note(outcome)}")
    spec.store.put(record)
    return record


def _traceback_note(outcome: Outcome) -> str:
    return f"; see {outcome.traceback}" if outcome.traceback else ""
