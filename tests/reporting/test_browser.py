"""The page in a real browser, without a network: the figures are drawn and nothing is complained of."""

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


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the console said."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
