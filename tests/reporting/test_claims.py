"""The verdicts' rules, one by one, each with what would turn it red."""

import math
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from harness.measure.statistics import LEVEL, SHARED, jackknife_error
from harness.records.errors import UserError
from harness.records.quantity import Measured, Predicted, Quantity, Unavailable
from harness.reporting import findings as findings_module
from harness.reporting.checks import TrainingChecks
from harness.reporting.claims import Claim, Size, Verdict, caption_verdict, claim_sheet, judge_direction, judge_size
from harness.reporting.definition import ClaimRule, read_definition
from harness.reporting.findings import Corrected, Finding, findings
from harness.reporting.format import signed
from harness.reporting.frames import estimates, read_trials
from harness.reporting.published import PublishedCell
from harness.reporting.report import checked_definition, frames_of
from harness.reporting.subjects import study_of
from harness.trials.task_config import RECONSTRUCTION  # makes its quantities known

REPORTS = Path(__file__).parents[2] / "reports"
COUNT = ClaimRule(published="params", quantity="twin.params", title="Parameters", rule="count", same_within=0.01)
SEEDS = ClaimRule(published="fid", quantity="kid", title="Quality", rule="seeds", same_within=0.1)
LATENCY = "twin.latency_iphone"


def sheet_and_tests(synthetic: Any, **definition: Any) -> tuple[dict[tuple[str, str], Claim], Corrected]:
    """(rung, quantity) -> its Claim, as the page gets it, and the page's tests."""
    defined, published = checked_definition(synthetic.definition | definition, synthetic.published, "ablation")
    frames = frames_of(synthetic.store, study_of(synthetic.manifest), defined, published)
    return {(claim.rung, claim.rule.quantity): claim for claim in frames.claims}, frames.tests


def sheet(synthetic: Any, **definition: Any) -> dict[tuple[str, str], Claim]:
    return sheet_and_tests(synthetic, **definition)[0]


def kid(synthetic: Any, rung: str, *values: float) -> None:
    for seed, value in enumerate(values):
        conditions = synthetic.record(rung, seed).quantities["kid"].conditions
        synthetic.replace(rung, seed, {"kid": Measured(value=value, unit="1", conditions=conditions)})


def judged(synthetic: Any, scores: dict[str, list[float]]) -> dict[tuple[str, str], Claim]:
    """The sheet of a page with these KIDs, one a seed, without a store."""
    defined, published = checked_definition(synthetic.definition, synthetic.published, "ablation")
    study = study_of(replace(synthetic.manifest, seeds=tuple(range(len(next(iter(scores.values())))))))
    names = [column.quantity for column in defined.columns]
    empty = read_trials({(rung, seed): None for rung in scores for seed in study.seeds}, names, study)
    readings = [
        replace(row, kind="measured", value=scores[row.subject][row.seed or 0], unit="1")
        if row.quantity == "kid"
        else row
        for row in empty
    ]
    estimated, checks = estimates(readings, study, ()), TrainingChecks(bars=(), beaten={}, falls={})
    by_key, _ = findings(study, defined, published, estimated, readings, checks, {})
    sheet = claim_sheet(study, defined, published, estimated, by_key)
    return {(claim.rung, claim.rule.quantity): claim for claim in sheet}


def drawn(synthetic: Any, means: dict[str, float], deviation: float, seeds: int, seed: int) -> dict[str, list[float]]:
    """Normal scores around the means, 0.048 where none is given."""
    random = np.random.default_rng([seeds, seed])
    rungs = [rung.name for rung in synthetic.manifest.rungs]
    return {name: list(means.get(name, 0.048) + deviation * random.standard_normal(seeds)) for name in rungs}


def counted(synthetic: Any, rung: str, values: dict[str, int]) -> None:
    for seed in synthetic.manifest.seeds:
        old = synthetic.record(rung, seed).quantities
        synthetic.replace(rung, seed, {name: replace(old[name], value=value) for name, value in values.items()})


# -- quality: tests, corrected over the page


