"""`harness store merge`: a cluster's store on a laptop, where the same studies then find their trials finished."""

import shutil
from pathlib import Path

import pytest
from tiny_study import share_cache

from harness.cli import main
from harness.launch.events import read_events
from harness.records.record import TrialRecord
from harness.records.store import Store


def counted_on_the_cluster(workplace: Path) -> Path:
    """The output folder of another machine: the ablation `tiny`, counted."""
    assert main(["ablate", "tiny", "count_only=true", "out=cluster"]) == 0
    return workplace / "cluster"


def test_after_it_the_same_study_finds_its_trials_finished(workplace, capsys):
    counted_on_the_cluster(workplace)
    shutil.move("cluster/store", "brought")  # no study, no attempts: the store is all that came along
    shutil.rmtree("cluster")
    assert main(["store", "merge", "brought", "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not Path("runs/store").exists()
    assert main(["store", "merge", "brought"]) == 0
    assert main(["ablate", "tiny", "count_only=true"]) == 0
    assert read_events(Path("runs/tiny/attempts")) == [], "no job was begun"
    assert main(["report", "tiny"]) == 0


def test_conflicts_and_damage_are_listed_and_the_status_is_1(workplace, capsys):
    counted_on_the_cluster(workplace)
    shutil.copytree("cluster/store", "runs/store")
    first, second = sorted(Path("cluster/store/trials").glob("*.json"))
    first.write_text(first.read_text().replace('"parent": null', '"parent": "0123456789abcdef"'))
    second.write_text("{half")
    ours = Store(Path("runs/store"))
    before = ours.trial(first.stem)
    capsys.readouterr()
    assert main(["store", "merge", "cluster"]) == 1
    output = capsys.readouterr().out
    assert f"conflict: trial {first.stem}" in output
    assert "parent: None -> 0123456789abcdef" in output
    assert f"damaged: trial {second.stem} - " in output
    assert "1 left as it is here: say --keep ours, theirs or newer" in output
    assert ours.trial(first.stem) == before
    assert main(["store", "merge", "cluster", "--keep", "theirs"]) == 1, "the damaged one is still there"
    assert "replaced: trial" in capsys.readouterr().out
    changed = ours.trial(first.stem)
    assert isinstance(changed, TrialRecord)
    assert changed.parent == "0123456789abcdef"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("store merge", "required: FROM"),
        ("store merge nowhere", "there is no store in nowhere; give a study's output folder"),
        ("store merge here out=here", "are one place, or one lies in the other"),
        ("store merge here/store out=here", "are one place, or one lies in the other"),
        ("store merge here out=here/deeper", "are one place, or one lies in the other"),
        ("store merge here --keep mine", "invalid choice: 'mine'"),
        ("store mergee here", "unknown verb 'store mergee'; choose one of: store merge"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here/store/trials").mkdir(parents=True)
    assert sentence in refused(*words.split())
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_trained_study_comes_with_its_weights(workplace, cache):
    share_cache(Path("cluster"), cache)
    assert main(["ablate", "tiny", "out=cluster"]) == 0
    assert main(["store", "merge", "cluster"]) == 0
    assert main(["ablate", "tiny"]) == 0
    assert read_events(Path("runs/tiny/attempts")) == [], "neither a trial nor a control was begun"
    for record in Store(Path("runs/store")).trials():
        for name in record.artifacts.values():
            brought = Store(Path("runs/store")).artifact(record.key, name)
            assert brought.read_bytes() == Store(Path("cluster/store")).artifact(record.key, name).read_bytes()
