"""The page of Tab. 1: printed and own networks in one table, told apart; the score against costs; other protocols."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tab1_study import LAPTOP, NETWORKS, SEEDS, Tab1, build, fid

from harness.commands import report
from harness.records.errors import UserError
from harness.records.judging import GENERATED_PICTURES
from harness.records.quantity import Counted
from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.drawing import ORANGE, axis_of, place_labels
from harness.reporting.report import write_report
from harness.reporting.section import Content
from harness.reporting.sections import against_cost, beside, guidance
from harness.reporting.sections import protocol as head
from harness.reporting.sections.against_cost import BEST as BEST_POINTS
from harness.reporting.sections.against_cost import FRONTS, PRINTED
from harness.reporting.trade_off import LOOKS

Cells = Callable[[str], list[dict[str, str]]]
MARK = "\u2020"
GRID = {(g, n): 3.0 + abs(g - 1.5) + 2 / n for g in (1.0, 1.5, 2.0) for n in (10, 50)}
BEST = "best of 6 tried: guidance 1.5, 50 steps, flattered by the choice"


OTHERS = {"dit_xl_2": {"architecture": "published/dit_xl_2", "key": "00112233aabbccdd"}}


@pytest.fixture
def tab1(tmp_path: Path) -> Tab1:
    return build(tmp_path)


def table_rows(page: str) -> dict[tuple[str, str], str]:
    """(name, where from) -> its row of the table."""
    rows = re.findall(r'<tr data-entry="(\w+)" data-source="(\w+)"(.*?)</tr>', page, re.DOTALL)
    return {(name, source): text for name, source, text in rows}


def drawn(tab1: Tab1) -> Content:
    content = against_cost.content(tab1.frames())
    assert content is not None
    assert content.figure is not None
    return content


def traces(tab1: Tab1) -> list[Any]:
    """Of the pictures of all costs."""
    return [trace for figure in drawn(tab1).figures.values() for trace in figure.data]


def shows_printed(content: Content) -> bool:
    names = {trace.name for figure in content.figures.values() for trace in figure.data}
    return LOOKS["printed"].legend in names


def test_the_printed_numbers_on_the_page_are_those_of_the_file(tab1: Tab1, page_cells: Cells) -> None:
    cells = [c for c in page_cells(tab1.write()) if "data-published" in c]
    shown = {
        (c["data-subject"], c["data-published"]): (float(c["data-published-value"]), c["data-source"]) for c in cells
    }
    assert len(cells) == len(shown), "each once"
    rows = yaml.safe_load((Path(__file__).parents[2] / "reports/published/tab1.yaml").read_text())["rows"]
    assert shown == {
        (row, column): (float(cell["value"]), "".join(f"[{label}]" for label in cell["labels"]))
        for row, content in rows.items()
        for column, cell in content["cells"].items()
    }
    texts = {(c["data-subject"], c["data-published"]): c["text"] for c in cells}
    assert texts["ldm_4", "fid"] == "3.60 [P]"
    assert texts["ldm_4", "params"] == "400 M [P]"


def test_a_printed_number_that_is_not_known_stays_empty(tab1: Tab1, page_cells: Cells) -> None:
    del tab1.published["rows"]["uvit_l"]["cells"]["fid"]
    page = tab1.write()
    assert ("uvit_l", "fid") not in {
        (c["data-subject"], c["data-published"]) for c in page_cells(page) if "data-published" in c
    }
    assert table_rows(page)["uvit_l", "printed"].count("<td></td>") == 2, "FID, and the latency that nobody printed"
    assert not any("U-ViT-L" in text for trace in traces(tab1) for text in trace.text or ())


def test_each_row_says_where_it_comes_from_and_ours_stand_below_the_printed_one(tab1: Tab1) -> None:
    tab1.sweep("snapgen", GRID)
    rows = table_rows(tab1.write())
    assert list(rows) == [
        ("ldm_4", "printed"), ("uvit_l", "printed"), ("uvit_h", "printed"), ("uvit_h", "study"),
        ("dit_xl_2", "printed"), ("dit_xl_2", "study"), ("sit_xl_2", "printed"), ("snapgen", "printed"),
        ("snapgen", "study"), ("snapgen", "best"), ("thin_sdxl", "study"),
    ]  # fmt: skip
    looks = {"printed": {"published"}, "study": {"measured", "counted", "predicted"}}
    for (name, source), row in rows.items():
        found = set(re.findall(r'class="k-(\w+)"', row))
        assert found == looks.get(source, looks["study"]), name
    assert "trained here" in rows["dit_xl_2", "study"]
    assert "scored here" in rows["snapgen", "best"]


def test_our_numbers_are_the_means_over_the_seeds(tab1: Tab1, page_cells: Cells) -> None:
    cells = {
        (c["data-subject"], c["data-quantity"]): c for c in page_cells(tab1.write()) if c.get("data-seed") == "all"
    }
    for name, _, score, params, *_ in NETWORKS:
        assert float(cells[name, "fd"]["data-value"]) == pytest.approx(score + 0.025)
        assert int(cells[name, "params"]["data-value"]) == params


def test_printed_points_are_hollow_and_never_joined_with_ours(tab1: Tab1) -> None:
    printed = [trace for trace in traces(tab1) if trace.name == LOOKS["printed"].legend]
    assert list(drawn(tab1).figures) == ["Multiply-adds", "Parameters"]
    assert {(trace.marker.symbol, trace.marker.color) for trace in printed} == {("diamond-open", ORANGE)}
    macs, params = (
        {text: (x, y) for text, x, y in zip(each.hovertext, each.x, each.y, strict=True)} for each in printed
    )
    assert next(at for text, at in macs.items() if "DiT-XL/2" in text) == (119e9, 2.27), "in the unit of ours"
    assert next(at for text, at in params.items() if "LDM-4" in text)[0] == 400e6
    theirs = {(x, y) for trace in printed for x, y in zip(trace.x, trace.y, strict=True)}
    lines = [trace for trace in traces(tab1) if trace.mode in ("lines", "lines+markers")]
    assert lines
    for line in lines:
        joined = set(zip(line.x, line.y, strict=True))
        assert joined <= theirs or not joined & theirs


def test_each_front_is_what_no_other_of_its_kind_beats(tab1: Tab1) -> None:
    networks = [*NETWORKS, ("tiny", "tiny", 8.0, 90_000_000, 9_000_000_000, 20.0)]
    tab1 = build(tab1.path.parent / "more", networks=networks)
    marks = against_cost.cost_marks(tab1.frames())
    for cost in ("macs", "params"):
        for printed in (True, False):
            group = [mark for mark in marks if mark.cost == cost and (mark.look == "printed") == printed]
            beaten = {a.title for a in group for b in group if b.x <= a.x and b.y <= a.y and (b.x, b.y) != (a.x, a.y)}
            assert {mark.title for mark in group if mark.on_front} == {mark.title for mark in group} - beaten
    assert {mark.title for mark in marks if mark.on_front and mark.look == "study"} == {"tiny", "the efficient UNet"}


def test_another_score_shares_no_axis_with_a_printed_one(tab1: Tab1) -> None:
    tab1 = build(tab1.path.parent / "laptop", label=LAPTOP["label"])
    content = drawn(tab1)
    assert not shows_printed(content)
    assert content.context["apart"] == "their FID is not FD-EffLite0@64, N=512"
    page = tab1.write()
    assert "The printed networks are in the table alone: their FID is not FD-EffLite0@64, N=512" in page
    assert "3.60" in table_rows(page)["ldm_4", "printed"]


def test_a_score_of_fewer_samples_shares_no_axis_with_the_printed_one(tab1: Tab1) -> None:
    """FID falls with the number of samples."""
    for name, *_ in NETWORKS:
        for seed in SEEDS:
            trial = tab1.record(name, seed)
            few = fid(4.0, label="FID, N=5000", samples=5_000)
            tab1.store.put(replace(trial, quantities={**trial.quantities, "fd": few}))
    content = drawn(tab1)
    assert not shows_printed(content)
    assert content.context["apart"] == "their FID is of 50,000 samples, ours of 5000"


LAPTOP_SCORE = {"label": LAPTOP["label"], "samples": 512}
FEW = {"label": "FID, N=5000 against all of the training set", "samples": 5_000}


@pytest.mark.parametrize("score", [LAPTOP_SCORE, FEW])
@pytest.mark.parametrize("whose", ["a trial's", "others'"])
def test_a_sweep_of_another_score_is_on_no_axis_and_in_no_column(
    tab1: Tab1, score: dict[str, Any], whose: str, page_cells: Cells
) -> None:
    tab1.definition["others"] = OTHERS
    key = OTHERS["dit_xl_2"]["key"] if whose == "others'" else tab1.record("dit_xl_2").key
    for scale in (1.0, 1.5):
        tab1.score(key, 41.5 + scale, guidance_scale=scale, steps=50, **score)
    content = drawn(tab1)
    assert content.context["apart"] == "", "ours that are drawn are the printed score"
    assert not [mark for mark in against_cost.cost_marks(tab1.frames()) if mark.y > 40]
    assert f"best of 2 ({score['label']})" in content.context["elsewhere"]
    page = tab1.write()
    row = table_rows(page)["dit_xl_2", "others" if whose == "others'" else "best"]
    assert f"{score['label']}: 42.5" in re.sub(r"\s+", " ", row)
    assert 'data-quantity="fd"' not in row
    assert not [c for c in page_cells(row) if c.get("data-value") == "42.5"]


def test_a_trial_of_another_score_than_the_others_is_told_apart(tab1: Tab1) -> None:
    for seed in SEEDS:
        trial = tab1.record("dit_xl_2", seed)
        other = {**trial.quantities, "fd": fid(41.5, **LAPTOP_SCORE)}  # type: ignore[arg-type]
        tab1.store.put(replace(trial, quantities=other))
    assert "DiT-XL/2" not in {m.title for m in against_cost.cost_marks(tab1.frames()) if m.look != "printed"}
    page = tab1.write()
    assert f"{LAPTOP['label']}: 41.5" in table_rows(page)["dit_xl_2", "study"]
    head = page[page.index('<table class="ladder beside">') :].partition("</thead>")[0]
    assert LAPTOP["label"] not in head


def test_where_nothing_but_a_sweep_is_scored_it_shares_the_printed_axis_only_as_the_printed_score(tab1: Tab1) -> None:
    for record in list(tab1.store.trials()):
        left = {name: each for name, each in record.quantities.items() if name != "fd"}
        tab1.store.put(replace(record, quantities=left))
    tab1.sweep("snapgen", {(1.5, 10): 4.0, (1.5, 50): 3.0}, **LAPTOP_SCORE)
    assert drawn(tab1).context["apart"] == f"their FID is not {LAPTOP['label']}"
    tab1.sweep("dit_xl_2", {(1.5, 10): 4.5, (1.5, 50): 3.5})
    content = drawn(tab1)
    assert content.context["apart"] == ""
    assert {mark.title for mark in against_cost.cost_marks(tab1.frames()) if mark.look == "best"} == {
        "DiT-XL/2, seed 0, best of 2"
    }


@pytest.mark.parametrize(
    ("reference", "shared"),
    [
        ({"reference": "heldout"}, False),
        ({"reference": "train", "reference_samples": 10_000}, False),
        ({"reference": "path"}, False),
        ({"reference": "path", "reference_build": "adm", "reference_samples": 10_000}, True),
        ({"reference": "train", "reference_samples": None}, True),
    ],
)
def test_only_scores_against_all_of_the_training_set_or_adm_s_share_the_printed_axis(
    tab1: Tab1, reference: dict[str, Any], shared: bool
) -> None:
    protocol = {**tab1.manifest.protocol, "quality": {**tab1.manifest.protocol["quality"], **reference}}
    tab1.manifest = replace(tab1.manifest, protocol=protocol)
    for record in list(tab1.store.trials()):
        tab1.store.put(replace(record, protocol=protocol))
    said = "" if shared else "their FID is against all of the training set, and ours is not"
    assert drawn(tab1).context["apart"] == said


def test_best_points_of_one_grid_have_a_front_and_else_the_page_says_that_ours_is_at_one_guidance(tab1: Tab1) -> None:
    values = {"snapgen": 3.0, "dit_xl_2": 1.0, "uvit_h": 2.0, "thin_sdxl": 0.5}  # other orders than at one guidance

    def fronts() -> tuple[set[str], str]:
        marks = against_cost.cost_marks(tab1.frames())
        front = {m.title for m in marks if m.cost == "macs" and m.look == "best" and m.on_front}
        return front, drawn(tab1).context["guided"]

    fixed = "Our front of trained networks is at one setting for all, guidance 1.5 and 25 steps"
    assert fronts() == (
        set(), f"{fixed}, not of best points: not every network has a score sweep over the same points.",
    )  # fmt: skip
    for name, value in values.items():
        grid = {each: score + value for each, score in GRID.items()}
        tab1.sweep(name, grid if name != "uvit_h" else dict(list(grid.items())[1:]))
    assert fronts()[0] == set(), "one was swept over fewer points"
    tab1.sweep("uvit_h", {each: score + 2 for each, score in GRID.items()})
    front, said = fronts()
    assert front == {"the efficient UNet, seed 0, best of 6", "thin SDXL, seed 0, best of 6"}
    assert said == f"{fixed}; the front of best points is of one sweep a network, each over the same 6 points."
    names = {trace.name for trace in traces(tab1)}
    assert {FRONTS[BEST_POINTS][0], FRONTS[PRINTED][0]} <= names
    longer = {**tab1.manifest.protocol, "recipe": {**tab1.manifest.protocol["recipe"], "steps": 2_000_000}}
    tab1.store.put(replace(tab1.record("uvit_h"), protocol=longer))
    assert fronts()[0] == set(), "one was trained otherwise"


def test_at_laptop_size_nothing_printed_is_drawn_whatever_the_score_is_called(tab1: Tab1) -> None:
    tab1.definition |= {"scale": "laptop", "claims": []}
    assert not shows_printed(drawn(tab1))


def test_the_best_of_a_sweep_says_from_how_many_and_is_marked_as_of_another_protocol(tab1: Tab1) -> None:
    tab1.sweep("snapgen", GRID)
    page = tab1.write()
    rows = table_rows(page)
    best = rows["snapgen", "best"]
    assert BEST in best
    assert 'data-value="3.04"' in best
    assert best.count(f'title="another protocol: sampling.steps=50">{MARK}</abbr>') == 1, (
        "the score; costs are the same"
    )
    assert f"{MARK} sampling.steps=50" in best
    assert MARK not in rows["snapgen", "study"]
    line = re.search(r'<tr data-protocol="Sampling">.*?</tr>', page, re.DOTALL)
    assert line is not None
    assert "sampling.steps=50 in the efficient UNet, seed 0, best of 6" in line[0]
    marks = {(mark.title, mark.look, mark.on_front) for mark in against_cost.cost_marks(tab1.frames())}
    assert ("the efficient UNet, seed 0, best of 6", "best", False) in marks
    assert ("the efficient UNet", "study", True) in marks


def test_a_network_trained_under_another_protocol_is_marked_everywhere(tab1: Tab1) -> None:
    longer = {**tab1.manifest.protocol, "recipe": {**tab1.manifest.protocol["recipe"], "steps": 2_000_000}}
    for seed in SEEDS:
        tab1.store.put(replace(tab1.record("dit_xl_2", seed), protocol=longer))
    page = tab1.write()
    assert f"{MARK} recipe.steps=2000000" in table_rows(page)["dit_xl_2", "study"]
    assert "recipe.steps=2000000 in DiT-XL/2" in page
    looks = {
        mark.title: (mark.look, mark.label) for mark in against_cost.cost_marks(tab1.frames()) if mark.look != "printed"
    }
    assert looks["DiT-XL/2"] == ("other", f"DiT-XL/2 {MARK}")


def test_the_best_of_a_sweep_says_in_what_its_training_departs_too(tab1: Tab1) -> None:
    longer = {**tab1.manifest.protocol, "recipe": {**tab1.manifest.protocol["recipe"], "steps": 2_000_000}}
    tab1.store.put(replace(tab1.record("dit_xl_2"), protocol=longer))
    tab1.sweep("dit_xl_2", GRID)
    row = table_rows(tab1.write())["dit_xl_2", "best"]
    assert f"{MARK} recipe.steps=2000000, sampling.steps=50" in row
    (table,) = guidance.content(tab1.frames()).context["sweeps"]  # type: ignore[union-attr]
    assert table["departures"] == "recipe.steps=2000000"


def test_a_departure_says_how_many_samples_were_used_where_the_data_had_no_more(tab1: Tab1) -> None:
    for scale in (1.5, 2.0):
        tab1.score(tab1.record("dit_xl_2").key, 2.0, samples=1285, asked=2000, guidance_scale=scale, steps=50)
    (table,) = guidance.content(tab1.frames()).context["sweeps"]  # type: ignore[union-attr]
    assert table["departures"] == "quality.samples=2000 (1285 used)"


def test_others_weights_that_were_scored_here_stand_below_the_printed_row(tab1: Tab1) -> None:
    tab1.definition["others"] = OTHERS
    counted = {"dit_xl_2": {"params": Counted(value=675_129_632, unit="parameters"),
                            "macs": Counted(value=118_641_000_000, unit="multiply-adds")}}  # fmt: skip
    page = tab1.write(counted)
    assert "not measured" in table_rows(page)["dit_xl_2", "others"], "no score of its key is stored yet"
    for guidance_scale, value in ((1.25, 2.6), (1.5, 2.4)):  # as of a pipeline
        sampling = {"guidance_scale": guidance_scale, "steps": 50, "solver": "DDIMScheduler of DiTPipeline"}
        tab1.score("00112233aabbccdd", value, **sampling)
    page = tab1.write(counted)
    assert list(table_rows(page))[4:7] == [("dit_xl_2", "printed"), ("dit_xl_2", "study"), ("dit_xl_2", "others")]
    row = table_rows(page)["dit_xl_2", "others"]
    assert "DiT-XL/2, published weights, best of 2" in row
    assert "others&#39; weights, scored here" in row
    assert 'data-value="2.4"' in row
    assert 'data-value="675129632"' in row
    for departure in ("recipe=its own", "text=its own", "autoencoder=its own", "sampling.steps=50",
                      "sampling.solver=DDIMScheduler of DiTPipeline"):  # fmt: skip
        assert departure in row
    mark = next(mark for mark in against_cost.cost_marks(tab1.frames(counted)) if "published weights" in mark.title)
    assert (mark.look, mark.on_front, mark.x, mark.y) == ("other", False, 118_641_000_000, 2.4)
    assert "DiT-XL/2, published weights" in {
        each["title"] for each in guidance.content(tab1.frames()).context["sweeps"]
    }  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"architecture": "published/dit_xl_2", "key": "dit.safetensors"}, "a key of 16 hex digits"),
        ({"architecture": "published/dit_xl_3", "key": "00112233aabbccdd"}, "published/dit_xl_3"),
    ],
)
def test_others_weights_that_cannot_be_are_one_sentence(
    tab1: Tab1, others: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = {**tab1.definition, "others": {"dit_xl_2": others}}
    monkeypatch.setattr(report, "read_page", lambda *_: (definition, tab1.published))
    with pytest.raises(UserError, match=sentence):
        report.check_page("ablation", "tab1_imagenet", None, GENERATED_PICTURES)


def test_what_others_weights_cost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = report.others_cost({"others": {"mine": {"architecture": "laptop/dit", "key": "00112233aabbccdd"}}})
    assert counted["mine"]["params"].kind == "counted"
    assert report.others_cost({}) == {}


def test_the_head_has_a_line_for_each_part_of_the_protocol(tab1: Tab1) -> None:
    lines = {title: dict(pairs) for title, pairs, _ in head.content(tab1.frames()).context["lines"]}
    assert list(lines) == ["Networks", "Data", "Latents", "Text", "Training", "Sampling", "Score"]
    assert lines["Training"]["steps"] == "1,250,000"
    assert lines["Sampling"] == {"": "heun", "steps": "25", "times": "uniform", "guidance scale": "1.5"}


def test_a_sweep_of_scores_is_a_table_and_a_picture_with_its_best_in_a_ring(tab1: Tab1, page_cells: Cells) -> None:
    tab1.sweep("snapgen", {**GRID, (2.0, 10): None})
    tab1.sweep("dit_xl_2", {each: value + 1 for each, value in GRID.items()}, seed=1)
    content = guidance.content(tab1.frames())
    assert content is not None
    first, second = content.context["sweeps"]
    assert (first["title"], second["title"]) == ("the efficient UNet, seed 0", "DiT-XL/2, seed 1")
    assert first["note"] == BEST
    shown = {
        (float(scale), steps): cell.value.text
        for steps, cells in first["rows"]
        for scale, cell in zip(first["scales"], cells, strict=True)
    }
    assert shown == {each: f"{value:.2f}" for each, value in GRID.items()} | {(2.0, 10): "failed"}
    rings = [trace for trace in content.figure.data if trace.name == "best"]  # type: ignore[union-attr]
    assert [ring.y[0] for ring in rings] == pytest.approx([min(GRID.values()), min(GRID.values()) + 1])
    cells = [
        c
        for c in page_cells(tab1.write())
        if c.get("data-subject", "").startswith("the efficient UNet, seed 0, guidance")
    ]
    assert len(cells) == len(GRID)


def test_only_points_that_differ_in_guidance_and_steps_alone_are_one_sweep(tab1: Tab1) -> None:
    tab1.sweep("snapgen", {(1.0, 10): 4.0, (1.5, 10): 3.0})
    tab1.sweep("snapgen", {(1.5, 10): 3.2, (2.0, 10): 3.1}, guidance_interval=[0.0, 0.6])
    tab1.sweep("snapgen", {(1.5, 10): 3.3, (2.0, 10): 3.4}, solver="euler")
    tab1.score("0123456789abcdef", 1.0)  # another study's network
    content = guidance.content(tab1.frames())
    assert content is not None
    tried = {tuple(each["scales"]): each["note"] for each in content.context["sweeps"]}
    assert tried == {
        ("1", "1.5"): "best of 2 tried: guidance 1.5, 10 steps, flattered by the choice",
        ("1", "1.5", "2"): "best of 3 tried: guidance 2, 10 steps, flattered by the choice",  # 1 is in both
        ("1.5", "2"): "best of 2 tried: guidance 1.5, 10 steps, flattered by the choice",
    }
    titles = [each["title"] for each in content.context["sweeps"]]
    assert len(set(titles)) == 3


def test_a_page_of_which_nothing_has_run_has_the_printed_rows_and_says_how_to_go_on(tab1: Tab1) -> None:
    for record in list(tab1.store.trials()):
        tab1.store.delete(record)
    page = tab1.write()
    assert "harness evaluate KEY --guidance" in page
    assert "not measured" in table_rows(page)["dit_xl_2", "study"]
    assert {trace.name for trace in traces(tab1)} == {LOOKS["printed"].legend, FRONTS[PRINTED][0]}


def test_the_sections_stand_on_a_search_s_page_too(tab1: Tab1) -> None:
    tab1.sweep("snapgen", GRID)
    varied = {**tab1.manifest.protocol, "recipe": {**tab1.manifest.protocol["recipe"], "learning_rate": 0.5}}
    tab1.store.put(replace(tab1.record("dit_xl_2"), protocol=varied))
    tab1.sweep("dit_xl_2", {(1.5, 25): 3.0, (2.0, 25): 4.0})
    knobs = {"recipe.learning_rate": 0.5}
    candidates = tuple(
        CandidateSummary(name=f"trial-{number}", state="complete", parameters=knobs, steps=9, values=(1.0,),
                         key=tab1.record(name).key)
        for number, name in enumerate(("snapgen", "dit_xl_2"))
    )  # fmt: skip
    search = SweepSummary(
        name="mine", place="", command="harness sweep mine", driver_runs=False, objectives={"fd": "minimize"},
        levels=(9,), samplers=(), seed=0, trials=9, candidates=candidates, front=("trial-0",), reasons={},
        conclusions=None, protocol=tab1.manifest.protocol, protocol_fingerprint=tab1.manifest.protocol_fingerprint,
    )  # fmt: skip
    definition = {"sections": ["protocol", "beside", "against_cost", "guidance"]}
    rows = table_rows(
        write_report(tab1.store, search, definition, None, tab1.path).read_text().replace("trial-", "trial_")
    )
    assert list(rows) == [("trial_0", "study"), ("trial_0", "best"), ("trial_1", "study"), ("trial_1", "best")]
    for source in ("study", "best"):
        assert MARK not in rows["trial_1", source], "what the search varies is compared, not marked"


@pytest.mark.parametrize("name", ["tab1_imagenet", "peers"])
def test_the_pages_of_tab_1_have_its_sections(name: str) -> None:
    page = yaml.safe_load((Path(__file__).parents[2] / f"reports/{name}.yaml").read_text())
    assert page["published"] == "tab1"
    assert {"protocol", "beside", "against_cost", "guidance"} <= set(page["sections"])


def test_each_network_of_the_study_of_tab_1_has_a_printed_row() -> None:
    root = Path(__file__).parents[2]
    study = yaml.safe_load((root / "sweeps/tab1_imagenet.yaml").read_text())
    printed = yaml.safe_load((root / "reports/published/tab1.yaml").read_text())["rows"]
    names = [rung["name"] for rung in study["architecture"]["rungs"]]
    assert set(names) <= set(printed)
    assert set(printed) - set(names) == {"ldm_4"}, "its latents are another autoencoder's"


def test_labels_are_placed_where_they_cover_nothing() -> None:
    marks = [(100.0, 100.0), (104.0, 100.0), (290.0, 100.0)]
    placed = place_labels(marks, [("left one", "1"), ("right one", "2"), ("at the border", "3")], 300, 200)
    assert [text for text, _ in placed] == ["left one", "right one", "at the border"]
    assert placed[0][1] != placed[1][1]
    assert placed[2][1].endswith("left")
    assert place_labels(marks[:1], [("alone", "")], 300, 200) == [("alone", "middle right")]


def test_a_label_that_would_lie_over_others_is_the_short_one() -> None:
    crowd = [(100.0 + 9 * at, 100.0 + 3 * at) for at in range(9)]
    texts = [(f"a long name of number {at}", f"{at}") for at in range(9)]
    placed = [text for text, _ in place_labels(crowd, texts, 300, 200)]
    assert any(text == short for text, (_, short) in zip(placed, texts, strict=True))
    assert [text for text, _ in place_labels(crowd[:1], texts[:1], 300, 200)] == [texts[0][0]]


def test_an_axis_is_logarithmic_beyond_a_decade_and_has_room() -> None:
    linear, log = axis_of([2.0, 4.0]), axis_of([1.0, 100.0])
    assert (linear.low, linear.high) == pytest.approx((1.68, 4.32))
    assert (linear.scale, log.scale) == ("linear", "log")
    assert (log.low, log.high) == pytest.approx((-0.32, 2.32))
    assert log.share(10.0) == pytest.approx(0.5)
    assert axis_of([-0.01, 5.0]).scale == "linear"
    for value in (0.0, 3.0):  # a single point
        assert axis_of([value]).share(value) == pytest.approx(0.5)


def test_what_a_table_says_below_itself_is_of_what_it_shows(tab1: Tab1) -> None:
    context: dict[str, Any] = dict(beside.content(tab1.frames()).context)
    assert list(context["labels"]) == ["P", "R"], "of the printed cells, and of the note on their FLOPs"
    assert [what for what, _ in context["absences"]] == []