@pytest.mark.slow
def test_more_seeds_decide_more_often(synthetic: Any) -> None:
    """A true difference of two standard deviations. The seeds of two rungs overlap the surer the more there are: a rule
    that wants them apart decides less and less often."""
    decided, overlapped = {}, {}
    for seeds in (2, 5, 20):
        pages = [drawn(synthetic, {"no_high_res_sa": 0.044}, 0.002, seeds, n) for n in range(40)]
        overlapped[seeds] = np.mean([max(p["no_high_res_sa"]) > min(p["thin_sdxl"]) for p in pages])
        claims = [judged(synthetic, page)["no_high_res_sa", "kid"] for page in pages]
        decided[seeds] = np.mean([claim.direction.state == "supports" for claim in claims])
    assert decided[2] < decided[5] < decided[20] == 1
    assert overlapped[20] > 0.9


def test_quality_goes_both_ways_or_is_inconclusive(synthetic: Any) -> None:
    for rung in synthetic.manifest.rungs:
        kid(synthetic, rung.name, 0.050, 0.052)
    for values, state in (
        ((0.0400, 0.0421), "supports"), ((0.0499, 0.0522), "inconclusive"), ((0.0650, 0.0671), "contradicts"),
    ):  # fmt: skip
        kid(synthetic, "no_high_res_sa", *values)
        kid(synthetic, "sepconv", 0.0513, 0.0531)  # some noise, or two seeds would be perfectly paired
        kid(synthetic, "ffn3", 0.0498, 0.0529)
        assert sheet(synthetic)["no_high_res_sa", "kid"].direction.state == state


def test_the_pages_statements_are_corrected_together(synthetic: Any) -> None:
    """By itself this difference is told; as one of nine statements it is not."""
    before = [synthetic.record("first_stage_ca", seed).quantities["kid"].value for seed in (0, 1)]
    kid(synthetic, "qknorm_rope", before[0] - 0.0035, before[1] - 0.0055)
    claims, tests = sheet_and_tests(synthetic)
    claim = claims["qknorm_rope", "kid"]
    assert tests.noises["kid"].compare("qknorm_rope", "first_stage_ca").p < 1 - LEVEL
    assert tests.adjusted["qknorm_rope", "kid", "differs"] > 1 - LEVEL
    assert claim.direction.state == "inconclusive"
    assert len(tests.adjusted) == 5 + 2 * 2  # two tests for each of "comparable" and "about the same"
    assert tests.adjusted["sepconv", "kid", "differs"] <= 1 - LEVEL


def test_no_significant_difference_is_inconclusive_and_equality_takes_proof(synthetic: Any) -> None:
    claim = sheet(synthetic)["ffn3", "kid"]  # "comparable" is published
    assert claim.direction.state == "inconclusive"
    assert "leaves open whether it is within ±10%" in claim.direction.reason
    for index, rung in enumerate(synthetic.manifest.rungs):
        kid(synthetic, rung.name, 0.0500 + index * 1e-5, 0.0501 - index * 1e-5)
    assert sheet(synthetic)["ffn3", "kid"].direction.state == "supports"
    kid(synthetic, "ffn3", 0.0700, 0.0702)
    assert sheet(synthetic)["ffn3", "kid"].direction.state == "contradicts"


def test_a_margin_belongs_to_the_rule(synthetic: Any) -> None:
    for index, rung in enumerate(synthetic.manifest.rungs):
        kid(synthetic, rung.name, 0.0500 + index * 1e-5, 0.0501 - index * 1e-5)
    kid(synthetic, "ffn3", 0.0540, 0.0541)
    rules = synthetic.definition["claims"]
    assert sheet(synthetic)["ffn3", "kid"].direction.state == "supports"  # 8% higher, within 10%
    narrow = [{**rule, "same_within": 0.05} for rule in rules]
    assert sheet(synthetic, claims=narrow)["ffn3", "kid"].direction.state == "contradicts"


