"""The first screen of an ablation's page: a word a change and quantity, and the sentence; on made-up scores."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.records.quantity import Failed, Measured, Predicted, Unavailable
from harness.records.record import TrialRecord
from harness.reporting.outcomes import Outcome, outcomes_of
from harness.reporting.report import checked_definition, frames_of
from harness.reporting.section import Frames
from harness.reporting.sections.summary import LONGEST, content, sentence
from harness.reporting.subjects import study_of
from harness.trials.task_config import RECONSTRUCTION  # makes its quantities known

assert "psnr" in RECONSTRUCTION
LATENCY, PARAMS, MACS = "twin.latency_iphone", "twin.params", "twin.macs"


def computed(synthetic: Any, **definition: Any) -> Frames:
    defined, published = checked_definition(synthetic.definition | definition, synthetic.published, "ablation")
    return frames_of(synthetic.store, study_of(synthetic.manifest), defined, published)


def outcomes(synthetic: Any, **definition: Any) -> dict[tuple[str, str], Outcome]:
    return outcomes_of(computed(synthetic, **definition))


def with_seeds(synthetic: Any, seeds: int, effect: float, spread: float = 0.004) -> None:
    """KIDs of so many seeds: `no_high_res_sa` lies `effect` from what it is compared to."""
    synthetic.manifest = replace(synthetic.manifest, seeds=tuple(range(seeds)))
    for at, rung in enumerate(synthetic.manifest.rungs):
        old = synthetic.record(rung.name, 0)
        for seed in range(seeds):
            noise = random.Random(f"{rung.name} {seed}").gauss(0, spread)
            value = 0.06 + noise + (effect if rung.name == "no_high_res_sa" else 0.0)
            kid = replace(old.quantities["kid"], value=value, low=None, high=None)
            fields = {name: getattr(old, name) for name in TrialRecord.__dataclass_fields__ if name != "key"}
            synthetic.store.put(TrialRecord(**fields | {"seed": seed, "quantities": {**old.quantities, "kid": kid}}))
        assert at < 8


def latency(
    synthetic: Any, rung: str, value: float, *, reach: float, measured: bool = False, **conditions: Any
) -> None:
    ends: dict[str, Any] = {"value": value, "unit": "ms", "low": value - reach, "high": value + reach}
    ends["conditions"] = conditions
    quantity = Measured(**ends) if measured else Predicted(**ends, extrapolated=False)
    for seed in synthetic.manifest.seeds:
        synthetic.replace(rung, seed, {LATENCY if measured else "twin.latency_predicted": quantity})


def test_words_and_differences_of_a_page_are_those_of_its_numbers(synthetic: Any) -> None:
    found = outcomes(synthetic)
    words = {rung: found[rung, "kid"].word for rung in ("sepconv", "expanded_sepconv", "first_stage_ca", "mqa")}
    assert words == {"sepconv": "worse", "expanded_sepconv": "better", "first_stage_ca": "better", "mqa": "not told"}
    against = {rung.name: rung.against for rung in synthetic.manifest.rungs}
    for (rung, quantity), outcome in found.items():
        if quantity == "kid":
            mean = [sum(synthetic.record(name, seed).quantities["kid"].value for seed in (0, 1)) / 2
                    for name in (rung, against[rung])]  # fmt: skip
            assert outcome.difference == pytest.approx(mean[0] - mean[1])
            assert outcome.low is not None
            assert outcome.high is not None
            assert outcome.low < outcome.difference < outcome.high
            assert outcome.relative is None, "a score has no percentage here"
    params = found["no_high_res_sa", PARAMS]
    assert (params.word, params.difference, params.kind) == ("better", -31_000_000, "counted")
    assert params.relative == pytest.approx(-31 / 611)
    same = found["qknorm_rope", PARAMS]
    assert (same.word, same.difference, same.why) == ("same", 100_000, "within ±1%")


def test_a_word_about_a_score_comes_with_more_seeds(synthetic: Any) -> None:
    told = {}
    for seeds in (2, 12):
        with_seeds(synthetic, seeds, effect=-0.007)
        told[seeds] = outcomes(synthetic)["no_high_res_sa", "kid"]
    assert (told[2].word, told[12].word) == ("not told", "better")
    assert told[12].high - told[12].low < told[2].high - told[2].low  # type: ignore[operator]
    with_seeds(synthetic, 12, effect=0.007)
    assert outcomes(synthetic)["no_high_res_sa", "kid"].word == "worse"


def test_more_of_a_score_is_better_where_it_is(synthetic: Any) -> None:
    """As of PSNR, in words, sentence and arrows; in decibels, which are logarithms, and never in per cent."""
    for rung in synthetic.manifest.rungs:
        for seed in synthetic.manifest.seeds:
            kid = synthetic.record(rung.name, seed).quantities["kid"].value
            synthetic.replace(rung.name, seed, {"psnr": Measured(value=30 - 100 * kid, unit="dB")})
    of_decoders = {
        "columns": [{"quantity": "psnr"}, {"quantity": MACS}], "control_quantities": [], "must_beat": [],
        "claims": [{"quantity": "psnr", "title": "PSNR", "rule": "seeds"}], "published": "",
    }  # fmt: skip
    told = outcomes(synthetic, **of_decoders)
    words = {rung: told[rung, "psnr"].word for rung in ("sepconv", "expanded_sepconv", "first_stage_ca", "mqa")}
    assert words == {"sepconv": "worse", "expanded_sepconv": "better", "first_stage_ca": "better", "mqa": "not told"}
    assert told["sepconv", "psnr"].difference == pytest.approx(-1.5, abs=0.6)
    frames = computed(synthetic, **of_decoders)
    assert "PSNR is better with separable convolutions, expansion 2" in say(synthetic, **of_decoders)
    assert all("%" not in claim.finding.shown for claim in frames.claims)
    assert {claim.finding.effect for claim in frames.claims if claim.rung == "sepconv"} == {"hurt"}


def test_same_wants_proof_and_is_no_lack_of_evidence(synthetic: Any) -> None:
    """Of MHSA to MQA, "about the same" is published: only scores that lie surely within the margin say so."""
    with_seeds(synthetic, 12, effect=0.0, spread=0.001)
    assert outcomes(synthetic)["mqa", "kid"].word == "same"
    with_seeds(synthetic, 12, effect=0.0, spread=0.012)
    assert outcomes(synthetic)["mqa", "kid"].word == "not told"


def test_overlapping_predictions_tell_nothing_and_have_no_percentage(synthetic: Any) -> None:
    outcome = outcomes(synthetic)["no_high_res_sa", LATENCY]
    assert (outcome.word, outcome.kind, outcome.relative) == ("not told", "predicted", None)
    assert outcome.why == "the predicted intervals overlap"
    assert (outcome.difference, outcome.low) == (-16.0, pytest.approx(15 / 1.6 - 31 * 1.6))


def test_predictions_compare_whatever_of_each_network_is_unlike_the_predictors_data(synthetic: Any) -> None:
    """Why one is extrapolated is of its network, as its size is; the chip is chosen."""
    said = {"chip": "A17 Pro", "extrapolated_because": ["1.4 T multiply-adds"], "fitted_to": ""}
    latency(synthetic, "thin_sdxl", 30.0, reach=2.0, **said)
    latency(synthetic, "no_high_res_sa", 15.0, reach=2.0, **said | {"extrapolated_because": [], "fitted_to": "snapgen"})
    told = outcomes(synthetic)["no_high_res_sa", LATENCY]
    assert (told.word, told.relative) == ("better", pytest.approx(-0.5))
    latency(synthetic, "no_high_res_sa", 15.0, reach=2.0, **said | {"chip": "A16"})
    frames = computed(synthetic)
    apart = outcomes_of(frames)["no_high_res_sa", LATENCY]
    assert (apart.word, apart.difference, apart.why) == ("not told", None, "predicted under different conditions: chip")
    assert frames.estimates["no_high_res_sa", LATENCY].change is None


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(("value", "word"), [(15.0, "better"), (45.0, "worse"), (30.1, "same"), (29.0, "not told")])
def test_a_time_is_told_where_the_intervals_are_apart_or_surely_alike(
    synthetic: Any, measured: bool, value: float, word: str
) -> None:
    reach = 0.5 if word != "not told" else 3.0
    latency(synthetic, "thin_sdxl", 30.0, reach=reach, measured=measured)
    latency(synthetic, "no_high_res_sa", value, reach=reach, measured=measured)
    outcome = outcomes(synthetic)["no_high_res_sa", LATENCY]
    assert (outcome.word, outcome.kind) == (word, "measured" if measured else "predicted")
    assert (outcome.relative is None) == (word == "not told")
    cell = next(c for row in content(computed(synthetic)).context["rows"] for c in row.cells
                if c.data.get("subject") == "no_high_res_sa" and c.data.get("outcome") == LATENCY)  # fmt: skip
    assert cell.word == (word if measured or word == "not told" else f"predicted {word}")


def test_what_has_no_value_or_another_kind_of_value_has_no_difference(synthetic: Any) -> None:
    latency(synthetic, "thin_sdxl", 30.0, reach=1.0, measured=True)
    for seed in (0, 1):
        synthetic.replace("sepconv", seed, {"kid": Failed(phase="train", message="NaN")})
        synthetic.replace("mqa", seed, {"twin.latency_predicted": Unavailable(reason="does not fit")})
    found = outcomes(synthetic)
    mixed = found["no_high_res_sa", LATENCY]
    assert (mixed.word, mixed.difference) == ("not told", None)
    assert mixed.why == "predicted here, measured in the rung it is compared to"
    failed = found["sepconv", "kid"]
    assert (failed.word, failed.kind, failed.difference, failed.why) == (
        "not told",
        "failed",
        None,
        "failed: train: NaN",
    )
    assert found["mqa", LATENCY].kind == "unavailable"
    assert found["first_stage_ca", LATENCY].why == "the rung it is compared to is unavailable: does not fit"


def test_another_protocol_and_other_conditions_are_not_compared(synthetic: Any) -> None:
    for seed in (0, 1):
        old = synthetic.record("no_high_res_sa", seed)
        recipe = {**old.protocol["recipe"], "steps": 9000}
        synthetic.store.put(replace(old, protocol={**old.protocol, "recipe": recipe}))
    frames = computed(synthetic)
    found = outcomes_of(frames)
    assert found["no_high_res_sa", "kid"].why == "another protocol: recipe.steps=9000"
    assert found["no_high_res_sa", "kid"].difference is None
    assert found["no_high_res_sa", PARAMS].word == "better", "a count is of the architecture"
    claim = next(c for c in frames.claims if (c.rung, c.rule.quantity) == ("no_high_res_sa", "kid"))
    assert "made under another protocol" in claim.finding.unknown
    assert any("several protocols" in note.chip for note in content(frames).context["notes"])


def test_a_score_that_a_control_beats_is_not_told(synthetic: Any) -> None:
    for seed in (0, 1):
        kid = synthetic.record("mqa", seed).quantities["kid"]
        synthetic.replace("mqa", seed, {"kid": replace(kid, value=0.5)})
    found = outcomes(synthetic)
    assert (found["mqa", "kid"].word, found["mqa", "kid"].difference) == ("not told", None)
    assert "beaten by pixel gaussian" in found["mqa", "kid"].why
    assert found["first_stage_ca", "kid"].why.startswith("the rung it is compared to is beaten")


def test_direction_and_size_of_a_published_change_are_marked_apart(synthetic: Any) -> None:
    rows = {row.head.name: row for row in content(computed(synthetic)).context["rows"]}
    _, _, macs, _ = rows["mqa"].cells  # −9.0% counted, −6% printed
    assert [(mark.name, mark.sign) for mark in macs.marks] == [("direction", "✓"), ("size", "✗")]
    assert macs.published is not None
    assert macs.published.text == "−6% [P*][2]"
    kid, *_ = rows["first_stage_ca"].cells  # "better" is printed, without a size
    assert [(mark.name, mark.sign) for mark in kid.marks] == [("direction", "…")], "the loss of mqa still falls"
    kid, *_ = rows["no_high_res_sa"].cells  # a value is printed, which is lower; no loss falls
    assert [(mark.name, mark.sign) for mark in kid.marks] == [("direction", "?")]
    assert rows["thin_sdxl"].cells[0].marks == ()


def say(synthetic: Any, **definition: Any) -> str:
    frames = computed(synthetic, **definition)
    return sentence(frames, outcomes_of(frames))


def test_the_sentence_says_what_is_shown_and_no_more(synthetic: Any) -> None:
    said = say(synthetic)
    assert said.startswith("No rung is shown to be both better and faster; KID is better with separable convolutions, ")
    assert "expansion 2 (27% fewer multiply-adds) and cross-attention from the first stage on;" in said
    assert "worse with separable convolutions, expansion 1; 4 of 7 changes are not told." in said
    latency(synthetic, "no_high_res_sa", 30.0, reach=0.5)
    latency(synthetic, "expanded_sepconv", 20.0, reach=0.5)
    assert say(synthetic).startswith("separable convolutions, expansion 2 is both better and predicted to be faster; ")
    latency(synthetic, "no_high_res_sa", 30.0, reach=0.5, measured=True)
    latency(synthetic, "expanded_sepconv", 20.0, reach=0.5, measured=True)
    assert say(synthetic).startswith("separable convolutions, expansion 2 is both better and faster; ")


def test_without_scores_the_sentence_is_of_what_was_counted(synthetic: Any) -> None:
    columns = [column for column in synthetic.definition["columns"] if column["quantity"] not in ("kid", "fd")]
    counts = {"columns": columns, "claims": [], "control_quantities": [], "must_beat": [], "published": ""}
    for column in columns:
        column.pop("published", None)
    assert say(synthetic, **counts) == (
        "Most is saved by separable convolutions, expansion 1: 36% fewer multiply-adds; quality was not measured."
    )
    with_seeds(synthetic, 2, effect=0.0)
    assert say(synthetic).startswith("No change is shown to move KID (more seeds would tell more); most is saved by ")


def test_where_nothing_is_told_the_sentence_says_what_would(synthetic: Any) -> None:
    assert "KID (this page tests none); most is saved by" in say(synthetic, claims=[])
    synthetic.manifest = replace(synthetic.manifest, seeds=(0,))
    assert "KID (one seed a rung cannot tell);" in say(synthetic)
    gaussian = synthetic.store.measurement(synthetic.manifest.controls["pixel_gaussian"])
    low = replace(gaussian.quantities["kid"], value=0.001)
    synthetic.store.put(replace(gaussian, quantities={**gaussian.quantities, "kid": low}))
    assert "KID (what needs no training beats each, or what it is compared to);" in say(synthetic)


@pytest.mark.parametrize("length", [10, 400])
def test_the_sentence_stays_two_lines_long(synthetic: Any, length: int) -> None:
    rungs = [replace(rung, title=f"{rung.name} {'x' * length}") for rung in synthetic.manifest.rungs]
    synthetic.manifest = replace(synthetic.manifest, rungs=tuple(rungs))
    assert len(say(synthetic)) <= LONGEST


def test_the_matrix_on_the_page_is_the_frames_and_is_linked(
    synthetic: Any, page_cells: Callable[[str], list[dict[str, str]]]
) -> None:
    cells = page_cells(synthetic.write())
    found = outcomes(synthetic)
    shown = {(c["data-subject"], c["data-outcome"]): c for c in cells if "data-outcome" in c}
    assert shown.keys() == found.keys()
    for key, cell in shown.items():
        outcome = found[key]
        assert cell["data-word"] == outcome.word
        assert cell["data-difference"] == ("" if outcome.difference is None else repr(outcome.difference))
        assert cell["data-low"] == ("" if outcome.low is None else repr(outcome.low))
        assert f"m-{outcome.kind}" in cell["class"]
    ids = {cell["id"] for cell in cells if "id" in cell}
    targets = {cell["href"].removeprefix("#") for cell in cells if cell.get("href", "").startswith("#")}
    targets |= {cell["popovertarget"] for cell in cells if "popovertarget" in cell}
    assert targets <= ids
    assert {f"rung-{rung.name}" for rung in synthetic.manifest.rungs} <= targets
