"""The page against the store: every number, every gap, nothing from outside."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import harness.trials.task_config  # noqa: F401 - the tasks' own scores become known
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Predicted, Unavailable
from harness.reporting.format import number
from harness.reporting.report import write_report

REPORTS = Path(__file__).parents[2] / "reports"
Cells = Callable[[str], list[dict[str, str]]]


def by_place(cells: list[dict[str, str]]) -> dict[tuple[str, str, str], dict[str, str]]:
    """(rung, seed, quantity) -> the cell; a value told twice on the page must be told alike."""
    places: dict[tuple[str, str, str], dict[str, str]] = {}
    for cell in (cell for cell in cells if "data-value" in cell):
        key = (cell["data-subject"], cell["data-seed"], cell["data-quantity"])
        assert places.setdefault(key, cell) == cell
    return places


def changes(cells: list[dict[str, str]]) -> dict[tuple[str, str], float]:
    return {(c["data-subject"], c["data-quantity"]): float(c["data-change"]) for c in cells if "data-change" in c}


def test_every_reading_on_the_page_is_the_stores(synthetic: Any, page_cells: Cells) -> None:
    cells = by_place(page_cells(synthetic.write()))
    names = {rung.architecture_fingerprint: rung.name for rung in synthetic.manifest.rungs}
    compared = 0
    for record in synthetic.store.trials():
        for name, quantity in record.quantities.items():
            cell = cells[names[record.architecture_fingerprint], str(record.seed), name]
            assert cell["data-kind"] == quantity.kind
            value = getattr(quantity, "value", None)
            assert cell["data-value"] == ("" if value is None else repr(value))
            assert cell["data-low"] == ("" if getattr(quantity, "low", None) is None else repr(quantity.low))
            if value is not None:
                assert cell["text"] == number(value, quantity.unit)
            compared += 1
    assert compared == 16 * 14
    assert len([key for key in cells if key[1] in ("0", "1")]) == compared


def test_the_table_holds_means_ranges_and_changes_computed_from_the_store(synthetic: Any, page_cells: Cells) -> None:
    cells = page_cells(synthetic.write())
    table, changed = by_place(cells), changes(cells)
    for rung in synthetic.manifest.rungs:
        for column in synthetic.definition["columns"]:
            name = column["quantity"]
            ours = [synthetic.record(rung.name, seed).quantities[name] for seed in (0, 1)]
            cell = table[rung.name, "all", name]
            if isinstance(ours[0], Unavailable):
                assert cell["data-kind"] == "predicted"  # what stands in for it
                continue
            mean = (ours[0].value + ours[1].value) / 2
            assert float(cell["data-value"]) == pytest.approx(mean, rel=1e-12)
            if name == "kid":
                assert float(cell["data-low"]) == min(q.value for q in ours)
            if rung.against is not None and not column.get("aside"):
                theirs = [synthetic.record(rung.against, seed).quantities[name].value for seed in (0, 1)]
                assert changed[rung.name, name] == pytest.approx(mean / (sum(theirs) / 2) - 1, rel=1e-9)
    assert {key[0] for key in changed} == {rung.name for rung in synthetic.manifest.rungs if rung.against}


def test_controls_stand_beside_the_rungs_with_the_stores_numbers(synthetic: Any, page_cells: Cells) -> None:
    cells = by_place(page_cells(synthetic.write()))
    for name, key in synthetic.manifest.controls.items():
        for quantity, known in synthetic.store.measurement(key).quantities.items():
            assert cells[name, "control", quantity]["data-value"] == repr(known.value)


def test_a_deleted_record_turns_exactly_its_cells_to_not_measured(synthetic: Any, page_cells: Cells) -> None:
    before = by_place(page_cells(synthetic.write()))
    synthetic.store.delete(synthetic.record("mqa", 1))
    page = page_cells(synthetic.write())
    after = by_place(page)
    assert before.keys() == after.keys()
    missing = {key for key, cell in after.items() if cell["text"] == "not measured"}
    assert missing == {key for key in before if key[:2] == ("mqa", "1")}
    changed = {key for key in before if before[key] != after[key]}
    means = {key for key in changed if key[1] == "all"}
    assert changed - missing == means
    assert {key[0] for key in means} == {"mqa"}  # its mean is now of one seed, and says so
    assert after["mqa", "all", "kid"]["title"] == "1 of 2 seeds"


def test_a_rung_without_records_has_no_value_no_change_and_gives_none_to_others(
    synthetic: Any, page_cells: Cells
) -> None:
    for seed in (0, 1):
        synthetic.store.delete(synthetic.record("ffn3", seed))
    cells = page_cells(synthetic.write())
    table, changed = by_place(cells), changes(cells)
    columns = [column["quantity"] for column in synthetic.definition["columns"]]
    columns = [name for name in columns if name in {key[2] for key in table if key[1] == "all"}]
    assert len(columns) == 8
    assert all(table["ffn3", "all", name]["text"] == "not measured" for name in columns)
    assert not {key for key in changed if key[0] in ("ffn3", "mqa")}
    verdicts = {(c["data-subject"], c["data-claim"]): c["data-verdict"] for c in cells if "data-verdict" in c}
    assert verdicts["ffn3", "twin.params"] == verdicts["mqa", "twin.params"] == "inconclusive"
    assert verdicts["sepconv", "twin.params"] == "supports"


@pytest.mark.parametrize("damage", ["cut", "older schema"])
def test_a_record_that_cannot_be_read_takes_no_page_away_and_is_said_at_its_top(
    synthetic: Any, page_cells: Cells, damage: str
) -> None:
    one, other = synthetic.record("mqa", 1), synthetic.record("mqa", 0)
    file = synthetic.store.root / "trials" / f"{one.key}.json"
    plain = json.loads(file.read_text())
    del plain["quantities"]
    file.write_text(json.dumps(plain) if damage == "older schema" else file.read_text()[:200])
    synthetic.definition["sections"] = ["summary", "notes", "table", "readings"]
    cells = page_cells(synthetic.write())
    chips = [cell["text"] for cell in cells if cell["tag"] == "li" and "warns" in cell.get("class", "")]
    assert "1 record cannot be read" in chips
    assert not any("no record yet" in cell["text"] for cell in cells), "it is there, and not lost"
    (note,) = [cell["text"] for cell in cells if cell.get("id") == "note-damaged"]
    assert f"seed 1: {file} is not a record this version can read" in note
    shown = by_place(cells)
    assert shown["mqa", "1", "kid"]["text"] == "not measured"
    assert shown["mqa", "all", "kid"]["data-value"] == repr(other.quantities["kid"].value)


def test_a_page_of_as_much_as_the_demo_has_takes_less_than_three_seconds(synthetic: Any) -> None:
    synthetic.write()  # what is compiled once
    began = time.process_time()
    synthetic.write()
    assert time.process_time() - began < 3.0


def test_an_empty_store_gives_a_page_that_says_so(synthetic: Any, page_cells: Cells) -> None:
    for file in synthetic.store.root.rglob("*.json"):
        file.unlink()
    cells = page_cells(synthetic.write())
    (note,) = [cell["text"] for cell in cells if cell.get("id") == "note-records"]
    assert "16 of 16 trainings have no record yet. `harness ablate fig3 data=digits recipe.steps=600` continues" in note
    assert {cell["text"] for cell in by_place(cells).values()} == {"not measured"}
    assert changes(cells) == {}


def test_a_deleted_control_turns_exactly_its_cells_to_not_measured(synthetic: Any, page_cells: Cells) -> None:
    synthetic.store.delete(synthetic.store.measurement(synthetic.manifest.controls["noise"]))
    cells = by_place(page_cells(synthetic.write()))
    missing = {key for key, cell in cells.items() if cell["text"] == "not measured"}
    assert missing == {("noise", "control", "kid"), ("noise", "control", "fd")}


def test_failed_predicted_and_unavailable_look_different_and_say_why(synthetic: Any, page_cells: Cells) -> None:
    for seed in (0, 1):
        synthetic.replace(
            "ffn3",
            seed,
            {
                "kid": Failed(phase="train", message="the loss is NaN at step 310"),
                "twin.latency_iphone": Predicted(
                    value=3.1, unit="ms", low=2.8, high=3.6, extrapolated=True, conditions={"fitted_to": "3 ms of it"}
                ),
            },
        )
    cells = by_place(page_cells(synthetic.write()))
    failed, predicted = cells["ffn3", "all", "kid"], cells["ffn3", "all", "twin.latency_iphone"]
    assert (failed["text"], failed["class"]) == ("failed", "k-failed")
    assert failed["title"] == "train: the loss is NaN at step 310"
    assert (predicted["text"], predicted["class"]) == ("3.10 ms", "k-predicted")
    assert "extrapolated; fitted to a latency of this network, so no test" in predicted["title"]
    unavailable = cells["mqa", "0", "twin.latency_iphone"]
    assert (unavailable["text"], unavailable["class"]) == ("unavailable", "k-unavailable")
    assert "iPhone" in unavailable["title"]


def test_a_time_that_is_not_the_engines_says_so(synthetic: Any, page_cells: Cells) -> None:
    """Beside its number, and with the share of the plan under "Measured under"."""
    doubt = "80% of the planned cost is on it and 90% are asked; 20% on the GPU (softmax 1)"
    for seed, told in ((0, {"on_engine": False, "engine_doubt": doubt}), (1, {"on_engine": True})):
        latency = replace(measured(3.0), conditions={"chip": "A17 Pro", **told})
        synthetic.replace("ffn3", seed, {"twin.latency_iphone": latency})
    page = synthetic.write()
    cells = by_place(page_cells(page))
    assert cells["ffn3", "0", "twin.latency_iphone"]["title"] == f"not called the Neural Engine's: {doubt}"
    assert "Neural Engine" not in cells["ffn3", "1", "twin.latency_iphone"]["title"]
    assert doubt in cells["ffn3", "all", "twin.latency_iphone"]["title"]
    assert "engine_doubt" in page


def test_measured_and_predicted_are_never_averaged_or_compared(synthetic: Any, page_cells: Cells) -> None:
    synthetic.replace("ffn3", 0, {"latency_cpu": Predicted(value=99.0, unit="ms", low=90, high=110, extrapolated=True)})
    cells = by_place(page_cells(synthetic.write()))
    assert cells["ffn3", "all", "latency_cpu"]["data-value"] == repr(6.70)  # the measured seed alone
    synthetic.replace("ffn3", 1, {"latency_cpu": Predicted(value=99.0, unit="ms", low=90, high=110, extrapolated=True)})
    changed = changes(page_cells(synthetic.write()))
    assert ("ffn3", "latency_cpu") not in changed
    assert ("mqa", "latency_cpu") not in changed


def predicted(ms: float) -> Predicted:
    return Predicted(
        value=ms, unit="ms", low=ms * 0.9, high=ms * 1.1, extrapolated=False, conditions={"chip": "A17 Pro"}
    )


def measured(ms: float) -> Measured:
    return Measured(value=ms, unit="ms", low=ms * 0.99, high=ms * 1.01, conditions={"chip": "A16"})


def test_an_iphone_column_fills_from_measured_else_predicted_each_as_what_it_is(
    synthetic: Any, page_cells: Cells
) -> None:
    for seed in (0, 1):
        for rung, ms in (("thin_sdxl", 30.0), ("no_high_res_sa", 20.0), ("sepconv", 12.0)):
            synthetic.replace(rung, seed, {"twin.latency_predicted": predicted(ms)})
        synthetic.replace("sepconv", seed, {"twin.latency_iphone": measured(11.0)})
        synthetic.replace("ffn3", seed, {"twin.latency_iphone": Failed(phase="benchmark", message="it drifts")})
        synthetic.replace("ffn3", seed, {"twin.latency_predicted": predicted(9.0)})
        synthetic.replace("mqa", seed, {"twin.latency_predicted": Unavailable(reason="predicted not to fit")})
    page = synthetic.write()
    cells = by_place(page_cells(page))
    shown = {rung: cells[rung, "all", "twin.latency_iphone"] for rung in ("thin_sdxl", "sepconv", "ffn3", "mqa")}
    assert [(cell["text"], cell["class"]) for cell in shown.values()] == [
        ("30.0 ms", "k-predicted"), ("11.0 ms", "k-measured"), ("failed", "k-failed"), ("unavailable", "k-unavailable"),
    ]  # fmt: skip
    assert "drifts" in shown["ffn3"]["title"]
    assert shown["mqa"]["title"] == "predicted not to fit"
    assert (
        cells["thin_sdxl", "0", "twin.latency_iphone"]["data-kind"] == "unavailable"
    )  # the readings are the store's own
    changed = changes(page_cells(page))
    assert changed["no_high_res_sa", "twin.latency_iphone"] == pytest.approx(20 / 30 - 1)
    assert ("sepconv", "twin.latency_iphone") not in changed  # 11 measured beside 20 predicted is no change
    assert "<small>predicted for A17 Pro and measured on A16</small>" in page
    text = next(c["text"] for c in page_cells(page) if c.get("data-change") == repr(20 / 30 - 1))
    assert text == "−33.3% predicted"


def test_predictions_that_overlap_have_no_percentage_anywhere(synthetic: Any, page_cells: Cells) -> None:
    page = synthetic.write()  # every rung's interval is from 1/1.6 of its prediction to 1.6 times it
    assert not [key for key in changes(page_cells(page)) if key[1] == "twin.latency_iphone"]
    assert "predicted \u221251.6%" not in page
    for seed in (0, 1):
        synthetic.replace("thin_sdxl", seed, {"twin.latency_predicted": predicted(31.0)})
        synthetic.replace("no_high_res_sa", seed, {"twin.latency_predicted": predicted(15.0)})
    assert changes(page_cells(synthetic.write()))["no_high_res_sa", "twin.latency_iphone"] == pytest.approx(15 / 31 - 1)


def test_why_there_is_no_value_stands_under_the_table(synthetic: Any) -> None:
    for seed in (0, 1):
        synthetic.replace("mqa", seed, {"twin.latency_predicted": Unavailable(reason="predicted not to fit")})
    assert "<dt>Latency on iPhone, unavailable</dt><dd>predicted not to fit" in synthetic.write()


def test_published_cells_are_the_files_with_their_labels_and_unknown_ones_are_empty(
    synthetic: Any, page_cells: Cells
) -> None:
    cells = page_cells(synthetic.write())
    published = {(c["data-subject"], c["data-published"]): c for c in cells if "data-published" in c}
    rows = synthetic.published["rows"]
    assert set(published) == {(rung, name) for rung, row in rows.items() for name in row["cells"]}
    for (rung, name), cell in published.items():
        source = rows[rung]["cells"][name]
        assert cell["data-published-value"] == (repr(source["value"]) if "value" in source else "")
        assert cell["data-published-change"] == (repr(source["change"]) if "change" in source else "")
        assert cell["data-source"] == "".join(f"[{label}]" for label in source["labels"])
        assert cell["data-source"] in cell["text"]


def test_the_page_loads_nothing_from_outside(synthetic: Any, page_cells: Cells) -> None:
    page = synthetic.write()
    for cell in page_cells(page):
        for attribute in ("src", "href", "data", "poster", "srcset", "action"):
            target = cell.get(attribute, "")
            assert not target or target.startswith(("data:", "#")), (cell["tag"], attribute, target)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert page.count("plotly.js v") == 1


def test_names_and_texts_are_escaped(synthetic: Any, page_cells: Cells) -> None:
    attack = '</script><script>alert("x")</script><b onclick=1>&'
    first, *others = synthetic.manifest.rungs
    synthetic.manifest = replace(
        synthetic.manifest, rungs=(replace(first, title=attack), *others), command=f"harness {attack}"
    )
    page = synthetic.write()
    cells = page_cells(page)
    assert attack not in page
    assert len([cell for cell in cells if cell["tag"] == "script"]) == 3
    assert not [cell for cell in cells if "onclick" in cell]
    assert any(cell["text"] == attack for cell in cells if cell.get("class") == "title")


def test_samples_are_embedded_for_every_record_and_a_missing_one_is_told(synthetic: Any, page_cells: Cells) -> None:
    synthetic.store.delete(synthetic.record("sepconv", 0))
    cells = page_cells(synthetic.write())
    figures = {(c["data-subject"], c["data-seed"]): c["data-samples"] for c in cells if "data-samples" in c}
    assert len(figures) == 16
    assert [key for key, there in figures.items() if there == "no"] == [("sepconv", "0")]
    images = [cell for cell in cells if cell["tag"] == "img"]
    assert len(images) == 15
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert len({image["src"] for image in images}) == 15


def test_what_cannot_be_told_says_why(synthetic: Any, page_cells: Cells) -> None:
    synthetic.manifest = replace(synthetic.manifest, seeds=(0,))
    cells = page_cells(synthetic.write())
    answer = next(cell["text"] for cell in cells if cell.get("class") == "sentence")
    assert answer.startswith("No change is shown to move KID (one seed a rung cannot tell); most is saved by ")
    assert "one seed" in [cell["text"] for cell in cells if cell.get("href") == "#note-seeds"]
    untested = next(c["text"] for c in page_cells(synthetic.write()) if c.get("class") == "untested")
    assert "Quality: one seed per rung: there is no spread over seeds to compare with." in untested


def test_conditions_provenance_and_the_command_are_on_the_page(synthetic: Any) -> None:
    page = synthetic.write()
    for text in ("FD-EffLite0@64, N=512", "harness ablate fig3 data=digits recipe.steps=600", "205da69", "2.14.1"):
        assert text in page
    assert synthetic.manifest.protocol_fingerprint in page
    assert "interquartile range of 50 runs" in page
    assert "KID-EffLite0@64, N=512 against 360" in page
    assert "delete-a-group jackknife" in page


def test_an_ablation_that_is_only_counted_has_a_report_too(synthetic: Any, page_cells: Cells) -> None:
    definition = yaml.safe_load((REPORTS / "fig3_full.yaml").read_text())
    manifest = replace(synthetic.manifest, controls={}, name="fig3_full")
    page = write_report(synthetic.store, manifest, definition, synthetic.published, synthetic.path).read_text()
    cells = page_cells(page)
    assert "That rungs 0 and 1 left the Neural Engine is the likeliest reason of the jump: an inference" in page
    assert not [cell for cell in cells if cell.get("id") in ("samples", "controls", "curves")]
    verdicts = {(c["data-subject"], c["data-claim"]): c["data-verdict"] for c in cells if "data-verdict" in c}
    assert verdicts["sepconv", "params"] == "supports"  # -24.2% here, -24% printed
    assert not [key for key in verdicts if key[1] == "kid"]


def test_an_empty_store_is_a_page_of_not_measured(synthetic: Any, page_cells: Cells) -> None:
    for record in list(synthetic.store.trials()):
        synthetic.store.delete(record)
    for measurement in list(synthetic.store.measurements()):
        synthetic.store.delete(measurement)
    cells = by_place(page_cells(synthetic.write()))
    assert cells
    assert {cell["text"] for cell in cells.values()} == {"not measured"}


def test_a_definition_that_asks_for_what_is_not_there_is_one_sentence(synthetic: Any) -> None:
    synthetic.definition["columns"][0]["published"] = "fidd"
    with pytest.raises(UserError, match="published column 'fidd'"):
        synthetic.write()
    synthetic.definition["columns"][0]["published"] = "fid"
    synthetic.definition["must_beat"] = ["pixels"]
    with pytest.raises(UserError, match="unknown control 'pixels'"):
        synthetic.write()


def test_a_report_without_claims_counts_none(synthetic: Any) -> None:
    assert "<dt>The published claims</dt>" in synthetic.write()
    synthetic.definition["claims"] = []
    page = synthetic.write()
    assert "statements about single rungs" not in page
    assert "#claims" not in page
    assert "The claim sheet" not in page


def test_reporting_loads_no_torch() -> None:
    code = "import sys, harness.reporting.report; sys.exit(any(m in sys.modules for m in ('torch', 'coremltools')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def header(page_cells: Cells, page: str) -> str:
    return next(c["text"] for c in page_cells(page) if c["tag"] == "header")


def test_the_page_tells_what_was_tested_and_what_was_not(synthetic: Any, page_cells: Cells) -> None:
    cells = page_cells(synthetic.write())
    tested, untested = (next(c["text"] for c in cells if c.get("class") == kind) for kind in ("tested", "untested"))
    assert "Quality: KID of all 7 changes, by 2 trainings per rung, paired by seed; p corrected for 9" in tested
    assert "Parameters: all 7 changes, counted on the deployment twin, thin_sdxl at a 128x128 latent" in tested
    assert "Latency" not in tested
    assert "Latency: predicted, not measured." in untested
    assert "FD: shown, not tested." in untested
    assert "The networks trained here: their counts and times are shown, and are no evidence" in untested


def test_two_validations_in_the_last_third_tell_nothing_and_the_page_says_so(synthetic: Any, page_cells: Cells) -> None:
    """However steep: sepconv and mqa fall by a fifth, and without a third point no jitter is known to judge it by."""
    for rung in synthetic.manifest.rungs:
        old = synthetic.record(rung.name, 0)
        curve = tuple(point for point in old.curve if point.name != "validation_loss" or point.step in (180, 360, 600))
        synthetic.store.put(replace(old, curve=curve))
    synthetic.manifest = replace(synthetic.manifest, seeds=(0,))
    page = synthetic.write()
    assert "too few validations to tell who is undertrained" in header(page_cells, page)
    note = next(c["text"] for c in page_cells(page) if c.get("id") == "note-validations")
    found = re.search(r"Between them it fell by −?\d+\.\d% to (\d+\.\d)%, most in ", note)
    assert found is not None, note
    assert float(found[1]) > 15
    assert 'id="note-undertrained"' not in page
    assert 'class="mark" title="validation loss' not in page


def test_an_undertrained_rung_is_named_on_top_and_at_the_rung_by_how_much(synthetic: Any, page_cells: Cells) -> None:
    cells = page_cells(synthetic.write())
    assert "2 of 8 undertrained" in header(page_cells, synthetic.path.read_text())
    warning = next(c["text"] for c in cells if c.get("id") == "note-undertrained")
    assert warning.startswith("Undertrainedseparable convolutions, expansion 1 and MHSA to MQA: ")
    marks = [c["text"] for c in cells if c.get("class") == "mark"]
    assert len(marks) == 6  # on top, in the table and on the claim sheet
    assert all(re.fullmatch(r"undertrained, −2\d\.\d%", mark) for mark in marks)
    synthetic.level_curves()
    assert "undertrained" not in header(page_cells, synthetic.write())


def test_a_rung_that_a_control_beats_is_named_on_top_grey_and_never_praised(synthetic: Any, page_cells: Cells) -> None:
    for seed in (0, 1):
        for rung, value in (("mqa", 0.5), ("qknorm_rope", 1.5)):
            kid = synthetic.record(rung, seed).quantities["kid"]
            synthetic.replace(rung, seed, {"kid": replace(kid, value=value)})
    page = synthetic.write()
    cells = page_cells(page)
    assert "2 of 8 rungs beaten without training" in header(page_cells, page)
    warning = next(c["text"] for c in cells if c.get("id") == "note-beaten")
    assert warning.startswith("Beaten without trainingMHSA to MQA (by pixel gaussian, KID 0.500")
    assert "by noise, KID 1.50 against 0.970" in warning
    grey = {c.get("data-row") for c in cells if c["tag"] == "tr" and c.get("class") == "beaten"}
    assert {"mqa", "qknorm_rope"} <= grey <= {"mqa", "qknorm_rope", None}
    assert "MHSA to MQA" not in next(c["text"] for c in cells if c.get("class") == "sentence")
    words = {c["data-subject"]: c["data-word"] for c in cells if c.get("data-outcome") == "kid"}
    assert words["mqa"] == words["first_stage_ca"] == words["qknorm_rope"] == "not told"
    verdicts = {(c["data-subject"], c["data-claim"]): c["data-verdict"] for c in cells if "data-verdict" in c}
    assert (
        verdicts["mqa", "kid"] == verdicts["first_stage_ca", "kid"] == verdicts["qknorm_rope", "kid"] == "inconclusive"
    )
    assert verdicts["mqa", "twin.params"] == "supports"  # a count needs no training


def test_beside_each_rung_stands_how_much_of_either_network_it_touches(synthetic: Any, page_cells: Cells) -> None:
    cells = page_cells(synthetic.write())
    texts = [c["text"] for c in cells if c.get("class") == "touched"]
    assert texts.count("touches 0.9% of this network's multiply-adds, 8.5% of the twin's") == 2  # table, claim sheet
    assert len(texts) == 14
    rungs = [replace(rung, touched={"network": 0.25} if rung.against else {}) for rung in synthetic.manifest.rungs]
    synthetic.manifest = replace(synthetic.manifest, rungs=tuple(rungs), twin=None)
    texts = [c["text"] for c in page_cells(synthetic.write()) if c.get("class") == "touched"]
    assert set(texts) == {"touches 25% of this network's multiply-adds"}


def test_a_study_without_a_twin_shows_its_own_counts_unjudged(synthetic: Any, page_cells: Cells) -> None:
    synthetic.manifest = replace(synthetic.manifest, twin=None)
    cells = page_cells(synthetic.write())
    quantities = {key[2] for key in by_place(cells) if key[1] == "all"}
    assert quantities == {"kid", "fd", "params", "macs", "latency_cpu"}
    verdicts = {c["data-claim"]: set() for c in cells if "data-verdict" in c}
    for cell in (c for c in cells if "data-verdict" in c):
        verdicts[cell["data-claim"]].add(cell["data-verdict"])
    assert verdicts["twin.params"] == verdicts["twin.macs"] == {"inconclusive", "no claim"}
    assert "the study names no deployment twin" in next(c["text"] for c in cells if c.get("class") == "untested")


def test_the_noise_of_a_scores_images_stands_apart_from_the_spread_over_seeds(
    synthetic: Any, page_cells: Cells
) -> None:
    cells = page_cells(synthetic.write())
    table = by_place(cells)
    values = [synthetic.record("thin_sdxl", seed).quantities["kid"].value for seed in (0, 1)]
    cell = table["thin_sdxl", "all", "kid"]
    assert (float(cell["data-low"]), float(cell["data-high"])) == (min(values), max(values))
    spreads = [c["text"] for c in cells if c.get("class") == "spread"]
    assert spreads.count("each ±0.00400 by its images") == 8


@pytest.mark.parametrize("name", ["fig3", "peers", "fig3_full", "beyond_full", "tab2", "tab2_trained"])
def test_every_definition_in_the_repository_makes_a_page(synthetic: Any, page_cells: Cells, name: str) -> None:
    definition = yaml.safe_load((REPORTS / f"{name}.yaml").read_text())
    numbers = definition.get("published")
    published = None if numbers is None else yaml.safe_load((REPORTS / "published" / f"{numbers}.yaml").read_text())
    page = write_report(synthetic.store, synthetic.manifest, definition, published, synthetic.path).read_text()
    answer = next(c["text"] for c in page_cells(page) if c.get("class") == "sentence")
    assert answer.strip()
    assert len(answer) < 260
    assert "cannot" not in answer
