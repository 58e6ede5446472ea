"""A measured latency as an objective, over made-up scores and a phone that answers late and in any order."""

import random
from dataclasses import replace

import pytest
from fake_sweep import Phone, World
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState
from test_driver import killed

from harness.records.plain import to_plain
from harness.records.quantity import Failed, Measured, Predicted, Unavailable
from harness.records.record import TrialRecord
from harness.search import searcher, sweep
from harness.search.definition import Finalists
from harness.search.finalists import rescore_finalists
from harness.search.problem import Outcome, outcome_of
from harness.search.status import MEASUREMENT, sweep_status
from harness.search.study import DEFINITION

OBJECTIVES = {"kid": "minimize", "latency_iphone": "minimize"}
ASKED = {"objectives": OBJECTIVES, "sampler": "tpe"}


def some_fail(fingerprint):
    return "the outputs agree to 12 dB, below 35 dB" if int(fingerprint[:2], 16) % 4 == 0 else ""


def moody(clock):
    return Phone(clock, fails=some_fail)


def slow(clock):
    return Phone(clock, latest_s=9e4)


def never(clock):
    return Phone(clock, latest_s=1e12)


def began(world, driver):
    world.study.set_user_attr(
        "began", {"objectives": OBJECTIVES, "budgets": list(driver.problem.steps), "reduction": 3}
    )
    world.study.set_user_attr(DEFINITION, to_plain(driver.definition))


def check_every_candidate_has_its_own_measurement(world):
    for trial in world.trials(TrialState.COMPLETE):
        assert trial.values[1] == world.phone.latencies[trial.user_attrs["fingerprint"]]
    for each in world.candidates:
        for level in each.levels:
            assert not level.awaits
            assert level.stand_in is None
            assert level.values is None or level.values[1] == world.phone.latencies[each.fingerprint]


def test_candidates_wait_for_their_measurements_and_those_that_fail_fail_with_the_reason(tmp_path, cheap):
    world = World(tmp_path, phone=moody)
    ending = world.run(trials=16, **ASKED)
    assert ending.reason == "16 candidates were trained"
    check_every_candidate_has_its_own_measurement(world)
    failed = world.trials(TrialState.FAIL)
    assert {trial.user_attrs["fingerprint"] for trial in failed} == {
        name for name in world.phone.asked if some_fail(name)
    }
    assert failed
    for trial in failed:
        assert trial.user_attrs["failed"] == "no latency_iphone: parity: the outputs agree to 12 dB, below 35 dB"
    assert len(world.trials(TrialState.COMPLETE)) == 16 - len(failed)


def test_training_goes_on_while_measurements_are_awaited(tmp_path, cheap):
    """Sixteen trainings of a minute on four workers, and no answer in the first hours."""
    world = World(tmp_path, phone=slow)
    ending = world.run(trials=16, wait_hours=0.0, **ASKED)
    assert len(world.workers.trained) == 16
    assert world.clock() < 1_000_000 + 20 * 60 + 1
    assert ending.halts
    waiting = len(world.trials(TrialState.RUNNING))
    assert waiting > 8
    assert f"{waiting} candidates await a measurement: the same command goes on" in ending.reason


def test_the_sampler_learns_the_prediction_until_the_measurement_comes(tmp_path, cheap):
    world = World(tmp_path, phone=slow)
    driver = world.driver(trials=16, wait_hours=0.0, **ASKED)
    driver.run()

    def told(driver):
        held = driver.searcher._study.get_trials(deepcopy=False)
        return {number: tuple(held[at].values or ()) for number, at in driver.searcher._numbers.items()}

    for each in world.candidates:
        level, latency = each.levels[-1], world.phone.latencies[each.fingerprint]
        if level.awaits:
            assert (level.values, level.stand_in) == (None, (level.score, 1.5 * latency)), "marked in the study"
            assert level.awaits == ("latency_iphone",)
            assert told(driver)[each.number] == driver.problem.scaled((level.score, 1.5 * latency))
        else:
            assert told(driver)[each.number] == driver.problem.scaled((level.score, latency))
    assert told(world.driver(trials=16, **ASKED)) == told(driver), "the same to the next driver"
    driver = world.driver(trials=16, wait_hours=1000.0, **ASKED)
    driver.run()
    for each in world.candidates:
        values = (each.levels[-1].score, world.phone.latencies[each.fingerprint])
        assert told(driver)[each.number] == driver.problem.scaled(values), "the measured one has taken its place"


def test_what_fails_is_no_example_to_the_sampler_any_more(tmp_path, cheap):
    world = World(tmp_path, phone=moody)
    driver = world.driver(trials=16, **ASKED)
    driver.run()
    held = driver.searcher._study.get_trials(deepcopy=False)
    for each in world.candidates:
        state = held[driver.searcher._numbers[each.number]].state
        assert state == (TrialState.FAIL if each.state == "failed" else TrialState.COMPLETE)


def test_a_parent_of_a_genetic_sampler_may_fail_when_its_answer_comes(tmp_path, cheap, monkeypatch):
    """A generation is complete, by predictions too, before a phone says which of it fail."""
    monkeypatch.setitem(searcher.SAMPLERS, "nsga2", lambda seed: NSGAIISampler(seed=seed, population_size=6))
    world = World(tmp_path, workers=1, phone=moody)
    ending = world.run(trials=40, **{**ASKED, "sampler": "nsga2"})
    assert ending.reason == "40 candidates were trained"
    assert world.trials(TrialState.FAIL)
    check_every_candidate_has_its_own_measurement(world)


