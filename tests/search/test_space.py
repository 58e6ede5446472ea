"""Search spaces: what is asked, in which order, and which combinations exist."""

import optuna
import pytest

from harness.records.errors import UserError
from harness.search.space import space

CONTENT = {
    "base": "laptop/thin_sdxl",
    "knobs": {
        "ffn_ratio": {"path": "feed_forward.ratio", "choices": [2, 3, 4]},
        "conv": {
            "edits": {
                "regular": {"convolution": "regular"},
                "separable": {"convolution": {"kind": "separable", "expansion": 1}},
            }
        },
        "expansion": {"path": "convolution.expansion", "choices": [1, 2], "when": {"conv": ["separable"]}},
    },
}


def test_a_conditional_knob_is_asked_only_where_it_exists():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = space(CONTENT)
    for _ in range(30):
        parameters = found.suggest(study.ask())
        assert ("expansion" in parameters) == (parameters["conv"] == "separable")


def test_combinations_are_each_there_once():
    combinations = list(space(CONTENT).combinations())
    assert len(combinations) == space(CONTENT).count() == 3 * (1 + 2)
    assert len({tuple(sorted(combination.items())) for combination in combinations}) == 9


def test_turned_knobs_are_in_the_architecture():
    made = space(CONTENT).architecture({"ffn_ratio": 3, "conv": "separable", "expansion": 2})
    assert made.feed_forward.ratio == 3
    assert made.convolution.expansion == 2


def test_a_range_counts_its_steps_and_a_continuum_is_not_enumerated():
    stepped = space({"base": "b", "knobs": {"w": {"path": "x", "range": [16, 64], "step": 16}}})
    assert stepped.count() == 4
    assert [combination["w"] for combination in stepped.combinations()] == [16, 32, 48, 64]
    assert space({"base": "b", "knobs": {"w": {"path": "x", "range": [0.5, 2.0]}}}).count() is None


def test_neighbours_are_one_knob_away_and_a_knob_that_comes_to_exist_takes_each_value():
    regular = {"ffn_ratio": 2, "conv": "regular"}
    assert list(space(CONTENT).neighbours(regular)) == [
        {"ffn_ratio": 3, "conv": "regular"},
        {"ffn_ratio": 4, "conv": "regular"},
        {"ffn_ratio": 2, "conv": "separable", "expansion": 1},
        {"ffn_ratio": 2, "conv": "separable", "expansion": 2},
    ]
    separable = {"ffn_ratio": 2, "conv": "separable", "expansion": 1}
    assert {"ffn_ratio": 2, "conv": "regular"} in list(space(CONTENT).neighbours(separable))


def test_every_combination_is_reached_from_any_other():
    found = space(CONTENT)
    start = {"ffn_ratio": 4, "conv": "separable", "expansion": 2}
    reached, layer = [start], [start]
    while layer:
        layer = [other for at in layer for other in found.neighbours(at) if other not in reached]
        reached += [other for index, other in enumerate(layer) if other not in layer[:index]]
    assert sorted(map(str, reached)) == sorted(map(str, found.combinations()))


@pytest.mark.parametrize(
    ("knob", "sentence"),
    [
        ({"path": "x", "choices": [1], "range": [1, 2]}, "exactly one"),
        ({"choices": [1]}, "has a path"),
        ({"path": "x", "range": [2, 1]}, "low to high"),
        ({"path": "x", "choices": [1], "when": {"later": [1]}}, "must stand above"),
        ({"path": "x", "choice": [1]}, "unknown setting"),
    ],
)
def test_wrong_knobs_are_refused(knob, sentence):
    with pytest.raises(UserError, match=sentence):
        space({"base": "b", "knobs": {"k": knob}})
