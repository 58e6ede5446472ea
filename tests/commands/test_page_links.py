"""Pages of an output folder link to each other, and every link leads to a page that is there."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from stored_trials import ablation, record

from harness.cli import main


class Anchors(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.hrefs, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "a":
            self.hrefs.append(found["href"])
        if "id" in found:
            self.ids.add(found["id"])


def followed(out):
    """(page, address) of each link between the pages; AssertionError for one that leads nowhere."""
    pages = {path.resolve(): Anchors(path.read_text()) for path in out.rglob("*.html")}
    links = []
    for path, anchors in pages.items():
        for href in anchors.hrefs:
            target, _, place = unquote(href).partition("#")
            assert not re.match(r"[a-z]+:", target), "a page needs no network"
            found = (path.parent / target).resolve() if target else path
            assert found in pages, f"{path} links to {href}"
            assert not place or place in pages[found].ids
            if target:
                links.append((path.relative_to(out.resolve()).as_posix(), found.relative_to(out.resolve()).as_posix()))
    return links


def written(capsys, *words):
    assert main(["report", *words]) == 0
    return capsys.readouterr().out.strip()


def test_every_link_leads_to_a_page(store, capsys):
    one = record()
    store.put(one)
    store.put(record(seed=7, state="failed", curve=(), name="<b>lost</b>"))
    ablation(store, one)
    assert written(capsys, "--index") == "runs/index.html"
    index = Path("runs/index.html").read_text()
    assert "its page: harness report mine" in index
    assert f"its page: harness report {one.key}" in index
    assert "2 complete" in index
    assert "&lt;b&gt;lost" in index
    assert followed(Path("runs")) == []
    assert written(capsys, "mine", "--trials", "--linked") == "runs/mine/report.html"
    page = f"pages/{one.key}.html"
    assert {("mine/report.html", page), (page, "mine/report.html"), (page, "index.html")} <= set(followed(Path("runs")))
    written(capsys, "--index")
    links = followed(Path("runs"))
    assert {("index.html", "mine/report.html"), ("index.html", page)} <= set(links)
    assert ("mine/report.html", "index.html") in links


@pytest.mark.parametrize("damage", ["not json", '{"key": "0"}'])
def test_an_index_lists_what_it_cannot_read(store, capsys, damage):
    ablation(store)
    (store.root / "trials" / "0123456789abcdef.json").write_text(damage)
    Path("runs/mine/manifest.json").write_text(damage)
    written(capsys, "--index")
    index = Path("runs/index.html").read_text()
    assert "(unreadable)" in index
    assert "is not a record this version can read" in index
    assert "cannot read runs/mine/manifest.json" in index


def test_an_index_says_how_far_a_chain_came(store, capsys):
    folder = Path("runs/chains/digits")
    folder.mkdir(parents=True)
    ran = {"command": "harness sweep x.yaml", "began": 1.0, "seconds": 2.0}
    lines = [{"stage": "search", "status": 0, **ran}, {"stage": "train", "status": 1, **ran}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("runs/chains/nothing").mkdir()
    written(capsys, "--index")
    index = Path("runs/index.html").read_text()
    assert "1 done, 1 stopped or failed" in index
    assert "its page: harness report chains/digits" in index
    assert "chains/nothing" not in index


def test_an_empty_store_has_an_index_that_says_so(store, capsys):
    Path("runs").mkdir()
    written(capsys, "--index")
    assert "Nothing was begun here yet" in Path("runs/index.html").read_text()


def test_what_an_index_is_not_of_is_refused(store, capsys):
    assert main(["report", "--index"]) == 2
    assert "there is no folder runs" in capsys.readouterr().err
    assert main(["report", "mine", "--index"]) == 2
    assert "takes no name; leave mine out" in capsys.readouterr().err
    assert main(["report", "out=runs"]) == 2
    assert "name a study or a trial, or give --index" in capsys.readouterr().err
    store.put(record())
    assert main(["report", record().key, "--trials"]) == 2
    assert "--trials is for studies of trainings" in capsys.readouterr().err