def test_rungs_far_apart_share_no_absolute_spread(synthetic: Any) -> None:
    """The spread of a rung at 1.4 leaves a difference between 0.05 and 0.04 told; one pooled spread would not."""
    scores = drawn(synthetic, {}, 0.001, 5, 0) | {
        "no_high_res_sa": [0.0401, 0.0391, 0.0405, 0.0397, 0.0411],
        "qknorm_rope": [1.31, 1.49, 1.37, 1.46, 1.36],
    }
    assert judged(synthetic, scores)["no_high_res_sa", "kid"].direction.state == "supports"
    pooled = math.sqrt(np.mean([np.var(values, ddof=1) for values in scores.values()]))
    difference = np.mean(scores["thin_sdxl"]) - np.mean(scores["no_high_res_sa"])
    assert difference < pooled * math.sqrt(2 / 5)  # less than one standard error of the pooled spread


def test_a_reference_near_zero_has_no_percentage(synthetic: Any) -> None:
    """Where a relative change would reach from −148% to +125%, the difference stands with its interval instead."""
    for rung in synthetic.manifest.rungs:
        kid(synthetic, rung.name, 0.004, -0.002)
    kid(synthetic, "no_high_res_sa", 0.001, 0.003)
    finding = sheet(synthetic)["no_high_res_sa", "kid"].finding
    assert "%" not in finding.shown
    assert "(" in finding.shown
    assert math.isnan(finding.low)


def test_no_shown_interval_is_wider_than_a_hundred_points(synthetic: Any) -> None:
    findings_shown = [
        claim.finding
        for n in range(20)
        for claim in judged(synthetic, drawn(synthetic, {}, 0.02, 3, n)).values()
        if not claim.finding.unknown
    ]
    assert len(findings_shown) == 7 * 20
    assert any("%" in finding.shown for finding in findings_shown)
    assert any("%" not in finding.shown for finding in findings_shown)
    assert not any(finding.high - finding.low > findings_module.WIDEST for finding in findings_shown)


def test_one_seed_cannot_tell_quality_but_counts_can(synthetic: Any) -> None:
    synthetic.manifest = replace(synthetic.manifest, seeds=(0,))
    claims = sheet(synthetic)
    assert claims["no_high_res_sa", "kid"].direction == Verdict(
        "inconclusive", "one seed per rung: there is no spread over seeds to compare with"
    )
    assert claims["sepconv", "twin.params"].direction.state == "supports"


@pytest.mark.parametrize("shared", [True, False])
def test_one_seed_tells_the_noise_of_its_images_as_such(synthetic: Any, shared: bool) -> None:
    """Both scores move alike with every group of images: what they share cancels, and is not counted twice."""
    synthetic.manifest = replace(synthetic.manifest, seeds=(0,))
    for at, rung in enumerate(synthetic.manifest.rungs):
        score = synthetic.record(rung.name, 0).quantities["kid"]
        conditions = score.conditions | {name: "same" for name in SHARED if name not in score.conditions}
        conditions |= {} if shared else {"sampling_seed": at}
        moves = [0.001 * group - 0.0001 * at * (group % 2) for group in range(12)]
        replicates = tuple(score.value + move for move in moves)
        synthetic.replace(rung.name, 0, {"kid": replace(score, replicates=replicates, conditions=conditions)})
    claim = sheet(synthetic)["no_high_res_sa", "kid"]
    assert claim.direction.state == claim.finding.effect == "inconclusive"
    if shared:
        half = stats.t.ppf(0.975, 11) * jackknife_error([0.0001 * (group % 2) for group in range(12)])
        one, other = (synthetic.record(rung, 0).quantities["kid"].value for rung in ("no_high_res_sa", "thin_sdxl"))
        ends = f"({signed(one - other - half)} to {signed(one - other + half)})"
        assert f"{signed(one - other)} {ends}, 95% of their images' noise alone" in claim.finding.shown
    else:
        assert "different conditions: sampling_seed" in claim.finding.unknown
        assert not claim.finding.shown


def test_different_conditions_cannot_be_compared_but_a_busy_machine_can(synthetic: Any) -> None:
    quantity = Measured(value=0.001, unit="1", conditions={"label": "KID", "samples": 256})
    synthetic.replace("no_high_res_sa", 0, {"kid": quantity})
    verdict = sheet(synthetic)["no_high_res_sa", "kid"].direction
    assert verdict.state == "inconclusive"
    assert "different conditions" in verdict.reason
    assert "samples" in verdict.reason
    for seed in (0, 1):
        for rung, load in (("thin_sdxl", 0.5), ("no_high_res_sa", 9.5)):
            conditions = {"device": "iPhone 15 Pro", "load_average_before": load}
            value = 3.0 if load < 1 else 2.0
            ms = Measured(value=value, unit="ms", low=value * 0.97, high=value * 1.03, conditions=conditions)
            synthetic.replace(rung, seed, {LATENCY: ms})
    assert sheet(synthetic)["no_high_res_sa", LATENCY].direction.state == "supports"


