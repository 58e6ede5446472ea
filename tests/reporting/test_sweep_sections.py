"""What a sweep's sections say of 120 made-up candidates, and how the page of 10,000 grows."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, DARK, printed, visited
from made_sweep import DIVERGED, LEVELS, SURPASSED, made_sweep

from harness.records.store import Store
from harness.records.sweep_summary import SweepSummary
from harness.reporting import importance
from harness.reporting.report import UNPUBLISHED, checked_definition, frames_of, write_report
from harness.reporting.section import Frames
from harness.reporting.sections import halving, parallel, progress, slices
from harness.reporting.subjects import study_of

Cells = Callable[[str], list[dict[str, str]]]
NAUGHTY = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What chance gives is tested elsewhere."""
    monkeypatch.setattr(importance, "SHUFFLES", 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def frames_for(sweep: SweepSummary, store: Store) -> Frames:
    return frames_of(store, study_of(sweep), checked_definition({}, None, "sweep")[0], UNPUBLISHED)


def rows_in(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="candidates-rows">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def page_of(store: Store, sweep: SweepSummary, **definition: Any) -> str:
    return write_report(store, sweep, definition, None, store.root / "page.html").read_text()


# the table


def test_the_table_has_every_candidate_with_the_studys_and_the_stores_exact_numbers(store: Store) -> None:
    sweep = made_sweep(120, store)
    data = rows_in(page_of(store, sweep, sections=["candidates"]))
    keys = [column["key"] for column in data["columns"]]
    assert keys == ["candidate", "state", "steps", "kid", "macs", "params", "gpu_hours", "width", "convolution",
                    "resampling", "ratio", "recipe.learning_rate", "reason"]  # fmt: skip
    rows = {row[0]: dict(zip(keys, row, strict=True)) for row in data["rows"]}
    assert rows.keys() == {each.name for each in sweep.candidates}
    for each in sweep.candidates:
        row = rows[each.name]
        assert (row["state"], row["reason"]) == (each.state, each.reason)
        if each.values is not None:
            assert (row["kid"][0], row["macs"][0]) == each.values
            assert row["params"][0] == store.trial(each.key).quantities["params"].value  # type: ignore[union-attr]
            assert row["gpu_hours"][0] == pytest.approx(sum(level.gpu_seconds for level in each.levels) / 3600)
        elif each.state == "refused":
            assert (row["kid"], row["params"], row["gpu_hours"]) == (0, 0, 0)
        else:
            assert row["kid"][:2] == [None, "not known"]
    assert [data["rows"][at][0] for at in data["front"]] == list(sweep.front)


def test_where_no_gpu_trained_costs_are_hours_of_cores(store: Store, page_cells: Cells) -> None:
    sweep = replace(made_sweep(30, store), gpu_hours=0.0)
    page = page_of(store, sweep, sections=["sweep_summary", "candidates"])
    data = rows_in(page)
    at = [column["key"] for column in data["columns"]].index("cpu_hours")
    trained = [row for row in data["rows"] if isinstance(row[at], list) and row[at][0] is not None]
    assert {row[at][0] for row in trained} == {12.0 / 3600}
    assert f"{len(trained) * 12 / 3600:.3g} CPU-hours" in page
    assert "GPU-hours" not in page


# the ladder of budgets


def test_the_budgets_say_who_went_on_who_stopped_and_why(store: Store, page_cells: Cells) -> None:
    sweep = made_sweep(120)
    low, high = halving.ladder(sweep)
    named = {fate.look: list(fate.names) for fate in low.fates}
    of = {
        state: [each.name for each in sweep.candidates if each.state == state]
        for state in ("complete", "stopped", "failed")
    }
    assert named == {"on": of["complete"], "stopped": of["stopped"], "failed": of["failed"]}
    assert {fate.look: list(fate.names) for fate in high.fates} == {"complete": of["complete"]}
    assert {reason.text: reason.times for reason in low.reasons} == {
        SURPASSED: len(of["stopped"]),
        DIVERGED: len(of["failed"]),
    }
    cells = page_cells(page_of(store, sweep, sections=["halving"]))
    shown = [int(cell["text"]) for cell in cells if "data-fate" in cell]
    assert shown == [len(of["complete"]), len(of["stopped"]), len(of["failed"]), len(of["complete"])]
    one = replace(sweep, levels=LEVELS[:1])
    assert halving.content(frames_for(one, store)) is None


# the course of the search


def test_the_hypervolume_rises_to_that_of_the_front_and_is_a_share_of_the_box(store: Store) -> None:
    sweep = made_sweep(120)
    found = progress.course(sweep)
    volumes = [volume for _, volume in found]
    assert volumes == sorted(volumes)
    assert 0 < volumes[-1] < 1
    # two candidates, each best in one objective, cover nothing; one that is better in both by half of each range adds
    # the rectangle between it and the worst
    corners = [(1.0, 4.0), (4.0, 1.0), (2.0, 2.0)]
    complete = [each for each in sweep.candidates if each.state == "complete"][:3]
    three = tuple(replace(each, values=values) for each, values in zip(complete, corners, strict=True))
    assert progress.course(replace(sweep, candidates=three))[-1] == (3, pytest.approx(0.25))
    # beside another search both are measured in one box, here of 4 octaves each way: a stair of 1/8, 3/16 and 1/2
    corners = [(1.0, 16.0), (16.0, 1.0)]
    other = tuple(replace(each, values=values) for each, values in zip(complete[:2], corners, strict=True))
    three_of, two = replace(sweep, candidates=three), replace(sweep, name="chance", candidates=other)
    assert progress.course(three_of, two)[-1] == (3, pytest.approx(0.8125))
    figures = progress.content(frames_for(replace(three_of, chance=two), store))
    assert figures is not None
    assert [trace.name for trace in figures.figures[""].data] == ["at random", "this search"]
    assert figures.context["beside"] == "chance"
    single = replace(sweep, objectives={"kid": "minimize"})
    best = [value for _, value in progress.course(single)]
    assert best[-1] == min(each.values[0] for each in sweep.candidates if each.state == "complete" and each.values)


# knobs


def test_slices_join_only_those_that_differ_in_one_knob_from_the_chosen_one(store: Store) -> None:
    sweep = made_sweep(120)
    chosen = next(each for each in sweep.candidates if each.name == sweep.front[0])
    # of the others, with a rate of a continuum, none has this one's
    apart = {**chosen.parameters, "recipe.learning_rate": 0.0042}
    chosen = replace(chosen, parameters={**apart, "convolution": "regular"})
    near = replace(
        chosen, name="trial-120", parameters={**chosen.parameters, "ratio": 5 - int(chosen.parameters["ratio"])}
    )
    far = replace(near, name="trial-121", parameters={**near.parameters, "recipe.learning_rate": 0.005})
    others = [each for each in sweep.candidates if each.name != chosen.name]
    sweep = replace(sweep, candidates=(*others, chosen, near, far))
    assert slices.differing_in(chosen, "ratio", sweep.candidates) == [near]
    assert far not in slices.differing_in(chosen, "recipe.learning_rate", sweep.candidates)
    content = slices.content(frames_for(sweep, store))
    assert content is not None
    assert list(content.figures) == ["KID after 100 steps", "Multiply-adds"]
    joined = [trace for trace in content.figures["KID after 100 steps"].data if trace.name == "differs in this alone"]
    assert sorted([chosen.name, near.name]) in [sorted(trace.hovertext) for trace in joined]
    assert not any("trial-121" in trace.hovertext for trace in joined)
    clouds = [trace for trace in content.figures["KID after 100 steps"].data if trace.name == "all"]
    with_value = [each for each in sweep.candidates if each.values_at(100) is not None]
    assert len(clouds[0].x) == len(with_value)
    assert len(clouds[2].x) == sum("resampling" in each.parameters for each in with_value)
    assert "ratio 1" in content.context["alone"]


def test_parallel_lines_are_the_complete_candidates_with_the_front_on_top(store: Store) -> None:
    sweep = made_sweep(120)
    content = parallel.content(frames_for(sweep, store))
    assert content is not None
    traces = {trace.name: trace for trace in content.figures[""].data}
    assert list(traces) == ["others", "on the front", "chosen"]
    axes = 5 + 2  # the constant knob has none
    complete = sum(each.state == "complete" for each in sweep.candidates)
    assert len(traces["others"].x) + len(traces["on the front"].x) == complete * (axes + 1)
    assert len(traces["on the front"].x) == len(sweep.front) * (axes + 1)
    assert min(y for y in traces["others"].y if y is not None) == parallel.ABSENT


# states of a sweep


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_sweep_that_has_hardly_begun_has_a_page(store: Store, count: int) -> None:
    sweep = replace(made_sweep(count, store), driver_runs=True)
    page = page_of(store, sweep)
    assert "a driver runs" in page


# size


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepSummary, Path, dict[int, float]]:
    """Of 10,000 candidates, its page, and how long pages took by their number."""
    seconds, folder = {}, tmp_path_factory.mktemp("large")
    for count in (2_500, 10_000):
        store = Store(folder / str(count))
        sweep = made_sweep(count, store)
        began = time.process_time()
        path = write_report(store, sweep, {}, None, folder / "page.html")
        seconds[count] = time.process_time() - began
    return sweep, path, seconds


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("large")
def test_a_page_of_10_000_candidates_is_small_and_its_time_grows_in_proportion(large: Any) -> None:
    _, path, seconds = large
    assert path.stat().st_size < 10_000_000
    assert seconds[10_000] < 10.0
    assert seconds[10_000] / seconds[2_500] < 6.0  # in proportion it is 4; by the square it would be 16


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("large")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_10_000_candidates_are_printed_in_seconds(large: Any, tmp_path: Path) -> None:
    """A see-through mark that is a layer of its own, or ten thousand keys over hundreds of pages, take minutes."""
    _, path, _ = large
    began = time.monotonic()
    assert printed(path, tmp_path / "profile", tmp_path / "page.pdf") == []
    assert time.monotonic() - began < 60
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") > 5


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("large")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_a_browser_opens_10_000_candidates_and_finds_among_them(large: Any, tmp_path: Path) -> None:
    """On a laptop and on a phone, in the dark."""
    sweep, path, _ = large
    find = """
      const name = () => document.querySelector("[data-rows] tbody tr").dataset.row;
      const heads = [...document.querySelectorAll("[data-rows] thead button")];
      heads.find((button) => button.textContent.startsWith("Multiply-adds")).click();
      found.least = name();
      const field = document.querySelector("[data-rows-filter]");
      found.count = document.querySelector("[data-rows-count]").textContent;
      field.value = "state=failed"; field.dispatchEvent(new Event("input"));
      found.failed = document.querySelector("[data-rows-count]").textContent;"""
    width = {"laptop": 1280, "phone": 400}
    found, complaints = visited(dict.fromkeys(width, (path, find)), tmp_path, DARK, width=width)
    failed = sum(each.state == "failed" for each in sweep.candidates)
    assert complaints == []
    macs = {each.name: each.values[1] for each in sweep.candidates if each.values is not None}
    for page in found.values():
        assert page["figures"] == dict.fromkeys(["front", "slices", "parallel", "progress"], "dark")
        assert page["width"][0] == page["width"][1]
        assert page["cut"] == page["collisions"] == []
        assert macs[page["least"]] == min(macs.values())
        assert page["count"].startswith("1 to 50 of 10,000")
        assert page["failed"] == f"1 to 50 of {failed} found of 10,000"
