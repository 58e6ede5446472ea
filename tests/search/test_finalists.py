"""Finalists: trained again with fresh seeds, scored with fresh samples; conclusions are by those scores."""

import random
from dataclasses import replace
from itertools import combinations, pairwise
from statistics import fmean, stdev

import numpy as np
import optuna
import pytest
from fake_sweep import World, score
from optuna.trial import TrialState
from scipy.stats import binom
from test_driver import Death, KilledError

from harness.measure.statistics import noise_of
from harness.measure.statistics_joint import Difference, Single, corrected
from harness.records.errors import UserError
from harness.search import finalists
from harness.search.candidates import rescored_in
from harness.search.contest import Contest, by_name
from harness.search.definition import Finalists
from harness.search.finalists import Compared, chosen, conclude, fresh_seeds, rescore_finalists
from harness.search.rules import best

WANTED = Finalists(most=3, seeds=3)
FRESH = (1, 2, 3)


def lucky(spec):
    """One candidate had luck with the search's seed: it seems the best by far, and is among the worst."""
    found = score(spec)
    one = spec.architecture.stages[0].channels == 32
    noise = random.Random(spec.key).gauss(0, 0.01)
    if one:
        return {**found, "kid": found["kid"] * (0.02 if spec.seed == 0 else 3.0) + noise}
    return {**found, "kid": found["kid"] + noise}


def final_round(world, wanted=WANTED, **settings):
    """The command: the search to its end, then its finalists."""
    driver = world.driver(**{"trials": 12, "objectives": {"kid": "minimize"}, **settings})
    ending = driver.run()
    return ending if ending.halts else rescore_finalists(driver, wanted, ending)


def fresh(world):
    """The trainings of the final round."""
    return [spec for spec in world.workers.trained if spec.fidelity == "final"]


def scores(world):
    return rescored_in(world.study.user_attrs)


def test_every_finalist_is_trained_with_fresh_seeds_that_are_never_the_searchs(tmp_path, cheap):
    world = World(tmp_path)
    final_round(world, objectives={"kid": "minimize", "macs": "minimize"})
    searched = {spec.seed for spec in world.workers.trained if spec.fidelity == "search"}
    assert searched == {0}
    assert not searched & {spec.seed for spec in fresh(world)}
    front = {f"trial-{trial.number}" for trial in world.study.best_trials}
    names = {spec.name for spec in fresh(world)}
    assert len(names) == min(3, len(front))
    assert names <= front
    for name in names:
        assert sorted(spec.seed for spec in fresh(world) if spec.name == name) == [1, 2, 3]
    top = {trial.user_attrs["levels"][-1]["key"]: f"trial-{trial.number}" for trial in world.study.best_trials}
    assert all(top[spec.parent] == spec.name for spec in fresh(world))


def test_fresh_numbers_avoid_the_searchs_sampling_too(tmp_path, cheap):
    problem = World(tmp_path).driver().problem
    assert fresh_seeds(problem, 3) == (1, 2, 3)
    (tmp_path / "other").mkdir()
    level = World(tmp_path / "other").driver().problem.levels[0].with_scoring_seed(2)
    object.__setattr__(problem, "levels", (level,))
    assert fresh_seeds(problem, 3) == (1, 3, 4)


def test_the_rescored_mean_is_arithmetic_over_the_stores_records(tmp_path, cheap):
    world = World(tmp_path, lucky)
    final_round(world, objectives={"kid": "minimize", "macs": "minimize"})
    assert scores(world)
    for name, found in scores(world).items():
        kids = [world.workers.records[score.key].quantities["kid"].value for score in found]
        macs = [world.workers.records[score.key].quantities["macs"].value for score in found]
        assert [score.seed for score in found] == [1, 2, 3]
        content = world.study.user_attrs[f"rescored:{name}"]
        assert content["mean"] == pytest.approx([sum(kids) / 3, sum(macs) / 3])
        assert content["standard_error"] == pytest.approx([stdev(kids) / 3**0.5, 0.0])
        (finalist,) = [each for each in conclude(world.study).finalists if each.name == name]
        kid = finalist.objectives["kid"]
        (trial,) = [trial for trial in world.study.best_trials if f"trial-{trial.number}" == name]
        assert kid.search == trial.values[0], "the search's value stays in the record"
        assert kid.search_minus_mean == pytest.approx(trial.values[0] - fmean(kids))


