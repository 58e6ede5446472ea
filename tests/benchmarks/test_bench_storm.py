"""A sweep of 200 trials in a storm of kills, and the summary of it. An hour of two cores or less."""

import pytest
from storm import Storm, seeded_plan
from storm_checks import assert_weathered

pytestmark = [pytest.mark.benchmark(group="storm"), pytest.mark.timeout(4 * 3600)]
TRIALS = 200


def test_two_hundred_trials_in_a_storm(tmp_path, cache):
    storm = Storm(tmp_path, seeded_plan(trials=TRIALS, seed=11), cache)
    storm.rage()
    print(f"\n{storm.summary()}")
    assert_weathered(storm)
