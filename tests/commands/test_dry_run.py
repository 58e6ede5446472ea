"""`--dry-run`: what it names is what the real command then does, and the output folder stays as it is to the byte."""

from pathlib import Path

import pytest
from tiny_study import SWEEP, write_yaml

from harness.cli import main
from harness.search import sweep
from harness.search.driver import dry_run
from harness.search.study import open_storage, open_study, stored_study


def bytes_of(out):
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(out.rglob("*")) if path.is_file()
    }


def proposed(rehearsal):
    return [dict(each.parameters) for each in rehearsal.proposed if not each.refused]


@pytest.mark.parametrize("storage", ["sqlite", pytest.param("journal", marks=pytest.mark.slow)])
def test_a_dry_run_names_the_candidates_that_the_sweep_then_trains(workplace, capsys, storage):
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "storage": storage})
    before = bytes_of(Path("runs"))
    first = dry_run("search", ["trials=3"], 1)
    assert bytes_of(Path("runs")) == before
    assert main(["sweep", "search", "trials=1"]) == 0
    study = stored_study(Path("runs/search"), "search")
    assert proposed(first) == [study.trials[0].params]
    before = bytes_of(Path("runs"))
    assert main(["sweep", "search", "trials=2", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "the study has 1 candidates, 0 of them in flight" in output
    assert "dry run: nothing was run or written" in output
    second = dry_run("search", ["trials=2"], 5)
    assert bytes_of(Path("runs")) == before
    assert len(proposed(second)) == 1, "the second of two"
    assert proposed(second) != proposed(first)
    assert main(["sweep", "search", "trials=2"]) == 0
    assert stored_study(Path("runs/search"), "search").trials[1].params == proposed(second)[0]


def test_a_dry_run_goes_on_where_the_driver_only_looks_for_results(workplace, monkeypatch):
    """As in a long row of refused candidates."""
    monkeypatch.setattr(sweep, "FILLING_S", 0.02)  # less than counting one takes
    write_yaml(Path("sweeps/search.yaml"), SWEEP)
    assert len(proposed(dry_run("search", ["trials=3"], 5))) == 3


def test_what_a_limit_refuses_is_told_with_its_reason(workplace, capsys):
    assert main(["sweep", "search", "limits.params=1000", "max_rejections=3", "--dry-run"]) == 2
    assert "none has params of at most 1,000, the smallest seen is" in capsys.readouterr().err
    assert not Path("runs/search").exists()
    assert main(["sweep", "search", "--dry-run", "0"]) == 2


def test_a_damaged_study_is_a_sentence(workplace, capsys):
    study = open_study(Path("runs/search"), "search", "sqlite", opened(Path("runs/search")), SWEEP["objectives"])
    assert study.study_name == "search"
    Path("runs/search/study.db").write_bytes(b"no study" * 200)
    assert main(["sweep", "search", "--dry-run"]) == 2
    assert "cannot read the study runs/search/study.db" in capsys.readouterr().err


def opened(folder):
    folder.mkdir(parents=True)
    return open_storage(folder, "sqlite")


def test_an_ablation_tells_what_the_store_has(workplace, capsys):
    before = bytes_of(Path("runs"))
    assert main(["ablate", "tiny", "--dry-run"]) == 0
    assert "2 of 2 would run" in capsys.readouterr().out
    assert bytes_of(Path("runs")) == before
