"""The verdicts' rules, one by one."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from harness.records.plain import from_plain
from harness.records.quantity import Counted, Measured, Predicted, Quantity, Unavailable
from harness.reporting import claims
from harness.reporting.claims import (
    Claim,
    Interval,
    Spread,
    Verdict,
    caption_verdict,
    change_interval,
    claim_sheet,
    effect,
    judge,
    must_beat,
    pooled,
    student,
)
from harness.reporting.definition import ClaimRule, ReportDefinition
from harness.reporting.frames import Estimate, controls_of, estimates, read_controls, read_trials, records_of, stood_in
from harness.reporting.published import Published, PublishedCell

REPORTS = Path(__file__).parents[2] / "reports"
SEEDS = ClaimRule(published="fid", quantity="kid", title="Quality", rule="seeds", same_within=0.1)
COUNT = ClaimRule(published="params", quantity="params", title="Parameters", rule="count", same_within=0.01)
LOWER, HIGHER, SAME = (PublishedCell(labels=("P",), direction=direction) for direction in ("lower", "higher", "same"))


def sheet(synthetic: Any, **definition: Any) -> dict[tuple[str, str], Claim]:
    """(rung, published column) -> its Claim, as the page gets it."""
    defined = from_plain(ReportDefinition, synthetic.definition | definition)
    records = records_of(synthetic.store, synthetic.manifest)
    names = [*(column.quantity for column in defined.columns), *defined.stand_ins.values()]
    readings = stood_in(read_trials(records, names), defined.stand_ins)
    found = estimates(readings, synthetic.manifest)
    published = from_plain(Published, synthetic.published)
    controls = controls_of(synthetic.store, synthetic.manifest)
    bars = must_beat(defined, read_controls(controls, defined.controls, defined.control_quantities))
    made = claim_sheet(synthetic.manifest, defined, published, found, readings, bars)
    return {(claim.rung, claim.rule.published): claim for claim in made}


def kid(synthetic: Any, rung: str, *values: float) -> None:
    for seed, value in enumerate(values):
        conditions = synthetic.record(rung, seed).quantities["kid"].conditions
        synthetic.replace(rung, seed, {"kid": Measured(value=value, unit="1", conditions=conditions)})


@pytest.mark.parametrize("freedom", range(1, 31))
def test_students_quantiles_are_scipys(freedom: int) -> None:
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)
    assert student(100) == student(30)  # beyond the table it stays on the strict side


def test_the_seed_spread_is_pooled_over_rungs() -> None:
    rows = {
        ("a", "kid"): Estimate(subject="a", quantity="kid", kind="measured", values=(1.0, 3.0)),
        ("b", "kid"): Estimate(subject="b", quantity="kid", kind="measured", values=(10.0, 14.0)),
        ("c", "kid"): Estimate(subject="c", quantity="kid", kind="measured", values=(5.0,)),
        ("a", "fd"): Estimate(subject="a", quantity="fd", kind="measured", values=(100.0, 900.0)),
    }
    spread = pooled(rows, "kid")
    assert spread == Spread(deviation=math.sqrt((2 + 8) / 2), freedom=2)  # variances 2 and 8, one degree each
    assert spread.half_width(2, 2) == pytest.approx(4.303 * math.sqrt(5))
    assert pooled({("c", "kid"): rows["c", "kid"]}, "kid") is None


@pytest.mark.parametrize(
    ("cell", "low", "high", "state"),
    [
        (LOWER, -0.3, -0.1, "supports"), (LOWER, 0.1, 0.3, "contradicts"), (LOWER, -0.2, 0.01, "cannot tell"),
        (HIGHER, 0.1, 0.3, "supports"), (HIGHER, -0.3, -0.1, "contradicts"), (HIGHER, -0.1, 0.1, "cannot tell"),
        (SAME, -0.05, 0.09, "supports"), (SAME, -0.3, -0.11, "contradicts"), (SAME, 0.05, 0.15, "cannot tell"),
        (LOWER, 0.0, 0.0, "contradicts"),
    ],
)  # fmt: skip
def test_the_interval_decides(cell: PublishedCell, low: float, high: float, state: str) -> None:
    assert judge(cell, Interval(low=low, high=high), (low + high) / 2, SEEDS, None).state == state


def test_nothing_published_is_no_claim_and_no_value_cannot_tell() -> None:
    known = Interval(low=-0.1, high=-0.1)
    assert judge(None, known, -0.1, COUNT, None).state == "no claim"
    absolute = PublishedCell(labels=("P",), value=3.76)  # a value without a direction claims nothing of the change
    assert judge(absolute, known, -0.1, COUNT, None).state == "no claim"
    assert judge(LOWER, Interval(unknown="why"), None, COUNT, None) == Verdict("cannot tell", "why")


def test_a_full_size_count_must_meet_the_printed_change_a_small_one_only_its_sign() -> None:
    cell = PublishedCell(labels=("P",), change=-0.24)
    for ours, tolerance, state in (
        (-0.252, 0.015, "supports"), (-0.30, 0.015, "contradicts"),
        (-0.30, None, "supports"), (0.1, None, "contradicts"),
    ):  # fmt: skip
        assert judge(cell, Interval(low=ours, high=ours), ours, COUNT, tolerance).state == state


def test_quality_needs_a_difference_beyond_the_seed_spread(synthetic: Any) -> None:
    for rung in synthetic.manifest.rungs:
        kid(synthetic, rung.name, 0.050, 0.052)  # sd 0.00141 in every rung: +-2.306 * 0.00141 = 0.00326
    kid(synthetic, "no_high_res_sa", 0.0465, 0.0485)
    assert sheet(synthetic)["no_high_res_sa", "fid"].verdict.state == "supports"  # 0.0035 lower
    kid(synthetic, "no_high_res_sa", 0.0475, 0.0490)
    assert sheet(synthetic)["no_high_res_sa", "fid"].verdict.state == "cannot tell"  # 0.0028 lower
    kid(synthetic, "no_high_res_sa", 0.0600, 0.0620)
    assert sheet(synthetic)["no_high_res_sa", "fid"].verdict.state == "contradicts"


@pytest.mark.parametrize("sign", [1, -1])
def test_overlapping_seeds_are_never_told_apart(synthetic: Any, sign: int) -> None:
    """Even where the pooled spread is small enough: one seed of the three lies beyond the other rung's."""
    tight, wide = (1.0, 1.0, 1.0), (1.0 - sign * 0.3, 1.0 - sign * 0.3, 1.0 + sign * 0.01)
    values = {rung.name: wide if rung.name == "no_high_res_sa" else tight for rung in synthetic.manifest.rungs}
    rows = {
        (name, "kid"): Estimate(subject=name, quantity="kid", kind="measured", values=v, value=sum(v) / 3)
        for name, v in values.items()
    }
    spread, difference = pooled(rows, "kid"), sum(wide) / 3 - 1
    assert spread is not None
    assert abs(difference) > spread.half_width(3, 3)  # the t interval alone would tell them apart
    interval = change_interval(synthetic.manifest.rungs[1], SEEDS, rows, {})
    assert interval.low < 0 < interval.high
    beyond = interval.high if sign > 0 else interval.low
    assert beyond == pytest.approx(sign * 0.01)


