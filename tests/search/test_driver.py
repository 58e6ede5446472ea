"""The driver over made-up scores: kills between any two events, limits, failures, what the study says afterwards."""

import random
from collections import Counter
from dataclasses import dataclass

import optuna
import pytest
from fake_sweep import World, score
from optuna.trial import TrialState

from harness.records.errors import UserError
from harness.search import candidates, searcher, sweep
from harness.search.searcher import ENOUGH

BUDGETS = (100, 300, 900)


class KilledError(Exception):
    """The coordinator dies here."""


@dataclass
class Death:
    """Kills the driver before or after its event number `at`; events are what it writes, submits and hears."""

    at: int
    seen: int = 0

    def wrap(self, function):
        def dying(*arguments, **more):
            self.seen += 1
            if self.seen == self.at:
                raise KilledError
            result = function(*arguments, **more)
            self.seen += 1
            if self.seen == self.at:
                raise KilledError
            return result

        return dying


def killed(world, at, monkeypatch, **settings):
    """Drive until event `at`; whether it died."""
    death, driver = Death(at), world.driver(**settings)
    with monkeypatch.context() as patch:
        for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values"):
            function = getattr(driver.candidates._storage, name)
            patch.setattr(driver.candidates._storage, name, death.wrap(function))
        for name in ("submit", "poll"):
            patch.setattr(driver.queue, name, death.wrap(getattr(driver.queue, name)))
        try:
            driver.run()
        except KilledError:
            return True
    return False


def killed_again_and_again(world, monkeypatch, seed):
    """A driver after the other dies at a seeded event, until one comes to its end."""
    draw, deaths = random.Random(seed), 0
    while killed(world, draw.randint(1, 20), monkeypatch, trials=9, budgets=(100, 300), sampler="tpe"):
        deaths += 1
        assert deaths < 100
    assert deaths > 2


def check_nothing_is_lost_or_repeated(world):
    states = Counter(trial.state.name for trial in world.trials())
    assert states["RUNNING"] == states["FAIL"] == 0
    submitted = [trial for trial in world.trials() if "levels" in trial.user_attrs]
    assert len(submitted) == 9, "neither lost nor one too many"
    assert len({trial.user_attrs["fingerprint"] for trial in submitted}) == 9
    keys = [spec.key for spec in world.workers.trained]
    assert len(keys) == len(set(keys)), "nothing is trained twice"
    assert sum(spec.settings.recipe.steps == 300 for spec in world.workers.trained) == states["COMPLETE"] == 3
    for trial in submitted:
        for level in trial.user_attrs["levels"]:
            assert level["values"][0] == world.workers.records[level["key"]].quantities["kid"].value


@pytest.mark.parametrize("seed", range(4))
def test_killed_between_any_two_events_and_started_again_it_loses_and_repeats_nothing(
    tmp_path, cheap, monkeypatch, seed
):
    world = World(tmp_path, workers=3)
    killed_again_and_again(world, monkeypatch, seed)
    check_nothing_is_lost_or_repeated(world)


def test_forgetting_what_was_in_flight_shows(tmp_path, cheap, monkeypatch):
    """The mutation: a new driver that does not submit again what the old one had submitted."""
    world = World(tmp_path, workers=3)
    monkeypatch.setattr(sweep.Sweep, "_recover", lambda _self: None)
    killed_again_and_again(world, monkeypatch, 0)
    with pytest.raises(AssertionError):
        check_nothing_is_lost_or_repeated(world)


def test_the_same_command_once_more_does_nothing_and_more_trials_go_on(tmp_path, cheap):
    world = World(tmp_path)
    world.run(trials=6, budgets=BUDGETS)
    before = len(world.workers.trained)
    world.run(trials=6, budgets=BUDGETS)
    assert len(world.workers.trained) == before
    world.run(trials=12, budgets=BUDGETS)
    assert sum(spec.settings.recipe.steps == 100 for spec in world.workers.trained) == 12


