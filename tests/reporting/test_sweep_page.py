"""A sweep's default page: every number of its summary, each candidate as what its record calls it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records.conclusions import Conclusions, Finalist, RescoredObjective
from harness.records.quantity import Counted, Measured, Predicted, Quantity
from harness.records.record import Protocol, TrialRecord
from harness.records.store import Store
from harness.records.sweep_summary import CandidateSummary, ReasonCount, SweepSummary
from harness.reporting.report import UNPUBLISHED, checked_definition, frames_of, write_report
from harness.reporting.sections.front import front_figures
from harness.reporting.subjects import study_of

Cells = Callable[[str], list[dict[str, str]]]
PROTOCOL = Protocol(sections={"data": {"kind": "digits"}, "recipe": {"batch_size": 64}})
OBJECTIVES = {"kid": "minimize", "twin.latency_predicted": "minimize"}
# name, state, steps, KID, predicted ms, rung
CANDIDATES = (
    ("trial-0", "complete", 300, 0.61, 250.0, "fig3/mqa"),
    ("trial-1", "complete", 300, 0.52, 310.0, ""),
    ("trial-2", "stopped", 100, 3.9, 240.0, ""),
    ("trial-3", "complete", 300, 0.83, 330.0, ""),
)


def record(store: Store, name: str, kid: float, ms: float, seed: int = 0) -> str:
    quantities: dict[str, Quantity] = {
        "kid": Measured(value=kid, unit="1", low=kid - 0.02, high=kid + 0.02),
        "params": Counted(value=1_234_567, unit="parameters"),
        "twin.latency_predicted": Predicted(value=ms, unit="ms", low=ms / 2, high=ms * 2, extrapolated=False,
                                            conditions={"twin": "thin_sdxl", "latent": 128, "twin_fingerprint": "t"}),
    }  # fmt: skip
    trial = TrialRecord(
        name=name, architecture={}, architecture_fingerprint=f"arch-{name}", protocol=PROTOCOL.sections,
        protocol_fingerprint=PROTOCOL.fingerprint, seed=seed, state="complete", quantities=quantities,
    )  # fmt: skip
    store.put(trial)
    return trial.key


def finalist(store: Store, name: str, scores: tuple[float, float], ms: float, *, rank: int, tie: str) -> Finalist:
    kid, search = sum(scores) / 2, {"trial-0": 0.61, "trial-1": 0.52}[name]
    trials = {seed: record(store, name, score, ms, seed) for seed, score in enumerate(scores, start=7)}
    objectives = {
        "kid": RescoredObjective(search=search, scores=scores, mean=kid, standard_error=0.02, rank=rank, ties=(tie,)),
        "twin.latency_predicted": RescoredObjective(search=ms, scores=(ms, ms), mean=ms, standard_error=None, rank=1),
    }
    return Finalist(name=name, parameters={}, objectives=objectives, failures=(), trials=trials, on_front=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def summary(store: Store) -> SweepSummary:
    candidates = [
        CandidateSummary(
            name=name, state=state, parameters={"ffn": index, "width": "base"}, steps=steps,
            key=record(store, name, kid, ms), values=(kid, ms), rung=rung,
            reason="its KID of 3.9 is not below 3.7" if state == "stopped" else "",
        )  # type: ignore[arg-type]
        for index, (name, state, steps, kid, ms, rung) in enumerate(CANDIDATES)
    ]  # fmt: skip
    refused = [CandidateSummary(name=f"trial-{n}", state="refused", parameters={}, reason="big") for n in (4, 5)]
    failed = CandidateSummary(name="trial-6", state="failed", parameters={}, steps=100, key="lost", reason="train: NaN")
    finalists = (
        finalist(store, "trial-0", (0.60, 0.66), 250.0, rank=1, tie="trial-1"),
        finalist(store, "trial-1", (0.62, 0.68), 310.0, rank=2, tie="trial-0"),
    )
    return SweepSummary(
        name="mine", place="runs/mine/study.db", command="harness sweep mine", driver_runs=False,
        objectives=OBJECTIVES, levels=(100, 300), samplers=("tpe",), seed=0, trials=5,
        candidates=(*candidates, *refused, failed), front=("trial-1", "trial-0"),
        reasons={"refused": (ReasonCount(text="params is ..., above the limit of 9", times=2),),
                 "stopped": (ReasonCount(text="its KID of 3.9 is not below 3.7", times=1),),
                 "failed": (ReasonCount(text="train: NaN", times=1),)},
        conclusions=Conclusions(directions=OBJECTIVES, varying=("kid",), finalists=finalists,
                                without_score={"trial-3": ("train: out of memory",)}, level=0.95, margin=0.1, noise={}),
        protocol=PROTOCOL.sections, protocol_fingerprint=PROTOCOL.fingerprint,
        twin={"base": "thin_sdxl", "latent": 128},
    )  # type: ignore[arg-type]  # fmt: skip


def page_of(store: Store, summary: SweepSummary, **definition: Any) -> str:
    return write_report(store, summary, definition, None, store.root / "report.html").read_text()


def test_every_candidate_stands_with_the_studys_objectives_as_what_its_record_calls_them(
    store: Store, summary: SweepSummary, page_cells: Cells
) -> None:
    cells = page_cells(page_of(store, summary))
    values = {(c["data-subject"], c["data-objective"]): c for c in cells if "data-objective" in c}
    for name, _, _, kid, ms, _ in CANDIDATES:
        assert values[name, "kid"]["data-value"] == repr(kid)
        assert values[name, "kid"]["class"] == "k-measured"
        assert values[name, "twin.latency_predicted"]["data-value"] == repr(ms)
        assert values[name, "twin.latency_predicted"]["class"] == "k-predicted"
    assert values["trial-6", "kid"]["text"] == "not known"
    # the front first, then by training steps and KID
    rows = [c["data-row"] for c in cells if c["tag"] == "tr" and "data-row" in c]
    table = rows[rows.index("trial-1", 2) :]  # after the two finalists
    assert table[:7] == ["trial-1", "trial-0", "trial-3", "trial-2", "trial-6", "trial-4", "trial-5"]


def test_the_top_says_what_was_searched_and_what_the_finalists_tell(
    store: Store, summary: SweepSummary, page_cells: Cells
) -> None:
    top = next(c["text"] for c in page_cells(page_of(store, summary)) if c["tag"] == "header")
    assert "5 of 5 candidates were trained: 3 trained to 300 steps, 1 stopped before, 1 failed. 2 more were" in top
    assert "lowest KID 0.520 (trial-1); lowest predicted latency of the twin 250 ms (trial-0)" in top
    assert "trial-0 is best in KID, 0.630 ± 0.0200 (2 seeds); it is not distinguished from trial-1" in top
    assert "differs from the re-scored mean by −0.0750" in top  # (0.61 - 0.63 + 0.52 - 0.65) / 2
    assert "1 rung was a candidate, 1 trained to the last level; on the front: fig3/mqa." in top


def test_a_single_finalist_is_compared_with_nobody(store: Store, summary: SweepSummary, page_cells: Cells) -> None:
    assert summary.conclusions is not None
    one = replace(summary.conclusions, finalists=summary.conclusions.finalists[:1])
    page = page_of(store, replace(summary, conclusions=one))
    top = next(c["text"] for c in page_cells(page) if c["tag"] == "header")
    assert "trial-0, the only finalist, has a KID of 0.630 ± 0.0200 (2 seeds); its predicted latency of" in top
    assert "distinguished" not in top


def test_refusals_are_counted_by_reason_and_failures_named(
    store: Store, summary: SweepSummary, page_cells: Cells
) -> None:
    cells = page_cells(page_of(store, summary))
    assert {c["data-reason"]: c["text"] for c in cells if "data-reason" in c} == {
        "params is ..., above the limit of 9": "2", "its KID of 3.9 is not below 3.7": "1",
    }  # fmt: skip
    failures = next(c["text"] for c in cells if c.get("class") == "plain failures")
    assert "trial-6train: NaN" in failures.replace("\n", "")
    assert "trial-3, fresh seedtrain: out of memory" in failures.replace("\n", "")


def test_finalists_stand_with_their_re_scored_means_and_ties(
    store: Store, summary: SweepSummary, page_cells: Cells
) -> None:
    cells = page_cells(page_of(store, summary))
    assert summary.conclusions is not None
    means = {c["data-subject"]: float(c["data-rescored"]) for c in cells if "data-rescored" in c}
    assert means == {each.name: each.objectives["kid"].mean for each in summary.conclusions.finalists}
    table = next(c["text"] for c in cells if c.get("class") == "plain finalists cards")
    assert "0.610−0.0200" in table.replace("\n", "")


def test_the_latex_table_has_the_finalists_or_else_the_front(store: Store, summary: SweepSummary) -> None:
    def rows(sweep: SweepSummary) -> list[list[str]]:
        path = write_report(store, sweep, {}, None, store.root / "report.html", latex=True)
        table = path.with_suffix(".tex").read_text().partition("\\midrule\n")[2].partition("\\bottomrule")[0]
        return [line.removesuffix(r" \\").split(" & ") for line in table.splitlines()]

    assert rows(summary) == [
        ["trial-0", r"0.630 $\pm$ 0.0200 (2 seeds)", r"\textit{250 ms}", "trial-1"],
        ["trial-1", r"0.650 $\pm$ 0.0200 (2 seeds)", r"\textit{310 ms}", "trial-0"],
    ]
    assert rows(replace(summary, conclusions=None)) == [
        ["trial-1", "0.520", r"\textit{310 ms}"], ["trial-0", "0.610", r"\textit{250 ms}"],
    ]  # fmt: skip


def test_a_finalists_fresh_trainings_are_a_child_of_it(summary: SweepSummary) -> None:
    subjects = {subject.name: subject for subject in study_of(summary).subjects}
    assert subjects["trial-0"].rung_of == "fig3/mqa"
    assert subjects["trial-0, fresh seeds"].child_of == "trial-0"
    assert list(subjects["trial-0, fresh seeds"].trials) == [7, 8]


def test_the_picture_holds_every_candidate_with_values_and_arrows_to_what_fresh_seeds_gave(
    store: Store, summary: SweepSummary
) -> None:
    frames = frames_of(store, study_of(summary), checked_definition({}, None, "sweep")[0], UNPUBLISHED)
    figures = front_figures(summary, frames)
    assert list(figures) == ["Predicted latency of the twin"]
    traces = {trace.name: trace for trace in figures["Predicted latency of the twin"].data}
    drawn = {name: sorted(zip(trace.x, trace.y, strict=True)) for name, trace in traces.items()}
    assert drawn["on the front"] == [(250.0, pytest.approx(0.61)), (310.0, pytest.approx(0.52))]
    assert drawn["trained to the last level"] == [(330.0, pytest.approx(0.83))]
    assert drawn["trained to a lower level: not comparable"] == [(240.0, pytest.approx(3.9))]
    assert drawn["mean over fresh seeds, ± standard error"] == [
        (250.0, pytest.approx(0.63)),
        (310.0, pytest.approx(0.65)),
    ]
    arrows = [trace for trace in figures["Predicted latency of the twin"].data if trace.name == "search to fresh seeds"]
    assert [list(trace.y) for trace in arrows] == [[0.61, 0.63], [0.52, 0.65]]
    assert drawn["front of the means over fresh seeds"] == drawn["mean over fresh seeds, ± standard error"]
    assert "not distinguished from trial-1" in traces["mean over fresh seeds, ± standard error"].hovertext[0]
    one = replace(summary, objectives={"kid": "minimize"}, conclusions=None)
    orders = {trace.name: list(trace.x) for trace in front_figures(one, frames)[""].data}
    assert orders["on the front"] == [0, 1]


def test_a_sweep_that_ends_without_a_front_or_finalists_has_a_page(store: Store, summary: SweepSummary) -> None:
    page = page_of(store, replace(summary, front=(), conclusions=None, floor=3.7))
    assert "no candidate is trained to 300 steps" in page
    assert "Candidates are promoted below a KID of 3.70" in page
    assert 'id="finalists"' not in page
    assert "trains the best again" not in page
    assert "trains the best again" in page_of(store, replace(summary, conclusions=None))
    empty = replace(summary, candidates=(), front=(), conclusions=None, reasons={}, driver_runs=True)
    page = page_of(store, empty)
    assert "a driver runs" in page
    assert "0 of 5 candidates were trained: none" in page


def test_what_the_floor_beats_is_grey_named_on_top_and_never_the_lowest(
    store: Store, summary: SweepSummary, page_cells: Cells
) -> None:
    """The rung on the front is beaten, of a sweep with one budget; so is a finalist by its fresh seeds."""
    assert summary.conclusions is not None
    one, other = summary.conclusions.finalists
    unranked = {name: replace(each, rank=None) for name, each in other.objectives.items()}
    finalists = (one, replace(other, objectives=unranked, beaten=True, on_front=False))
    candidates = [
        replace(each, beaten=True, reason="its KID of 0.61 is not below 0.6") if each.name == "trial-0" else each
        for each in summary.candidates
    ]
    beaten = replace(
        summary, candidates=tuple(candidates), front=("trial-1",), levels=(300,), floor=0.6,
        conclusions=replace(summary.conclusions, finalists=finalists),
    )  # fmt: skip
    cells = page_cells(page_of(store, beaten))
    top = " ".join(next(c["text"] for c in cells if c["tag"] == "header").split())
    assert (
        "trial-0 and trial-1 with fresh seeds are no better than a Gaussian fitted to the pixels, a KID of 0.600" in top
    )
    assert "lowest predicted latency of the twin 310 ms (trial-1)" in top
    assert "on the front: none." in top
    grey = [c["data-row"] for c in cells if c["tag"] == "tr" and c.get("class") == "beaten"]
    assert sorted(grey) == ["trial-0", "trial-1"]  # of the candidates, of the finalists
    frames = frames_of(store, study_of(beaten), checked_definition({}, None, "sweep")[0], UNPUBLISHED)
    (figure,) = front_figures(beaten, frames).values()
    drawn = {trace.name: trace for trace in figure.data}
    assert len(drawn["grey: a control without training beats it"].x) == 2
    assert "a Gaussian fitted to the pixels: nothing worse counts" in drawn
    assert "no floor" not in top.lower()
    assert "the KID of a Gaussian fitted to the pixels is not known" in page_of(store, replace(beaten, floor=None))


def test_a_sweeps_own_page_chooses_its_sections(store: Store, summary: SweepSummary) -> None:
    page = page_of(store, summary, title="Mine", sections=["sweep_summary", "failures"])
    assert "<h1>Mine</h1>" in page
    assert 'id="failures"' in page
    assert 'id="candidates"' not in page


def test_a_sweep_is_computed_like_any_study(store: Store, summary: SweepSummary) -> None:
    frames = frames_of(store, study_of(summary), checked_definition({}, None, "sweep")[0], UNPUBLISHED)
    assert frames.estimates["trial-0, fresh seeds", "kid"].value == pytest.approx(0.63)
    assert frames.estimates["trial-6", "kid"].kind == "missing"


def test_a_damaged_record_is_said_and_takes_no_page_away(
    store: Store, summary: SweepSummary, page_cells: Cells
) -> None:
    key = next(each.key for each in summary.candidates if each.name == "trial-2")
    (store.root / "trials" / f"{key}.json").write_text('{"name": "trial-2", "arch')
    page = page_of(store, summary)
    top = next(c["text"] for c in page_cells(page) if c["tag"] == "header")
    assert "a record cannot be read; of it the page has what the study knows. trial-2: " in top
    assert f"{key}.json is not a record this version can read" in top
    value = next(c for c in page_cells(page) if c.get("data-subject") == "trial-2" and c.get("data-objective") == "kid")
    assert value["data-value"] == "3.9"


def test_a_page_loads_itself_only_while_a_driver_runs_and_it_is_drawn_anew(store: Store, summary: SweepSummary) -> None:
    only = {"sections": ["sweep_summary"]}
    running = replace(summary, driver_runs=True)
    assert '<div data-reload="20.0" hidden>' in page_of(store, replace(running, redrawn_every_s=20.0), **only)
    assert "<div data-reload" not in page_of(store, replace(summary, redrawn_every_s=20.0), **only)
    assert "<div data-reload" not in page_of(store, running, **only)