def test_which_device_happened_to_train_a_rung_makes_it_no_less_comparable(synthetic: Any) -> None:
    for index, rung in enumerate(synthetic.manifest.rungs):
        for seed in synthetic.manifest.seeds:
            score = synthetic.record(rung.name, seed).quantities["kid"]
            conditions = {**score.conditions, "training_device": ("cpu", "NVIDIA A100")[index % 2]}
            synthetic.replace(rung.name, seed, {"kid": replace(score, conditions=conditions)})
    assert "different conditions" not in sheet(synthetic)["no_high_res_sa", "kid"].direction.reason


# -- controls: what does not beat them is not compared


@pytest.mark.parametrize(("value", "control"), [(0.3, "pixel gaussian"), (1.2, "noise")])
def test_a_network_no_better_than_a_control_is_compared_with_nothing(
    synthetic: Any, value: float, control: str
) -> None:
    kid(synthetic, "thin_sdxl", value, value + 0.01)
    claims, tests = sheet_and_tests(synthetic)
    verdict = claims["no_high_res_sa", "kid"].direction
    assert verdict.state == "inconclusive"
    assert verdict.reason.startswith("the rung it is compared to is beaten by ")
    assert control in verdict.reason
    assert "thin_sdxl" not in tests.noises["kid"].groups


def test_noise_alone_beats_a_rung_where_the_gaussian_is_worse_than_noise(synthetic: Any) -> None:
    kid(synthetic, "sepconv", 0.98, 1.0)
    key = synthetic.manifest.controls["pixel_gaussian"]
    gaussian = synthetic.store.measurement(key)
    worse = {name: replace(value, value=9e9) for name, value in gaussian.quantities.items()}
    synthetic.store.put(replace(gaussian, quantities=worse))
    assert "by noise" in sheet(synthetic)["sepconv", "kid"].direction.reason
    synthetic.level_curves()
    assert sheet(synthetic, must_beat=["pixel_gaussian"])["sepconv", "kid"].direction.state == "supports"  # "higher"


@pytest.mark.parametrize("control", ["deleted", "without a value"])
def test_quality_without_its_control_cannot_be_told(synthetic: Any, control: str) -> None:
    """Else a report whose pixel Gaussian was lost would praise networks that are no better than it."""
    key = synthetic.manifest.controls["pixel_gaussian"]
    measurement = synthetic.store.measurement(key)
    assert measurement is not None
    synthetic.store.delete(measurement)
    if control == "without a value":
        synthetic.store.put(replace(measurement, quantities={"kid": Unavailable(reason="one class only")}))
    claims = sheet(synthetic)
    reason = "the control that a trained network must beat is not known: pixel gaussian"
    assert claims["no_high_res_sa", "kid"].direction == Verdict("inconclusive", reason)
    assert claims["sepconv", "twin.params"].direction.state == "supports"
    assert sheet(synthetic, must_beat=[])["no_high_res_sa", "kid"].direction.reason != reason


@pytest.mark.parametrize(
    ("score", "agrees", "trained"),
    [(0.1, "as published", "supports"), (0.02, "against what is published", "contradicts")],
)
def test_a_change_of_quality_while_a_loss_still_falls_neither_supports_nor_contradicts(
    synthetic: Any, score: float, agrees: str, trained: str
) -> None:
    """A wide kernel behind at 250 steps was level at 2,000: the page of 250 said that it contradicts."""
    kid(synthetic, "sepconv", score, score * 1.01)
    verdict = sheet(synthetic)["sepconv", "kid"].direction  # published as worse than a rung whose loss is level
    assert verdict.state == "at this length"
    assert re.search(rf", {agrees}, while its validation loss still falls \(\u2212\d+\.\d%\)$", verdict.reason)
    synthetic.level_curves()
    assert sheet(synthetic)["sepconv", "kid"].direction.state == trained


