"""The sampler grid: every combination of the space once, in its order."""

import pytest
from fake_sweep import SPACE, World, score

from harness.records.errors import UserError
from harness.search.definition import SweepStudy
from harness.search.driver import grid_remarks
from harness.search.space import space

KNOBS = SPACE["knobs"]
SMALL = {"base": SPACE["base"], "knobs": {"ffn": KNOBS["ffn"], "width": KNOBS["width"]}}
CONDITIONAL = {
    "base": SPACE["base"],
    "knobs": {"ffn": KNOBS["ffn"], "width": {**KNOBS["width"], "when": {"ffn": [2, 4]}}},
}


def definition(trials: int) -> SweepStudy:
    return SweepStudy(space="x", objectives={"kid": "minimize"}, sampler="grid", trials=trials)


@pytest.mark.parametrize("content", [SMALL, CONDITIONAL])
def test_it_trains_every_combination_once_in_their_order(tmp_path, cheap, content):
    world = World(tmp_path)
    ending = world.run(content, trials=100, sampler="grid")
    assert "exhausted" in ending.reason
    met = [dict(candidate.parameters) for candidate in world.candidates]
    assert [sorted(each.items()) for each in met] == [sorted(each.items()) for each in space(content).combinations()]


def test_what_a_limit_refuses_is_skipped_and_a_driver_goes_on_where_one_stopped(tmp_path, cheap):
    world, limits = World(tmp_path), {"macs": 12_000}
    world.run(SMALL, trials=3, sampler="grid", limits=limits)
    world.run(SMALL, trials=100, sampler="grid", limits=limits)
    met = [dict(candidate.parameters) for candidate in world.candidates]
    assert met == list(space(SMALL).combinations())
    assert {candidate.state for candidate in world.candidates} == {"complete", "refused"}


def test_results_at_a_higher_budget_do_not_begin_it_again(tmp_path, cheap):
    world = World(tmp_path, score)
    world.run(SMALL, trials=100, sampler="grid", budgets=(100, 300))
    assert [dict(candidate.parameters) for candidate in world.candidates] == list(space(SMALL).combinations())


def test_it_says_how_many_points_it_has():
    assert grid_remarks(space(SMALL), definition(12)) == [
        "the grid has 12 points, those that a rule or a limit refuses among them"
    ]
    assert grid_remarks(space(SMALL), definition(5))[0].endswith("; trials=5 trains no more")
    continuum = {**SMALL["knobs"], "recipe.learning_rate": {"range": [1e-4, 1e-2], "log": True}}
    with pytest.raises(UserError, match=r"knob 'recipe.learning_rate' has too many values; give it choices, or a step"):
        grid_remarks(space({"base": SPACE["base"], "knobs": continuum}), definition(5))
