"""What a search promised of a network beside what its full training gave: values, intervals and marks."""

from types import SimpleNamespace

import pytest

from harness.records.manifest import Promotion
from harness.records.quantity import Counted, Measured, Predicted
from harness.reporting.section import Promise
from harness.reporting.sections.promise import chosen_by, content


def record(kid, seed, steps, name="trial-7"):
    quantities = {
        "macs": Counted(value=2_000_000, unit="multiply-adds"),
        "kid": Measured(value=kid, unit="1", low=kid - 0.1, high=kid + 0.1, spread="95%"),
        "latency_predicted": Predicted(value=40.0, unit="ms", low=35.0, high=46.0, extrapolated=False),
    }
    return SimpleNamespace(name=name, seed=seed, quantities=quantities, protocol={"recipe": {"steps": steps}})


def replaced(one, **change):
    return SimpleNamespace(**{**vars(one), **change})


def shown(search_steps, full_steps, promise=None):
    again = [record(kid, seed, search_steps) for seed, kid in enumerate((0.8, 1.0, 0.9), start=1)]
    promise = promise or Promise(searched=[record(0.5, 0, search_steps)], again=again, promotion=None)
    full = {("winner", seed): record(0.2 + seed / 100, seed, full_steps, "winner") for seed in (0, 1)}
    study = SimpleNamespace(protocol={"recipe": {"steps": full_steps}}, judging=SimpleNamespace(scores=("kid",)))
    frames = SimpleNamespace(promises={"winner": promise}, records=full, study=study, title=str)
    (one,) = content(frames).context["promises"]
    return one, {row["quantity"]: row["cells"] for row in one["rows"]}


def test_the_search_the_fresh_seeds_and_the_full_training_have_a_column_each():
    one, rows = shown(100, 800)
    assert [head["of"] for head in one["heads"]] == ["trial-7, seed 0", "3 fresh seeds", "2 seeds"]
    assert list(rows) == ["kid", "macs", "latency_predicted"], "the scores first"
    search, again, full = rows["kid"]
    assert (search["text"].text, search["small"]) == ("0.500", "0.400 to 0.600, 95%")
    assert again["text"].text == "0.900"
    assert again["small"].endswith("95%, 3 trainings")
    assert float(full["text"].data["value"]) == pytest.approx(0.205)
    assert [cell["text"].kind for cell in rows["latency_predicted"]] == ["predicted"] * 3


def test_scores_of_another_protocol_are_marked_and_counts_are_not():
    one, rows = shown(100, 800)
    assert [cell["text"].other_protocol for cell in rows["kid"]] == ["recipe.steps=100", "recipe.steps=100", ""]
    assert not any(cell["text"].other_protocol for cell in rows["macs"])
    assert one["departures"] == "recipe.steps=100"
    assert [head["title"][-1] == "†" for head in one["heads"]] == [True, True, False]
    one, rows = shown(800, 800)
    assert not any(cell["text"].other_protocol for cell in rows["kid"])
    assert not one["departures"]


def test_a_rung_shows_all_its_seeds_and_a_protocol_of_the_rescored_is_their_own():
    seeds = [record(kid, seed, 100) for seed, kid in enumerate((0.5, 0.7, 0.6))]
    again = replaced(record(0.8, 1, 100), protocol={"recipe": {"steps": 100}, "sampling": {"steps": 9}})
    one, rows = shown(100, 800, Promise(searched=seeds, again=[again], promotion=None))
    assert [head["of"] for head in one["heads"]] == ["trial-7, 3 seeds", "1 fresh seed", "2 seeds"]
    assert rows["kid"][0]["text"].text == "0.600"
    assert rows["kid"][0]["small"].endswith("95%, 3 trainings")
    assert [cell["text"].other_protocol for cell in rows["kid"][:2]] == [
        "recipe.steps=100",
        "recipe.steps=100, sampling.steps=9",
    ]


@pytest.mark.parametrize(
    ("promotion", "sentence"),
    [
        (
            Promotion(trials=("a",), rule="best", basis="rescored", among=4),
            "the best of 4 re-scored is still partly luck",
        ),
        (
            Promotion(trials=("a",), rule="knee", basis="search", among=9),
            "chose it among 9 by their own values, one training each",
        ),
        (
            Promotion(trials=("a",), rule="best", basis="rungs", among=3),
            "3 rungs by the means of their seeds: the best of them is",
        ),
        (Promotion(trials=("a",), rule="best", basis="rescored", among=1), "its re-scored mean chose nobody"),
        (Promotion(trials=("a",)), "It was promoted by name"),
        (None, "How it was chosen is not recorded"),
    ],
)
def test_what_is_said_of_luck_is_by_what_it_was_chosen(promotion, sentence):
    assert sentence in chosen_by(promotion)


def test_a_page_without_a_promoted_training_has_no_such_section():
    assert content(SimpleNamespace(promises={})) is None
