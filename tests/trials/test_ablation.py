"""`harness ablate`, in process: what it leaves behind, and that the second time it does nothing."""

from pathlib import Path

import pytest
from tiny_study import SPACE, lay_out, share_cache, write_yaml

from harness.cli import main
from harness.launch.events import read_events
from harness.records.manifest import read_manifest
from harness.records.plain import to_plain
from harness.records.quantity import Measured
from harness.records.record import trial_key
from harness.records.store import Store
from harness.trials.ablation import ablation
from harness.trials.task_config import DEFAULT

TWO = {"base": "tiny_base.yaml", "knobs": {"ffn": SPACE["knobs"]["ffn"] | {"choices": [2, 4]}}}
"""The two rungs, as a search space."""


def store():
    return Store(Path("runs/store"))


@pytest.fixture(scope="module")
def ablated(tmp_path_factory, cache):
    """A working directory in which `harness ablate tiny` ran, and what it printed."""
    folder = lay_out(tmp_path_factory.mktemp("ablated"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["ablate", "tiny", "seeds=[0,1]"]) == 0
    return folder


@pytest.fixture
def workplace(ablated, monkeypatch):
    monkeypatch.chdir(ablated)
    return ablated


def test_the_manifest_says_what_it_consists_of(workplace):
    manifest = read_manifest(Path("runs"), "tiny")
    assert [(rung.name, rung.against) for rung in manifest.rungs] == [("base", None), ("ffn2", "base")]
    assert manifest.rungs[1].edits == {"feed_forward.ratio": 2}
    assert manifest.seeds == (0, 1)
    assert manifest.command == "harness ablate tiny 'seeds=[0,1]'"


def test_every_rung_and_seed_has_its_record(workplace):
    manifest = read_manifest(Path("runs"), "tiny")
    keys = {
        trial_key(rung.architecture_fingerprint, manifest.protocol_fingerprint, seed)
        for rung in manifest.rungs
        for seed in manifest.seeds
    }
    records = list(store().trials())
    assert {record.key for record in records} == keys
    assert len(keys) == 4
    assert all(record.state == "complete" and isinstance(record.quantities["fd"], Measured) for record in records)
    assert all(to_plain(record.protocol) == to_plain(manifest.protocol) for record in records)


def test_the_controls_are_measured_once_under_the_manifests_keys(workplace):
    manifest = read_manifest(Path("runs"), "tiny")
    assert tuple(manifest.controls) == tuple(DEFAULT.judging.controls)
    controls = [measurement for measurement in store().measurements() if measurement.subject == "control"]
    assert {measurement.key for measurement in controls} == set(manifest.controls.values())
    assert all(set(measurement.quantities) == {"kid", "fd", "class_agreement"} for measurement in controls)


def test_every_job_ran_once(workplace):
    events = read_events(Path("runs/tiny/attempts"))
    finished = [line["key"] for line in events if line["event"] == "finished"]
    assert len(finished) == len(set(finished)) == 4 + 1  # the controls are one job
    assert {line["event"] for line in events} == {"submitted", "started", "finished"}


def test_the_same_command_again_trains_nothing_and_writes_the_report(workplace, capsys):
    log, report = Path("runs/tiny/attempts/attempts.log"), Path("runs/tiny/report.html")
    before, stored = log.read_bytes(), {record.key: record for record in store().trials()}
    report.unlink()
    assert main(["ablate", "tiny", "seeds=[0,1]"]) == 0
    assert log.read_bytes() == before
    assert {record.key: record for record in store().trials()} == stored
    assert capsys.readouterr().out.strip().endswith("runs/tiny/report.html")
    assert report.stat().st_size > 10_000


def test_a_subset_of_the_seeds_is_there_already(workplace):
    before = Path("runs/tiny/attempts/attempts.log").read_bytes()
    assert main(["ablate", "tiny", "seeds=[1]"]) == 0
    assert Path("runs/tiny/attempts/attempts.log").read_bytes() == before
    assert main(["ablate", "tiny", "seeds=[0,1]"]) == 0  # as the other tests expect it


def test_another_study_of_the_same_name_says_what_it_replaces(workplace, capsys):
    assert main(["ablate", "tiny", "seeds=[0,1]", "count_only=true"]) == 0
    notes = " ".join(capsys.readouterr().err.split())
    assert "4 of the 4 trainings of the tiny that is in runs so far are not in this one" in notes
    assert "its records stay, and `harness ablate tiny 'seeds=[0,1]'` draws it again" in notes
    assert main(["ablate", "tiny", "seeds=[0,1]"]) == 0
    assert "are not in this one" in capsys.readouterr().err, "the counts' page goes"
    assert main(["ablate", "tiny", "seeds=[0,1]"]) == 0
    assert "are not in this one" not in capsys.readouterr().err
    assert main(["ablate", "tiny", "seeds=[0,1]", "launcher=debug"]) == 0
    assert "are not in this one" not in capsys.readouterr().err, "the same trials"


def test_a_limit_rejects_a_rung_without_training_it_and_its_record_is_stored(workplace, capsys):
    count = min(record.quantities["params"].value for record in store().trials())
    limited = ["ablate", "tiny", "seeds=[7]", f"limits.params={count}"]
    assert main(limited) == 1
    assert f"above the limit of {count:,}" in " ".join(capsys.readouterr().err.split())
    job = ablation("tiny", limited[2:], "")
    states = {spec.name: store().trial(spec.key).state for spec in job.specs()}
    assert states == {"base": "rejected", "ffn2": "complete"}


def test_a_sweep_finds_the_same_record_and_makes_the_same_one(workplace, cache, tmp_path):
    """Equal key, scores and curve, whoever asked: trained by a sweep elsewhere, or found by one here."""
    share_cache(tmp_path / "runs", cache)
    write_yaml(Path("search_spaces/tiny.yaml"), TWO)
    assert main(["sweep", "search", "trials=2", f"out='{tmp_path / 'runs'}'"]) == 0
    swept = {record.key: record for record in Store(tmp_path / "runs" / "store").trials()}
    ablated = {record.key: record for record in store().trials() if record.key in swept}
    assert len(swept) == len(ablated) == 2
    for key, record in swept.items():
        assert record.curve == ablated[key].curve
        for name in ("kid", "fd", "class_agreement", "validation_loss", "macs"):
            assert record.quantities[name] == ablated[key].quantities[name]
    assert main(["sweep", "search", "trials=2"]) == 0
    assert read_events(Path("runs/search/attempts")) == []


FACTORIAL = {
    "architecture": {
        "base": "tiny_base.yaml",
        "mode": "factorial",
        "knobs": {
            "ratio": {"path": "feed_forward.ratio", "choices": [4, 3]},
            "groups": {"path": "norm.groups", "choices": [8, 3]},
            "channels": {"edits": {"base": {}, "wide": {"stages.*.channels": 24}}},
        },
    },
    "settings": {"count_only": True, "latent": 8, "latency": "none", "seeds": [0], "tracker": "none"},
}


def test_ones_own_factorial_study_runs_from_a_path_and_names_what_a_rule_refuses(workplace, capsys):
    write_yaml(Path("mine/two_knobs.yaml"), FACTORIAL)
    command = ["ablate", "mine/two_knobs.yaml", "launcher=debug"]
    assert main([*command, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "6 of 6 would run" in plan
    for ratio in (4, 3):
        assert f"ratio={ratio}, groups=3, channels=base is left out, a rule refuses it: " in plan
    assert main(command) == 0
    manifest = read_manifest(Path("runs"), "two_knobs")
    assert len(manifest.rungs) == 6
    assert {tuple(rung.levels) for rung in manifest.rungs} == {("ratio", "groups", "channels")}
    assert set(manifest.refused) == {f"ratio={ratio}, groups=3, channels=base" for ratio in (4, 3)}
    assert Path("runs/two_knobs/report.html").is_file()


def test_a_file_here_is_named_by_its_path_and_the_sentence_says_so(workplace, capsys):
    Path("mine.yaml").write_text("base: tiny_base.yaml\n")
    assert main(["ablate", "mine"]) == 2
    assert "the file mine.yaml is named by its path: give mine.yaml" in capsys.readouterr().err
    assert main(["measure", "mine"]) == 2
    assert "the file mine.yaml is named by its path: give it" in capsys.readouterr().err


def test_a_mode_that_there_is_not_lists_those_that_there_are(workplace, capsys):
    write_yaml(Path("mine/typo.yaml"), {"architecture": {**FACTORIAL["architecture"], "mode": "factoral"}})
    assert main(["ablate", "mine/typo.yaml"]) == 2
    assert "choose one of: factorial, cumulative, one_at_a_time" in capsys.readouterr().err
