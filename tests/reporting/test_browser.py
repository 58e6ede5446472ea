"""Every kind of page in a real browser: its figures are drawn, it fits a phone, it answers to hands, its text stays
text, and nothing is complained of. One start opens all of them, 400 px wide and in the dark; another prints."""

import contextlib
import csv
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, DARK, INJECTED, printed, visited
from made_sweep import made_sweep
from test_chain_page import chain_in

from harness.commands.pages import comparison_page, trial_page
from harness.commands.pages_index import index_page
from harness.records.quantity import Measured
from harness.records.record import Measurement, TrialRecord
from harness.records.store import Store, write_atomic
from harness.reporting.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))  # records of real architectures
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
    pytest.mark.xdist_group("browser"),  # one process, which starts the browser once
]
FIGURES = {
    "ablation": ["against_cost", "ladder", "curves", "controls", "guidance"],
    "sweep": ["front", "slices", "parallel", "progress"],
    "chain": ["steps"],
    "trial": ["curves"],
    "comparison": ["curves"],
    "index": [],
}
ABLATION = """
  const figure = document.getElementById("figure-against_cost");
  const texts = () => figure.data.flatMap((trace) => (trace.text || []).filter(Boolean));
  found.x = [figure.layout.xaxis.title.text];
  found.short = texts();
  found.legend = [...figure.querySelectorAll(".legendtext")].map((each) => each.textContent);
  found.named = figure.data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name);
  const cards = [".matrix td", "#table td", "#claims td", "#controls td"];
  found.cards = cards.map((each) => getComputedStyle(document.querySelector(each)).display);
  const wide = (name) => document.querySelector(`#figure-${name} .main-svg`).clientWidth;
  found.panels = ["curves", "controls"].map(wide);
  document.querySelectorAll('[name="choice-against_cost"]')[1].click();
  await wait(500);
  found.x.push(figure.layout.xaxis.title.text);
  figure.emit("plotly_click", { points: [{ customdata: "rung-mqa" }] });
  await wait(100);
  const card = document.getElementById("rung-mqa");
  found.opened = [card.matches(":popover-open"), card.querySelector("img").src.slice(0, 22)];
  card.hidePopover();
  document.querySelector('[popovertarget="rung-sepconv"]').click();
  found.opened.push(document.getElementById("rung-sepconv").matches(":popover-open"));
  const urls = URL.createObjectURL;
  const saved = new Promise((done) => { URL.createObjectURL = (blob) => { done(blob.text()); return urls(blob); }; });
  document.querySelector('[data-save="against_cost"] [value="csv"]').click();
  found.csv = await saved;
  found.svg = (await Plotly.toImage(figure, { format: "svg" })).slice(0, 18);
  const right = document.querySelectorAll(".two-samples select")[1];
  right.value = 3;
  right.dispatchEvent(new Event("change"));
  document.querySelector("#samples figure[data-real] button").click();
  const dialog = document.getElementById("enlarged"), picture = dialog.querySelector("img");
  const beside = [...document.querySelectorAll(".two-samples img")].map((each) => each.alt);
  found.enlarged = [dialog.open, picture.alt, picture.width % picture.naturalWidth, ...beside];
"""
TABLE = """
  const $ = (selector) => document.querySelector(selector);
  const names = () => [...document.querySelectorAll("[data-rows] tbody tr")].map((row) => row.dataset.row);
  const heads = [...document.querySelectorAll("[data-rows] thead button")];
  const head = (text) => heads.find((button) => button.textContent.startsWith(text));
  const field = $("[data-rows-filter]");
  const filter = (text) => { field.value = text; field.dispatchEvent(new Event("input")); };
  let saved = null;
  URL.createObjectURL = (blob) => { saved = blob; return "data:,"; };
  HTMLAnchorElement.prototype.click = () => {};
  found.first = names();
  document.getElementById("figure-front").emit("plotly_click", { points: [{ customdata: found.first[0] }] });
  await wait(100);
  const card = $("#candidate-card");
  found.card = [card.matches(":popover-open"), card.querySelector("h3").textContent,
    card.querySelector(".links a").getAttribute("href"), card.querySelector("dl").textContent];
  card.hidePopover();
  found.linked = [...document.querySelectorAll("[data-rows] tbody a")].map((each) => each.getAttribute("href"));
  $('[data-rows-step="1"]').click(); found.second = names(); found.count = $("[data-rows-count]").textContent;
  head("Multiply-adds").click(); found.up = names();
  head("Multiply-adds").click(); found.down = names(); found.sorted = $("[aria-sort]").getAttribute("aria-sort");
  filter("state=failed"); found.failed = names();
  filter("kid<0.1 wide"); found.low = names();
  filter("no such thing"); found.none = $("[data-rows-count]").textContent;
  filter(""); $("[data-rows-front]").click(); found.front = names();
  $("[data-rows-csv]").click(); found.csv = await saved.text();
"""


