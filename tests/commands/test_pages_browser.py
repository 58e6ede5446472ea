"""The pages of studies that really ran, a sweep, the same at random, an ablation, their trials, a comparison and the
index, in a real browser: drawn, of the store's numbers, and linked to each other."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_page_links import followed
from tiny_study import SWEEP, lay_out, write_yaml

from harness.cli import main
from harness.records.store import Store
from harness.search.status import sweep_summary

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from browsing import CHROMIUM, DARK, visited

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
    pytest.mark.xdist_group("browser"),
]
COMMANDS = (
    "sweep search", "sweep guided", "ablate tiny", "report guided --trials --linked --latex",
    "report tiny --trials --linked", "report --index",
)  # fmt: skip


@dataclass
class Pages:
    folder: Path
    links: list[tuple[str, str]]
    found: dict[str, Any]
    complaints: list[str]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, cache) -> Pages:
    folder = lay_out(tmp_path_factory.mktemp("pages"), cache)
    guided = {**SWEEP, "sampler": "tpe", "finalists": {"most": 2, "seeds": 2}}
    write_yaml(folder / "sweeps" / "guided.yaml", guided)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in COMMANDS[:-1]:
            assert main(command.split()) == 0, command
        front = sweep_summary(Path("runs/guided"), "guided").candidates
        keys = [each.key for each in front if each.key][:2]
        assert main(["compare", *keys, "--html", "--linked"]) == 0
        assert main(COMMANDS[-1].split()) == 0
        links = followed(Path("runs"))
    files = sorted((folder / "runs").rglob("*.html"))
    found, complaints = visited({str(at): (path, "") for at, path in enumerate(files)}, folder, DARK)
    named = {path.relative_to(folder / "runs").as_posix(): found[str(at)] for at, path in enumerate(files)}
    return Pages(folder=folder, links=links, found=named, complaints=complaints)


def test_every_page_is_drawn_whole_on_a_phone_in_the_dark(pages: Pages) -> None:
    assert pages.complaints == []
    assert {"guided/report.html", "tiny/report.html", "index.html"} <= pages.found.keys()
    assert sum(name.startswith("pages/") for name in pages.found) > 4
    for name, page in pages.found.items():
        assert page["error"] == "", name
        assert set(page["figures"].values()) <= {"dark"}, name
        assert page["width"][0] == page["width"][1] <= 400, name
        assert page["cut"] == [], name
    assert {"front", "progress", "against_cost", "curves"} <= {
        figure for page in pages.found.values() for figure in page["figures"]
    }


def test_they_link_to_each_other(pages: Pages) -> None:
    links = set(pages.links)
    assert {("index.html", "guided/report.html"), ("index.html", "tiny/report.html")} <= links
    assert any(one == "guided/report.html" and other.startswith("pages/") for one, other in links)
    assert any(one.startswith("pages/") and other == "guided/report.html" for one, other in links)
    assert any(one == "index.html" and "_and_" in other for one, other in links)


def test_a_sweeps_numbers_are_the_studys_and_the_stores(pages: Pages) -> None:
    text = (pages.folder / "runs/guided/report.html").read_text()
    rows_text = re.search(r'id="candidates-rows">(.*?)</script>', text, re.DOTALL)
    assert rows_text is not None
    data = json.loads(rows_text[1])
    rows = {row[0]: dict(zip((c["key"] for c in data["columns"]), row, strict=True)) for row in data["rows"]}
    store, sweep = Store(pages.folder / "runs/store"), sweep_summary(pages.folder / "runs/guided", "guided")
    assert rows.keys() == {each.name for each in sweep.candidates}
    for each in sweep.candidates:
        record = store.trial(each.key)
        assert record is not None
        for name in ("kid", "macs", "params"):
            assert rows[each.name][name][0] == record.quantities[name].value
    assert sweep.conclusions is not None
    for finalist in sweep.conclusions.finalists:
        assert f'data-rescored="{finalist.objectives["kid"].mean!r}"' in text


def test_what_chance_found_of_the_same_space_stands_beside_the_search(pages: Pages) -> None:
    """`search` is the same sweep at random; beside that one nothing stands."""
    assert (
        "Beside it the sweep\nsearch, the same search all at random"
        in (pages.folder / "runs/guided/report.html").read_text()
    )
    assert "all at random" not in (pages.folder / "runs/search/report.html").read_text()
