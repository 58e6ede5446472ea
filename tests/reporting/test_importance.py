"""Importances are Optuna's, of the candidates that have the knob; what nobody can tell is said, not drawn."""

import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from made_sweep import KNOBS, made_sweep
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

from harness.records.store import Store
from harness.records.sweep_summary import CandidateSummary, KnobSummary, LevelSummary, SweepSummary
from harness.reporting import importance
from harness.reporting.importance import (
    CHANCE_OF_MANY,
    MOST_SHUFFLED,
    Importances,
    KnobImportance,
    _distribution,
    importances,
    knob_importances,
)
from harness.reporting.report import write_report

Cells = Callable[[str], list[dict[str, str]]]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where chance is not what is tested."""
    monkeypatch.setattr(importance, "SHUFFLES", 3)


def optunas(found: Importances, sweep: SweepSummary, knobs: list[str], evaluator) -> dict[str, float]:
    """What Optuna itself says of a study of the candidates that have all these knobs, by its public functions."""
    at = list(sweep.objectives).index(found.objective)
    study = optuna.create_study()
    made: dict[str, BaseDistribution] = {name: _distribution(knob) for name, knob in sweep.knobs.items()}
    for each in found.candidates:
        if set(knobs) <= set(each.parameters):
            distributions = {name: made[name] for name in each.parameters}
            value = (each.values_at(found.steps) or ())[at]
            trial = optuna.trial.create_trial(params=dict(each.parameters), distributions=distributions, value=value)
            study.add_trial(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=evaluator, params=knobs, normalize=False)


def test_shares_are_optunas_over_the_whole_variance_and_conditional_knobs_are_judged_among_those_that_have_them() -> (
    None
):
    sweep = made_sweep(120, seed=1)
    kid, late, macs = importances(sweep, "ped_anova")
    assert [(each.objective, each.steps, each.chosen) for each in (kid, late, macs)] == [
        ("kid", 100, False), ("kid", 300, True), ("macs", 100, False),
    ]  # fmt: skip
    with_value = [each.name for each in sweep.candidates if each.state in ("complete", "stopped")]
    assert [each.name for each in kid.candidates] == with_value
    by_name = {each.knob: each for each in kid.knobs}
    everywhere = ["width", "convolution", "ratio", "recipe.learning_rate"]
    for knobs in (everywhere, ["resampling"]):
        expected = optunas(kid, sweep, knobs, PedAnovaImportanceEvaluator())
        count = by_name[knobs[0]].candidates
        best = -(-count // 10) / count
        for name in knobs:
            assert by_name[name].share == pytest.approx(expected[name] / (best * (1 - best)))
    separable = [each for each in kid.candidates if each.parameters["convolution"] == "separable"]
    assert by_name["resampling"].candidates == len(separable) < len(kid.candidates)
    # the width alone decides KID, and nobody is told to decide anything else
    assert [each.knob for each in kid.knobs if each.is_told] == ["width"]
    assert [each.knob for each in macs.knobs if each.is_told] == ["width", "ratio"]


def test_a_maximised_objective_has_the_best_at_its_top(quick: None) -> None:
    sweep = made_sweep(120)
    negated = tuple(
        replace(each, levels=tuple(replace(level, values=level.values and (-level.values[0], level.values[1]))
                                   for level in each.levels))
        for each in sweep.candidates
    )  # fmt: skip
    turned = replace(sweep, candidates=negated, objectives={"kid": "maximize", "macs": "minimize"})
    assert importances(turned, "ped_anova")[0].knobs == importances(sweep, "ped_anova")[0].knobs


def test_what_cannot_be_told_has_a_reason_and_no_number(quick: None) -> None:
    sweep = made_sweep(60)
    kid = {each.knob: each for each in importances(sweep, "ped_anova")[0].knobs}
    assert (kid["norm"].share, kid["norm"].why) == (None, "'group' in all 55")
    few = importances(made_sweep(20), "ped_anova")[0]
    assert {each.share for each in few.knobs} == {None}
    assert few.knobs[0].why == "18 candidates to judge it by, and it takes 20"
    same = [
        replace(each, levels=tuple(replace(level, values=level.values and (0.5, 1.0)) for level in each.levels))
        for each in sweep.candidates
    ]
    alike = importances(replace(sweep, candidates=tuple(same)), "ped_anova")[0].knobs[0]
    assert (alike.share, alike.why) == (None, "all 55 candidates have the same value")


def of_noise(count: int, seed: int, knobs: int = 8) -> list[KnobImportance]:
    """Of candidates whose losses have nothing to do with their knobs."""
    generator = random.Random(seed)
    names = {
        f"k{at}": KnobSummary(low=0.0, high=1.0) if at % 2 else KnobSummary(choices=(1, 2, 3)) for at in range(knobs)
    }
    candidates = [
        CandidateSummary(
            name=f"trial-{number}", state="complete", key="k",
            parameters={name: generator.random() if knob.low is not None else generator.choice((1, 2, 3))
                        for name, knob in names.items()},
        )
        for number in range(count)
    ]  # fmt: skip
    losses = [generator.random() for _ in range(count)]
    return list(knob_importances(names, candidates, losses, "ped_anova"))


def test_chance_tells_a_knob_of_noise_in_one_sweep_of_twenty() -> None:
    """In sweeps of 24 candidates in which no knob means anything."""
    sweeps = [of_noise(24, seed, knobs=4) for seed in range(12)]
    assert sum(any(each.is_told for each in knobs) for knobs in sweeps) <= 3  # more has a probability of 0.2%
    assert sum(any((each.share or 0.0) > 0.05 for each in knobs) for knobs in sweeps) >= 6


def test_chance_of_many_candidates_is_a_bound() -> None:
    for seed in range(3):
        found = of_noise(MOST_SHUFFLED + 1, seed, knobs=20)
        assert {each.chance for each in found} == {CHANCE_OF_MANY}
        assert not any(each.is_told for each in found)


def test_fanova_is_there_for_those_who_ask_and_has_the_conditional_knobs_too(store: Store) -> None:
    sweep = made_sweep(48)
    candidates = tuple(each for each in sweep.candidates if each.values_at(100) is not None)
    losses = [(each.values_at(100) or ())[0] for each in candidates]
    by_name = {each.knob: each for each in knob_importances(KNOBS, candidates, losses, "fanova")}
    compared = Importances(objective="kid", steps=100, chosen=False, candidates=candidates, knobs=())
    knobs = ["resampling", *(name for name, knob in KNOBS.items() if not knob.when)]
    expected = optunas(compared, sweep, knobs, FanovaImportanceEvaluator(seed=0))
    assert by_name["resampling"].share == pytest.approx(expected["resampling"], abs=0.05)
    assert (by_name["width"].share or 0.0) > 0.8
    assert by_name["norm"].share is None
    assert {each.chance for each in by_name.values()} == {None}
    page = write_report(
        store, made_sweep(24), {"importance": "fanova", "sections": ["importance"]}, None, store.root / "page.html"
    ).read_text()
    assert "fANOVA, as this page asks" in page
    assert "PED-ANOVA" not in page


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_page_has_every_share_with_its_number_of_candidates_and_names_who_is_left_out(
    quick: None, store: Store, page_cells: Cells
) -> None:
    sweep = made_sweep(60)
    cells = page_cells(write_report(store, sweep, {}, None, store.root / "page.html").read_text())
    rows = [cell for cell in cells if "data-importance" in cell]
    assert len(rows) == 2 * len(KNOBS)  # after 300 steps there are too few
    shown = {(float(cell["data-importance"]), int(cell["data-n"])) for cell in rows if cell["data-importance"]}
    found = importances(sweep, "ped_anova")
    assert shown == {(knob.share, knob.candidates) for each in found for knob in each.knobs if knob.share is not None}
    assert [cell["text"].strip() for cell in rows if not cell["data-importance"]] == ["'group' in all 55"] * 2
    left_out = next(cell["text"] for cell in cells if cell["tag"] == "details")
    assert "4 refused untrained (trial-7, trial-26, trial-45" not in left_out
    assert "3 refused untrained (trial-7, trial-26, trial-45)" in left_out
    assert "2 failed without a value there (trial-11, trial-42)" in left_out


def test_a_sweep_of_one_budget_says_nothing_of_steps(quick: None, store: Store) -> None:
    sweep = made_sweep(60)
    one = tuple(replace(each, levels=each.levels[:1]) for each in sweep.candidates)
    page = write_report(
        store, replace(sweep, candidates=one, levels=(100,)), {}, None, store.root / "p.html"
    ).read_text()
    assert "after 100 steps" not in page
    assert "KID after 100 steps" in write_report(store, sweep, {}, None, store.root / "p.html").read_text()


def test_a_level_without_a_value_is_not_compared() -> None:
    each = CandidateSummary(
        name="trial-0", state="running", parameters={}, levels=(LevelSummary(steps=9, values=None),)
    )
    assert each.values_at(9) is None
    assert each.values_at(10) is None
