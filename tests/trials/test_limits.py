"""A hard limit on what is known before training: counted, measured on a chip or predicted for it; never ignored."""

from math import inf

import pytest

from harness.architecture.catalogue import architecture
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.quantity import Counted, Failed, Measured, Predicted, Unavailable
from harness.records.record import Measurement, TrialRecord, why
from harness.search.problem import UNKNOWN, gate
from harness.trials import costs
from harness.trials.limits import LATENCY, Check, LatencyLimit, checks, first_refusal
from harness.trials.outcomes import rejected
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of

ON_A17 = {"chip": "A17 Pro", "compute_unit": "CPU_AND_NE"}
LIMIT = LatencyLimit(at_most=300, chip="A17 Pro")


def predicted(value: float) -> Predicted:
    return Predicted(value=value, unit="ms", low=value / 2, high=value * 2, extrapolated=False, conditions=ON_A17)


def measured(value: float, **conditions: object) -> Measured:
    return Measured(value=value, unit="ms", low=value - 1, high=value + 1, conditions={**ON_A17, **conditions})


@pytest.fixture
def prepared(tmp_path):
    def with_limit(*overrides: str):
        return prepare(settings_of([f"out='{tmp_path}'", "count_only=true", "latent=8", "tracker=none", *overrides]))

    return with_limit


def spec_of(prepared):
    return prepared.spec("thin", architecture("laptop/thin_sdxl"), 0, limits=prepared.settings.limits)


def test_a_count_above_its_limit_is_named_with_both_values():
    quantities = {"params": Counted(value=1_500_001, unit="parameters")}
    assert first_refusal(quantities, {"params": 1_500_001}) is None
    assert first_refusal(quantities, {"params": 1_500_000}) == "params is 1,500,001, above the limit of 1,500,000"


@pytest.mark.parametrize(
    ("quantity", "sentence"),
    [
        (predicted(299), None),
        (measured(300), None),
        (predicted(350), "latency_ms on A17 Pro is 350 (predicted, 175 to 700), above the limit of 300"),
        (measured(350), "latency_ms on A17 Pro is 350 (measured, 349 to 351), above the limit of 300"),
    ],
)
def test_a_latency_above_its_limit_says_whether_it_was_measured_or_predicted(quantity, sentence):
    assert first_refusal({LATENCY: quantity}, {LATENCY: LIMIT}) == sentence


@pytest.mark.parametrize("unknown", [Unavailable(reason="too big"), Failed(phase="latency", message="too big")])
def test_a_limit_that_cannot_be_checked_is_a_sentence_and_no_pass(unknown):
    (check,) = checks({LATENCY: unknown}, {LATENCY: LIMIT})
    assert check.excess == inf
    assert check.refusal == ("latency_ms on A17 Pro is not known, so the limit of 300 is not known to be met: too big")
    assert first_refusal({}, {"params": 5}) is not None


@pytest.mark.parametrize(
    ("quantity", "fits"),
    [
        (measured(1), True),
        (measured(1, chip="a17 pro"), True),
        (measured(1, weight_bits=16), True),
        (measured(1, chip="A16"), False),
        (measured(1, compute_unit="CPU_AND_GPU"), False),
        (measured(1, weight_bits=4), False),
        (predicted(1), False),
        (Unavailable(reason="waits"), False),
    ],
)
def test_only_a_measurement_on_the_same_chip_unit_and_weights_stands_for_the_limit(quantity, fits):
    assert LIMIT.fits(quantity) is fits


def test_the_prediction_rejects_before_training_and_the_record_says_that_it_was_one(prepared):
    assert rejected(spec_of(prepared("limits.latency_ms={at_most: 1000, chip: A17 Pro}"))) is None
    record = rejected(spec_of(prepared("limits.latency_ms={at_most: 0.0001, chip: A17 Pro}")))
    assert record.state == "rejected"
    assert "(predicted, " in why(record)
    assert isinstance(record.quantities[LATENCY], Predicted)
    assert record.quantities[LATENCY].conditions["chip"] == "A17 Pro"
    assert from_plain(TrialRecord, to_plain(record)) == record


