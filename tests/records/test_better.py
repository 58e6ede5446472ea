"""Which of several results is better: the table of quantities, and what is chosen by it."""

import pytest

from harness.measure.quality_config import METRICS
from harness.records.better import best_place, front_of
from harness.records.quantities import QUANTITIES, KnownQuantity, is_better, more_is_better, register
from harness.records.quantity import Counted, Failed, Measured, Unavailable


def measured(*values: float) -> list[Measured]:
    return [Measured(value=value, unit="1") for value in values]


def test_the_best_is_the_lowest_distance_or_the_highest_share() -> None:
    assert best_place(measured(0.3, 0.1, 0.2), "kid") == 1
    assert best_place(measured(0.3, 0.1, 0.2), "class_agreement") == 0
    assert best_place(measured(0.1, 0.1), "fd") == 0


def test_only_what_was_measured_can_be_the_best() -> None:
    failed, absent = Failed(phase="sample", message="NaN"), Unavailable(reason="no reference")
    assert best_place([failed, *measured(0.3), absent, Counted(value=0, unit="1")], "kid") == 1
    assert best_place([failed, absent], "kid") is None
    assert best_place([], "kid") is None


@pytest.mark.parametrize("name", METRICS)
def test_what_a_page_says_of_a_score_is_what_the_table_says(name: str) -> None:
    said = "More is better" if more_is_better(name) else "Less is better"
    assert said in QUANTITIES[name].explanation


def test_which_way_a_quantity_goes_is_asked_of_the_table() -> None:
    assert is_better("kid", 0.1, 0.2)
    assert is_better("recall", 0.2, 0.1)
    assert not is_better("recall", 0.1, 0.1)
    assert not more_is_better("twin.params")


def test_a_name_means_one_quantity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.records.quantities.QUANTITIES", dict(QUANTITIES))
    own = KnownQuantity(title="Clear edges", explanation="Of pictures. More is better.", more_is_better=True)
    register({"clear_edges": own, "kid": QUANTITIES["kid"]})
    assert more_is_better("clear_edges")
    with pytest.raises(ValueError, match="there is a quantity 'kid' already, KID"):
        register({"kid": own})


def test_a_front_is_what_no_other_beats() -> None:
    points = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 3.0), (1.0, 3.0)]
    assert front_of(points, ("minimize", "minimize")) == [1, 4, 2, 0]
    assert front_of(points, ("minimize", "maximize")) == [1, 4]
    assert front_of([], ("minimize", "minimize")) == []
