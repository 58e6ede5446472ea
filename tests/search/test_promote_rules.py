"""The rules of a promotion: whom they choose, against arithmetic; what they say; what they refuse."""

import math
from types import SimpleNamespace

import pytest

from harness.records.errors import UserError
from harness.records.quantity import Counted, Measured, Predicted, Unavailable
from harness.search.contest import Contender, Contest
from harness.search.rules import best, knee, limit


def kid(value, spread=0.01):
    return Measured(value=value, unit="", low=value - spread, high=value + spread, conditions={"samples": 512})


def contender(name, kids, macs=1000, latency=None, missing=None):
    """`kids`: one a seed; `missing`: seed -> why it has none."""
    told = {}
    for seed, value in enumerate(kids):
        quantities = {"kid": kid(value), "macs": Counted(value=macs, unit="multiply-adds")}
        if latency is not None:
            quantities["latency_iphone"] = latency
        told[seed] = SimpleNamespace(quantities=quantities, protocol={}, seed=seed)
    return Contender(name=name, record=told[0], told_by=told, missing=missing or {})


def contest(*contenders):
    return Contest(study="laptop", contenders=contenders, objectives=("kid", "macs"))


def predicted(value, low, high):
    return Predicted(value=value, unit="ms", low=low, high=high, extrapolated=False)


FRONT = contest(
    contender("small", [4.0], 1000),
    contender("middle", [1.0], 2000),
    contender("large", [0.5], 16_000),
    contender("beaten", [1.5], 3000),
)


def test_the_best_is_that_of_the_means_and_names_whom_the_seeds_do_not_tell_apart():
    luckiest = contender("luckiest", [0.2, 1.0, 1.1])
    clear = contender("clear", [0.50, 0.51, 0.49])
    near = contender("near", [0.51, 0.50, 0.52])
    far = contender("far", [3.0, 3.1, 2.9])
    choice = best(contest(luckiest, far, near, clear), "kid")
    assert choice.chosen.name == "clear"
    assert "near" in choice.ties
    assert "far" not in choice.ties
    assert choice.why_not["far"] == "KID 2.5 higher"
    assert choice.why_not["near"].endswith("not told apart from clear")


def test_values_have_an_interval_of_the_seeds_with_one_training_that_of_its_samples():
    several = contest(contender("a", [1.0, 1.2, 1.1]), contender("b", [2.0, 2.1, 2.2])).values("kid")["a"]
    assert several.trainings == 3
    assert several.value == pytest.approx(1.1)
    assert several.low < 1.1 < several.high
    one = FRONT.values("kid")["middle"]
    assert (one.low, one.high, one.trainings) == (0.99, 1.01, 1)
    assert one.text == "1 (0.99 to 1.01, 1 training)"
    assert FRONT.values("macs")["large"].text == "16,000"


def test_with_one_training_each_nobody_is_told_apart_however_narrow_the_intervals_of_the_samples():
    close = contest(contender("a", [1.0]), contender("b", [1.015]), contender("c", [1.05]))
    choice = best(close, "kid")
    assert (choice.chosen.name, choice.ties) == ("a", ("b", "c"))
    assert choice.why_not["c"] == "KID 0.05 higher, not told apart from a (one training each)"
    assert "one training each" in close.basis


def test_only_one_that_has_all_its_seeds_is_chosen_and_the_others_say_what_they_lack():
    whole = contender("whole", [0.50, 0.52, 0.51], 2000)
    lucky = contender("lucky", [0.40], 1000, missing={1: "failed", 2: "failed"})
    running = contender("running", [0.40, 0.41], 1000, missing={2: "without a result yet"})
    for choice in (
        best(contest(lucky, running, whole), "kid"),
        limit(contest(lucky, whole, running), "kid", {"macs": 3000}),
    ):
        assert choice.chosen.name == "whole"
        assert choice.why_not == {"lucky": "of 3 seeds 2 failed", "running": "of 3 seeds 1 without a result yet"}
    assert contest(lucky, whole).values("kid")["lucky"].text.endswith("1 training)")
    with pytest.raises(
        UserError, match=r"none of 2 in 'laptop' has a kid of all its seeds \(lucky: of 3 seeds 2 failed; r"
    ):
        best(contest(lucky, running), "kid")
    with pytest.raises(UserError, match=r"a knee lies between the ends of a front, and that .* is whole; choose by"):
        knee(contest(lucky, running, whole), "kid", "macs")


