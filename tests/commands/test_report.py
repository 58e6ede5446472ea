"""`harness report` of any study; a page that cannot be made is refused before anything is trained."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from harness.cli import main
from harness.commands import report
from harness.launch import observe
from harness.records.manifest import Manifest

TRAINED = ["trials=2", "sampler=random"]


def test_a_sweep_has_a_page_without_any_file_of_its_own(workplace, capsys):
    assert main(["sweep", "search", *TRAINED]) == 0
    capsys.readouterr()
    assert main(["report", "search", "trials=3"]) == 2
    assert "the only setting here is out=FOLDER" in capsys.readouterr().err
    assert main(["report", "search"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == Path("runs/search/report.html")
    text = page.read_text()
    assert "2 of 2 candidates were trained: 2 trained to 6 steps" in text
    assert 'id="front"' in text
    Path("reports").mkdir()
    Path("reports/search.yaml").write_text("title: Mine\nsections: [sweep_summary, candidates]\n")
    assert main(["report", "search"]) == 0
    text = page.read_text()
    assert "<h1>Mine</h1>" in text
    assert 'id="front"' not in text


def test_an_ablation_without_a_page_of_its_own_gets_the_default_one(workplace, capsys):
    content = yaml.safe_load(Path("sweeps/tiny.yaml").read_text())
    del content["report"]
    Path("sweeps/plain.yaml").write_text(yaml.safe_dump(content))
    assert main(["ablate", "plain", "count_only=true"]) == 0
    page = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert page == Path("runs/plain/report.html")
    assert "<h1>plain</h1>" in page.read_text()
    Path("reports").mkdir()
    Path("reports/plain.yaml").write_text("sections: [tabel]\n")
    assert main(["report", "plain"]) == 2
    assert "reports/plain.yaml: unknown section of an ablation's report 'tabel'" in capsys.readouterr().err
    Path("reports/published").mkdir()
    Path("reports/published/ours.yaml").write_text("titel: Ours\n")
    Path("reports/plain.yaml").write_text("published: ours\n")
    assert main(["report", "plain"]) == 2
    assert "reports/published/ours.yaml: unknown setting 'titel'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ablate tiny", "ablate tiny --dry-run", "sweep search", "sweep search --dry-run"])
@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("claims: [{quantity: kid}]", "missing setting 'claims.0.title'"),
        ("columns: [{quantity: kidd}]", "unknown quantity 'kidd'; choose one of: kid"),
        ("sections: [tabel]", "'tabel'; choose one of: "),
        ("published: fig33", "'fig33'; choose one of: fig3"),
    ],
)
def test_a_page_that_cannot_be_made_is_refused_before_training(workplace, capsys, command, page, sentence):
    Path("reports").mkdir()
    Path("reports/mine.yaml").write_text(page)
    verb, name, *flags = command.split()
    study = Path(f"sweeps/{name}.yaml")
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"report": "mine"}))
    assert main([verb, name, *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: ")
    assert sentence in error
    assert "reports/mine.yaml" in error
    assert not Path(f"runs/{name}").exists()


def test_a_page_that_is_named_and_not_there_is_refused(workplace, capsys):
    study = Path("sweeps/tiny.yaml")
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"report": "fig33"}))
    assert main(["ablate", "tiny", "--dry-run"]) == 2
    assert "unknown name in reports/: 'fig33'; choose one of: fig3" in capsys.readouterr().err


def test_a_watched_page_is_drawn_until_no_driver_runs_and_ctrl_c_leaves_one_that_does_not_load_itself(
    monkeypatch, tmp_path, capsys
):
    drawn, runs = [], iter([True, True, False])

    def draw(_out, _name, _page, *, linked, redrawn_every_s=None):
        assert not linked
        drawn.append(redrawn_every_s)
        return tmp_path / "report.html"

    monkeypatch.setattr(report, "report", draw)
    monkeypatch.setattr(observe, "driver_of", lambda _folder: SimpleNamespace(runs=next(runs)))
    monkeypatch.setattr(report.time, "sleep", lambda _seconds: None)
    assert report._watch(tmp_path, "search", None) == 0
    assert drawn == [20.0, 20.0, 20.0]
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")

    def interrupted(_seconds):
        raise KeyboardInterrupt

    drawn.clear()
    runs = iter([True])
    monkeypatch.setattr(report.time, "sleep", interrupted)
    assert report._watch(tmp_path, "search", None) == 0
    assert drawn == [20.0, None]


def test_only_a_sweeps_page_is_watched(monkeypatch, tmp_path, refusal):
    assert "--watch draws the page of a sweep anew, and chains/digits is none" in refusal(
        "report", "chains/digits", "--watch"
    )
    manifest = Manifest(
        name="fig3",
        rungs=(),
        seeds=(),
        protocol={},
        protocol_fingerprint="",
        controls={},
        command="harness ablate fig3",
    )
    monkeypatch.setattr(report, "_study", lambda _name, _overrides: (tmp_path, None))
    monkeypatch.setattr(report, "source_of", lambda _out, _name: manifest)
    assert "--watch draws the page of a sweep anew, and fig3 is none" in refusal("report", "fig3", "--watch")