def test_a_failed_training_is_a_failed_trial_with_its_reason_and_the_sweep_goes_on(tmp_path, cheap):
    def sometimes(spec):
        odd = spec.architecture.feed_forward.ratio == 3
        return "training diverged at step 7" if odd and spec.settings.recipe.steps == 300 else score(spec)

    world = World(tmp_path, sometimes)
    world.run(trials=20, budgets=BUDGETS)
    failed = world.trials(TrialState.FAIL)
    assert failed
    for trial in failed:
        assert trial.params["ffn"] == 3
        assert trial.user_attrs["failed"] == "train: training diverged at step 7"
        assert [level["values"] is None for level in trial.user_attrs["levels"]] == [False, True]
    assert world.trials(TrialState.COMPLETE)


@pytest.mark.parametrize("budgets", [(), BUDGETS])
def test_where_all_trainings_fail_the_ending_is_a_failure_and_says_why(tmp_path, cheap, budgets):
    world = World(tmp_path, lambda _spec: "training diverged at step 7")
    ending = world.run(trials=3, budgets=budgets)
    assert ending.failed
    assert ending.reason.endswith("; all 3 failed, the last because train: training diverged at step 7")
    world.workers.score = score
    assert not world.run(trials=6, budgets=budgets).failed, "others of them have not"


def test_hours_count_over_all_runs_and_what_may_be_promoted_keeps_running(tmp_path, cheap):
    world = World(tmp_path, workers=1)  # a minute a training
    ending = world.run(trials=400, budgets=BUDGETS, hours=0.25)
    assert ending.halts
    assert "ran for its 0.25 hours" in ending.reason
    assert len(world.workers.trained) == 15
    world.run(trials=400, budgets=BUDGETS, hours=0.25)
    assert len(world.workers.trained) == 15
    assert world.trials(TrialState.RUNNING), "they may still be promoted"
    world.run(trials=400, budgets=BUDGETS, hours=0.5)
    assert len(world.workers.trained) == 30


def test_gpu_hours_count_each_step_once(tmp_path, cheap):
    """A record counts from its first step, also where a shorter training paid for those."""
    world = World(tmp_path, workers=1, gpu=3.6)  # 100 steps: 0.1 hours
    world.run(trials=9, budgets=(100, 300))
    assert world.candidates.gpu_seconds == pytest.approx(3.6 * (9 * 100 + 3 * 200))
    again = World(tmp_path / "limited", workers=1, gpu=3.6)
    (tmp_path / "limited").mkdir()
    ending = again.run(trials=100, budgets=(100, 300), gpu_hours=1.0)
    assert "1 GPU-hours are spent" in ending.reason
    assert 1.0 <= again.candidates.gpu_seconds / 3600 < 1.3
    again.run(trials=100, budgets=(100, 300), gpu_hours=1.0)
    assert 1.0 <= again.candidates.gpu_seconds / 3600 < 1.3, "nothing is paid twice after a restart"


def test_a_limit_that_nothing_meets_says_which_and_the_smallest_value_seen(tmp_path, cheap):
    world = World(tmp_path)
    with pytest.raises(UserError) as error:
        world.run(trials=5, limits={"macs": 3000}, max_rejections=40)
    assert "40 candidates in a row were refused: none has macs of at most 3,000, the smallest seen is " in str(
        error.value
    )
    seen = min(trial.user_attrs["macs"] for trial in world.trials())
    assert f"the smallest seen is {seen:,.10g};" in str(error.value)
    assert world.workers.trained == []
    assert len(world.trials(TrialState.PRUNED)) == 40
    world.run(trials=5, limits={"macs": 100_000})  # loosened: those refused may come again
    assert len(world.trials(TrialState.COMPLETE)) == 5


def test_results_are_heard_while_a_long_row_of_candidates_is_refused(tmp_path, cheap, monkeypatch):
    """Refusing takes time, here 2 s a candidate: results wait for the next poll, not for the end of the row."""
    world = World(tmp_path)
    driver = world.driver(trials=5, limits={"macs": 3000}, max_rejections=40)
    refuse, heard = driver._refuse, []

    def slowly(*arguments):
        world.clock.now += 2.0
        heard.append("refused")
        refuse(*arguments)

    monkeypatch.setattr(driver, "_refuse", slowly)
    monkeypatch.setattr(driver.queue, "poll", lambda timeout_s: heard.append(timeout_s) or [])
    with pytest.raises(UserError, match="40 candidates in a row"):
        driver.run()
    assert heard == [*["refused"] * 15, 0.0, *["refused"] * 15, 0.0, *["refused"] * 10], "without waiting"