def check_the_lucky_one_loses(world):
    final_round(world, Finalists(most=1, seeds=2), objectives={"kid": "minimize", "macs": "minimize"}, trials=25)
    (first,) = {spec.name for spec in fresh(world)}
    final_round(world, Finalists(most=9, seeds=3), objectives={"kid": "minimize", "macs": "minimize"}, trials=25)
    (lucky_trial,) = [trial for trial in world.trials(TrialState.COMPLETE) if f"trial-{trial.number}" == first]
    assert lucky_trial.params["width"] == 32, "the planted one wins the search"
    found = conclude(world.study)
    (planted,) = [each for each in found.finalists if each.name == first]
    assert planted.objectives["kid"].search == min(each.objectives["kid"].search for each in found.finalists)
    assert found.finalists[0].name != first
    assert planted.objectives["kid"].rank > 1
    return planted


def test_a_planted_lucky_candidate_wins_the_search_and_loses_after_re_scoring(tmp_path, cheap):
    world = World(tmp_path, lucky)
    planted = check_the_lucky_one_loses(world)
    assert planted.objectives["kid"].search_minus_mean < -1
    searched = [record for record in world.workers.records.values() if record.fidelity == "search"]
    alone = Contest(study="search", contenders=tuple(by_name(searched)), objectives=("kid", "macs"))
    assert best(alone, "kid").chosen.name == planted.name, "without a final round"
    told = {
        name: {each.seed: world.workers.records[each.key] for each in found} for name, found in scores(world).items()
    }
    finalists = [replace(each, told_by=told[each.name]) for each in alone.contenders if each.name in told]
    assert best(replace(alone, contenders=finalists), "kid").chosen.name == conclude(world.study).finalists[0].name


def test_concluding_from_the_searchs_values_shows(tmp_path, cheap, monkeypatch):
    """The mutation: the search's value in the place of the re-scored ones."""
    by_objective = finalists._by_objective

    def searched(*arguments):
        return {name: (value, dict.fromkeys(again, value)) for name, (value, again) in by_objective(*arguments).items()}

    monkeypatch.setattr(finalists, "_by_objective", searched)
    with pytest.raises(AssertionError):
        check_the_lucky_one_loses(World(tmp_path, lucky))


def ties(*columns):
    """Of finalists with these KIDs at seeds 1, 2, ...: everyone's ties, by number."""
    scores = {str(at): dict(enumerate(column, start=1)) for at, column in enumerate(columns)}
    compared = Compared.of({"kid": scores})
    return {int(name): {int(other) for other in compared.ties("kid", name)} for name in scores}


@pytest.mark.parametrize(
    ("one", "other", "tie"),
    [
        ((0.40, 0.44, 0.42), (0.415, 0.435, 0.425), True),
        ((0.40, 0.44, 0.42), (0.90, 0.94, 0.93), False),
        ((0.40, 0.44, 0.42), (0.43, 0.47, 0.452), False),  # they overlap, but each seed tells the same
        ((0.40, 0.50, 0.42), (0.51, 0.52, 0.61), True),  # apart, but by less than they scatter
        ((0.4,), (0.9,), True),  # one score each has no spread
        ((0.4, 0.4), (0.5, 0.5), False),
        ((0.4, 0.4), (0.4, 0.4), True),
    ],
)
def test_a_tie_is_what_the_seeds_do_not_tell_apart(one, other, tie):
    assert ties(one, other) == ({0: {1}, 1: {0}} if tie else {0: set(), 1: set()})


def test_more_seeds_tell_overlapping_finalists_apart():
    """One outlier each keeps their ranges overlapping for ever; twenty seeds outweigh it."""
    few = ((0.40, 0.70), (0.50, 0.45))
    many = tuple(column + (at,) * 9 + (at + 0.01,) * 9 for column, at in zip(few, (0.4, 0.6), strict=True))
    assert ties(*few) == {0: {1}, 1: {0}}
    assert ties(*many) == {0: set(), 1: set()}


