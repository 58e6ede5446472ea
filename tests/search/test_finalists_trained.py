"""Finalists with real trainings: what the command trains, prints, promotes and finds again after a deletion."""

import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from tiny_study import SWEEP, write_yaml

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.records.store import Store
from harness.search.candidates import rescored_in
from harness.search.study import stored_study

COMMAND = ["sweep", "search", "trials=2", "finalists.most=2", "finalists.seeds=2"]


def records(fidelity):
    return [record for record in Store(Path("runs/store")).trials() if record.fidelity == fidelity]


def scores():
    study = stored_study(Path("runs/search"), "search")
    assert study is not None
    return rescored_in(study.user_attrs)


def samples(record):
    with np.load(Store(Path("runs/store")).artifact(record.key, "samples.npz")) as stored:
        return stored["images"]


@pytest.mark.slow
def test_finalists_are_trained_printed_promoted_and_trained_again_when_deleted(workplace, capsys):
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "objectives": {"kid": "minimize"}})
    assert main(COMMAND) == 0
    said = capsys.readouterr()
    searched, final = records("search"), records("final")
    (best,) = [each for each in searched if each.quantities["kid"].value == min(kids(searched))]
    assert [(each.parent, each.name) for each in final] == [(best.key, best.name)] * 2
    for each in final:
        assert each.protocol["sampling"] == {**best.protocol["sampling"], "seed": each.seed}
        assert {**each.protocol, "sampling": 0} == {**best.protocol, "sampling": 0}
    assert sorted(each.seed for each in final) == [1, 2]
    assert not np.array_equal(samples(final[0]), samples(best))
    ((name, found),) = scores().items()
    assert (name, sorted(each.key for each in found)) == (best.name, sorted(each.key for each in final))
    assert f"{fmean(kids(final)):.4g} ± " in said.out
    assert f"{best.quantities['kid'].value - fmean(kids(final)):+.4g}" in said.out
    assert "1 finalists were re-scored with 2 seeds" in said.err

    assert main(["promote", "search", "--rule", "best", "--to", "best.yaml"]) == 0
    said = capsys.readouterr().err
    assert f"{name} of 'search', chosen by --rule best, the lowest KID: kid {fmean(kids(final)):.4g} (" in said
    assert "among 1 re-scored finalists, by the means of 2 fresh seeds" in said
    assert architecture("best.yaml").fingerprint == best.architecture_fingerprint
    assert f"the lowest KID: kid {fmean(kids(final)):.4g} (" in Path("best.yaml").read_text()

    gone, store = final[1], Store(Path("runs/store"))
    store.delete(gone)
    shutil.rmtree(store.artifact(gone.key, "x").parent)
    made = {path: path.stat().st_mtime_ns for path in Path("runs/store/trials").iterdir()}
    assert main(COMMAND) == 0
    after = {path: path.stat().st_mtime_ns for path in Path("runs/store/trials").iterdir()}
    assert {path.stem for path in after if after[path] != made.get(path)} == {gone.key}, "it and only it"
    again = store.trial(gone.key)
    assert again is not None
    assert again.quantities["kid"] == gone.quantities["kid"]


def kids(found):
    return [each.quantities["kid"].value for each in found]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"finalists": {"seeds": 1}}, "finalists.seeds is at least 2, not 1"),
        ({"finalists": {"more": 1}}, "unknown setting 'finalists.more'; choose one of: finalists.most"),
        ({"finalists": {}, "objectives": {"macs": "minimize"}}, "this sweep has macs; leave out finalists"),
    ],
)
def test_mistakes_are_one_sentence(workplace, capsys, change, sentence):
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, **change})
    assert main(["sweep", "search"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not Path("runs/search").exists()
