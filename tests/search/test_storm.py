"""Kill -9, an outage, broken numbers and too little memory, over a real `harness sweep`; the logs prove the rest.

The storm takes minutes because each of its dozen drivers, and the process that forks its workers, imports torch and the
rest (6 s of one core each); what a worker trains takes a fraction of a second.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from storm import BUDGETS, Plan, Storm, seeded_plan
from storm_checks import assert_weathered
from storm_points import driver_points, worker_points
from storm_proof import Facts, reasons, violations

TRIALS = 32


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_storm_over_a_sweep_loses_nothing_and_trains_nothing_twice(tmp_path: Path, cache: Path) -> None:
    storm = Storm(tmp_path, seeded_plan(trials=TRIALS, seed=7), cache)
    storm.rage()
    print(storm.summary())
    assert_weathered(storm)


@pytest.mark.slow
def test_the_proof_sees_red_when_checkpoints_are_ignored(tmp_path: Path, cache: Path) -> None:
    deaths = {"lowest": {"trial-0": [("after a checkpoint's rename", 2)]}, "higher": {}}
    storm = Storm(tmp_path, Plan(trials=1, workers=deaths, mutation="checkpoints ignored"), cache)
    storm.rage()
    found = violations(storm.facts(), trials=1, budgets=BUDGETS)
    assert any("trained step 1 again, which checkpoint 4 has" in sentence for sentence in found)


# the proof itself, on a story of two trials: one lost its worker and was promoted, one diverged


def story() -> Facts:
    one, two = ("low", "attempt-001", 11), ("low", "attempt-002", 12)
    high, bad = ("high", "attempt-001", 13), ("bad", "attempt-001", 14)
    event = [("submitted", one), ("started", one), ("submitted", bad), ("started", bad), ("finished", bad)]
    event += [("lost", one), ("submitted", two), ("resumed", two), ("finished", two)]
    event += [("submitted", high), ("started", high), ("finished", high)]
    told = {
        "low": [
            *[("began", one, 0, 0), ("saved", one, 0, 2), ("began", two, 2, 2), ("saved", two, 2, 4)],
            *[("saved", two, 4, 6), ("ended", two, 2, 6)],
        ],
        "high": [("began", high, 6, 6), ("saved", high, 6, 8), ("ended", high, 6, 8)],
        "bad": [("began", bad, 0, 0), ("ended", bad, 0, 1)],
    }
    did = [(one, 1), (one, 2), (one, "2"), (bad, 1), (one, 3), (two, 3), (two, 4), (two, "4"), (two, 5), (two, 6)]
    did += [(two, "6"), (high, 7), (high, 8), (high, "8")]
    done = {"state": "done", "error": ""}
    return Facts(
        events=[{**by(who), "event": name, "error": "why" if name == "lost" else ""} for name, who in event],
        told={
            key: [{**by(who), "event": name, "after": after, "to": to} for name, who, after, to in lines]
            for key, lines in told.items()
        },
        results={"low": {"attempt-002": done}, "high": {"attempt-001": done}, "bad": {"attempt-001": done}},
        records={"low": record("low", 6), "high": record("high", 8), "bad": record("bad", 6, "it diverged")},
        steps=[
            {**by(who), "training": "bad" if who == bad else "low", "saved" if isinstance(at, str) else "step": int(at)}
            for who, at in did
        ],
    )


def by(who: tuple[str, str, int]) -> dict[str, object]:
    return dict(zip(("key", "attempt", "pid"), who, strict=True))


def record(name: str, steps: int, why: str = "") -> dict[str, object]:
    kid = {"kind": "failed", "stage": "train", "message": why} if why else {"kind": "measured", "value": 1.0}
    state = "failed" if why else "complete"
    return {"name": name, "state": state, "protocol": {"recipe": {"steps": steps}}, "quantities": {"kid": kid}}


def test_the_proof_accepts_a_true_story() -> None:
    assert violations(story(), trials=2, budgets=(6, 8)) == []
    assert story().repeated == 1
    assert reasons(story()) == {"bad": "bad: it diverged"}


def drop_result(facts: Facts) -> None:
    del facts.results["high"]


def end_twice(facts: Facts) -> None:
    facts.results["low"]["attempt-001"] = {"state": "done", "error": ""}


def drop_record(facts: Facts) -> None:
    del facts.records["low"]


def drop_trial(facts: Facts) -> None:
    facts.events[:] = [line for line in facts.events if line["key"] != "bad"]


def train_a_saved_step_again(facts: Facts) -> None:
    at = next(n for n, line in enumerate(facts.steps) if line.get("step") == 5)
    facts.steps.insert(at, {**facts.steps[at], "step": 4})


def leave_out_a_step(facts: Facts) -> None:
    facts.steps[:] = [line for line in facts.steps if line.get("step") != 5]


def run_two_at_once(facts: Facts) -> None:
    late = next(line for line in facts.steps if line.get("step") == 3)
    at = next(n for n, line in enumerate(facts.steps) if line.get("step") == 4)
    facts.steps.insert(at, late)


def begin_beside(facts: Facts) -> None:
    facts.events[:] = [line for line in facts.events if line["event"] != "lost"]


def begin_after_the_end(facts: Facts) -> None:
    facts.events.append({**by(("high", "attempt-002", 15)), "event": "resumed"})


def say_nothing(facts: Facts) -> None:
    facts.records["bad"]["quantities"]["kid"]["message"] = ""


def lie_about_the_beginning(facts: Facts) -> None:
    facts.told["low"][2]["to"] = 0


def lie_about_a_checkpoint(facts: Facts) -> None:
    facts.told["low"][3]["to"] = 5


MUTATIONS: dict[Callable[[Facts], None], str] = {
    drop_result: "high attempt-001 finished without a result",
    end_twice: "low ended 2 times",
    drop_record: "low has no record",
    drop_trial: "1 trials ended at the lowest budget, not 2",
    train_a_saved_step_again: "trained step 4 again, which checkpoint 4 has",
    leave_out_a_step: "low is complete without the steps [5]",
    run_two_at_once: "trained beside",
    begin_beside: "low: attempt-002 began beside attempt-001",
    begin_after_the_end: "high began again as attempt-002, after attempt-001 had a result",
    say_nothing: "bad failed without a reason",
    lie_about_the_beginning: "says that it began at [0], and went on from 2",
    lie_about_a_checkpoint: "says that it saved",
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_proof_sees_red(mutation: Callable[[Facts], None]) -> None:
    facts = copy.deepcopy(story())
    mutation(facts)
    assert any(MUTATIONS[mutation] in sentence for sentence in violations(facts, trials=2, budgets=(6, 8)))


def test_a_checkpoint_whose_line_a_kill_cut_off_is_no_lie() -> None:
    facts = story()
    facts.told["low"].pop(1)
    assert violations(facts, trials=2, budgets=(6, 8)) == []


def test_every_point_of_death_is_there() -> None:
    for point in (*driver_points().values(), *worker_points().values()):
        assert callable(getattr(point.owner, point.name))


def test_a_plan_is_a_function_of_its_seed() -> None:
    plan = seeded_plan(trials=TRIALS, seed=7)
    assert plan == seeded_plan(trials=TRIALS, seed=7)
    assert plan != seeded_plan(trials=TRIALS, seed=8)
    assert len(plan.workers["lowest"]) + len(plan.drivers) >= 20
    assert {point for deaths in plan.workers["lowest"].values() for point, _ in deaths} == set(worker_points())
    assert len(plan.diverging) == 2
    assert not set(plan.diverging) & set(plan.workers["lowest"])
