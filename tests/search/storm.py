"""A storm over a real `harness sweep`: tiny trainings in worker processes, two at a time, under two budgets, while a
seeded plan kills workers and drivers at named points, locks the study, feeds numbers that are none, and takes memory.

    storm = Storm(folder, seeded_plan(trials=32, seed=7), cache)
    storm.rage()
    assert violations(storm.facts(), trials=32, budgets=BUDGETS) == []
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from driver_processes import Driver, start_call
from storm_points import driver_points, noted, worker_points
from storm_proof import Facts, read_facts, reasons
from tiny_study import SETTINGS, SWEEP, TINY, write_yaml

from harness.launch.events import read_events

HERE = Path(__file__).parent
BUDGETS = (6, 10)
CHECKPOINT_EVERY = 2
REDUCTION = 4
RARE = ("recovering", "loss seen", "while promoting")
"""Points that a driver does not pass at every trial."""
SPACE = {
    "base": "tiny_base.yaml",
    "knobs": {
        "first": {"path": "stages.0.channels", "choices": [8, 16, 24]},
        "second": {"path": "stages.1.channels", "choices": [8, 16, 24]},
        "ffn": {"path": "feed_forward.ratio", "choices": [1, 2, 3, 4]},
        "self_attention": {"edits": {"mhsa": {}, "mqa": {"self_attention": "mqa"}}},
        "down": {"path": "stages.0.down_blocks", "choices": [1, 2]},
        "up": {"path": "stages.0.up_blocks", "choices": [1, 2]},
        "time": {"path": "time_width", "choices": [16, 32]},
    },
}

Death = tuple[str, int]
"""A named point, and at which of its passings."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens to whom. Trials are called as the sweep calls them."""

    trials: int
    workers: dict[str, dict[str, list[Death]]] = field(default_factory=lambda: {"lowest": {}, "higher": {}})
    """Budget (`lowest`, `higher`) -> trial -> the deaths of its workers there, in their order."""
    drivers: list[Death] = field(default_factory=list)
    outage_after: int | None = None
    """After so many deaths of drivers the study cannot be written for a while."""
    diverging: dict[str, int] = field(default_factory=dict)
    """Trial -> the step whose images are no numbers."""
    hungry: list[str] = field(default_factory=list)
    """Trials that get no memory to train in."""
    held: dict[str, int] = field(default_factory=dict)
    """Trial -> the step that lasts, in its first run, until somebody asks the run to end."""
    mutation: str = ""
    """`checkpoints ignored`: break the product on purpose."""
    budgets: Sequence[int] = BUDGETS

    def write(self, folder: Path) -> None:
        """Where drivers and workers read it."""
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps(asdict(self)))


