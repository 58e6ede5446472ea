"""Two records of different protocols never share a column unmarked: each score of another protocol than the page's
bears a mark, and below the table stands which."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records.plain import Plain
from harness.records.quantity import Counted, Measured
from harness.records.record import Protocol, TrialRecord
from harness.records.store import Store
from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.frames import departures
from harness.reporting.report import write_report

STUDY: dict[str, Any] = {"recipe": {"steps": 300, "batch_size": 64}, "sampling": {"steps": 10, "seed": 0}}
MARK = "\u2020"


def trained(store: Store, name: str, **recipe: Any) -> str:
    protocol = Protocol(sections={**STUDY, "recipe": {**STUDY["recipe"], **recipe}})
    record = TrialRecord(
        name=name, architecture={}, architecture_fingerprint=f"arch-{name}", protocol=protocol.sections,
        protocol_fingerprint=protocol.fingerprint, seed=0, state="complete",
        quantities={"kid": Measured(value=0.5, unit="1"), "fd": Measured(value=50.0, unit="1"),
                    "params": Counted(value=1_000, unit="parameters")},
    )  # fmt: skip
    store.put(record)
    return record.key


@pytest.fixture
def page(tmp_path: Path) -> Any:
    store = Store(tmp_path / "store")

    def of(*recipes: dict[str, Any], protocol_name: str = "", knobs: dict[str, Any] | None = None) -> str:
        knobs = knobs or {}
        candidates = tuple(
            CandidateSummary(name=f"trial-{n}", state="complete", parameters={"ffn": n, **knobs}, steps=300,
                             key=trained(store, f"trial-{n}", **recipe), values=(0.5,))
            for n, recipe in enumerate(recipes)
        )  # fmt: skip
        summary = SweepSummary(
            name="mine", place="", command="harness sweep mine", driver_runs=False, objectives={"kid": "minimize"},
            levels=(300,), samplers=(), seed=0, trials=9, candidates=candidates, front=("trial-0",), reasons={},
            conclusions=None, protocol=STUDY, protocol_fingerprint=Protocol(sections=STUDY).fingerprint,
        )  # fmt: skip
        definition = {"sections": ["sweep_summary", "candidates", "readings", "conditions"]}
        path = write_report(store, summary, definition, None, tmp_path / "page.html", protocol_name)
        return path.read_text()

    return of


def rows(page: str) -> dict[str, str]:
    """Candidate -> its row of the table of candidates."""
    return dict(re.findall(r'<tr data-row="(trial-\d+)">(.*?)</tr>', page, re.DOTALL))


def test_a_column_with_two_protocols_marks_the_cells_of_the_other(page: Any) -> None:
    text = page({}, {"steps": 100}, protocol_name="laptop")
    table = rows(text)
    assert MARK not in table["trial-0"]
    assert table["trial-1"].count(MARK) == 2, "KID and FD; the count is of the architecture, under any protocol"
    assert 'title="another protocol: recipe.steps=100"' in table["trial-1"]
    assert f"{MARK} made under another protocol than this page's (laptop): recipe.steps=100 (1 of 2 records)." in text


def test_where_one_protocol_made_all_there_is_no_mark(page: Any) -> None:
    text = page({}, {}, protocol_name="laptop, but recipe.steps=300")
    assert MARK not in text
    assert "<dt>Protocol</dt><dd>laptop, but recipe.steps=300</dd>" in text
    assert "The protocol, laptop, but recipe.steps=300: every setting" in text


def test_what_a_search_varies_of_the_recipe_is_what_it_compares(page: Any) -> None:
    """It stands with the knobs; only what is beside them marks a score."""
    recipe = {"learning_rate": 0.004}
    assert MARK not in page({}, recipe, knobs={"recipe.learning_rate": 0.004})
    text = page({}, {**recipe, "steps": 100}, knobs={"recipe.learning_rate": 0.004})
    assert 'title="another protocol: recipe.steps=100"' in text


def test_several_other_protocols_are_listed_and_many_are_counted(page: Any) -> None:
    text = page({}, *({"learning_rate": 0.001 * n} for n in range(1, 12)))
    assert "recipe.learning_rate=0.001 (1 of 12 records); recipe.learning_rate=0.002 (1 of 12 records)" in text
    assert "and 3 others." in text


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, ""),
        ({"sampling": {"steps": 10, "seed": 7}}, ""),  # fresh samples, as of a finalist: a repetition
        ({"sampling": {"steps": 25, "seed": 7}}, "sampling.steps=25"),
        ({"recipe": {"steps": 300}}, "recipe.batch_size=its default"),
        ({"recipe": {"steps": 300, "batch_size": None}}, "recipe.batch_size=null"),
        ({"recipe": {"steps": 300, "batch_size": 32.0}}, "recipe.batch_size=32"),
        ({"sampling": {"steps": 10, "seed": 0, "guidance_interval": [0.0, 0.6]}}, "sampling.guidance_interval=[0,0.6]"),
        ({"quality": {"samples": 5000, "metrics": ["fd"]}}, 'quality.samples=5000, quality.metrics=["fd"]'),
    ],
)
def test_what_differs_is_said_as_one_sets_it(own: Plain, said: str) -> None:
    assert ", ".join(departures({**STUDY, **own}, STUDY)) == said  # type: ignore[dict-item]


def test_an_ablation_s_table_marks_what_a_record_of_another_protocol_says(synthetic: Any) -> None:
    """No driver makes such a study; a page that is made of records by hand can have it."""
    assert MARK not in synthetic.write()
    other = {**synthetic.manifest.protocol, "recipe": {**synthetic.manifest.protocol["recipe"], "steps": 900}}
    synthetic.store.put(replace(synthetic.record("mqa", 0), protocol=other))
    page = synthetic.write()
    marked = [row for row in re.findall(r'<tr data-row="\w+".*?</tr>', page, re.DOTALL) if MARK in row]
    assert marked
    assert all('data-row="mqa"' in row for row in marked)
    assert "recipe.steps=900 (1 of 16 records)" in page
