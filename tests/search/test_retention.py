"""Checkpoints of a sweep: kept are those of the front, of what is trained and of what may be promoted; no others."""

import time
from pathlib import Path

import numpy as np
import pytest
from fake_sweep import SPACE, World, size
from hypothesis import given
from hypothesis import strategies as st

from harness.search import halving
from harness.search.candidates import Candidate, LevelResult
from harness.search.halving import Retention, retained
from harness.search.pareto import Front, dominates

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30)  # few values: ties and repeats


def front_of(points) -> set[int]:
    """By definition: those that no other dominates."""
    return {
        number
        for number, point in enumerate(points)
        if not any(bool(dominates(np.asarray(other), np.asarray(point))) for other in points)
    }


@given(POINTS)
def test_the_front_is_that_of_the_definition_after_every_point(points) -> None:
    front, on = Front(), set()
    for number, point in enumerate(points):
        on = (on | {number}) - set(front.add(number, point))
        assert on == set(front.numbers) == front_of(points[: number + 1])


def complete(number: int, *values: float) -> Candidate:
    levels = [LevelResult(steps=1, key=f"low-{number}", values=(9.0, 9.0)), LevelResult(steps=2, key="", values=values)]
    return Candidate(number=number, trial_id=number, parameters={}, state="complete", levels=levels)


def waiting(number: int) -> Candidate:
    levels = [LevelResult(steps=1, key=f"low-{number}", values=(1.0, 1.0))]
    return Candidate(number=number, trial_id=number, parameters={}, state="running", levels=levels)


def test_who_leaves_the_front_loses_its_checkpoints_at_that_moment() -> None:
    kept = Retention(("minimize", "maximize"))
    assert kept.complete(complete(0, 2.0, 1.0)) == []
    assert kept.complete(complete(1, 3.0, 2.0)) == [], "worse in one, better in the other"
    assert kept.complete(complete(2, 2.5, 1.0)) == ["low-2"], "it never was on the front"
    assert sorted(kept.complete(complete(3, 2.0, 2.0))) == ["low-0", "low-1"]
    assert kept.kept([waiting(4)]) == {"low-3", "low-4"}


def test_what_is_kept_does_not_depend_on_the_order() -> None:
    some = [complete(number, *values) for number, values in enumerate([(2, 1), (1, 2), (2, 2), (0, 3), (2, 1)])]
    stopped = Candidate(number=9, trial_id=9, parameters={}, state="stopped", levels=waiting(9).levels)
    both = ("minimize", "minimize")
    assert retained([*some, waiting(7), stopped], both) == {"low-0", "low-1", "low-3", "low-4", "low-7"}
    assert retained([stopped, waiting(7), *reversed(some)], both) == retained([*some, waiting(7)], both)


def noisy(spec) -> dict[str, float]:
    """A KID that hardly follows the size, so that the front changes; longer is better."""
    luck = int(spec.architecture.fingerprint[:4], 16) / 65536
    return {"kid": 0.5 + luck + 20 / spec.settings.recipe.steps, "macs": size(spec.architecture)}


class Disk(World):
    """A world in which a trial that begins leaves its folder of checkpoints."""

    def __init__(self, folder: Path, **more) -> None:
        super().__init__(folder, **more)
        begin = self.workers.begin

        def saving(spec):
            spec.checkpoints.mkdir(parents=True, exist_ok=True)
            begin(spec)

        self.workers.begin = saving

    def on_disk(self) -> set[str]:
        return {folder.name for folder in (self.folder / "checkpoints").glob("*")}


@pytest.mark.usefixtures("cheap")
def test_after_every_result_the_disk_holds_the_retention_set_and_no_more(tmp_path: Path) -> None:
    world, seen = Disk(tmp_path, score=noisy), []
    end_one = world.workers.end_one

    def looking() -> str:
        candidates = list(world.candidates)
        assert world.on_disk() == retained(candidates, ("minimize", "minimize"))
        seen.append(sum(each.state == "complete" for each in candidates))
        return end_one()

    world.workers.end_one = looking
    world.run(SPACE, budgets=(100, 300), reduction=2, trials=12)
    complete = [each for each in world.candidates if each.state == "complete"]
    kept = world.on_disk()
    assert kept == retained(complete, ("minimize", "minimize"))
    assert 0 < len(kept) < len(complete) < 12, "some of the complete are not on the front"
    assert len(set(seen)) > 3


@pytest.mark.usefixtures("cheap")
def test_forgetting_the_front_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken on purpose: whoever is complete keeps its checkpoints for ever."""
    monkeypatch.setattr(halving.Front, "add", lambda *_: [])
    world = Disk(tmp_path, score=noisy)
    world.run(SPACE, budgets=(100, 300), reduction=2, trials=12)
    monkeypatch.undo()
    assert world.on_disk() != retained(world.candidates, ("minimize", "minimize"))


def test_a_result_costs_the_same_at_ten_thousand_candidates() -> None:
    """10,000 results, of which dozens are on the front: 0.4 ms each is allowed."""
    chance = np.random.default_rng(0)
    angle, radius = chance.uniform(0, np.pi / 2, 10_000), chance.uniform(1.0, 2.0, 10_000)
    points = 3 - radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    some = [complete(number, *point) for number, point in enumerate(points.tolist())]
    kept, began = Retention(("minimize", "minimize")), time.process_time()
    for candidate in some:
        kept.complete(candidate)
    assert len(kept.kept([])) > 20
    assert time.process_time() - began < 4.0