@dataclass
class Visit:
    found: dict[str, Any]  # by the kind of page
    complaints: list[str]
    synthetic: Any
    sweep: Any


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory, built: Callable[[Path], Any]) -> Visit:
    folder = tmp_path_factory.mktemp("pages")
    synthetic, sweep = ablation(folder / "ablation", built), sweep_in(folder / "sweep")
    chain = chain_in(folder / "chain")
    broken = folder / "broken.html"
    broken.write_text(synthetic.path.read_text().replace("Plotly.react(", "Plotly.reakt("))
    pages = {
        "ablation": (synthetic.path, ABLATION),
        "sweep": (folder / "sweep/made/report.html", TABLE),
        "chain": (write_report(chain.store, chain(), {}, None, folder / "chain/report.html", scripts=folder), ""),
        **{name: (path, "") for name, path in pages_of_trials(folder / "trials").items()},
        "broken": (broken, ""),
    }
    found, complaints = visited(pages, folder, DARK)
    return Visit(found=found, complaints=complaints, synthetic=synthetic, sweep=sweep)


def ablation(folder: Path, built: Callable[[Path], Any]) -> Any:
    """With scores at two numbers of steps, and a picture of real ones beside the samples."""
    folder.mkdir()
    synthetic = built(folder)
    synthetic.definition["sections"].append("guidance")
    for steps, value in ((10, 0.06), (20, 0.05)):
        synthetic.store.put(score(synthetic.record("mqa", 0), value, steps))
    record = synthetic.record("thin_sdxl", 0)
    fields = {name: getattr(record, name) for name in TrialRecord.__dataclass_fields__}
    synthetic.store.put(TrialRecord(**fields | {"artifacts": {**record.artifacts, "real.png": "real.png"}}))
    grid = synthetic.store.artifact(record.key, "samples.png").read_bytes()
    write_atomic(synthetic.store.artifact(record.key, "real.png"), grid)
    first, *others = synthetic.manifest.rungs
    text = replace(first, title=f"{first.title} {INJECTED}")
    synthetic.manifest = replace(synthetic.manifest, rungs=(text, *others), command=f"harness ablate {INJECTED}")
    synthetic.write()
    return synthetic


def score(trial: TrialRecord, value: float, steps: int) -> Measurement:
    """Of one point of a score sweep."""
    parts = {"data": trial.protocol["data"], "quality": trial.protocol["quality"]}
    sampling = {**trial.protocol["sampling"], "steps": steps}
    return Measurement(
        subject="score",
        settings={"trial": trial.key, "sampling": sampling, "samples": 512, **parts},
        quantities={"kid": Measured(value=value, unit="1")},
    )


def sweep_in(out: Path, count: int = 120) -> Any:
    """Its page, out/made/report.html; the first of its front has a page of its own."""
    store = Store(out / "store")
    sweep = made_sweep(count, store)
    evil = replace(sweep.candidates[7], reason=INJECTED)
    sweep = replace(sweep, candidates=(*sweep.candidates[:7], evil, *sweep.candidates[8:]))
    key = next(each.key for each in sweep.candidates if each.name == sweep.front[0])
    write_atomic(out / f"pages/{key}.html", b"<!doctype html>")
    write_report(store, sweep, {}, None, out / "made/report.html", scripts=out)
    return sweep


def pages_of_trials(folder: Path) -> dict[str, Path]:
    """A trial's, two trials' and the index of their folder."""
    from stored_trials import ablation as ablation_of
    from stored_trials import record

    folder.mkdir()
    out = Path("runs")
    with contextlib.chdir(folder):
        store, one = Store(out / "store"), record(name=INJECTED)
        store.put(one)
        ablation_of(store, one)
        base = next(each for each in store.trials() if each.key != one.key)
        pages = {
            "trial": trial_page(out, one.key, linked=True),
            "comparison": comparison_page(out, base.key, one.key),
            "index": index_page(out),
        }
        return {name: path.resolve() for name, path in pages.items()}


@pytest.mark.parametrize("kind", FIGURES)
def test_every_kind_of_page_is_drawn_fits_a_phone_and_takes_text_for_text(visit: Visit, kind: str) -> None:
    found = visit.found[kind]
    assert found["error"] == ""
    assert found["figures"] == dict.fromkeys(FIGURES[kind], "dark")
    assert found["width"][0] == found["width"][1] <= 400, "nothing is scrolled sideways"
    assert found["made_by_text"] == 0
    assert found["cut"] == found["collisions"] == []
    assert [line for line in visit.complaints if "-broken.html" not in line] == []


def test_a_broken_page_is_seen(visit: Visit) -> None:
    assert set(visit.found["broken"]["figures"].values()) == {"not drawn"}
    assert any("-broken.html" in line for line in visit.complaints)


