"""A sweep without training: the real driver, storage and samplers over made-up scores.

The architectures are the real ones of a space of 432 combinations around the laptop's; a network's KID and size are
functions of its knobs and of the steps it is trained for.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.launch.events import Progress
from harness.records.quantity import Counted, Failed, Measured, Predicted, Quantity, Unavailable
from harness.records.record import Protocol, TrialRecord
from harness.search import problem as problem_module
from harness.search.candidates import Candidates
from harness.search.definition import SweepStudy
from harness.search.problem import Gated, Problem
from harness.search.space import Space, space
from harness.search.study import open_storage, open_study, place
from harness.search.sweep import Sweep
from harness.trials.limits import checks, first_refusal
from harness.trials.outcomes import failed_record, record_of
from harness.trials.prepared import Prepared, prepare
from harness.trials.progress import Show
from harness.trials.settings import settings_of
from harness.trials.spec import TrialSpec

SPACE = {  # 4 * 3 * 3 * 3 * 4 = 432 combinations, as many architectures
    "base": "laptop/thin_sdxl",
    "knobs": {
        "ffn": {"path": "feed_forward.ratio", "choices": [1, 2, 3, 4]},
        "width": {"path": "stages.0.channels", "choices": [16, 32, 48]},
        "middle": {"path": "stages.1.channels", "choices": [32, 48, 64]},
        "last": {"path": "stages.2.channels", "choices": [48, 64, 96]},
        "time": {"path": "time_width", "choices": [32, 64, 96, 128]},
    },
}
OBJECTIVES = {"kid": "minimize", "macs": "minimize"}
FLOOR = 4.0

Score = Callable[[TrialSpec], "dict[str, float] | str"]
"""The quantities of a trial, or why it failed."""


def size(architecture) -> int:
    """Stands for the multiply-adds."""
    widths = [stage.channels for stage in architecture.stages]
    return sum(width * width for width in widths) * architecture.feed_forward.ratio + architecture.time_width


def score(spec: TrialSpec) -> dict[str, float]:
    """Larger is better, longer is better: KID falls with both, to 0.3 at worst after 100 steps."""
    macs = size(spec.architecture)
    return {"kid": 2e4 / macs + 20 / spec.settings.recipe.steps, "macs": macs}


class Clock:
    """Unix seconds of a world of its own."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Phone:
    """Answers in a world of its own: late, in any order, and some packages fail. It outlives drivers, as an agent's
    queue does."""

    def __init__(
        self, clock: Clock, *, latest_s: float = 900.0, fails: Callable[[str], str] = lambda _name: ""
    ) -> None:
        self.clock, self.latest_s, self.fails = clock, latest_s, fails
        self.asked: dict[str, float] = {}  # fingerprint -> when its answer is there
        self.latencies: dict[str, float] = {}
        self.asks = 0

    def quantity(self, architecture: ArchitectureConfig) -> Quantity:
        """The answer, or that it is awaited; asked for once."""
        name = architecture.fingerprint
        if name not in self.asked:
            self.asks += 1
            self.asked[name] = self.clock() + random.Random(name).uniform(0, self.latest_s)
            self.latencies[name] = size(architecture) / 1000
        if self.clock() < self.asked[name]:
            expected = Predicted(value=1.5 * self.latencies[name], unit="ms", low=0.0, high=99.0, extrapolated=True)
            return Unavailable(reason="waits in a queue", awaits=name, expected=expected)
        if why := self.fails(name):
            return Failed(phase="parity", message=why)
        return Measured(value=self.latencies[name], unit="ms")


class Workers:
    """As many trials at once as there are workers, each `seconds` long. They outlive drivers, as jobs do."""

    def __init__(
        self,
        count: int,
        score: Score,
        clock: Clock,
        seconds: float = 60.0,
        gpu: float = 0.0,
        phone: Phone | None = None,
    ) -> None:
        self.count, self.score, self.clock, self.seconds, self.gpu = count, score, clock, seconds, gpu
        self.phone = phone
        self.running: dict[str, TrialSpec] = {}  # by key, the oldest first
        self.records: dict[str, TrialRecord] = {}  # what a store holds
        self.trained: list[TrialSpec] = []  # in the order of their beginning
        self.steps: dict[str, set[int]] = {}  # fingerprint -> the budgets it was trained to

    def measured(self, record: TrialRecord, spec: TrialSpec) -> TrialRecord:
        """With what the phone says now."""
        if self.phone is None or record.state != "complete":
            return record
        latency = self.phone.quantity(spec.architecture)
        return replace(record, quantities={**record.quantities, "latency_iphone": latency})

    def begin(self, spec: TrialSpec) -> None:
        if spec.key not in self.running:
            self.running[spec.key] = spec
            self.trained.append(spec)
            steps = self.steps.setdefault(spec.architecture.fingerprint, set())
            steps.add(spec.settings.recipe.steps)

    def end_one(self) -> str:
        self.clock.now += self.seconds
        key, spec = next(iter(self.running.items()))
        del self.running[key]
        self.records[key] = self.measured(self._record(spec), spec)
        return key

    def _record(self, spec: TrialSpec) -> TrialRecord:
        found = self.score(spec)
        if isinstance(found, str):
            return failed_record(spec, "train", found)
        quantities = {name: Measured(value=value, unit="1") for name, value in found.items()}
        steps = self.steps[spec.architecture.fingerprint]
        before = sorted(step for step in steps if step < spec.settings.recipe.steps)
        effort = {"gpu_seconds": self.gpu * spec.settings.recipe.steps, "continued_from": before}
        return record_of(spec, "complete", quantities, provenance=effort)