def test_the_loss_of_the_rung_it_is_compared_to_counts_as_well_and_a_count_needs_no_training(synthetic: Any) -> None:
    kid(synthetic, "first_stage_ca", 0.001, 0.0011)  # better than mqa, whose loss still falls
    claims = sheet(synthetic)
    verdict = claims["first_stage_ca", "kid"].direction
    assert verdict.state == "at this length"
    assert "while the validation loss of what it is compared to still falls (\u2212" in verdict.reason
    assert claims["mqa", "twin.params"].direction.state == "supports"


# -- costs: the twin's, direction and size apart


def test_the_counts_of_the_small_network_decide_nothing(synthetic: Any) -> None:
    """A toy's multiply-adds fall by 1.9% where 17% are printed: today's page called that support."""
    counted(synthetic, "no_high_res_sa", {"macs": 60_040_000})
    before = sheet(synthetic)["no_high_res_sa", "twin.macs"]
    assert (before.direction.state, before.size.state) == ("supports", "met")  # by the twin's −16.9%
    counted(synthetic, "no_high_res_sa", {"twin.macs": 1_430_000_000_000})
    after = sheet(synthetic)["no_high_res_sa", "twin.macs"]
    assert (after.direction.state, after.size) == ("contradicts", Size("missed", "missed by 17.7 points"))


def test_a_definition_that_judges_a_small_networks_counts_is_refused(synthetic: Any) -> None:
    rules = [{"quantity": "params", "title": "Parameters", "rule": "count", "same_within": 0.01}]
    with pytest.raises(UserError, match=r"at laptop size 'params' is no evidence .* quantity: twin\.params"):
        sheet(synthetic, claims=rules)
    latency = [{"quantity": "latency_cpu", "title": "Latency", "rule": "instrument", "same_within": 0.01}]
    with pytest.raises(UserError, match="'latency_cpu' is no evidence"):
        sheet(synthetic, claims=latency)
    assert sheet(synthetic, claims=rules, scale="full")["sepconv", "params"].finding.lower


def test_a_margin_is_of_what_has_relative_changes(synthetic: Any) -> None:
    """Two per cent of 30 dB would be 0.6 dB: nothing that PSNR means."""
    psnr = {"quantity": "psnr", "title": "PSNR", "rule": "seeds"}
    assert "psnr" in RECONSTRUCTION
    with pytest.raises(UserError, match="'psnr' has no relative change; leave its same_within out"):
        ClaimRule(**psnr, same_within=0.02)
    assert ClaimRule(**psnr).margin == 0
    with pytest.raises(UserError, match="the claim on 'params' lacks same_within"):
        ClaimRule(quantity="params", title="Parameters", rule="count")
    open_ended = [{"published": "fid", "quantity": "kid", "title": "Quality", "rule": "seeds"}]
    verdict = sheet(synthetic, claims=open_ended)["mqa", "kid"].direction
    assert verdict.state == "inconclusive"
    assert verdict.reason.endswith("leaves open whether it is about the same, for which no margin was fixed")


def test_without_a_twin_no_count_is_told(synthetic: Any) -> None:
    synthetic.manifest = replace(synthetic.manifest, twin=None)
    synthetic.level_curves()
    claims = sheet(synthetic)
    for quantity in ("twin.params", "twin.macs", LATENCY):
        verdict = claims["expanded_sepconv", quantity].direction
        assert verdict.state == "inconclusive"
        assert "names no deployment twin" in verdict.reason
    assert claims["sepconv", "kid"].direction.state == "supports"


def test_the_costs_of_another_studys_twin_are_not_this_ones(synthetic: Any) -> None:
    rungs = [replace(rung, twin_fingerprint=f"other-{rung.name}") for rung in synthetic.manifest.rungs]
    kept = synthetic.manifest
    synthetic.manifest = replace(kept, rungs=tuple(rungs))
    assert sheet(synthetic)["sepconv", "twin.params"].direction == Verdict("inconclusive", "not measured")
    synthetic.manifest = replace(kept, twin={"base": "thin_sdxl", "latent": 32})
    assert sheet(synthetic)["sepconv", "twin.params"].direction.state == "inconclusive"