def test_p_values_are_corrected_for_both_statements_on_all_pairs_of_all_objectives():
    random_ = np.random.default_rng(0)
    scores = {
        objective: {name: dict(enumerate(1 + 0.1 * random_.standard_normal(3))) for name in "abcd"}
        for objective in ("kid", "fd")
    }
    noise = {objective: noise_of(by_name) for objective, by_name in scores.items()}
    tests = {}
    for objective, of in noise.items():
        for pair in combinations("abcd", 2):
            key = (objective, *pair)
            tests["different", key] = Difference(noise=of, one=pair[0], other=pair[1], pair=key)
            p = max(of.equivalent(*pair, finalists.MARGIN), of.equivalent(*reversed(pair), finalists.MARGIN))
            tests["equivalent", key] = Single(p=p, pair=key)
    compared, p = Compared.of(scores), corrected(tests)
    assert compared.different == {key: p["different", key] for _, key in tests}
    assert compared.equivalent == {key: p["equivalent", key] for _, key in tests}
    least = min(test.p for test in tests.values())
    assert min(p.values()) == pytest.approx(12 * least), "twelve pairs, and two statements on each of which one is true"


def test_scores_that_are_logarithms_are_never_called_equivalent():
    """A tenth of 25 dB is no small difference."""
    by_name = {name: dict.fromkeys(range(5), 25 + at / 10) | {0: 25.01 + at / 10} for at, name in enumerate("ab")}
    compared = Compared.of({"psnr": by_name, "kid": by_name})
    assert compared.equivalent["psnr", "a", "b"] == 1
    assert compared.equivalent["kid", "a", "b"] < 0.001
    assert compared.different["psnr", "a", "b"] < 0.05


def wrong_tables(count, seeds=5):
    """The share of tables with any false statement: two pairs of equals, which are 10% apart, and noise of 3%. Told
    apart, equals are false; equivalent, those at the margin's edge."""
    random_, wrong = np.random.default_rng(0), 0
    for _ in range(count):
        draws = np.array([[1], [1], [1.1], [1.1]]) * (1 + 0.03 * random_.standard_normal((4, seeds)))
        compared = Compared.of({"kid": {name: dict(enumerate(row)) for name, row in zip("abcd", draws, strict=True)}})
        apart = any(compared.different["kid", *pair] < 0.05 for pair in ("ab", "cd"))
        same = any(compared.equivalent["kid", *pair] < 0.05 for pair in ("ac", "ad", "bc", "bd"))
        wrong += apart or same
    return wrong / count


def test_a_table_states_something_false_at_most_one_time_in_twenty():
    assert wrong_tables(150) <= binom.ppf(0.999, 150, 0.05) / 150


@pytest.mark.slow
def test_a_table_states_something_false_at_most_one_time_in_twenty_at_length(monkeypatch):
    """3.9%; with each kind of statement corrected by itself it would be 7.9%."""
    assert wrong_tables(2000, seeds=10) <= binom.ppf(0.999, 2000, 0.05) / 2000

    def apart(tests):
        kinds = {kind: {key: test for key, test in tests.items() if key[0] == kind} for kind, _ in tests}
        return {key: p for of_kind in kinds.values() for key, p in corrected(of_kind).items()}

    monkeypatch.setattr(finalists, "corrected", apart)
    assert wrong_tables(2000, seeds=10) > binom.ppf(0.999, 2000, 0.05) / 2000


def test_finalists_are_equals_where_that_is_proved_and_not_because_they_are_not_told_apart():
    random_ = np.random.default_rng(0)
    close = {name: dict(enumerate(1 + 0.01 * random_.standard_normal(5))) for name in "ab"}
    loose = {name: dict(enumerate(1 + 0.3 * random_.standard_normal(5))) for name in "ab"}
    for scores, equal in ((close, ("b",)), (loose, ())):
        compared = Compared.of({"kid": scores})
        assert (compared.ties("kid", "a"), compared.equals("kid", "a")) == (("b",), equal)


def test_ties_are_as_many_whichever_direction_is_better():
    random_ = np.random.default_rng(1)
    scores = {
        name: dict(enumerate(level + 0.05 * random_.standard_normal(5)))
        for name, level in zip("abc", (0.5, 0.51, 0.9), strict=True)
    }
    turned = {name: {seed: 1.4 - value for seed, value in by_seed.items()} for name, by_seed in scores.items()}
    one, other = (Compared.of({"kid": each}) for each in (scores, turned))
    assert one.ties("kid", "c") == other.ties("kid", "c") == ()
    assert one.ties("kid", "a") == other.ties("kid", "a") == ("b",)


def by_width(noise):
    """Three widths' KIDs lie 0.5 apart; a fresh seed moves them by up to `noise`."""

    def quantities(spec):
        at = (16, 32, 48).index(spec.architecture.stages[0].channels)
        luck = random.Random(f"{at} {spec.seed}").uniform(0, noise) if spec.seed else 0.0
        return {"kid": 1 + at / 2 + luck, "macs": 9 - at / 2}

    return quantities