def test_one_seed_cannot_tell_quality_but_counts_can(synthetic: Any) -> None:
    synthetic.manifest = replace(synthetic.manifest, seeds=(0,))
    claims = sheet(synthetic)
    assert claims["no_high_res_sa", "fid"].verdict == Verdict(
        "cannot tell", "one seed a rung: there is no seed spread to compare with"
    )
    assert claims["sepconv", "params"].verdict.state == "supports"


def test_a_network_no_better_than_the_control_cannot_tell(synthetic: Any) -> None:
    kid(synthetic, "thin_sdxl", 0.3, 0.31)
    verdict = sheet(synthetic)["no_high_res_sa", "fid"].verdict
    assert verdict.state == "cannot tell"
    assert "no better than the control" in verdict.reason


def test_different_conditions_cannot_be_compared_but_a_busy_machine_can(synthetic: Any) -> None:
    quantity = Measured(value=0.001, unit="1", conditions={"label": "KID", "samples": 256})
    synthetic.replace("no_high_res_sa", 0, {"kid": quantity})
    verdict = sheet(synthetic)["no_high_res_sa", "fid"].verdict
    assert verdict.state == "cannot tell"
    assert "different conditions" in verdict.reason
    assert "samples" in verdict.reason
    for seed in (0, 1):
        for rung, load in (("thin_sdxl", 0.5), ("no_high_res_sa", 9.5)):
            conditions = {"device": "iPhone 15 Pro", "load_average_before": load}
            ms = Measured(value=3.0 if load < 1 else 2.0, unit="ms", low=1.9, high=2.1, conditions=conditions)
            ms = replace(ms, low=ms.value * 0.97, high=ms.value * 1.03)
            synthetic.replace(rung, seed, {"latency_iphone": ms})
    assert sheet(synthetic)["no_high_res_sa", "latency"].verdict.state == "supports"


