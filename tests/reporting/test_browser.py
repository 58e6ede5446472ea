"""The page in a real browser, without a network: the figures are drawn and nothing is complained of."""

import csv
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.records.quantity import Measured
from harness.records.record import Measurement, TrialRecord

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
    "--v=0", "--virtual-time-budget=15000", "--dump-dom",
)  # fmt: skip


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_a_browser_draws_all_figures_and_complains_of_nothing(synthetic: Any, tmp_path: Path) -> None:
    synthetic.definition["sections"] = ["against_cost", "ladder", "curves", "controls", "guidance"]
    for steps, value in ((10, 0.06), (20, 0.05)):
        synthetic.store.put(score(synthetic.record("mqa", 0), value, steps))
    synthetic.write()
    dom, complaints = opened(synthetic.path, tmp_path / "profile")
    assert complaints == []
    assert "data-error" not in dom
    drawn = re.findall(r'data-figure="(\w+)"[^>]*data-drawn="(light|dark)"', dom)
    assert [name for name, _ in drawn] == ["against_cost", "ladder", "curves", "controls", "guidance"]
    assert dom.count('class="main-svg"') >= 5
    assert dom.count('class="point"') + dom.count('<path class="point"') > 60  # dots, ticks, bars


VISIT = """
<script>
(async () => {
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const figure = document.getElementById("figure-against_cost");
  while (!figure.dataset.drawn) await wait(50);
  const texts = () => figure.data.flatMap((trace) => (trace.text || []).filter(Boolean));
  const found = { look: figure.dataset.drawn, x: [figure.layout.xaxis.title.text], short: texts() };
  found.width = [document.documentElement.clientWidth, document.documentElement.scrollWidth];
  found.legend = [...figure.querySelectorAll(".legendtext")].map((each) => each.textContent);
  found.named = figure.data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name);
  found.cards = [".matrix td", "#table td"].map((each) => getComputedStyle(document.querySelector(each)).display);
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
  parent.postMessage(found, "*");
})();
</script></body>"""
PHONE = """<!doctype html><body><iframe width="400" height="900" src="PAGE"></iframe><script>
addEventListener("message", (event) => document.body.append(JSON.stringify(event.data), document.createElement("hr")));
</script></body>"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_on_a_phone_in_the_dark_the_first_screen_fits_and_answers_to_hands(synthetic: Any, tmp_path: Path) -> None:
    """400 px wide: cards, numbers in the place of names, another cost, a rung's card, its data as CSV."""
    synthetic.path.write_text(synthetic.write().replace("</body>", VISIT))
    frame = tmp_path / "phone.html"
    frame.write_text(PHONE.replace("PAGE", synthetic.path.as_uri()))
    dom, complaints = opened(frame, tmp_path / "profile", "--blink-settings=preferredColorScheme=0")
    assert complaints == []
    told = re.search(r"</script>\s*(\{.*\})\s*<hr>", dom, re.DOTALL)
    assert told is not None, dom[-2000:]
    found = json.loads(html.unescape(told[1]))
    assert found["look"] == "dark"
    assert found["width"][0] == found["width"][1] <= 400, "nothing is scrolled sideways"
    assert found["cards"] == ["grid", "grid"]
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


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_the_browser_test_sees_a_broken_page(synthetic: Any, tmp_path: Path) -> None:
    synthetic.definition["sections"] = ["ladder"]
    page = synthetic.write().replace("Plotly.react(", "Plotly.reakt(")
    synthetic.path.write_text(page)
    dom, complaints = opened(synthetic.path, tmp_path / "profile")
    assert complaints
    assert "data-drawn" not in dom


def score(trial: TrialRecord, value: float, steps: int) -> Measurement:
    """Of one point of a score sweep."""
    parts = {"data": trial.protocol["data"], "quality": trial.protocol["quality"]}
    sampling = {**trial.protocol["sampling"], "steps": steps}
    return Measurement(
        subject="score",
        settings={"trial": trial.key, "sampling": sampling, "samples": 512, **parts},
        quantities={"kid": Measured(value=value, unit="1")},
    )


def opened(page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the console said."""
    command = [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
