"""An ablation's rungs as a sweep's first candidates."""

import pytest
from fake_sweep import SPACE, World

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.records.errors import UserError
from harness.search.problem import Placed, parameters_of, rungs_of
from harness.search.space import space
from harness.training.recipe import Recipe
from harness.trials.ablation_study import read_ablation
from harness.trials.studies import read_study

RECIPE = Recipe(steps=10, batch_size=8)


def same(architecture):
    return architecture


def test_the_ladders_rungs_are_places_in_the_laptops_space():
    found = space(read_study("search_spaces", "laptop"))
    placed, remarks = rungs_of("fig3", found, same, RECIPE)
    names = [each.name.removeprefix("fig3/") for each in placed]
    assert names[:2] == ["thin_sdxl", "no_high_res_sa"]
    assert len(names) + len(remarks) == 8
    study = read_ablation("fig3")
    rungs = {rung.name: made for rung, made in study.architecture.architectures()}
    for each in placed:
        assert found.architecture(each.parameters) == rungs[each.name.removeprefix("fig3/")]


def test_every_combination_is_found_from_its_architecture():
    found = space(SPACE)
    for parameters in list(found.combinations())[::37]:
        assert parameters_of(found, found.architecture(parameters), same, RECIPE) == parameters


def test_a_knob_that_sets_again_what_another_set_is_no_obstacle():
    """`separable` sets the resampling too, and `separable_resampling`, which exists beside it, sets it otherwise."""
    found = space(read_study("search_spaces", "laptop"))
    missing = [
        parameters
        for parameters in list(found.combinations())[::97]
        if (placed := parameters_of(found, found.architecture(parameters), same, RECIPE)) is None
        or found.architecture(placed) != found.architecture(parameters)
    ]
    assert missing == []


def test_what_the_space_cannot_express_is_none():
    found = space(SPACE)
    odd = with_edits(architecture(SPACE["base"]), {"feed_forward.ratio": 7})
    assert parameters_of(found, odd, same, RECIPE) is None


def test_enqueued_candidates_come_first_and_only_once(tmp_path, cheap):
    first = {"ffn": 1, "width": 48, "middle": 32, "last": 96, "time": 96}
    world = World(tmp_path)
    enqueued = [Placed("fig3/a", first), Placed("fig3/again", first)]
    world.run(trials=2, enqueued=enqueued)
    world.run(trials=4, enqueued=enqueued)
    trials = world.trials()
    assert trials[0].params == first
    assert [trial.user_attrs.get("enqueued") for trial in trials] == ["fig3/a", None, None, None]


def test_a_sweep_is_nothing_to_enqueue():
    with pytest.raises(UserError, match="enqueue: laptop is no ablation"):
        rungs_of("laptop", space(SPACE), same, RECIPE)
