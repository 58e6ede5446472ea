"""A page is a list of sections; a new one is one file and one line. The default page, and pages that are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import yaml

from harness.records.errors import UserError
from harness.records.judging import Judging
from harness.records.quantities import QUANTITIES
from harness.records.quantity import Measured
from harness.reporting.definition import default_page, read_definition
from harness.reporting.report import checked_definition, write_report
from harness.reporting.section import KINDS, Content, Frames, Section
from harness.reporting.sections import SECTIONS
from harness.trials.outcomes import quantity_names
from harness.trials.settings import settings_of

REPORTS = Path(__file__).parents[2] / "reports"
Cells = Callable[[str], list[dict[str, str]]]


def toy(frames: Frames) -> Content:
    """How many rungs have fewer parameters than the first, and their bars."""
    params = [frames.estimates[subject.name, "params"].value or 0 for subject in frames.study.subjects]
    smaller = sum(value < params[0] for value in params)
    return Content(context={"smaller": smaller, "text": "<b>"}, figure=go.Figure(go.Bar(y=params), {"height": 120}))


TOY = Section(
    name="toy",
    title="A toy",
    template="{% from 'macros.html.j2' import drawing %}<p id='count'>{{ smaller }} {{ text }}</p>"
    "{{ drawing('toy', height, 'parameters') }}",
    content=toy,
)


def test_a_new_section_is_its_function_and_one_line(
    synthetic: Any, page_cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECTIONS, TOY.name, TOY)
    synthetic.definition["sections"] = ["toy", "provenance"]
    page = synthetic.write()
    cells = page_cells(page)
    assert next(c["text"] for c in cells if c.get("id") == "count") == "7 <b>"  # and what it says is escaped
    assert [c["id"] for c in cells if c["tag"] == "section"] == ["toy", "provenance"]
    assert [c["data-figure"] for c in cells if "data-figure" in c] == ["toy"]
    assert '"toy": [{"name": "", "data"' in page


def test_an_ablation_without_a_page_of_its_own_has_the_default_one(synthetic: Any, page_cells: Cells) -> None:
    cells = page_cells(write_report(synthetic.store, synthetic.manifest, {}, None, synthetic.path).read_text())
    assert next(c["text"] for c in cells if c["tag"] == "h1") == "fig3"
    quantities = {c["data-quantity"] for c in cells if c.get("data-seed") == "all"}
    assert quantities == {
        "kid", "fd", "twin.params", "twin.macs", "twin.latency_iphone", "params", "macs",
        "latency_cpu",
    }  # fmt: skip  # of latencies those that were measured or predicted
    verdicts = {(c["data-subject"], c["data-claim"]): c["data-verdict"] for c in cells if "data-verdict" in c}
    assert verdicts["sepconv", "kid"] == "hurt"
    assert verdicts["expanded_sepconv", "kid"] == "improved"
    titles = [c["text"] for c in cells if c["tag"] == "h2"]
    assert "The tests" in titles
    assert "The claim sheet" not in titles
    assert not [c for c in cells if "data-published" in c]


def test_a_counted_ablations_default_page_has_no_scores(synthetic: Any, page_cells: Cells) -> None:
    for record in list(synthetic.store.trials()):
        counted = {name: value for name, value in record.quantities.items() if value.kind == "counted"}
        synthetic.store.put(replace(record, quantities=counted, curve=()))
    manifest = replace(synthetic.manifest, controls={}, twin=None)
    cells = page_cells(write_report(synthetic.store, manifest, {}, None, synthetic.path).read_text())
    quantities = {c["data-quantity"] for c in cells if c.get("data-seed") == "all"}
    assert quantities == {"params", "macs"}
    assert [c["id"] for c in cells if c["tag"] == "section"] == [
        "notes", "ladder", "table", "conditions", "readings", "provenance",
    ]  # fmt: skip


def test_an_ablation_of_which_nothing_has_run_has_a_default_page(synthetic: Any) -> None:
    for record in list(synthetic.store.trials()):
        synthetic.store.delete(record)
    page = write_report(synthetic.store, synthetic.manifest, {}, None, synthetic.path).read_text()
    assert "not measured" in page


def test_what_a_file_leaves_out_is_as_on_the_default_page() -> None:
    default = default_page("ablation")
    mine = read_definition({"title": "Mine"}, "ablation")
    assert mine.sections == tuple(default["sections"])
    assert [column.quantity for column in mine.columns] == [column["quantity"] for column in default["columns"]]
    own = read_definition({"columns": [{"quantity": "params"}]}, "ablation")
    assert [column.title for column in own.columns] == ["Parameters"]
    assert (own.claims, own.must_beat) == ((), ())
    assert own.sections == mine.sections


def test_a_page_with_columns_of_its_own_keeps_the_tests_and_controls_of_those_that_the_default_has() -> None:
    """Else one column more would take away which rungs noise beats, and every test, in silence."""
    default = read_definition({}, "ablation")
    own = read_definition({"columns": [{"quantity": "kid"}, {"quantity": "validation_loss"}]}, "ablation")
    assert (own.must_beat, own.control_quantities) == (default.must_beat, ("kid",))
    assert [(rule.quantity, rule.beside) for rule in own.claims] == [("kid", None)], "its aside is no column here"
    quiet = read_definition({"columns": [{"quantity": "kid"}], "claims": [], "must_beat": []}, "ablation")
    assert (quiet.claims, quiet.must_beat) == ((), ())


def test_a_page_has_the_scores_and_controls_of_its_task():
    ours = read_definition({}, "ablation")
    assert [column.quantity for column in ours.columns][:2] == ["kid", "fd"]
    assert [(rule.quantity, rule.beside) for rule in ours.claims] == [("kid", "fd")]
    assert (set(ours.must_beat), ours.samples) == ({"pixel_gaussian", "noise"}, "samples.png")

    loss = Judging(scores=("validation_loss", "recall"), controls={"idle": "as it came"}, must_beat=("idle",))
    page = read_definition({}, "ablation", loss)
    scores = [column.quantity for column in page.columns if column.spread == "seeds"]
    assert scores == ["validation_loss", "recall"] == list(page.control_quantities)
    assert [column for column in page.columns if column.spread != "seeds"] == [
        c for c in ours.columns if c.spread != "seeds"
    ]
    assert [rule.quantity for rule in page.claims] == ["validation_loss"]
    assert (dict(page.controls), page.must_beat, page.samples) == ({"idle": "as it came"}, ("idle",), "")
    own = read_definition({"columns": [{"quantity": "recall"}]}, "ablation", loss)
    assert (dict(own.controls), own.samples) == ({"idle": "as it came"}, "")
    (claim,) = read_definition({}, "ablation", Judging(scores=("recall",))).claims
    assert claim.quantity == "recall", "of which more is better"
    assert [column.quantity for column in read_definition({}, "sweep", loss).columns][:2] == scores


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_study_has_a_default_page_of_sections_that_exist(kind: Any) -> None:
    checked_definition({}, None, kind)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"sections": ["tabel"]}, r"unknown section of an ablation's report 'tabel'; choose one of: table"),
        ({"sections": ["front"]}, "unknown section of an ablation's report 'front'"),  # a sweep's
        ({"sections": ["table", "table"]}, "a section stands once"),
        ({"columns": [{"quantity": "kidd"}]}, "unknown quantity 'kidd'; choose one of: kid"),
        ({"columns": [{"quantity": "kid", "stand_in": "latency"}]}, "unknown quantity 'latency'"),
        ({"columns": [{"title": "KID"}]}, r"missing setting 'columns\.0\.quantity'"),
        ({"columns": [{"quantity": "kid", "publishd": "fid"}]}, r"unknown setting 'columns\.0\.publishd'"),
        ({"columns": [{"quantity": "kid", "published": "fid"}]}, "names no published numbers"),
        ({"columns": [{"quantity": "params"}], "control_quantities": ["kid"]}, "unknown column of the report 'kid'"),
        ({"claims": [{"quantity": "kid", "title": "Quality"}]}, r"missing setting 'claims\.0\.rule'"),
        ({"colums": []}, "unknown setting 'colums'"),
    ],
)
def test_a_page_that_cannot_be_made_is_one_sentence(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        checked_definition(content, None, "ablation")


def test_every_quantity_that_a_trial_can_have_has_a_title() -> None:
    every = settings_of(["latency=predicted", "twin={base: thin_sdxl, latent: 128}"])
    names = {name.removeprefix("twin.") for name in quantity_names(every)}
    assert names <= set(QUANTITIES)
    for latency in ("cpu", "onnx", "mac", "iphone"):
        assert f"latency_{latency}" in QUANTITIES


def test_the_pages_in_the_repository_need_not_repeat_what_every_page_says() -> None:
    for path in sorted(REPORTS.glob("*.yaml")):
        plain = yaml.safe_load(path.read_text())
        kind = "ablation"
        for column in plain["columns"]:
            known = QUANTITIES[column["quantity"].removeprefix("twin.")]
            assert column.get("title") != known.title, path
            assert column.get("explanation") != known.explanation, path
        read_definition(plain, kind)


def test_a_reading_that_only_one_rung_has_keeps_its_optional_column(synthetic: Any, page_cells: Cells) -> None:
    synthetic.replace("mqa", 0, {"latency_mac": Measured(value=3.0, unit="ms", low=2.9, high=3.1)})
    cells = page_cells(write_report(synthetic.store, synthetic.manifest, {}, None, synthetic.path).read_text())
    texts = {c["data-subject"]: c["text"] for c in cells
             if c.get("data-seed") == "all" and c["data-quantity"] == "latency_mac"}  # fmt: skip
    assert texts["mqa"] == "3.00 ms"
    assert texts["ffn3"] == "not measured"
