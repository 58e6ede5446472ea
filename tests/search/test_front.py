"""The Pareto front of a study: held against Optuna's own."""

import random

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from harness.search.candidates import constraint_attributes, front_trials


@pytest.mark.parametrize("directions", [("minimize", "minimize"), ("minimize", "maximize"), ("maximize",)])
def test_the_front_is_optunas_within_the_limits(directions):
    study = optuna.create_study(directions=directions)
    study.set_metric_names([f"objective_{place}" for place in range(len(directions))])
    draw = random.Random(len(directions))
    for number in range(60):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if number % 5 else TrialState.PRUNED,
                values=[draw.randrange(8) for _ in directions] if number % 5 else None,
                system_attrs=constraint_attributes({"params": draw.choice([-1.0, 0.0, 2.0])}),
            )
        )
    found = front_trials(study)
    assert {trial.number for trial in found} == {trial.number for trial in study.best_trials}
    assert any(max(trial.constraints.values()) > 0 for trial in study.trials), "some break a limit"
    assert [trial.values[0] for trial in found] == sorted(
        (trial.values[0] for trial in found), reverse=directions[0] == "maximize"
    )