def test_the_laptops_latency_never_decides(synthetic: Any) -> None:
    claim = sheet(synthetic)["sepconv", "latency"]  # 24% faster here, 62% in the paper
    assert claim.verdict.state == "cannot tell"
    assert claim.verdict.reason.startswith("unavailable: needs a Mac")


def ms(value: float, *, measured: bool) -> dict[str, Quantity]:
    """An interval so narrow that only the kind can keep it from deciding."""
    if measured:
        return {"latency_iphone": Measured(value=value, unit="ms", low=value * 0.99, high=value * 1.01)}
    found = Predicted(value=value, unit="ms", low=value * 0.99, high=value * 1.01, extrapolated=False)
    return {"latency_predicted": found}


@pytest.mark.parametrize(
    ("base", "rung", "state", "reason"),
    [
        (True, True, "supports", ""),
        (False, False, "cannot tell", "predicted −50.0%, not measured"),
        (True, False, "cannot tell", "this one is predicted, the rung it is compared to measured"),
        (False, True, "cannot tell", "this one is measured, the rung it is compared to predicted"),
    ],
)
def test_a_prediction_decides_nothing_and_is_never_compared_with_a_measurement(
    synthetic: Any, base: bool, rung: bool, state: str, reason: str
) -> None:
    for seed in (0, 1):
        synthetic.replace("thin_sdxl", seed, ms(40.0, measured=base))
        synthetic.replace("no_high_res_sa", seed, ms(20.0, measured=rung))
    claim = sheet(synthetic)["no_high_res_sa", "latency"]
    assert claim.verdict.state == state
    assert claim.verdict.reason == reason or not reason
    assert (claim.ours is None) == (base != rung)


