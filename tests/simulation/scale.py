"""A sweep on the simulated cluster, and what it measured.

Real are the driver, its storage, its sampler, its progress lines, the search space and its architectures. Made up are
the trainings: how long they take, which fail, and what they score. Counting on the meta device is real for every 50th
candidate; each other one is charged as much.
"""

import os
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import optuna
from rich.console import Console

from harness.architecture.config import ArchitectureConfig
from harness.launch.config import SlurmLauncher
from harness.launch.pool import Pool
from harness.records.quantity import Measured
from harness.records.record import TrialRecord
from harness.search import problem as problem_module
from harness.search.candidates import Candidates
from harness.search.definition import SweepStudy
from harness.search.problem import Gated, gate
from harness.search.space import space
from harness.search.study import open_storage, open_study, place
from harness.search.sweep import Sweep
from harness.trials.outcomes import failed_record, record_of
from harness.trials.prepared import Prepared
from harness.trials.progress import Show
from harness.trials.queue import TrialQueue, Trials
from harness.trials.spec import TrialSpec
from harness.trials.studies import read_study

from ..search.fake_sweep import problem, size
from .cluster import BEGINNING, Clock, Cluster, Draw, SimulatedQueue, Span, driver_time
from .executor import SimulatedExecutor
from .schedules import batch_makespan, first_fill, greedy_makespan, makespan, utilisation

TENTHS = 10
FLOOR = 40.0  # every made-up score is below it


