"""The page in a real browser, without a network: the figures are drawn and nothing is complained of."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

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
    synthetic.write()
    dom, complaints = opened(synthetic.path, tmp_path / "profile")
    assert complaints == []
    assert "data-error" not in dom
    drawn = re.findall(r'data-figure="(\w+)"[^>]*data-drawn="(light|dark)"', dom)
    assert [name for name, _ in drawn] == ["ladder", "curves", "controls"]
    assert dom.count('class="main-svg"') >= 3
    assert dom.count('class="point"') + dom.count('<path class="point"') > 60  # dots, ticks, bars


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_the_browser_test_sees_a_broken_page(synthetic: Any, tmp_path: Path) -> None:
    page = synthetic.write().replace("Plotly.react(", "Plotly.reakt(")
    synthetic.path.write_text(page)
    dom, complaints = opened(synthetic.path, tmp_path / "profile")
    assert complaints
    assert "data-drawn" not in dom


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the console said."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