def test_the_first_screen_answers_to_hands(visit: Visit) -> None:
    """Cards, numbers in the place of names, another cost, a rung's card, its data as CSV."""
    found, synthetic = visit.found["ablation"], visit.synthetic
    assert found["marks"] > 60  # dots, ticks, bars
    assert found["cards"] == ["grid"] * 4
    assert all(200 < width <= 400 for width in found["panels"]), "the panels stand below each other"
    assert set(found["short"]) - {"real pictures (the floor)", "pixel gaussian: no training"} <= {
        "0", "1", "2a", "2b", "3", "4", "5", "6",
    }  # fmt: skip
    assert sorted(set(found["legend"])) == sorted(set(found["named"])), "the legend is what is drawn"
    assert [title.partition(" (")[0].partition(":")[0] for title in found["x"]] == [
        "Latency on iPhone of the twin", "Parameters of the twin",
    ]  # fmt: skip
    assert found["opened"] == [True, "data:image/png;base64,", True]
    head, *lines = found["csv"].splitlines()
    assert head == "series,text,x,x low,x high,y,y low,y high"
    (line,) = [line for line in lines if line.startswith("trained here,MHSA to MQA")]
    kid = sum(synthetic.record("mqa", seed).quantities["kid"].value for seed in (0, 1)) / 2
    *_, x, _, _, y, low, high = next(csv.reader([line]))
    assert (float(x), float(y)) == (364_000_000, pytest.approx(kid))
    assert float(low) < kid < float(high)
    assert found["svg"] == "data:image/svg+xml"


def test_samples_are_enlarged_by_a_whole_factor_and_stand_side_by_side(visit: Visit) -> None:
    is_open, alt, rest, *beside = visit.found["ablation"]["enlarged"]
    assert (is_open, alt) == (True, "real pictures, one of each class")
    assert rest == 0
    assert len(beside) == 2
    assert all(each.startswith("samples of") for each in beside)


def test_the_table_of_candidates_sorts_filters_links_and_is_saved(visit: Visit) -> None:
    said, sweep = visit.found["sweep"], visit.sweep
    assert len(said["first"]) == len(said["second"]) == 50
    assert not set(said["first"]) & set(said["second"])
    key = next(each.key for each in sweep.candidates if each.name == sweep.front[0])
    assert said["linked"] == [f"../pages/{key}.html"]
    is_open, name, page, lines = said["card"]
    assert (is_open, name, page) == (True, sweep.front[0], f"../pages/{key}.html")
    best = next(each for each in sweep.candidates if each.name == name)
    assert all(f"{knob}, knob" in lines and str(best.parameters[knob]) in lines for knob in ("width", "convolution"))
    assert "Multiply-adds, objective" in lines
    assert said["count"].startswith("51 to 100 of 120")
    macs = {each.name: each.values[1] for each in sweep.candidates if each.values is not None}
    ordered = sorted(macs.values())
    assert [macs[name] for name in said["up"]] == ordered[:50]
    assert [macs[name] for name in said["down"]] == ordered[::-1][:50]
    assert said["sorted"] == "descending"
    assert set(said["failed"]) == {each.name for each in sweep.candidates if each.state == "failed"}
    low = {each.name for each in sweep.candidates if each.values is not None and each.values[0] < 0.1}
    assert set(said["low"]) == {
        each.name for each in sweep.candidates if each.name in low and each.parameters["width"] == "wide"
    }
    assert said["none"] == "none found"
    assert sorted(said["front"]) == sorted(sweep.front)
    lines = said["csv"].removeprefix("\ufeff").splitlines()
    assert len(lines) == 1 + len(sweep.front)
    by_name = {each.name: each for each in sweep.candidates}
    for line in lines[1:]:
        name, _, _, kid, *_ = line.split(",")
        assert float(kid) == by_name[name.strip('"')].values[0]


def test_on_paper_nothing_is_cut_or_shrunk_and_all_is_unfolded(visit: Visit, tmp_path: Path) -> None:
    """A browser shrinks a page of which anything is wider than the paper: a unit of ours is 0.75 points only where
    nothing is, and Chromium's own units are 0.24 points then."""
    pdf = tmp_path / "page.pdf"
    assert printed(visit.synthetic.path, tmp_path / "profile", pdf) == []
    content = pdf.read_bytes()
    assert set(re.findall(rb"/MediaBox \[0 0 (\d+)[.\d]* (\d+)", content)) == {(b"841", b"594")}
    scales = {re.match(rb"([.\d]+) 0 0 -[.\d]+ 0 [.\d]+ cm", each) for each in streams(content)}
    assert {round(float(each[1]), 3) for each in scales if each} == {0.24}
    pages = len(re.findall(rb"/Type /Page\b(?!s)", content))
    assert 12 < pages < 40, "two seeds' samples and the rules are unfolded"


def streams(pdf: bytes) -> list[bytes]:
    """Those that are deflated, as they are inside."""
    found = []
    for start in re.finditer(rb"stream\r?\n", pdf):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj().decompress(pdf[start.end() :]))
    return found