def test_the_rule_on_kinds_is_what_keeps_them_apart(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, half a prediction and half a measurement would support the claim."""
    for seed in (0, 1):
        synthetic.replace("thin_sdxl", seed, ms(40.0, measured=True))
        synthetic.replace("no_high_res_sa", seed, ms(20.0, measured=False))
    monkeypatch.setattr(claims, "_without_value", lambda *two: "no value" * any(one.value is None for one in two))
    assert sheet(synthetic)["no_high_res_sa", "latency"].verdict.state == "supports"


def test_overlapping_latency_intervals_cannot_tell(synthetic: Any) -> None:
    for rung, value in (("thin_sdxl", 3.0), ("no_high_res_sa", 2.9)):
        for seed in (0, 1):
            synthetic.replace(rung, seed, {"latency_iphone": Measured(value=value, unit="ms", low=2.7, high=3.2)})
    assert sheet(synthetic)["no_high_res_sa", "latency"].verdict.state == "cannot tell"


def test_a_claim_against_another_rung_is_not_judged(synthetic: Any) -> None:
    rungs = [replace(r, against="sepconv") if r.name == "expanded_sepconv" else r for r in synthetic.manifest.rungs]
    synthetic.manifest = replace(synthetic.manifest, rungs=tuple(rungs))
    assert sheet(synthetic)["expanded_sepconv", "params"].verdict.state == "no claim"


def test_a_full_size_definition_judges_by_tolerance(synthetic: Any) -> None:
    assert sheet(synthetic, scale="full", tolerance=0.015)["sepconv", "params"].verdict.state == "supports"
    for seed in (0, 1):
        synthetic.replace("sepconv", seed, {"params": Counted(value=900_000, unit="parameters")})
    assert sheet(synthetic, scale="full", tolerance=0.015)["sepconv", "params"].verdict.state == "contradicts"
    assert sheet(synthetic)["sepconv", "params"].verdict.state == "supports"


def claim(low: float, high: float, rule: ClaimRule = COUNT, unknown: str = "") -> Claim:
    interval = Interval(unknown=unknown) if unknown else Interval(low=low, high=high)
    return Claim(rung="r", rule=rule, published=None, interval=interval, ours=low, verdict=Verdict("no claim", ""))


def test_the_caption_wants_something_better_nothing_worse_and_all_known() -> None:
    better, worse, same = claim(-0.2, -0.2), claim(0.05, 0.05), claim(0.001, 0.001)
    unknown, open_ = claim(0, 0, unknown="not measured"), claim(-0.2, 0.3, SEEDS)
    assert [effect(c) for c in (better, worse, same, unknown, open_)] == [
        "improved", "hurt", "same", "unknown", "unknown",
    ]  # fmt: skip
    assert caption_verdict([better, same]).state == "supports"
    assert caption_verdict([better, worse]).state == "contradicts"
    assert caption_verdict([worse, unknown]).state == "contradicts"
    assert caption_verdict([better, unknown]).state == "cannot tell"
    assert caption_verdict([better, open_]).state == "cannot tell"
    assert caption_verdict([same, same]).state == "contradicts"


def test_a_reference_at_zero_has_no_relative_change(synthetic: Any) -> None:
    rung = synthetic.manifest.rungs[1]
    rows = {
        (name, "kid"): Estimate(subject=name, quantity="kid", kind="measured", values=values, value=sum(values) / 2)
        for name, values in (("no_high_res_sa", (0.01, 0.02)), ("thin_sdxl", (-0.001, 0.0005)))
    }
    assert "not above zero" in change_interval(rung, SEEDS, rows, {}).unknown


@pytest.mark.parametrize("control", ["deleted", "without a value"])
def test_quality_without_its_control_cannot_be_told(synthetic: Any, control: str) -> None:
    """Else a report whose pixel Gaussian was lost would praise networks that are no better than it."""
    key = synthetic.manifest.controls["pixel_gaussian"]
    measurement = synthetic.store.measurement(key)
    assert measurement is not None
    synthetic.store.delete(measurement)
    if control == "without a value":
        synthetic.store.put(replace(measurement, quantities={"kid": Unavailable(reason="one class only")}))
    claims = sheet(synthetic, must_beat="pixel_gaussian")
    reason = "the control that a trained network must beat, pixel gaussian, is not known"
    assert claims["no_high_res_sa", "fid"].verdict == Verdict("cannot tell", reason)
    assert claims["sepconv", "params"].verdict.state == "supports"
    assert sheet(synthetic, must_beat=None)["no_high_res_sa", "fid"].verdict.reason != reason


def test_which_device_happened_to_train_a_rung_makes_it_no_less_comparable(synthetic: Any) -> None:
    for index, rung in enumerate(synthetic.manifest.rungs):
        for seed in synthetic.manifest.seeds:
            found = synthetic.record(rung.name, seed).quantities["kid"]
            conditions = {**found.conditions, "training_device": ("cpu", "NVIDIA A100")[index % 2]}
            synthetic.replace(rung.name, seed, {"kid": replace(found, conditions=conditions)})
    assert "different conditions" not in sheet(synthetic)["no_high_res_sa", "fid"].verdict.reason


def test_the_definitions_in_the_repository_are_valid() -> None:
    paths = sorted(REPORTS.glob("*.yaml"))
    definitions = [from_plain(ReportDefinition, yaml.safe_load(path.read_text())) for path in paths]
    assert len(definitions) >= 4
    assert all(definition.columns and definition.title for definition in definitions)
