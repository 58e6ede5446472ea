"""What a page says of a sweep is what its study says."""

from collections import Counter

import pytest
from fake_sweep import OBJECTIVES, World, score

from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.search.candidates import levels_in
from harness.search.finalists import Finalists, conclude, rescore_finalists
from harness.search.status import sweep_status, sweep_summary
from harness.search.study import DEFINITION, FLOOR

BUDGETS = (100, 300)


def sometimes(spec):
    odd = spec.architecture.feed_forward.ratio == 3
    return "training diverged at step 7" if odd and spec.settings.recipe.steps == 300 else score(spec)


def test_the_summary_is_the_study_in_every_state(tmp_path, cheap):
    world = World(tmp_path, sometimes)
    driver = world.driver(trials=12, budgets=BUDGETS, limits={"macs": 20_000}, report="mine")
    began = {"objectives": OBJECTIVES, "budgets": list(BUDGETS), "reduction": 3, "seed": 0, "protocol": {"recipe": {}}}
    world.study.set_user_attr("began", began)
    world.study.set_user_attr(DEFINITION, to_plain(driver.definition))
    ending = driver.run()
    rescore_finalists(driver, Finalists(most=2, seeds=2), ending)

    summary, status = sweep_summary(tmp_path, "fake"), sweep_status(tmp_path, "fake")
    assert Counter(each.state for each in summary.candidates) == {
        state: count for state, count in status.states.items() if count
    }
    assert {"complete", "refused", "stopped"} <= {each.state for each in summary.candidates}
    assert summary.front == tuple(point.name for point in status.front)
    assert {state: [(r.text, r.times) for r in reasons] for state, reasons in summary.reasons.items()} == {
        state: [(r.text, r.times) for r in reasons] for state, reasons in status.reasons.items()
    }
    for each in summary.candidates:
        if each.key:
            kid, macs = each.values
            assert world.workers.records[each.key].quantities["kid"].value == kid
            assert world.workers.records[each.key].quantities["macs"].value == macs
            assert each.steps == (300 if each.state == "complete" else 100)
        else:
            assert each.state == "refused"
            assert each.reason
    assert summary.conclusions == conclude(world.study)
    fresh = {key: record for finalist in summary.conclusions.finalists for key, record in finalist.trials.items()}
    assert len(fresh) == 2
    assert all(world.workers.records[key].seed == seed for seed, key in fresh.items())
    assert (summary.trials, summary.report, summary.levels, summary.seed) == (12, "mine", BUDGETS, 0)


def test_of_one_budget_what_the_floor_beats_is_marked_and_on_no_front(tmp_path, cheap):
    """Below a KID of 2 are about half of them; finalists whose fresh trainings all fall behind it have no rank."""

    def worse_again(spec):
        found = score(spec)
        return {**found, "kid": found["kid"] + (2.0 if spec.seed > 0 and spec.architecture.time_width == 32 else 0.0)}

    world = World(tmp_path, worse_again)
    driver = world.driver(trials=16, floor=2.0, sampler="random")
    world.study.set_user_attr(
        "began", {"objectives": OBJECTIVES, "budgets": [20], "seed": 0, "protocol": {"recipe": {}}}
    )
    world.study.set_user_attr(DEFINITION, to_plain(driver.definition))
    world.study.set_user_attr(FLOOR, 2.0)
    rescore_finalists(driver, Finalists(most=16, seeds=2), driver.run())
    summary = sweep_summary(tmp_path, "fake")
    beaten = {each.name for each in summary.candidates if each.beaten}
    assert beaten == {each.name for each in summary.candidates if each.values[0] >= 2.0}
    assert 0 < len(beaten) < 16
    assert summary.front
    assert not beaten & set(summary.front)
    finalists = summary.conclusions.finalists
    assert not beaten & {each.name for each in finalists}
    again = [each for each in finalists if each.beaten]
    assert {each.name for each in again} == {each.name for each in finalists if each.objectives["kid"].mean >= 2.0}
    assert again == list(finalists[-len(again) :])
    assert all(each.objectives["kid"].rank is None and not each.on_front for each in again)
    ranked = [each.objectives["kid"].rank for each in finalists if not each.beaten]
    assert sorted(ranked) == list(range(1, len(ranked) + 1))
    assert sweep_status(tmp_path, "fake").reasons["beaten"][0].times == len(beaten)


def test_a_folder_without_a_study_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="has no study yet; `harness sweep fake` begins it"):
        sweep_summary(tmp_path, "fake")


def test_a_study_of_another_version_is_a_sentence():
    with pytest.raises(UserError, match=r"^this study was written by another version \(unknown setting 'kid'"):
        levels_in({"levels": [{"steps": 4, "key": "0" * 16, "kid": 0.5}]})