def test_halving_and_finalists_know_measured_candidates_only(tmp_path, cheap, monkeypatch):
    world, add = World(tmp_path, phone=moody), sweep.Level.add
    entered = []

    def measured_only(self, number, losses, *, eligible):
        each = world.candidates[number]
        assert each.levels[0].values == (each.levels[0].score, world.phone.latencies[each.fingerprint])
        assert world.clock() >= world.phone.asked[each.fingerprint]
        entered.append(number)
        add(self, number, losses, eligible=eligible)

    monkeypatch.setattr(sweep.Level, "add", measured_only)
    driver = world.driver(trials=15, budgets=(100, 300), **ASKED)
    ending = driver.run()
    assert len(entered) == 15 - sum(each.state == "failed" for each in world.candidates)
    assert sum(each.state == "complete" for each in world.candidates) == -(-len(entered) // 3)
    monkeypatch.undo()
    ending = rescore_finalists(driver, Finalists(most=2, seeds=2), ending)
    assert "finalists were re-scored with 2 seeds" in ending.reason
    check_every_candidate_has_its_own_measurement(world)
    assert world.phone.asks == 15, "fresh seeds of an architecture need no measurement of their own"


def test_a_driver_without_news_ends_and_the_same_command_continues(tmp_path, cheap):
    world = World(tmp_path, phone=never)
    ending = world.run(trials=6, wait_hours=0.5, **ASKED)
    assert ending.halts
    assert "6 candidates await a measurement" in ending.reason
    assert world.clock() - 1_000_000 == 6 * 60 + 1800, "half an hour from the last training on"
    assert world.run(trials=6, wait_hours=0.5, **ASKED).halts
    world.phone.asked = dict.fromkeys(world.phone.asked, 0.0)
    assert world.run(trials=6, **ASKED).reason == "6 candidates were trained"
    assert len(world.workers.trained) == world.phone.asks == 6
    check_every_candidate_has_its_own_measurement(world)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_between_any_two_events_nothing_is_lost_trained_or_measured_twice(tmp_path, cheap, monkeypatch, seed):
    world, draw, deaths = World(tmp_path, workers=3, phone=moody, gpu=1.0), random.Random(seed), 0
    while killed(world, draw.randint(1, 25), monkeypatch, trials=7, budgets=(100, 300), **ASKED):
        deaths += 1
        assert deaths < 200
    assert deaths > 2
    check_every_candidate_has_its_own_measurement(world)
    assert len({each.fingerprint for each in world.candidates}) == len(world.candidates) == world.phone.asks == 7
    keys = [spec.key for spec in world.workers.trained]
    assert len(keys) == len(set(keys))
    assert not world.trials(TrialState.RUNNING)
    spent = sum(100 if spec.settings.recipe.steps == 100 else 200 for spec in world.workers.trained)
    assert world.candidates.gpu_seconds == pytest.approx(spent)


def test_status_says_how_many_wait_for_the_phone(tmp_path, cheap):
    world = World(tmp_path, phone=never)
    driver = world.driver(trials=6, wait_hours=0.0, **ASKED)
    began(world, driver)
    driver.run()
    status = sweep_status(tmp_path, "fake")
    assert status.states[MEASUREMENT] == 6
    assert status.awaited == {"latency_iphone": 6}
    assert status.running == ()
    assert [(each.results, each.running) for each in status.budgets] == [(0, 0)]


RECORD = TrialRecord(
    name="t", architecture={}, architecture_fingerprint="a", protocol={}, protocol_fingerprint="p", seed=0,
    state="complete", quantities={"kid": Measured(value=0.5, unit="1")},
)  # fmt: skip
EXPECTED = Predicted(value=7.0, unit="ms", low=5.0, high=9.0, extrapolated=False)
QUEUED = ("latency_iphone",)


@pytest.mark.parametrize(
    ("latency", "expected"),
    [
        (Measured(value=8.0, unit="ms"), Outcome(values=(0.5, 8.0))),
        (Unavailable(reason="", awaits="r", expected=EXPECTED), Outcome(awaits=QUEUED, stand_in=(0.5, 7.0))),
        (Unavailable(reason="", awaits="r"), Outcome(awaits=QUEUED)),
        (Unavailable(reason="out of reach", expected=EXPECTED), Outcome(awaits=QUEUED, stand_in=(0.5, 7.0))),
        (Failed(phase="load", message="no"), Outcome(failed="no latency_iphone: load: no")),
    ],
)
def test_outcomes(latency, expected):
    record = replace(RECORD, quantities={**RECORD.quantities, "latency_iphone": latency})
    assert outcome_of(record, OBJECTIVES, QUEUED) == expected


def test_what_no_queue_brings_is_not_waited_for():
    record = replace(RECORD, quantities={**RECORD.quantities, "latency_onnx": Unavailable(reason="not installed")})
    assert outcome_of(record, ("kid", "latency_onnx"), QUEUED).failed == "no latency_onnx: not installed"
    lost = replace(
        RECORD,
        quantities={"kid": Failed(phase="score", message="no"), "latency_iphone": Failed(phase="load", message="x")},
    )
    assert outcome_of(lost, OBJECTIVES, QUEUED).failed == "no kid: score: no"