def test_direction_and_size_are_two_verdicts(synthetic: Any) -> None:
    claim = sheet(synthetic)["mqa", "twin.macs"]  # −9.0% counted, −6% printed
    assert claim.direction == Verdict("supports", "−9.0%")
    assert claim.size == Size("missed", "missed by 3.0 points")
    assert sheet(synthetic, tolerance=0.04)["mqa", "twin.macs"].size == Size("met", "met within 4.0 points")
    assert sheet(synthetic)["first_stage_ca", "twin.macs"].size.state == "no claim"  # "fewer" has no size
    assert sheet(synthetic)["no_high_res_sa", "kid"].size.state == "no claim"  # nor has a score


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(-0.25, -0.24, "met"), (-0.30, -0.28, "missed"), (-0.30, -0.24, "inconclusive"), (-0.4, 0.1, "inconclusive")],
)
def test_an_interval_meets_a_size_only_as_a_whole(low: float, high: float, state: str) -> None:
    cell = PublishedCell(labels=("P",), change=-0.24)
    rule = replace(COUNT, rule="instrument", quantity=LATENCY)
    assert judge_size(cell, Finding(low=low, high=high), (low + high) / 2, rule, 0.015).state == state
    assert judge_size(cell, Finding(unknown="why"), None, rule, 0.015).state == "inconclusive"


@pytest.mark.parametrize(
    ("way", "finding", "state"),
    [
        ("lower", Finding(lower=True), "supports"), ("lower", Finding(higher=True), "contradicts"),
        ("lower", Finding(), "inconclusive"), ("lower", Finding(exact=True, same=True), "contradicts"),
        ("higher", Finding(higher=True), "supports"), ("higher", Finding(lower=True), "contradicts"),
        ("same", Finding(same=True, lower=True), "supports"), ("same", Finding(beyond=True), "contradicts"),
        ("same", Finding(lower=True), "inconclusive"), ("lower", Finding(unknown="why"), "inconclusive"),
        (None, Finding(lower=True), "no claim"),
    ],
)  # fmt: skip
def test_what_is_proved_decides(way: Any, finding: Finding, state: str) -> None:
    assert judge_direction(way, finding, 0.1).state == state


def test_nothing_published_against_the_same_rung_is_no_claim(synthetic: Any) -> None:
    assert sheet(synthetic)["no_high_res_sa", "twin.params"].direction.state == "no claim"
    rungs = [replace(r, against="sepconv") if r.name == "expanded_sepconv" else r for r in synthetic.manifest.rungs]
    synthetic.manifest = replace(synthetic.manifest, rungs=tuple(rungs))
    claim = sheet(synthetic)["expanded_sepconv", "twin.params"]
    assert (claim.direction.state, claim.size.state) == ("no claim", "no claim")


# -- latency: a prediction decides nothing


def ms(value: float, *, measured: bool) -> dict[str, Quantity]:
    """An interval so narrow that only the kind can keep it from deciding."""
    if measured:
        return {LATENCY: Measured(value=value, unit="ms", low=value * 0.99, high=value * 1.01)}
    latency = Predicted(value=value, unit="ms", low=value * 0.99, high=value * 1.01, extrapolated=False)
    return {"twin.latency_predicted": latency}


@pytest.mark.parametrize(
    ("base", "rung", "state", "reason"),
    [
        (True, True, "supports", ""),
        (False, False, "inconclusive", "predicted, not measured"),
        (True, False, "inconclusive", "this one is predicted, the rung it is compared to measured"),
        (False, True, "inconclusive", "this one is measured, the rung it is compared to predicted"),
    ],
)
def test_a_prediction_decides_nothing_and_is_never_compared_with_a_measurement(
    synthetic: Any, base: bool, rung: bool, state: str, reason: str
) -> None:
    for seed in (0, 1):
        synthetic.replace("thin_sdxl", seed, ms(40.0, measured=base))
        synthetic.replace("no_high_res_sa", seed, ms(20.0, measured=rung))
    claim = sheet(synthetic)["no_high_res_sa", LATENCY]
    assert claim.direction.state == state
    assert claim.direction.reason == reason or not reason
    assert claim.size.state == ("missed" if state == "supports" else "inconclusive")  # −50% where −24% is printed
    assert claim.finding.shown == ("predicted −50.0%" if not base and not rung else claim.finding.shown)