@pytest.mark.parametrize(("noise", "tie"), [(0.01, False), (3.0, True)])
def test_ties_are_marked_where_seeds_drown_the_difference_and_not_where_they_are_far_apart(tmp_path, cheap, noise, tie):
    world = World(tmp_path, by_width(noise))
    final_round(world, objectives={"kid": "minimize", "macs": "minimize"}, trials=20)
    found = conclude(world.study).finalists
    assert len(found) == 3
    means = [each.objectives["kid"].mean for each in found]
    assert means == sorted(means)
    assert [each.objectives["kid"].rank for each in found] == [1, 2, 3]
    for one, other in pairwise(found):
        assert (other.name in one.objectives["kid"].ties) == tie
        assert (one.name in other.objectives["kid"].ties) == tie
    assert all(each.objectives["macs"].ties == () for each in found), "no seed changes what is counted"


def test_the_same_command_once_more_trains_nothing_and_only_a_deleted_record_again(tmp_path, cheap):
    world = World(tmp_path)
    both = {"kid": "minimize", "macs": "minimize"}
    final_round(world, objectives=both)
    before, first = len(world.workers.trained), scores(world)
    final_round(world, objectives=both)
    assert len(world.workers.trained) == before
    gone = fresh(world)[4]
    del world.workers.records[gone.key]
    final_round(world, objectives=both)
    assert [spec.key for spec in world.workers.trained[before:]] == [gone.key]
    assert scores(world) == first


def test_more_seeds_go_on_and_fewer_keep_what_is_there(tmp_path, cheap):
    world = World(tmp_path)
    final_round(world)
    final_round(world, Finalists(most=3, seeds=5))
    final_round(world, Finalists(most=3, seeds=2))
    (name,) = {spec.name for spec in fresh(world)}
    assert [spec.seed for spec in fresh(world)] == [1, 2, 3, 4, 5]
    assert [found.seed for found in scores(world)[name]] == [1, 2, 3, 4, 5]


def killed(world, at, monkeypatch):
    """Drive the command until event `at`; whether it died."""
    death, driver = Death(at), world.driver(trials=8, objectives={"kid": "minimize", "macs": "minimize"})
    storage = driver.candidates._storage
    with monkeypatch.context() as patch:
        for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values", "set_study_user_attr"):
            patch.setattr(storage, name, death.wrap(getattr(storage, name)))
        for name in ("submit", "poll"):
            patch.setattr(driver.queue, name, death.wrap(getattr(driver.queue, name)))
        try:
            rescore_finalists(driver, WANTED, driver.run())
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_killed_between_any_two_events_it_loses_and_repeats_nothing(tmp_path, cheap, monkeypatch, seed):
    world = World(tmp_path, workers=2)
    draw, deaths = random.Random(seed), 0
    while killed(world, draw.randint(1, 45), monkeypatch):
        deaths += 1
        assert deaths < 100
    assert deaths > 2
    keys = [spec.key for spec in world.workers.trained]
    assert len(keys) == len(set(keys)), "nothing is trained twice"
    assert {trial.state for trial in world.trials()} == {TrialState.COMPLETE}
    for name, found in scores(world).items():
        assert [each.seed for each in found] == [1, 2, 3], name
        assert [each.values[0] for each in found] == [
            world.workers.records[each.key].quantities["kid"].value for each in found
        ]
    assert len(scores(world)) == 3


def test_a_limit_of_time_halts_the_round_and_a_larger_one_goes_on(tmp_path, cheap):
    both = {"kid": "minimize", "macs": "minimize"}
    world = World(tmp_path, workers=1)  # a minute a training
    ending = final_round(world, objectives=both, trials=6, hours=0.1 + 2.5 / 60)
    assert ending.halts
    assert "lets it go on" in ending.reason
    assert [spec.seed for spec in fresh(world)] == [1, 1, 1], "every finalist once before any of them twice"
    assert world.candidates.hours == pytest.approx(9 / 60)
    ending = final_round(world, objectives=both, trials=6, hours=1.0)
    assert "3 finalists were re-scored with 3 seeds" in ending.reason
    assert len(fresh(world)) == 9


