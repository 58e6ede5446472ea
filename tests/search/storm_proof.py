"""The proof that a storm lost nothing and trained nothing twice, from what processes appended and from whole files.

It reads no study: what a database says after a crash is what is to be doubted.

    attempts.log          the product's: what became of every attempt
    KEY/steps.log         the product's: which steps an attempt trained and saved
    KEY/*/result.json     the product's: the end of an attempt
    store/trials/*.json   the product's: the records
    storm/steps.log       the tests' own: each step before it was trained, each checkpoint that stands
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storm_points import noted

from harness.launch.events import read_events, read_steps

Line = dict[str, Any]
Worker = tuple[str, str, int]
"""Key, attempt, and process: a job that was requeued has several."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    events: list[Line]
    told: dict[str, list[Line]]  # key -> the product's steps
    results: dict[str, dict[str, Line]]  # key -> attempt -> result
    records: dict[str, Line]  # by key
    steps: list[Line]  # the tests' own

    @property
    def keys(self) -> list[str]:
        """Of all trials that became jobs, in that order; the controls are none."""
        keys = dict.fromkeys(line["key"] for line in self.events)
        return [key for key in keys if not key.startswith("controls-")]

    @property
    def repeated(self) -> int:
        """Steps that were trained again."""
        done = Counter((line["training"], line["step"]) for line in self.steps if "step" in line)
        return done.total() - len(done)


def worker_of(line: Line) -> Worker:
    return line["key"], line["attempt"], line["pid"]


def read_facts(pool: Path, store: Path, storm: Path) -> Facts:
    results: dict[str, dict[str, Line]] = defaultdict(dict)
    for path in sorted(pool.glob("*/attempt-*/result.json")):
        results[path.parent.parent.name][path.parent.name] = json.loads(path.read_text())
    return Facts(
        events=read_events(pool),
        told={folder.parent.name: read_steps(folder.parent) for folder in sorted(pool.glob("*/steps.log"))},
        results=dict(results),
        records={path.stem: json.loads(path.read_text()) for path in sorted((store / "trials").glob("*.json"))},
        steps=noted(storm / "steps.log"),
    )


def violations(facts: Facts, *, trials: int, budgets: Sequence[int]) -> list[str]:
    """What is wrong, a sentence each; empty: every trial ended, none is lost, no saved step was trained twice, no two
    workers ran beside each other, every failure has its reason, and the product's log of steps is true."""
    return [
        *_lost(facts, trials, budgets[0]),
        *_after_the_end(facts),
        *_beside(facts),
        *_without_reason(facts),
        *_trained_again(facts),
        *_not_trained(facts),
        *_not_as_told(facts),
    ]


def reasons(facts: Facts) -> dict[str, str]:
    """Key -> why the trial failed."""
    found = {}
    for key, record in facts.records.items():
        said = [quantity["message"] for quantity in record["quantities"].values() if quantity["kind"] == "failed"]
        if record["state"] == "failed":
            found[key] = f"{record['name']}: {said[0] if said else ''}"
    return found


def _lost(facts: Facts, trials: int, lowest: int) -> Iterator[str]:
    """A trial ends once, with a result, a failure or, where its worker died between the two, with its record alone."""
    for key in facts.keys:
        own = [line for line in facts.events if line["key"] == key]
        results = {name: result["state"] for name, result in facts.results.get(key, {}).items()}
        ends = {name for name, state in results.items() if state in ("done", "failed")}
        ends |= {line["attempt"] for line in own if line["event"] == "failed"}
        cancelled = {line["attempt"] for line in own if line["event"] == "cancelled"}  # the same command tries again
        if len(ends - cancelled or ends) > 1:
            yield f"{key} ended {len(ends)} times"
        for line in own:
            if line["event"] == "finished" and results.get(line["attempt"]) != "done":
                yield f"{key} {line['attempt']} finished without a result"
        if key not in facts.records:
            yield f"{key} has no record"
    begun = [key for key in facts.keys if steps_of(facts.records.get(key)) == lowest]
    if len(begun) != trials:
        yield f"{len(begun)} trials ended at the lowest budget, not {trials}"


