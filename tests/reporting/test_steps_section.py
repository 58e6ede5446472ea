"""Scores over solver steps: each network by its best way at each number, and the difference from the first."""

from pathlib import Path

import pytest
from tab1_study import SEEDS, Tab1, build

from harness.measure.statistics import noise_of
from harness.reporting.sections import steps

FIRST, SECOND = "snapgen", "dit_xl_2"
VALUES = {  # (subject, solver) -> steps -> guidance -> the mean of its seeds
    (FIRST, "euler"): {4: {1.0: 9.0, 1.5: 8.0}, 28: {1.0: 5.0, 1.5: 4.0}},
    (FIRST, "heun"): {4: {1.0: 7.0, 1.5: 8.5}, 28: {1.0: 4.5, 1.5: 4.2}},
    (SECOND, "euler"): {4: {1.0: 6.0, 1.5: 6.5}},
}


@pytest.fixture
def tab1(tmp_path: Path) -> Tab1:
    return build(tmp_path)


def scored(tab1: Tab1) -> Tab1:
    for (name, solver), by_steps in VALUES.items():
        for number, by_scale in by_steps.items():
            for seed in SEEDS:
                grid = {(scale, number): value + (0.1 if seed else -0.1) for scale, value in by_scale.items()}
                tab1.sweep(name, grid, seed, solver=solver)
    return tab1


def test_each_stands_by_its_best_way_at_each_number(tab1: Tab1) -> None:
    best, label, apart = steps.bests(scored(tab1).frames(), "fd")
    found = {(name, number): (each.way, each.mean) for name, by in best.items() for number, each in by.items()}
    assert found == {
        (FIRST, 4): (("heun", 1.0), pytest.approx(7.0)),
        (FIRST, 28): (("euler", 1.5), pytest.approx(4.0)),
        (SECOND, 4): (("euler", 1.0), pytest.approx(6.0)),
    }
    assert best[FIRST][4].how == "heun, no guidance; best of 4"
    assert label.startswith("FID")
    assert not apart


def test_the_difference_is_from_the_first_at_as_many_steps(tab1: Tab1) -> None:
    content = steps.content(scored(tab1).frames())
    assert content is not None
    rows = dict(content.context["rows"])
    assert list(rows) == [4, 28]
    first, second = rows[4]
    expected = noise_of({FIRST: {0: 6.9, 1: 7.1}, SECOND: {0: 5.9, 1: 6.1}})
    assert expected is not None
    found = expected.compare(SECOND, FIRST)
    assert found.difference == pytest.approx(-1)
    assert second["apart"].startswith("\u22121.00 (")
    assert (first["value"], first["apart"], rows[28][1]) == ("7.00", "", None)
    assert [list(trace.x) for trace in content.figure.data] == [[4, 28], [4]]  # type: ignore[union-attr]


def test_what_was_scored_otherwise_is_named_and_left_out(tab1: Tab1) -> None:
    scored(tab1).sweep(SECOND, {(1.0, 4): 1.0, (1.5, 4): 1.0}, solver="euler", seed_of_noise=1)
    tab1.score(tab1.record(SECOND).key, 0.5, samples=512, guidance_scale=1.0, steps=4, solver="euler")
    best, _, apart = steps.bests(tab1.frames(), "fd")
    assert best[SECOND][4].mean == pytest.approx(6.0)
    assert len(apart) == 2
    assert any("quality.samples=512" in each for each in apart)


def test_a_page_has_it_and_without_scores_says_what_makes_them(tab1: Tab1) -> None:
    tab1.definition["sections"] = ["steps"]
    assert "harness ablate tab1_imagenet</code>" in tab1.write()
    page = scored(tab1).write()
    assert "Scores over solver steps" in page
    assert "heun, no guidance; best of 4" in page