def test_a_trial_that_meets_the_limit_keeps_what_it_was_checked_with(prepared, tmp_path):
    record = run_trial(spec_of(prepared("limits.latency_ms={at_most: 1000, chip: A15}")), tmp_path / "attempt")
    assert record.state == "complete"
    assert record.quantities[LATENCY].kind == "predicted"
    assert record.quantities[LATENCY].conditions["chip"] == "A15"


def test_a_measurement_in_the_store_wins_over_the_prediction(prepared):
    spec = spec_of(prepared("limits.latency_ms={at_most: 300, chip: A17 Pro}", "latency=cpu_and_predicted"))
    backend = spec.settings.latency.cpu  # stands for a phone: what counts is the chip in its conditions
    settings = costs.latency_settings(backend, spec.architecture, spec.latent)
    assert rejected(spec) is None
    quantities = {backend.quantity: measured(301)}
    spec.store.put(Measurement(subject="latency", settings=settings, quantities=quantities))
    assert why(rejected(spec)).startswith("rejected before training: latency_ms on A17 Pro is 301 (measured")
    spec.store.put(
        Measurement(subject="latency", settings=settings, quantities={backend.quantity: measured(301, chip="A16")})
    )
    assert rejected(spec) is None


def test_a_limit_ignored_is_seen(prepared, monkeypatch):
    """The mutation: a check that finds no excess lets the same trial through, so what rejected it was the limit."""
    spec = spec_of(prepared("limits.latency_ms={at_most: 0.0001, chip: A17 Pro}"))
    gated = gate(prepared("limits.latency_ms={at_most: 0.0001, chip: A17 Pro}"), spec.architecture)
    assert rejected(spec) is not None
    assert gated.refusal is not None
    monkeypatch.setattr(Check, "excess", property(lambda _check: 0.0))
    assert rejected(spec) is None


def test_the_sweeps_gate_holds_it_and_marks_a_predicted_value(prepared):
    config = architecture("laptop/thin_sdxl")
    loose = gate(prepared("limits.latency_ms={at_most: 1000, chip: A17 Pro}"), config)
    tight = gate(prepared("limits.latency_ms={at_most: 0.001, chip: A17 Pro}"), config)
    assert loose.refusal is None
    assert loose.violations[LATENCY] < 0 < tight.violations[LATENCY]
    assert "predicted" in tight.refusal
    assert LATENCY not in tight.values
    assert tight.values["latency_ms_predicted"] > 0.001


def test_what_cannot_be_predicted_is_refused_by_the_gate_too(prepared, monkeypatch):
    monkeypatch.setattr(costs, "_latency_under", lambda *_: Unavailable(reason="too big"))
    gated = gate(prepared("limits.latency_ms={at_most: 300, chip: A17 Pro}"), architecture("laptop/thin_sdxl"))
    assert gated.violations == {LATENCY: UNKNOWN}
    assert "too big" in gated.refusal


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("limits.latency_ms=300", r"limits.latency_ms is written as limits.latency_ms=\{at_most: 300, chip: A17 Pro\}"),
        ("limits.params={at_most: 3, chip: A15}", "limits.params is written as limits.params=1500000"),
        ("limits.latency_ms={at_most: 300, chip: A9}", "unknown chip 'A9'; choose one of: .*A14"),
        ("limits.latency_ms={at_most: 0, chip: A15}", "at_most is above 0 ms, not 0"),
        ("limits.latency_ms={at_most: 3}", "missing setting 'limits.latency_ms.chip'"),
        ("limits.params=0", "limits.params is at least 1, not 0"),
        ("limits.latency_cpu=5", "there is no limits.latency_cpu: a latency is limited by limits.latency_ms="),
    ],
)
def test_wrong_limits_are_refused_in_a_sentence(override, sentence):
    with pytest.raises(UserError, match=sentence):
        settings_of([override])
