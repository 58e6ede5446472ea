"""A simulated cluster behind the driver's seam: jobs end by draw, the driver's own time is real.

While the driver computes (asks a sampler, counts a candidate, writes to the study), the simulated clock advances by
what that really takes, so a slow driver leaves workers idle. While the driver waits, it jumps to the first poll that
has an outcome. What the simulator itself does is charged to nobody.
"""

import heapq
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.launch.events import Progress
from harness.records.record import TrialRecord
from harness.trials.spec import TrialSpec

SCHEDULER = Path("/proc/thread-self/schedstat")  # nanoseconds on a processor, waiting for one, and turns

BEGINNING = 1_000_000.0  # of the simulated world, in Unix seconds

Record = Callable[[TrialSpec, str | None], TrialRecord]
"""The record of a trial: complete, or failed for this reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """How long trials take and which fail: a function of the trial's key, so every schedule can be computed again."""

    median_s: float = 3600.0
    sigma: float = 0.5  # of the logarithm; 0: all take the median
    failures: float = 0.02  # of the trials; they fail somewhere on their way
    seed: int = 0

    def __call__(self, key: str, effort: float = 1.0) -> "Fate":
        """`effort` 2: twice the work."""
        draw = random.Random(f"{self.seed} {key}")
        seconds = effort * self.median_s * math.exp(self.sigma * draw.gauss(0.0, 1.0))
        fails = draw.random() < self.failures
        return Fate(seconds * draw.random() if fails else seconds, fails)


@dataclass(frozen=True, slots=True)
class Fate:
    seconds: float
    fails: bool


def driver_time() -> float:
    """Seconds that pass for this thread. On Linux without those that it waits for a processor which others have: they
    are the machine's. Waiting for a disk is the driver's own."""
    while True:
        waited, seconds = _waited_s(), time.perf_counter()
        if _waited_s() == waited:  # else it lost the processor between the two
            return seconds - waited


def _waited_s() -> float:
    return int(SCHEDULER.read_text().split()[1]) / 1e9 if SCHEDULER.exists() else 0.0


class Clock:
    """Unix seconds of the simulated world."""

    def __init__(self, rate: float = 1.0) -> None:
        """`rate`: simulated seconds a second of the driver's; 0 is a driver that takes no time."""
        self.rate = rate
        self.driver_s = 0.0  # charged to the driver so far
        self._now = BEGINNING
        self._since: float | None = None  # when the driver began to compute; None: it does not

    def __call__(self) -> float:
        if self._since is not None:
            reading = driver_time()
            self.charge(self.rate * (reading - self._since))
            self._since = reading
        return self._now

    def charge(self, seconds: float) -> None:
        """The driver took so long."""
        self.driver_s += seconds
        self._now += seconds

    def wait(self, seconds: float) -> None:
        """The driver waited so long."""
        self._now += seconds

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Inside, the driver computes."""
        self._since = driver_time()
        yield
        self()
        self._since = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, the simulator computes."""
        self()
        computing, self._since = self._since is not None, None
        yield
        self._since = driver_time() if computing else None


@dataclass(frozen=True, slots=True)
class Span:
    """One trial on one worker."""

    start: float
    end: float
    fails: bool
    steps: int
    driver_s: float  # charged to the driver before it was submitted


class Cluster:
    """`workers` at most run at once. What they ran is in `spans`, in the order of submission."""

    def __init__(self, workers: int, draw: Draw, clock: Clock, effort: Callable[[TrialSpec], float]) -> None:
        self.workers, self.draw, self.clock, self.effort = workers, draw, clock, effort
        self.spans: list[Span] = []
        self._running: list[tuple[float, int, TrialSpec, bool]] = []  # a heap, by the time of the end

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def wait_for_outcomes(self, poll_s: float) -> None:
        """Until the first poll that has an outcome: those before it find the driver with nothing else to do."""
        self.clock.wait(poll_s * max(1, math.ceil((self._running[0][0] - self.clock()) / poll_s)))

    def begin(self, spec: TrialSpec) -> None:
        assert len(self._running) < self.workers, "more trials than workers"
        now, fate = self.clock(), self.draw(spec.key, self.effort(spec))
        end = now + fate.seconds
        heapq.heappush(self._running, (end, len(self.spans), spec, fate.fails))
        self.spans.append(Span(now, end, fate.fails, spec.settings.recipe.steps, self.clock.driver_s))

    def ended(self) -> list[tuple[TrialSpec, bool]]:
        """What ended by now, and whether it failed."""
        now, specs = self.clock(), []
        while self._running and self._running[0][0] <= now:
            _, _, spec, fails = heapq.heappop(self._running)
            specs.append((spec, fails))
        return specs


class SimulatedQueue:
    """`Trials` over the cluster. Like the real queue it looks, sleeps and looks again."""

    def __init__(self, cluster: Cluster, record: Record) -> None:
        self.cluster, self.record = cluster, record

    @property
    def free(self) -> int:
        return self.cluster.workers - self.cluster.in_flight

    @property
    def in_flight(self) -> int:
        return self.cluster.in_flight

    @property
    def awaiting(self) -> int:
        return 0

    def expect(self, spec: TrialSpec) -> None:
        raise AssertionError(f"no trial here lacks a measurement: {spec.label}")

    def submit(self, spec: TrialSpec) -> TrialRecord | None:
        with self.cluster.clock.aside():
            self.cluster.begin(spec)
        return None

    def progress(self) -> dict[str, Progress]:
        return {}

    def poll(self, timeout_s: float) -> list[tuple[TrialSpec, TrialRecord]]:
        with self.cluster.clock.aside():
            ended = self.cluster.ended()
            if not ended and self.in_flight and timeout_s > 0:
                self.cluster.wait_for_outcomes(timeout_s)
                ended = self.cluster.ended()
            return [(spec, self.record(spec, "training diverged" if fails else None)) for spec, fails in ended]