def test_the_hours_of_a_round_that_is_stopped_count(tmp_path, cheap, monkeypatch):
    world = World(tmp_path, workers=1)  # a minute a training
    driver = world.driver(trials=6)
    ended, poll = driver.run(), driver.queue.poll

    def stopping(timeout_s):
        poll(timeout_s)
        raise KeyboardInterrupt

    monkeypatch.setattr(driver.queue, "poll", stopping)
    with pytest.raises(KeyboardInterrupt):
        rescore_finalists(driver, WANTED, ended)
    assert world.study.user_attrs["hours"] == pytest.approx(7 / 60)


def test_a_search_that_is_halted_has_no_final_round(tmp_path, cheap):
    world = World(tmp_path, workers=1)
    assert final_round(world, trials=400, hours=0.1).halts
    assert fresh(world) == []


def test_gpu_hours_count_the_final_round_once(tmp_path, cheap):
    world = World(tmp_path, workers=1, gpu=3.6)
    both = {"kid": "minimize", "macs": "minimize"}
    final_round(world, objectives=both, trials=6)
    steps = world.workers.trained[0].settings.recipe.steps
    assert world.candidates.gpu_seconds == pytest.approx(3.6 * steps * (6 + 9))
    final_round(world, objectives=both, trials=6)
    assert world.candidates.gpu_seconds == pytest.approx(3.6 * steps * (6 + 9)), "a restart pays nothing again"


def test_a_fresh_training_that_fails_is_told_and_leaves_the_others_standing(tmp_path, cheap):
    def sometimes(spec):
        odd = spec.seed == 2 or (spec.seed > 0 and spec.architecture.feed_forward.ratio == 1)
        return "training diverged at step 7" if odd else score(spec)

    world = World(tmp_path, sometimes)
    final_round(world, Finalists(most=9, seeds=3), objectives={"kid": "minimize", "macs": "minimize"}, trials=25)
    found = conclude(world.study)
    assert found.finalists
    for each in found.finalists:
        assert len(each.objectives["kid"].scores) == 2
        assert each.failures == ("train: training diverged at step 7",)
    assert found.without_score
    assert not {each.name for each in found.finalists} & set(found.without_score)


def test_of_a_large_front_an_epsilon_net_is_chosen(tmp_path, cheap):
    world = World(tmp_path)
    driver = world.driver(trials=30, objectives={"kid": "minimize", "macs": "minimize"})
    driver.run()
    front = {trial.number for trial in world.study.best_trials}
    assert len(front) > 4
    assert {each.number for each in chosen(world.candidates, driver.problem, Finalists(most=100))} == front
    four = chosen(world.candidates, driver.problem, Finalists(most=4))
    kids = {trial.number: trial.values[0] for trial in world.study.best_trials}
    assert len(four) == 4
    assert four[0].number == min(kids, key=lambda number: kids[number]), "the best in the first objective is one"
    ends = {min(front, key=lambda n: kids[n]), max(front, key=lambda n: kids[n])}
    assert ends <= {each.number for each in four}, "they are spread over it"


def test_of_each_value_of_a_knob_the_best_is_chosen(tmp_path, cheap):
    world = World(tmp_path)
    driver = world.driver(trials=40, objectives={"kid": "minimize"})
    driver.run()
    best: dict[int, tuple[float, int]] = {}
    for trial in world.trials(TrialState.COMPLETE):
        width, found = trial.params["width"], (trial.values[0], trial.number)
        best[width] = min(best.get(width, found), found)
    assert len(best) == 3
    wanted = Finalists(each="width", most=1)
    assert {each.number for each in chosen(world.candidates, driver.problem, wanted)} == {n for _, n in best.values()}
    assert len(chosen(world.candidates, driver.problem, Finalists(most=1))) == 1, "without it, the best of all"


def test_plain_optuna_reads_both_values(tmp_path, cheap):
    world = World(tmp_path, lucky)
    final_round(world)
    study = optuna.load_study(study_name="fake", storage=f"sqlite:///{tmp_path / 'study.db'}")
    (name,) = rescored_in(study.user_attrs)
    assert study.best_trial.number == int(name.removeprefix("trial-"))
    assert study.best_value != study.user_attrs[f"rescored:{name}"]["mean"][0]


@pytest.mark.parametrize(("change", "sentence"), [({"most": 0}, "finalists.most is"), ({"seeds": 1}, "no spread")])
def test_what_cannot_be_asked_is_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        Finalists(**change)