def steps_of(record: Line | None) -> int | None:
    """The budget of a record's trial."""
    return None if record is None else record["protocol"]["recipe"]["steps"]


def _after_the_end(facts: Facts) -> Iterator[str]:
    for key, results in facts.results.items():
        done = [name for name, result in results.items() if result["state"] == "done"]
        for line in facts.events:
            if line["key"] == key and line["event"] in ("started", "resumed") and done and line["attempt"] > min(done):
                yield f"{key} began again as {line['attempt']}, after {min(done)} had a result"


def _beside(facts: Facts) -> Iterator[str]:
    running: dict[str, str] = {}
    for line in facts.events:
        key, event, attempt = line["key"], line["event"], line["attempt"]
        if event in ("started", "resumed"):
            if running.get(key, attempt) != attempt:
                yield f"{key}: {attempt} began beside {running[key]}"
            running[key] = attempt
        elif event in ("finished", "failed", "stopped", "lost", "cancelled") and running.get(key) == attempt:
            del running[key]
    left: set[Worker] = set()
    newest: dict[str, Worker] = {}
    for line in facts.steps:
        training, by = line["training"], worker_of(line)
        if newest.get(training, by) != by:
            left.add(newest[training])
        if by in left:
            yield f"{training}: {by} trained beside {newest[training]}"
        newest[training] = by


def _without_reason(facts: Facts) -> Iterator[str]:
    for key, why in reasons(facts).items():
        if why.endswith(": "):
            yield f"{key} failed without a reason"
    for line in facts.events:
        if line["event"] in ("failed", "lost", "cancelled") and not line.get("error"):
            yield f"{line['key']} {line['event']} without a reason"


def _trained_again(facts: Facts) -> Iterator[str]:
    saved: Counter[str] = Counter()
    for line in facts.steps:
        training = line["training"]
        if "saved" in line:
            saved[training] = line["saved"]
        elif line["step"] <= saved[training]:
            again = f"trained step {line['step']} again, which checkpoint {saved[training]} has"
            yield f"{training}: {line['attempt']} {again}"


def _not_trained(facts: Facts) -> Iterator[str]:
    """A complete trial whose steps were not all trained, in this key or in the one that it was promoted from."""
    trained: dict[str, set[int]] = defaultdict(set)
    training_of = {line["key"]: line["training"] for line in facts.steps}
    for line in facts.steps:
        trained[line["training"]] |= {line["step"]} if "step" in line else set()
    for key in facts.keys:
        record = facts.records.get(key)
        if record is not None and record["state"] == "complete":
            absent = set(range(1, (steps_of(record) or 0) + 1)) - trained[training_of.get(key, "")]
            if absent:
                yield f"{key} is complete without the steps {sorted(absent)}"


def _not_as_told(facts: Facts) -> Iterator[str]:
    """Where the product's own log of steps differs from the tests'."""
    saved: Counter[str] = Counter()
    seen: dict[Worker, dict[str, Any]] = {}
    for line in facts.steps:
        by = worker_of(line)
        own = seen.setdefault(by, {"began": saved[line["training"]], "saved": [], "last": 0})
        if "saved" in line:
            saved[line["training"]] = line["saved"]
            own["saved"].append(line["saved"])
        else:
            own["last"] = line["step"]
    for (key, attempt, pid), own in seen.items():
        told = [line for line in facts.told.get(key, []) if (line["attempt"], line["pid"]) == (attempt, pid)]
        began = [line["to"] for line in told if line["event"] == "began"]
        stretches = [(line["after"], line["to"]) for line in told if line["event"] == "saved"]
        ended = [line["to"] for line in told if line["event"] == "ended"]
        pairs = list(zip([own["began"], *own["saved"]], own["saved"], strict=False))
        if began != [own["began"]]:
            yield f"{key} {attempt} says that it began at {began}, and went on from {own['began']}"
        if stretches != pairs and (ended or stretches != pairs[:-1]):  # killed between the checkpoint and the line
            yield f"{key} {attempt} says that it saved {stretches}, and saved {pairs}"
        if ended not in ([], [own["last"]]) and own["last"] - ended[0] != 1:  # the step that failed is not in it
            yield f"{key} {attempt} says that it ended at {ended}, and ended at {own['last']}"