def test_more_of_a_score_is_better_where_it_is():
    told = {
        name: SimpleNamespace(quantities={"class_agreement": kid(value)}, protocol={}, seed=0)
        for name, value in (("low", 0.2), ("high", 0.9))
    }
    both = [Contender(name=name, record=record, told_by={0: record}) for name, record in told.items()]
    choice = best(Contest(study="s", contenders=tuple(both)), "class_agreement")
    assert (choice.chosen.name, choice.said) == ("high", "the highest Class agreement")


def test_the_knee_is_the_farthest_below_the_chord_in_logarithms():
    """KID is far above its noise here, so its scale is a logarithm to three digits."""
    choice = knee(FRONT, "kid", "macs")
    assert choice.chosen.name == "middle"
    x = math.log(2000 / 1000) / math.log(16)
    y = math.log(1.0 / 0.5) / math.log(8)
    assert choice.distances["middle"] == pytest.approx((1 - x - y) / math.sqrt(2), abs=1e-3)
    assert choice.distances["small"] == pytest.approx(0, abs=1e-9)
    assert choice.distances["large"] == pytest.approx(0, abs=1e-9)
    assert choice.why_not["beaten"] == "not on the front: middle is as good or better in both"


def test_whose_knee_it_is_does_not_hang_on_units():
    in_thousands = [contender(each.name, list(each.scores("kid").values()), 1000 * each.own_value("macs").value)
                    for each in FRONT.contenders]  # fmt: skip
    one, other = knee(FRONT, "kid", "macs"), knee(contest(*in_thousands), "kid", "macs")
    assert other.chosen.name == one.chosen.name
    assert other.distances == pytest.approx(one.distances, abs=1e-6)


def test_a_front_without_a_knee_is_a_sentence():
    bulging = contest(contender("a", [4.0], 1000), contender("b", [3.9], 8000), contender("c", [0.5], 16_000))
    with pytest.raises(UserError, match="has no knee: none of a, b, c lies below the chord"):
        knee(bulging, "kid", "macs")
    with pytest.raises(UserError, match=r"a knee lies between the ends of a front, and that .* is a, c; choose by"):
        knee(contest(bulging.contenders[0], bulging.contenders[2]), "kid", "macs")
    with pytest.raises(UserError, match="both are kid; give another --cost"):
        knee(FRONT, "kid", "kid")


def test_a_limit_takes_the_best_within_and_says_why_the_others_are_not():
    choice = limit(FRONT, "kid", {"macs": 3000})
    assert choice.chosen.name == "middle"
    assert choice.why_not == {
        "large": "macs 16,000 is above 3,000",
        "small": "KID 3 higher, not told apart from middle (one training each)",
        "beaten": "KID 0.5 higher, not told apart from middle (one training each)",
    }
    assert choice.said == "the lowest KID among those with macs of at most 3,000"


def test_a_prediction_is_marked_and_one_that_a_queue_is_asked_for_stands_in():
    waiting = Unavailable(reason="asked", awaits="x", expected=predicted(50.0, 40.0, 60.0))
    phones = contest(
        contender("fast", [1.0], latency=predicted(30.0, 25.0, 36.0)),
        contender("slow", [0.5], latency=waiting),
        contender("none", [0.4]),
    )
    choice = limit(phones, "kid", {"latency_iphone": 40})
    assert choice.chosen.name == "fast"
    assert phones.values("latency_iphone")["fast"].text == "30 (25 to 36, predicted)"
    assert choice.why_not["slow"] == "latency_iphone 50 (40 to 60, predicted) is above 40"
    assert choice.why_not["none"] == "latency_iphone is not known"


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"macs": 500}, "none of 4 in 'laptop' has macs of at most 500; the nearest is small, with macs 1,000: raise"),
        ({"mac": 500}, "unknown quantity of the trials of 'laptop': 'mac'; choose one of: macs"),
        ({"fd": 500}, "--rule limit takes the lowest FD, and no trial here has one"),
        ({"latency_iphone": 40}, "--rule limit needs Latency on iPhone, and no trial here has one; name a trial: beat"),
        ({"macs": 0}, "a limit is a number above 0, and --at-most has macs=0"),
        ({"macs": math.nan}, "a limit is a number above 0, and --at-most has macs=nan"),
        ({}, "--rule limit needs limits: --at-most QUANTITY=VALUE"),
    ],
)
def test_mistakes_are_a_sentence(limits, sentence):
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        limit(FRONT, "kid", limits)


def test_a_score_that_nobody_has_is_a_sentence():
    with pytest.raises(UserError, match="--rule best takes the lowest FD, and no trial here has one; name a trial"):
        best(FRONT, "fd")
    with pytest.raises(UserError, match="unknown quantity of the trials of 'laptop': 'kidd'; choose one of: kid"):
        best(FRONT, "kidd")