def seeded_plan(*, trials: int, seed: int) -> Plan:
    """A quarter of the trials lose a worker at the lowest budget, a twentieth diverges, one gets no memory; of those
    promoted, whoever they are, a third loses a worker; a driver dies for every five trials. Of few trials as many lose
    theirs as there are points."""
    chance = random.Random(seed)
    names = [f"trial-{number}" for number in range(trials)]
    workers, drivers = max(trials // 4, len(worker_points())), max(trials // 5, len(driver_points()))
    hit = chance.sample(names, workers + round(trials / 20) + 1)
    diverging, hungry, dying = hit[: round(trials / 20)], hit[round(trials / 20)], hit[round(trials / 20) + 1 :]
    deaths = _rounds(chance, sorted(worker_points()))
    return Plan(
        trials=trials,
        workers={
            "lowest": {name: [_death(chance, next(deaths), BUDGETS[0])] for name in dying},
            "higher": {
                name: [_death(chance, next(deaths), BUDGETS[1] - BUDGETS[0])]
                for name in names
                if chance.random() < 1 / 3
            },
        },
        drivers=[
            (point, 1 if point in RARE else chance.randint(1, 8))
            for point, _ in zip(_rounds(chance, sorted(driver_points())), range(drivers), strict=False)
        ],
        outage_after=trials // 10,
        diverging={name: chance.randint(1, BUDGETS[0]) for name in diverging},
        hungry=[hungry],
    )


def _rounds(chance: random.Random, names: Sequence[str]) -> Iterator[str]:
    """All names in a random order, and again in another."""
    while True:
        yield from chance.sample(names, len(names))


def _death(chance: random.Random, point: str, steps: int) -> Death:
    passings = {"training step": steps, "while sampling": 2}
    checkpoints = steps // CHECKPOINT_EVERY
    return point, chance.randint(1, passings.get(point, checkpoints if "checkpoint" in point else 1))


def start_driver(own: Path, log: Path, death: Death | None, *words: str, cwd: Path) -> Driver:
    """`harness WORDS` in a process of its own, under the plan that lies in `own`."""
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with log.open("wb") as into:
        given = [str(own), death, list(words)]
        return start_call("storm_driver", given, into, into, cwd=cwd, path=[HERE], environment={"PYTHONPATH": paths})


class Storm:
    """In `folder`: `study/` is where the command runs, `storm/` has the plan, the deaths and the steps."""

    def __init__(self, folder: Path, plan: Plan, cache: Path, *settings: str) -> None:
        self.plan, self.settings = plan, settings
        self.study, self.own = folder / "study", folder / "storm"
        self.pool = self.study / "runs" / "storm" / "attempts"
        self.store = self.study / "runs" / "store"
        self.outages: list[str] = []  # the driver's words
        self.lives, self.began = 0, time.monotonic()
        plan.write(self.own)
        self._lay_out(cache)

    def rage(self) -> None:
        """Driver after driver, until one ends the sweep; AssertionError where one says what it should not."""
        for number, death in enumerate(self.plan.drivers):
            if number == self.plan.outage_after:
                self.outage()
            if self.live(death) == 0:
                return
        assert self.live(None) == 0, self.said()

    def live(self, death: Death | None) -> int:
        """One driver's life: killed, or the end of the sweep."""
        driver = self.start(death)
        code = self._wait(driver)
        assert code in (0, -signal.SIGKILL), self.said()
        return code

    def outage(self) -> None:
        """Another process holds the study's file for itself, longer than SQLite waits: the driver gives up."""
        driver = self.start(None)
        while not any(line["pid"] == driver.pid for line in self.events("submitted")):
            assert driver.poll() is None, self.said()
            time.sleep(0.05)
        with contextlib.closing(sqlite3.connect(self.study / "runs" / "storm" / "study.db", timeout=60)) as other:
            other.execute("BEGIN EXCLUSIVE")
            code = self._wait(driver)
        assert code == 2, self.said()
        self.outages.append(self.said().splitlines()[-1])

    def start(self, death: Death | None) -> Driver:
        """A driver of the study, in a process of its own."""
        self.lives += 1
        return start_driver(self.own, self._log(), death, "sweep", "storm", *self.settings, cwd=self.study)

    def facts(self) -> Facts:
        return read_facts(self.pool, self.store, self.own)

    def summary(self) -> str:
        """The storm in a few lines."""
        facts, kills = self.facts(), self.kills()
        by_whom = Counter(line["who"] for line in kills)
        points = Counter(f"{line['point']} {line['who'][0]}" for line in kills)
        attempts = {(line["key"], line["attempt"]) for line in facts.events}
        steps = sum("step" in line for line in facts.steps)
        promoted = len(facts.keys) - self.plan.trials
        failures = "".join(f"\n  {reason.split('; see')[0]}" for reason in reasons(facts).values())
        return (
            f"{self.plan.trials} trials, {promoted} of them promoted: {len(attempts)} attempts, {self.lives} drivers, "
            f"{(time.monotonic() - self.began) / 60:.1f} min\n"
            f"{len(kills)} kill -9, of {by_whom['worker']} workers and {by_whom['driver']} drivers, at {len(points)} "
            f"points: {', '.join(f'{point[:-2]} {count}' for point, count in sorted(points.items()))}\n"
            f"{len(self.outages)} outage of the storage: {'; '.join(self.outages)}\n"
            f"{steps} steps trained, {facts.repeated} of them a second time, behind the last checkpoint of a killed "
            f"worker; {len(reasons(facts))} trials failed:{failures}"
        )

    def said(self) -> str:
        """The newest driver's words."""
        return self._log().read_text()

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in read_events(self.pool) if line["event"] in names]

    def kills(self) -> list[dict[str, Any]]:
        return noted(self.own / "kills.log")

    def _log(self) -> Path:
        return self.own / f"driver-{self.lives:02d}.txt"

    def _wait(self, driver: Driver) -> int:
        try:
            return driver.wait()
        except BaseException:  # the test's time is up
            driver.kill()
            raise

    def _lay_out(self, cache: Path) -> None:
        settings = {name: value for name, value in SETTINGS.items() if name not in ("recipe.steps", "launcher")}
        settings |= {
            "recipe.checkpoint_every": CHECKPOINT_EVERY,
            "recipe.device": "cpu",
            "sampling.micro_batch": 8,
            "launcher": "local",
            "launcher.max_in_flight": 2,
        }
        sweep = {**SWEEP, "space": "storm", "trials": self.plan.trials, "budgets": list(self.plan.budgets)}
        self.study.mkdir()
        write_yaml(self.study / "sweeps" / "storm.yaml", {**sweep, "reduction": REDUCTION, "settings": settings})
        write_yaml(self.study / "search_spaces" / "storm.yaml", SPACE)
        write_yaml(self.study / "tiny_base.yaml", {"base": "laptop/thin_sdxl", "edits": TINY})
        (self.study / "runs").mkdir()
        (self.study / "runs" / "cache").symlink_to(cache)
