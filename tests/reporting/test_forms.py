"""The forms of a page beside the one file: linked to a shared script, and its table as LaTeX."""

import re
from dataclasses import replace
from typing import Any

import pytest

from harness.reporting.latex import escaped
from harness.reporting.page import SCRIPT
from harness.reporting.report import write_report


def written(synthetic: Any, **form: Any) -> str:
    path = write_report(synthetic.store, synthetic.manifest, synthetic.definition, synthetic.published,
                        synthetic.path.parent / "study" / "report.html", **form)  # fmt: skip
    return path.read_text()


def test_a_linked_page_names_the_one_script_beside_it_and_a_whole_one_has_it(synthetic: Any) -> None:
    whole = written(synthetic)
    assert "plotly.js v" in whole
    assert "src=" not in whole.partition('<script type="application/json"')[2].partition("</script>")[0]
    folder = synthetic.path.parent
    linked = written(synthetic, scripts=folder)
    assert f'<script src="../{SCRIPT}"></script>' in linked
    assert "plotly.js v" in (folder / SCRIPT).read_text()
    assert len(linked) < len(whole) - 4_000_000
    assert "is not beside this page" in linked, "what a reader sees to whom the page was sent alone"


def tabular(text: str) -> list[list[str]]:
    rows = re.search(r"\\midrule\n(.*)\\bottomrule", text, re.DOTALL)
    assert rows is not None
    return [line.removesuffix(r" \\").split(" & ") for line in rows[1].splitlines()]


def test_the_latex_table_has_the_pages_rungs_values_and_changes(synthetic: Any) -> None:
    written(synthetic, latex=True)
    text = (synthetic.path.parent / "study" / "report.tex").read_text()
    rows = tabular(text)
    assert len(rows) == 8
    assert {len(row) for row in rows} == {9}  # a name, and two for each of four quantities
    assert rows[4][0] == "3 FFN expansion 4 to 3 (against 2b)"
    assert rows[1][3:5] == ["580 M", r"$-$31.0 M ($-$5.1\%) better"]
    assert rows[2][2].endswith("worse")
    assert rows[2][2].count("[") == 1, "with its interval"
    assert rows[1][7] == r"\textit{15.0 ms [9.38, 24.0]}", "predicted"
    assert rows[1][8].endswith("not told}")
    assert "2 seeds a rung" in text
    assert "corrected for 9 tests" in text
    assert text.isascii()


@pytest.mark.parametrize("attack", [r"\input{/etc/passwd} & $x_1$ 5% #2 ~ ^", "a\n\\end{table}"])
def test_a_name_stays_text_in_latex(synthetic: Any, attack: str) -> None:
    first, *others = synthetic.manifest.rungs
    synthetic.manifest = replace(synthetic.manifest, rungs=(replace(first, title=attack), *others))
    written(synthetic, latex=True)
    text = (synthetic.path.parent / "study" / "report.tex").read_text()
    assert len(tabular(text)) == 8
    assert {len(row) for row in tabular(text)} == {9}
    assert text.count(r"\end{table}") == 1
    assert r"\input" not in text
    assert escaped("50% _") == r"50\% \_"