def test_the_rule_on_kinds_is_what_keeps_them_apart(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a prediction would support the claim."""
    for seed in (0, 1):
        synthetic.replace("thin_sdxl", seed, ms(40.0, measured=False))
        synthetic.replace("no_high_res_sa", seed, ms(20.0, measured=False))
    monkeypatch.setattr(
        findings_module, "_without_value", lambda *two: "no value" * any(one.value is None for one in two)
    )
    assert sheet(synthetic)["no_high_res_sa", LATENCY].direction.state == "supports"


def test_overlapping_latency_intervals_cannot_tell(synthetic: Any) -> None:
    for rung, value in (("thin_sdxl", 3.0), ("no_high_res_sa", 2.9)):
        for seed in (0, 1):
            synthetic.replace(rung, seed, {LATENCY: Measured(value=value, unit="ms", low=2.7, high=3.2)})
    claim = sheet(synthetic)["no_high_res_sa", LATENCY]
    assert (claim.direction.state, claim.size.state) == (
        "inconclusive",
        "missed",
    )  # -16% to +19%, where -24% is printed


# -- the caption, and the definitions


def claim(finding: Finding, rule: ClaimRule = COUNT) -> Claim:
    return Claim(rung="r", rule=rule, published=None, finding=finding, direction=Verdict("no claim", ""),
                 size=Size("no claim", ""))  # fmt: skip


def test_the_caption_wants_something_better_nothing_worse_and_all_known() -> None:
    better, worse = claim(Finding(lower=True)), claim(Finding(higher=True))
    same, slightly = claim(Finding(same=True)), claim(Finding(same=True, higher=True))
    unknown, open_ = claim(Finding(unknown="predicted, not measured")), claim(Finding(), SEEDS)
    assert [c.finding.effect for c in (better, worse, same, slightly, unknown, open_)] == [
        "improved", "hurt", "same", "same", "inconclusive", "inconclusive",
    ]  # fmt: skip
    assert caption_verdict([better, same, slightly]).state == "supports"
    assert caption_verdict([better, worse]).state == "contradicts"
    assert caption_verdict([worse, unknown]).state == "contradicts"
    assert caption_verdict([better, unknown]) == Verdict("inconclusive", "improved: Parameters; not known: Parameters")
    assert caption_verdict([better, open_]).state == "inconclusive"
    assert caption_verdict([same, same]).state == "contradicts"
    short = claim(Finding(higher=True, still_falls="its validation loss still falls"))
    assert caption_verdict([better, short]) == Verdict(
        "inconclusive", "improved: Parameters; known at this length of training only: Parameters"
    )


def test_the_definitions_in_the_repository_are_valid() -> None:
    import_module("harness.trials.tasks.decode")  # which makes its scores known
    paths = sorted(REPORTS.glob("*.yaml"))
    definitions = [read_definition(yaml.safe_load(path.read_text()), "ablation") for path in paths]
    assert len(definitions) >= 4
    assert all(definition.columns and definition.title for definition in definitions)


def test_nothing_is_judged_that_was_not_tested(synthetic: Any) -> None:
    """The whole sheet of a page like the demo's: a verdict stands only on a test of its own or on the twin's counts."""
    claims, tests = sheet_and_tests(synthetic)
    for (rung, quantity), each in claims.items():
        if each.direction.state in ("supports", "contradicts"):
            tested = any((rung, quantity, question) in tests.adjusted for question in ("differs", "within"))
            assert tested or (quantity.startswith("twin.") and each.finding.exact)
        if each.size.state in ("met", "missed"):
            assert quantity.startswith("twin.")
            assert each.finding.exact
    assert {each.direction.state for (_, name), each in claims.items() if name == LATENCY} == {
        "inconclusive",
        "no claim",
    }
