"""What must hold after a seeded storm: the proof from the logs, and that there was a storm at all."""

from storm import BUDGETS, Storm
from storm_points import worker_points
from storm_proof import Facts, reasons, violations

from harness.search.candidates import candidate_of
from harness.search.study import stored_study


def assert_weathered(storm: Storm) -> None:
    facts = storm.facts()
    assert violations(facts, trials=storm.plan.trials, budgets=BUDGETS) == []
    assert_it_stormed(storm, facts)
    assert_study_says_the_same(storm, facts)


def assert_it_stormed(storm: Storm, facts: Facts) -> None:
    """A storm without lightning proves nothing."""
    kills = storm.kills()
    assert len(kills) >= storm.plan.trials // 3
    assert {line["point"] for line in kills if line["who"] == "worker"} == set(worker_points())
    planned = {point for point, _ in storm.plan.drivers}
    assert len({line["point"] for line in kills if line["who"] == "driver"} & planned) >= len(planned) // 2
    (said,) = storm.outages
    assert said.startswith("harness: cannot write ")
    assert "database is locked" in said
    failures = sorted(reasons(facts).values())
    diverged = [f"{name}: training diverged at step {step}" for name, step in storm.plan.diverging.items()]
    (hungry,) = storm.plan.hungry
    assert len(failures) == len(diverged) + 1
    assert all(any(found.startswith(expected) for found in failures) for expected in diverged)
    assert any(found.startswith(f"{hungry}: ") and "can't allocate memory" in found for found in failures)


def assert_study_says_the_same(storm: Storm, facts: Facts) -> None:
    """Only now: each record's values are those of its candidate."""
    study = stored_study(storm.study / "runs" / "storm", "storm")
    assert study is not None
    told = [candidate_of(trial) for trial in study.get_trials(deepcopy=False)]
    assert {level.key for candidate in told for level in candidate.levels} == set(facts.keys)
    for candidate in told:
        assert candidate.state in ("complete", "stopped", "failed")
        for level in candidate.levels:
            record = facts.records[level.key]
            complete = record["state"] == "complete"
            values = tuple(record["quantities"][name]["value"] for name in ("kid", "macs")) if complete else None
            assert level.values == values