class Queue:
    """One driver's view of the workers: `Trials`."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.mine: dict[str, TrialSpec] = {}
        self.expected: dict[str, TrialSpec] = {}

    @property
    def awaiting(self) -> int:
        return len(self.expected)

    def expect(self, spec: TrialSpec) -> None:
        assert spec.key not in self.expected
        self.expected[spec.key] = spec

    @property
    def free(self) -> int:
        return self.workers.count - len(self.mine)

    @property
    def in_flight(self) -> int:
        return len(self.mine)

    def submit(self, spec: TrialSpec) -> TrialRecord | None:
        if spec.key in self.workers.records:
            return self.workers.measured(self.workers.records[spec.key], spec)
        assert spec.key not in self.mine
        self.workers.begin(spec)
        self.mine[spec.key] = spec
        return None

    def progress(self) -> dict[str, Progress]:
        return {}

    def poll(self, timeout_s: float) -> list[tuple[TrialSpec, TrialRecord]]:
        assert timeout_s > 0
        if answered := self._answered():
            return answered
        if not self.mine:
            assert self.expected, "nothing to wait for"
            self.workers.clock.now += 300.0
            return []
        key = self.workers.end_one()
        return [(self.mine.pop(key), self.workers.records[key])] if key in self.mine else []

    def _answered(self) -> list[tuple[TrialSpec, TrialRecord]]:
        found = []
        for key, spec in list(self.expected.items()):
            record = self.workers.measured(self.workers.records[key], spec)
            if not isinstance(record.quantities["latency_iphone"], Unavailable):
                self.workers.records[key] = record
                found.append((self.expected.pop(key), record))
        return found


def cheap_gate(prepared: Prepared, architecture, twin=None) -> Gated:
    """The real gate's rules on the made-up size."""
    limits = prepared.settings.limits
    quantities = {"macs": Counted(value=size(architecture), unit="1")}
    found = checks(quantities, limits)
    return Gated(
        quantities=quantities,
        violations={check.name: check.excess for check in found},
        refusal=first_refusal(quantities, limits),
    )


class World:
    """A folder, workers and a clock in which drivers come and go."""

    def __init__(
        self,
        folder: Path,
        score: Score = score,
        *,
        workers: int = 4,
        gpu: float = 0.0,
        phone: Callable[[Clock], Phone] | None = None,
    ) -> None:
        self.folder, self.clock = folder, Clock()
        self.show = Show(Console(quiet=True))
        self.phone = None if phone is None else phone(self.clock)
        self.workers = Workers(workers, score, self.clock, gpu=gpu, phone=self.phone)

    def driver(self, content=SPACE, *, enqueued=(), limits=None, floor: float | None = None, **settings) -> Sweep:
        """`floor`: with several budgets FLOOR, unless given; with one nothing, as where it cannot be known."""
        definition = SweepStudy(**{"space": "fake", "objectives": OBJECTIVES, "sampler": "random", **settings})
        made = problem(self.folder, space(content), definition, limits or {}, phone=self.phone is not None)
        storage = open_storage(self.folder, definition.storage)
        study = open_study(self.folder, "fake", definition.storage, storage, definition.objectives)
        where = place(self.folder, definition.storage)
        self.candidates = Candidates(study, storage, made.space, where, self.clock)
        self.study = study
        return Sweep(
            made,
            definition,
            self.candidates,
            Queue(self.workers),
            self.clock,
            self.show,
            floor=FLOOR if floor is None and made.top else floor,
            enqueued=enqueued,
        )

    def run(self, content=SPACE, **settings):
        return self.driver(content, **settings).run()

    def trials(self, *states):
        return self.study.get_trials(states=states or None)


def problem(folder: Path, found: Space, definition: SweepStudy, limits, *, phone: bool = False) -> Problem:
    plain = {"recipe": "laptop", "recipe.schedule": "constant", "count_only": True, "tracker": "none", "seeds": [0]}
    plain |= {"coreml": "none", "latency": "none", "out": str(folder)}
    if phone:
        plain |= {"latency": "iphone", "latency.iphone.queue": str(folder)}
    prepared = prepare(settings_of([], {**plain, **{f"limits.{name}": value for name, value in limits.items()}}))
    levels = []
    for steps in definition.budgets or (prepared.settings.recipe.steps,):
        level = prepared.with_steps(steps)
        levels.append(replace(level, protocol=Protocol(sections={"recipe": {"steps": steps}})))
    return Problem(
        name="fake",
        space=found,
        base=architecture(found.base),
        objectives=definition.objectives,
        levels=tuple(levels),
        folder=folder,
    )


def patch_gate(monkeypatch) -> None:
    monkeypatch.setattr(problem_module, "gate", cheap_gate)