def wide_space() -> dict:
    """The laptop's space with each stage's width on its own: 36,288 combinations."""
    content = read_study("search_spaces", "laptop")
    own = {
        "width_0": {"path": "stages.0.channels", "choices": [16, 32, 48]},
        "width_1": {"path": "stages.1.channels", "choices": [32, 48, 64]},
        "width_2": {"path": "stages.2.channels", "choices": [48, 64, 96]},
        "time_width": {"path": "time_width", "choices": [32, 64, 96, 128]},
    }
    kept = {name: knob for name, knob in content["knobs"].items() if name != "width"}
    return {**content, "knobs": {**own, **kept}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    sampler: str
    trials: int
    workers: int
    storage: str = "sqlite"
    budgets: tuple[int, ...] = ()
    jobs: bool = False  # through the pool and its files, not only through the driver's queue
    draw: Draw = field(default_factory=Draw)
    count_every: int = 50  # every so many candidates are counted, the others charged as much
    more_s: float = 0.0  # charged for each candidate on top: a driver slower than it is
    rate: float = 1.0  # simulated seconds a second of the driver's


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    arm: Arm
    spans: Sequence[Span]
    states: Counter[str]  # of the study's rows
    architectures: int  # distinct
    filled_s: float  # until all workers were busy
    rss_mb: Sequence[float]  # beyond what was there at the beginning; at each tenth of the submissions
    study_mb: float
    gate_s: Sequence[float]  # of each candidate that was counted
    driver_s: float
    real_s: float  # that the simulation took

    @property
    def durations(self) -> list[float]:
        return [span.end - span.start for span in self.spans]

    @property
    def asked(self) -> list[Span]:
        """Those at the lowest budget: a candidate each."""
        return [span for span in self.spans if span.steps == self.spans[0].steps]

    @property
    def utilisation(self) -> float:
        """Until no candidate is left to submit; promotions after that wait for results whatever the driver does."""
        last = self.asked[-1].start
        return utilisation([span for span in self.spans if span.start <= last], self.arm.workers)

    @property
    def makespan(self) -> float:
        return makespan(self.spans)

    @property
    def greedy(self) -> float:
        return greedy_makespan(self.durations, self.arm.workers)

    @property
    def batches(self) -> float:
        return batch_makespan(self.durations, self.arm.workers)

    @property
    def driver_s_by_tenth(self) -> list[float]:
        """A submission, in each tenth of those after the workers were filled: each comes with a result that is told."""
        marks = [span.driver_s for span in self.spans[self.arm.workers - 1 :]]
        at = np.linspace(0, len(marks) - 1, TENTHS + 1).astype(int)
        return list(np.diff(np.asarray(marks)[at]) / np.diff(at))

    @property
    def growth(self) -> float:
        """What a straight line fitted to those tenths has at the end, as a multiple of what it has at the beginning."""
        slope, begins = np.polyfit(np.arange(TENTHS), self.driver_s_by_tenth, 1)
        return float(1 + slope * (TENTHS - 1) / begins)

    @property
    def kilobytes_a_trial(self) -> float:
        """The slope of a straight line to the memory, from the second tenth on."""
        trials = np.arange(1, len(self.rss_mb) + 1) * self.arm.trials / TENTHS
        return float(1024 * np.polyfit(trials[1:-1], self.rss_mb[1:-1], 1)[0])


def run(arm: Arm, folder: Path) -> Measurement:
    """The sweep to its end, in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(arm.rate)
    counting = Counting(clock, arm)
    cluster = Cluster(arm.workers, arm.draw, clock, effort_of(arm.budgets))
    memory = Memory(cluster, arm)
    began = time.perf_counter()
    with (
        Path(os.devnull).open("w") as nowhere,
        patch.object(problem_module, "gate", counting.gate),
        patch.object(cluster, "begin", memory.watching(cluster.begin)),
        queue_of(arm, cluster, folder) as queue,
    ):
        driver, study = sweep(arm, folder, queue, clock, Console(file=nowhere))
        with clock.driving():
            driver.run()
    memory.sample()
    rows = study.get_trials(deepcopy=False)
    return Measurement(
        arm=arm,
        spans=cluster.spans,
        states=Counter(row.state.name for row in rows),
        architectures=len({row.user_attrs["fingerprint"] for row in rows}),
        filled_s=first_fill(cluster.spans) - BEGINNING,
        rss_mb=memory.megabytes,
        study_mb=sum(path.stat().st_size for path in folder.glob("study.*")) / 2**20,
        gate_s=counting.seconds,
        driver_s=clock.driver_s,
        real_s=time.perf_counter() - began,
    )


def sweep(arm: Arm, folder: Path, queue: Trials, clock: Clock, board: Console) -> tuple[Sweep, optuna.Study]:
    definition = SweepStudy(
        space="wide",
        objectives={"kid": "minimize", "macs": "minimize"},
        sampler=arm.sampler,
        trials=arm.trials,
        budgets=arm.budgets,
        storage=arm.storage,
    )
    search_problem = problem(folder, space(wide_space()), definition, {})
    storage = open_storage(folder, arm.storage)
    study = open_study(folder, "wide", arm.storage, storage, definition.objectives)
    candidates = Candidates(study, storage, search_problem.space, place(folder, arm.storage), clock)
    floor = FLOOR if search_problem.top else None
    return Sweep(search_problem, definition, candidates, queue, clock, Show(board), floor=floor), study


@contextmanager
def queue_of(arm: Arm, cluster: Cluster, folder: Path) -> Iterator[Trials]:
    """The driver's queue: simulated, or the real one over a simulated executor."""
    if not arm.jobs:
        yield SimulatedQueue(cluster, record)
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each worker holds its lock
    launcher = SlurmLauncher(max_in_flight=arm.workers)
    executor = SimulatedExecutor(cluster, record)
    with executor.behind_the_pool(), Pool(folder / "attempts", launcher) as pool:
        yield TrialQueue(pool)


def effort_of(budgets: tuple[int, ...]) -> Callable[[TrialSpec], float]:
    """The steps that a trial adds to those of the budget below, in the lowest budget's."""
    added = {high: (high - low) / budgets[0] for low, high in zip((0, *budgets), budgets, strict=False)}
    return lambda spec: added.get(spec.settings.recipe.steps, 1.0)


class Counting:
    """The real gate for each `count_every`-th candidate. The others are charged the time it took last, and get its
    numbers: without limits nothing is decided by them, and counting all would make hours of a simulation."""

    def __init__(self, clock: Clock, arm: Arm) -> None:
        self.seconds: list[float] = []  # of those counted
        self._clock, self._arm, self._asked = clock, arm, 0
        self._last: Gated

    def gate(self, prepared: Prepared, architecture: ArchitectureConfig, _twin: None = None) -> Gated:
        self._clock.charge(self._arm.more_s)
        counts, self._asked = self._asked % self._arm.count_every == 0, self._asked + 1
        if not self.seconds:
            with self._clock.aside():
                gate(prepared, architecture)  # the first of a process is slow, and would be charged to many
        if counts:
            began = driver_time()
            self._last = gate(prepared, architecture)
            self.seconds.append(driver_time() - began)
        else:
            self._clock.charge(self._arm.rate * self.seconds[-1])
        return self._last


def record(spec: TrialSpec, failure: str | None) -> TrialRecord:
    """Larger and longer is better, by chance a little more or less."""
    if failure is not None:
        return failed_record(spec, "train", failure)
    macs = size(spec.architecture)
    luck = random.Random(spec.architecture.fingerprint).gauss(0.0, 0.1)
    scores = {"kid": 2e4 / macs + 20 / spec.settings.recipe.steps + luck, "macs": macs}
    return record_of(spec, "complete", {name: Measured(value=value, unit="1") for name, value in scores.items()})


class Memory:
    """The process's resident memory, beyond what it had at the beginning, at each tenth of the candidates."""

    def __init__(self, cluster: Cluster, arm: Arm) -> None:
        self._cluster, self._every, self._before = cluster, max(1, arm.trials // TENTHS), _resident_mb()
        self.megabytes: list[float] = []

    def watching(self, begin: Callable[[TrialSpec], None]) -> Callable[[TrialSpec], None]:
        def begin_and_look(spec: TrialSpec) -> None:
            begin(spec)
            if len(self._cluster.spans) % self._every == 0:
                self.sample()

        return begin_and_look

    def sample(self) -> None:
        self.megabytes.append(_resident_mb() - self._before)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
