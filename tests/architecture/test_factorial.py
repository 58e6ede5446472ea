"""Every combination of the choices, the base among them; what a rule refuses is named, and a typo is no refusal."""

import itertools

import pytest

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.factorial import Factorial
from harness.records.errors import UserError
from harness.records.plain import from_plain

RATIO = {"path": "feed_forward.ratio", "choices": [4, 3]}
ATTENTION = {"edits": {"mhsa": {}, "mqa": "mqa"}}


def ladder(**knobs):
    return from_plain(Factorial, {"base": "laptop/thin_sdxl", "mode": "factorial", "knobs": knobs}).ladder()


def test_every_combination_is_a_rung_compared_with_the_base():
    rungs = ladder(ratio=RATIO, attention=ATTENTION).architectures()
    assert [rung.name for rung, _ in rungs] == [
        f"ratio={ratio}, attention={attention}" for ratio, attention in itertools.product((4, 3), ("mhsa", "mqa"))
    ]
    assert [rung.levels for rung, _ in rungs][-1] == {"ratio": "3", "attention": "mqa"}
    assert [rung.against for rung, _ in rungs] == [None, *[rungs[0][0].name] * 3]
    base = architecture("laptop/thin_sdxl")
    mqa = {"self_attention": "mqa", "cross_attention": "mqa"}
    for rung, config in rungs:
        edits = {"feed_forward.ratio": int(rung.levels["ratio"])} | (mqa if rung.levels["attention"] == "mqa" else {})
        assert config == with_edits(base, edits)


def test_the_base_comes_first_wherever_it_is_among_the_combinations_and_beside_them_otherwise():
    assert ladder(ratio={"path": "feed_forward.ratio", "choices": [3, 4]}).rungs[0].name == "ratio=4"
    beside = ladder(ratio={"path": "feed_forward.ratio", "choices": [2, 3]})
    assert [(rung.name, rung.levels) for rung in beside.rungs] == [
        ("base", {}),
        ("ratio=2", {"ratio": "2"}),
        ("ratio=3", {"ratio": "3"}),
    ]


def test_a_knob_named_by_its_path_needs_none():
    assert [rung.edits for rung in ladder(**{"feed_forward.ratio": {"choices": [4, 3]}}).rungs] == [
        {"feed_forward.ratio": 4},
        {"feed_forward.ratio": 3},
    ]


def test_a_combination_that_a_rule_refuses_is_named_with_the_rule():
    groups = {"path": "norm.groups", "choices": [8, 3]}
    channels = {
        "edits": {"base": {}, "threes": {"stages.0.channels": 24, "stages.1.channels": 48, "stages.2.channels": 48}}
    }
    combinations = ladder(groups=groups, channels=channels)
    assert {rung.name for rung in combinations.rungs} | set(combinations.refused) == {
        f"groups={group}, channels={width}" for group in (8, 3) for width in ("base", "threes")
    }
    assert list(combinations.refused) == ["groups=3, channels=base"]
    assert "3" in combinations.refused["groups=3, channels=base"]


def test_a_knob_may_be_of_the_training():
    """Then a combination is the base's own network, and still not the base, which stands beside them."""
    plain = {"rate": {"path": "recipe.learning_rate", "choices": [1e-3, 4e-3]}, "ratio": RATIO}
    trainings = ladder(**plain).trainings()
    assert trainings.pop("base") == {}
    assert trainings == {
        f"rate={rate}, ratio={ratio}": {"recipe.learning_rate": rate} for rate in (1e-3, 4e-3) for ratio in (4, 3)
    }


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"ratio": RATIO, "a": {"path": "self_attention", "choices": ["mhsa", "mqaa"]}}, "knob 'a', choice mqaa: "),
        ({"ratio": {"path": "feed_forward.ratio", "choices": [4, "3x"]}}, "knob 'ratio', choice 3x: "),
        ({"ratio": {"path": "feed_forwrad.ratio", "choices": [4, 3]}}, "unknown path of a knob 'feed_forwrad.ratio'"),
        ({"a": RATIO, "b": RATIO}, "the knobs 'a' and 'b' both set feed_forward.ratio; make them one knob"),
        ({"a": {"path": "x", "choices": [1, 1.0]}}, "a knob's choices are different ones, and 1 comes twice"),
        ({"a": {"path": "x"}}, "either choices, and their path, or edits"),
        ({"a": {**ATTENTION, "twin": {"gqa": {}}}}, "unknown choice of a knob under 'twin': 'gqa'"),
        ({}, "at least one knob"),
        ({name: {"path": name, "choices": [1, 2, 3, 4]} for name in "abcdef"}, "the knobs have 4,096 combinations"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(knobs, sentence):
    with pytest.raises(UserError) as error:
        ladder(**knobs)
    assert sentence in str(error.value)


def test_on_a_deployment_twin_a_size_needs_its_own_value_and_the_rest_carries_over():
    width = {"edits": {"base": {}, "wide": {"stages.0.channels": 32}}}
    with pytest.raises(UserError, match=r"sets stages\.0\.channels: sizes"):
        ladder(ratio=RATIO, width=width).on("thin_sdxl")
    twins = ladder(ratio=RATIO, width={**width, "twin": {"wide": {"stages.0.channels": 384}}}).on("thin_sdxl")
    configs = {rung.name: config for rung, config in twins.architectures()}
    wide = with_edits(architecture("thin_sdxl"), {"stages.0.channels": 384, "feed_forward.ratio": 3})
    assert configs["ratio=3, width=wide"] == wide
