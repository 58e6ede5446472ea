"""`harness clean`: what it names goes and nothing else, and every study goes on as if it had never been called."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml
from tiny_study import SETTINGS, SWEEP, lay_out, share_cache, write_yaml

from harness.cli import main
from harness.commands import clean
from harness.launch.events import read_events
from harness.processes.locks import FileLock, lock_driver
from harness.records.record import Measurement, TrialRecord
from harness.records.store import Store
from harness.search import driver
from harness.search.study import stored_study
from harness.trials.tasks import denoise

HEX = "0123456789abcdef" * 2
TIMES = ("train_seconds",)


def files(folder: Path = Path("runs")) -> dict[str, bytes]:
    """All files below, the cache left out."""
    return {
        path.as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and "cache" not in path.parts
    }


def listed(capsys, *words: str) -> list[str]:
    """What `harness clean --json` says that it removes, or would."""
    capsys.readouterr()
    assert main(["clean", "--json", *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == sum(one["bytes"] for one in answer["removed"])
    return [one["path"] for one in answer["removed"]]


@pytest.fixture(scope="module")
def counted(tmp_path_factory, cache):
    """A working directory with a finished study that only counts."""
    folder = lay_out(tmp_path_factory.mktemp("counted"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["ablate", "tiny", "count_only=true"]) == 0
    return folder


@pytest.fixture
def finished(counted, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(counted, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_a_study_whose_yaml_says_where_it_lies_is_found_there(finished, capsys):
    path = Path("sweeps/tiny.yaml")
    content = yaml.safe_load(path.read_text())
    write_yaml(path, {**content, "settings": {**content["settings"], "out": "elsewhere"}})
    Path("runs").rename("elsewhere")
    assert main(["clean", "tiny", "--dry-run", "--json"]) == 0
    assert all(each["path"].startswith("elsewhere/") for each in json.loads(capsys.readouterr().out)["removed"])
    assert main(["promote", "tiny", "base", "--to", "base.yaml"]) == 0
    assert "# base of tiny" in Path("base.yaml").read_text()


@pytest.fixture
def littered(finished):
    """The finished study, and what accidents left beside it."""
    orphan = Path("runs/store/artifacts/00000000deadbeef/ema.safetensors")
    temporary = Path(f"runs/store/trials/.0123.json.{HEX}")
    young = Path(f"runs/store/trials/.4567.json.{HEX}")
    for path in (orphan, temporary, young):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    os.utime(temporary, (1, 1))
    record = next(Store(Path("runs/store")).trials())
    kept = Store(Path("runs/store")).artifact(record.key, "samples.png")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"picture")
    return finished


def test_a_dry_run_changes_nothing_and_lists_exactly_what_the_real_one_removes(littered, capsys):
    before = files()
    announced = listed(capsys, "--dry-run")
    assert files() == before
    assert listed(capsys) == announced
    removed = {path for path in before if path not in files()}
    assert removed == {path for path in before if any(Path(path).is_relative_to(one) for one in announced)}
    assert {"runs/store/artifacts/00000000deadbeef", f"runs/store/trials/.0123.json.{HEX}"} <= set(announced)
    assert f"runs/store/trials/.4567.json.{HEX}" in files(), "its writer may still be at work"
    assert listed(capsys) == []


def test_records_studies_reports_and_the_proof_stay_and_nothing_runs_again(littered, capsys):
    before = files()
    assert main(["clean"]) == 0
    after = files()
    for path in before:
        if path.endswith((".json", ".html", "attempts.log", "samples.png")) and "progress" not in path:
            assert after[path] == before[path]
    events = read_events(Path("runs/tiny/attempts"))
    assert main(["ablate", "tiny", "count_only=true"]) == 0
    assert read_events(Path("runs/tiny/attempts")) == events


def test_parts_of_scores_go_when_the_score_is_stored_or_nobody_goes_on_with_them(finished, capsys):
    store, day = Store(Path("runs/store")), 24 * 3600.0
    measured = Measurement(subject="score", settings={}, quantities={}, provenance={})
    store.put(measured)
    ages = {measured.key: 2 * 3600.0, "0" * 16: 2 * 3600.0, "1" * 16: 8 * day, "2" * 16: 8 * day}
    for key, age in ages.items():
        folder = Path("runs/scores/parts") / key
        folder.mkdir(parents=True)
        for path in (folder / "000000-000064.npz", folder / "000064-000128.lock", folder):
            if path != folder:
                path.touch()
            os.utime(path, (time.time() - age,) * 2)
    with FileLock.acquire(Path("runs/scores/parts") / ("2" * 16) / "000064-000128.lock") as lock:
        os.utime(lock.path, (1, 1))
        removed = [path for path in listed(capsys) if "scores" in path]
    assert set(removed) == {f"runs/scores/parts/{key}" for key in ("1" * 16, measured.key)}
    assert listed(capsys) == [f"runs/scores/parts/{'2' * 16}"]
    assert Path("runs/scores/parts", "0" * 16).is_dir(), "the same command goes on with them"


def test_packages_go_a_week_after_their_trial_has_no_record(finished, capsys):
    (key, *_) = Store(Path("runs/store")).keys(TrialRecord)
    ages = {key: 8, "0" * 16: 8, "1" * 16: 6}  # days
    for name, age in ages.items():
        package = Path("runs/packages", name, "6.mlpackage")
        package.mkdir(parents=True)
        for path in (package / "Manifest.json", package, package.parent):
            if path != package and path != package.parent:
                path.touch()
            os.utime(path, (time.time() - age * 24 * 3600.0,) * 2)
    assert [path for path in listed(capsys) if "packages" in path] == [f"runs/packages/{'0' * 16}"]
    assert Path("runs/packages", key).is_dir()


def test_a_lost_record_still_comes_back_from_its_jobs_result(littered):
    store = Store(Path("runs/store"))
    records = list(store.trials())
    assert main(["clean"]) == 0
    shutil.rmtree("runs/store/trials")
    assert main(["ablate", "tiny", "count_only=true"]) == 0
    assert list(store.trials()) == records
    assert len([line for line in read_events(Path("runs/tiny/attempts")) if line["event"] == "finished"]) == 2


def test_a_kill_in_the_middle_is_continued_by_the_same_command(littered, capsys, monkeypatch):
    announced = listed(capsys, "--dry-run")
    removed = []

    def killed(path):
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path)

    remove = clean.remove
    with monkeypatch.context() as killing:
        killing.setattr(clean, "remove", killed)
        assert main(["clean"]) == 130
    assert listed(capsys) == announced[2:]


def test_one_study_by_name_leaves_what_is_shared(littered, capsys):
    announced = listed(capsys, "tiny")
    assert announced
    assert all(path.startswith("runs/tiny/") for path in announced)


def test_the_table_says_how_many_bytes(littered, capsys):
    assert main(["clean", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "would be removed" in output
    assert "artifacts without a record" in output


def test_caches_go_only_if_asked_for_and_never_through_a_link(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs/cache/prompts").mkdir(parents=True)
    Path("other").mkdir()
    Path("other/cache").symlink_to("../runs/cache")
    assert listed(capsys) == []
    assert listed(capsys, "out=other", "--cache") == []
    assert listed(capsys, "--cache") == ["runs/cache/prompts"]
    assert not Path("runs/cache/prompts").exists()


def test_a_study_that_is_driven_is_refused(littered, refused):
    lock = lock_driver(Path("runs/tiny/attempts"))
    before = files()
    for words in (["clean"], ["clean", "tiny"], ["clean", "tiny", "--dry-run"]):
        assert f"another driver (process {os.getpid()} on " in refused(*words)
    assert files() == before
    lock.release()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("clean out=nowhere", "there is no folder nowhere; say where the studies wrote with out=FOLDER"),
        ("clean tinny", "unknown study in runs: 'tinny'; choose one of: tiny"),
        ("clean tiny --cache", "leave out NAME ('tiny')"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/tiny/attempts").mkdir(parents=True)
    assert sentence in refused(*words.split())


# with real trainings


def measured(record):
    return {name: quantity for name, quantity in record.quantities.items() if name not in TIMES}


def results(out: str):
    return {record.key: (measured(record), record.curve) for record in Store(Path(out, "store")).trials()}


def interrupted_once(monkeypatch, *, before: int):
    """The scoring number `before` is interrupted, after its training."""
    score, scorings = denoise.Denoise.score, iter(range(99))

    def score_or_stop(self, *arguments):
        if next(scorings) == before:
            raise KeyboardInterrupt
        return score(self, *arguments)

    monkeypatch.setattr(denoise.Denoise, "score", score_or_stop)


@pytest.mark.slow
def test_a_half_finished_ablation_continues_bit_identically_after_it(workplace, cache, monkeypatch, capsys):
    share_cache(Path("straight"), cache)
    assert main(["ablate", "tiny", "out=straight"]) == 0
    with monkeypatch.context() as stopping:
        interrupted_once(stopping, before=1)
        assert main(["ablate", "tiny"]) == 130
    saved = [path for path in files() if "/shared/checkpoints/" in path]
    assert saved
    assert main(["clean"]) == 0
    assert set(saved) <= set(files()), "what the half-finished trial goes on from"
    assert main(["ablate", "tiny"]) == 0
    assert results("runs") == results("straight")
    resumed = [line for line in read_events(Path("runs/tiny/attempts")) if line["event"] == "resumed"]
    assert len(resumed) == 1, "and the finished one did not run again"


@pytest.mark.slow
def test_a_half_finished_sweep_continues_bit_identically_after_it(workplace, cache, monkeypatch, capsys):
    settings = {name: value for name, value in SETTINGS.items() if name != "recipe.steps"}
    write_yaml(
        Path("sweeps/search.yaml"), {**SWEEP, "trials": 3, "budgets": [4, 7], "reduction": 2, "settings": settings}
    )
    monkeypatch.setattr(driver, "floor_of", lambda *_: 1e6)
    share_cache(Path("uncleaned"), cache)
    for out in ("uncleaned", "runs"):  # stopped at the same place: a restarted sampler asks for other candidates
        with monkeypatch.context() as stopping:
            interrupted_once(stopping, before=2)
            assert main(["sweep", "search", f"out={out}"]) == 130
    kept = {folder.name for folder in Path("runs/search/checkpoints").iterdir()}
    stray = Path("runs/search/checkpoints/00000000deadbeef/checkpoint-00000004/state.json")
    stray.parent.mkdir(parents=True)
    stray.write_text("of a candidate that is none any more")
    assert "runs/search/checkpoints/00000000deadbeef" in listed(capsys, "search")
    assert {folder.name for folder in Path("runs/search/checkpoints").iterdir()} == kept != set()
    for out in ("uncleaned", "runs"):
        assert main(["sweep", "search", f"out={out}"]) == 0
    assert results("runs") == results("uncleaned")
    values = [[trial.values for trial in _study(out).trials] for out in ("runs", "uncleaned")]
    assert values[0] == values[1]
    events = read_events(Path("runs/search/attempts"))
    assert main(["clean", "search"]) == 0
    assert main(["sweep", "search"]) == 0
    assert read_events(Path("runs/search/attempts")) == events, "everything is found finished"


def _study(out: str):
    stored = stored_study(Path(out, "search"), "search")
    assert stored is not None
    return stored
