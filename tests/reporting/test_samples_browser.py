"""Samples answer to hands: a click or Enter enlarges a picture; two are chosen to stand side by side."""

import re
from pathlib import Path
from typing import Any

import pytest
from test_browser import CHROMIUM, opened

from harness.records.record import TrialRecord
from harness.records.store import write_atomic

VISIT = """<script>addEventListener("load", () => {
  const told = document.createElement("p");
  const [left, right] = document.querySelectorAll(".two-samples select");
  right.value = 3;
  right.dispatchEvent(new Event("change"));
  document.querySelector("#samples figure[data-real] button").click();
  const dialog = document.getElementById("enlarged"), picture = dialog.querySelector("img");
  const shown = [...document.querySelectorAll(".two-samples img")].map((each) => each.alt);
  told.id = "told";
  const whole = picture.width % picture.naturalWidth;
  told.textContent = JSON.stringify([dialog.open, picture.alt, whole, left.value, ...shown]);
  document.body.append(told);
});</script></body>"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_samples_are_enlarged_and_stand_side_by_side(synthetic: Any, tmp_path: Path) -> None:
    synthetic.definition["sections"] = ["samples"]
    record = synthetic.record("thin_sdxl", 0)
    fields = {name: getattr(record, name) for name in TrialRecord.__dataclass_fields__}
    synthetic.store.put(TrialRecord(**fields | {"artifacts": {**record.artifacts, "real.png": "real.png"}}))
    grid = synthetic.store.artifact(record.key, "samples.png").read_bytes()
    write_atomic(synthetic.store.artifact(record.key, "real.png"), grid)
    page = synthetic.write()
    assert page.count('data-real="yes"') == 1
    synthetic.path.write_text(page.replace("</body>", VISIT))
    dom, complaints = opened(synthetic.path, tmp_path / "profile")
    assert complaints == []
    told = re.search(r'<p id="told">(.*?)</p>', dom)
    assert told is not None
    assert told[1].startswith('[true,"real pictures, one of each class",0,"1","samples of thin SDXL, seed 0"')
    assert told[1].count("samples of") == 2