def test_what_is_trained_already_is_finished_before_the_sentence(tmp_path, cheap):
    """Nothing lost: a candidate that was accepted is trained and told, then the user hears of the limit."""
    world = World(tmp_path, workers=2)
    with pytest.raises(UserError, match="30 candidates in a row"):
        world.run(trials=400, limits={"macs": 4500}, max_rejections=30)
    assert not world.trials(TrialState.RUNNING)


def test_the_sampler_learns_from_the_highest_budget_with_enough_results(tmp_path, cheap):
    world = World(tmp_path)
    driver = world.driver(trials=60, budgets=BUDGETS, sampler="tpe")
    driver.run()
    counts = {steps: sum(len(c.levels) > at for c in world.candidates) for at, steps in enumerate(BUDGETS)}
    assert counts[300] >= ENOUGH > counts[900]
    assert driver.searcher.budget == 300
    held = driver.searcher._study.get_trials(deepcopy=False)
    values = {tuple(trial.values) for trial in held if trial.state == TrialState.COMPLETE}
    assert values == {driver.problem.scaled(c.levels[1].values) for c in world.candidates if len(c.levels) > 1}
    rebuilt = world.driver(trials=60, budgets=BUDGETS, sampler="tpe").searcher
    assert rebuilt.budget == 300
    complete = [t for t in rebuilt._study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    assert {tuple(trial.values) for trial in complete} == values


@pytest.mark.parametrize("sampler", sorted(searcher.SAMPLERS))
def test_every_sampler_drives(tmp_path, cheap, sampler):
    world = World(tmp_path)
    world.run(trials=14, budgets=(100, 300), sampler=sampler)
    world.run(trials=16, budgets=(100, 300), sampler=sampler)
    assert len({trial.user_attrs["fingerprint"] for trial in world.trials()}) == 16


def test_a_restarted_nsga2_goes_on_with_its_generations(tmp_path, cheap, monkeypatch):
    monkeypatch.setitem(
        searcher.SAMPLERS, "nsga2", lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=8)
    )
    world = World(tmp_path)
    world.run(trials=20, sampler="nsga2")
    world.run(trials=40, sampler="nsga2")
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in world.trials()]
    assert max(generations[:20]) < max(generations[20:])
    assert min(generations[20:]) >= 1, "it does not begin again"


def test_a_driver_reads_the_study_once(tmp_path, cheap, monkeypatch):
    """Asking and telling cost the same at any number of trials: no scan of the storage."""
    world = World(tmp_path)
    driver = world.driver(trials=12, budgets=(100, 300))
    monkeypatch.setattr(optuna.storages.RDBStorage, "get_all_trials", None)
    monkeypatch.setattr(optuna.storages.RDBStorage, "_get_trials", None)
    driver.run()
    monkeypatch.undo()
    assert len(world.trials()) == 12


def test_writes_are_one_an_event(tmp_path, cheap, monkeypatch):
    writes = Counter()
    world = World(tmp_path)
    driver = world.driver(trials=9, budgets=(100, 300))
    for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values"):
        function = getattr(driver.candidates._storage, name)

        def counting(*arguments, _function=function, _name=name, **more):
            writes[_name] += 1
            return _function(*arguments, **more)

        monkeypatch.setattr(driver.candidates._storage, name, counting)
    driver.run()
    assert writes["create_new_trial"] == writes["set_trial_state_values"] == 9
    results, promotions, reasons = 9 + 3, 3, len(world.trials(TrialState.PRUNED))
    assert writes["set_trial_user_attr"] == results + promotions + reasons


def test_candidates_read_back_are_those_written(tmp_path, cheap):
    world = World(tmp_path)
    world.run(trials=9, budgets=(100, 300), limits={"macs": 20_000})
    live = list(world.candidates)
    read = [candidates.candidate_of(trial) for trial in world.trials()]
    assert [(c.number, c.state, c.levels, c.fingerprint, dict(c.parameters)) for c in live] == [
        (c.number, c.state, c.levels, c.fingerprint, dict(c.parameters)) for c in read
    ]
    assert [dict(c.violations) for c in live] == [dict(c.violations) for c in read]
