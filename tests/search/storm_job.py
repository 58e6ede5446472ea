"""What a storm's workers call: the product's own trial, watched and, where the plan says so, hit.

FOLDER/steps.log gets one line for each step before it is trained and for each checkpoint that stands: written by this
file, so that the proof does not rest on what the product says of itself.
"""

import json
import os
import resource
import time
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from storm_points import arm, note, noted, worker_points

from harness.records.plain import Plain
from harness.training import loop, saving
from harness.training.stopping import SigtermFlag
from harness.trials.queue import TrialJob
from harness.trials.spec import TrialSpec

MEMORY = 64 << 20


@dataclass(frozen=True, slots=True)
class StormTrial(TrialJob):
    def __call__(self, attempt_folder: Path) -> Plain:
        storm = Path(os.environ["HARNESS_STORM"])
        plan = json.loads((storm / "plan.json").read_text())
        budget = "lowest" if self.spec.settings.recipe.steps == plan["budgets"][0] else "higher"
        if plan["mutation"] == "checkpoints ignored":
            loop.Training.resume = lambda _self: None  # type: ignore[method-assign]
        watch(storm, self.spec, attempt_folder)
        if self.spec.name in plan["diverging"]:
            break_batch(plan["diverging"][self.spec.name])
        if self.spec.name in plan["hungry"]:
            limit_memory()
        if self.spec.name in plan["held"] and budget == "lowest":
            hold(storm / "held.log", plan["held"][self.spec.name], trial=self.spec.name, key=self.spec.key)
        who = {"who": "worker", "trial": self.spec.name, "budget": budget}
        deaths = plan["workers"][budget].get(self.spec.name, [])
        died = sum(all(line.get(name) == value for name, value in who.items()) for line in noted(storm / "kills.log"))
        if died < len(deaths):
            point, nth = deaths[died]
            arm(storm, worker_points(), point, nth, **who)
        return TrialJob.__call__(self, attempt_folder)


def watch(storm: Path, spec: TrialSpec, attempt_folder: Path) -> None:
    """Log the steps, and the checkpoints that stand."""
    training = spec.key if spec.checkpoints is None else spec.checkpoints.name
    who = {"training": training, "key": spec.key, "attempt": attempt_folder.name, "pid": os.getpid()}
    log = partial(note, storm / "steps.log", **who)
    advance, publish = loop.Training.advance, saving.publish

    def advancing(self: loop.Training, step: int, batch: Any) -> None:
        log(step=step)
        advance(self, step, batch)

    def publishing(temporary: Path, final: Path) -> None:
        publish(temporary, final)
        log(saved=int(final.name.rpartition("-")[2]))

    loop.Training.advance = advancing  # type: ignore[method-assign]
    saving.publish = publishing


def hold(log: Path, last: int, **who: Any) -> None:
    """In the trial's first run step `last` lasts until the run is asked to end; the log has a line when it is there."""
    if any(line["trial"] == who["trial"] for line in noted(log)):
        return
    advance, request = loop.Training.advance, SigtermFlag._request
    asked: list[int] = []

    def asking(self: SigtermFlag, number: int, frame: Any) -> None:
        asked.append(number)
        request(self, number, frame)

    def advancing(self: loop.Training, step: int, batch: Any) -> None:
        advance(self, step, batch)
        if step == last:
            note(log, **who)
            while not asked:
                time.sleep(0.05)

    SigtermFlag._request = asking  # type: ignore[method-assign]
    loop.Training.advance = advancing  # type: ignore[method-assign]


def break_batch(bad: int) -> None:
    """The images of one step are no numbers."""
    advance = loop.Training.advance

    def advancing(self: loop.Training, step: int, batch: Any) -> None:
        advance(self, step, replace(batch, x0=batch.x0 * float("nan")) if step == bad else batch)

    loop.Training.advance = advancing  # type: ignore[method-assign]


def limit_memory() -> None:
    """The process gets `MEMORY` beyond what it has, and a batch that needs more."""
    advance = loop.Training.advance

    def advancing(self: loop.Training, step: int, batch: Any) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
        times = MEMORY // batch.context[0].nbytes
        parts = [(part.name, getattr(batch, part.name)) for part in fields(batch)]
        many = {name: part.repeat(times, *[1] * (part.ndim - 1)) for name, part in parts if part is not None}
        advance(self, step, replace(batch, **many))

    loop.Training.advance = advancing  # type: ignore[method-assign]
