"""Every storage opens in plain Optuna and in optuna-dashboard, with the constraints in both; one folder drives it."""

import io
import json
import re
from pathlib import Path

import optuna
import pytest
from fake_sweep import World
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial
from optuna_dashboard._serializer import serialize_frozen_trial, serialize_study_detail
from sqlalchemy import Engine, event

from harness.cli import main
from harness.records.errors import UserError
from harness.search import candidates
from harness.search.candidates import constraint_attributes, violations_of
from harness.search.study import (
    check_storage,
    cut_incomplete_line,
    mend_journal,
    open_storage,
    open_study,
    place,
    stored_study,
)

LIMITS = {"macs": 20_000, "params": 10**9}


def opened(kind, folder: Path):
    if kind == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return f"sqlite:///{folder / 'study.db' if kind == 'sqlite' else folder.parent / 'elsewhere.db'}"


@pytest.mark.parametrize("kind", ["sqlite", "journal", "url"])
def test_plain_optuna_and_the_dashboard_open_it_with_its_constraints(tmp_path, cheap, kind):
    folder = tmp_path / "fake"
    folder.mkdir()
    world = World(folder)
    setting = f"sqlite:///{tmp_path / 'elsewhere.db'}" if kind == "url" else kind
    world.run(trials=9, budgets=(100, 300), limits={"macs": 20_000}, storage=setting)
    study = optuna.load_study(study_name="fake", storage=opened(kind, folder))
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert study.metric_names == ["kid", "macs"]
    refused = [trial for trial in study.trials if "refused" in trial.user_attrs]
    assert refused
    for trial in study.trials:
        excess = trial.user_attrs["macs"] / 20_000 - 1
        assert trial.constraints["macs"] == pytest.approx(excess)
        shown = serialize_frozen_trial(study._study_id, trial, attributes)
        assert shown["constraints"] == [pytest.approx(excess)]
        assert (excess > 0) == (trial in refused)
    assert all(trial.constraints["macs"] <= 0 for trial in study.best_trials)
    detail = serialize_study_detail(
        study._storage.get_all_studies()[0],
        study.best_trials, study.trials, [], [], [], False, {}, [],
    )  # fmt: skip
    json.dumps(detail, allow_nan=False)
    stored = stored_study(folder, "fake")
    assert [trial.number for trial in stored.trials] == [trial.number for trial in study.trials]


def test_the_list_alone_hides_the_constraint_from_nobody_but_names_are_lost(monkeypatch):
    """Both forms are needed: with Optuna's alone the dashboard takes every trial for feasible."""
    study = optuna.create_study(directions=["minimize"] * 2)
    trial = study.ask()
    trial.set_constraint("macs", 0.5)
    shown = serialize_frozen_trial(0, study.trials[0], {})
    assert shown["constraints"] == []
    both = constraint_attributes({"macs": 0.5, "params": -0.25})
    assert violations_of(both) == {"macs": 0.5, "params": -0.25}
    assert both["constraints"] == [0.5, -0.25]


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_it_goes_on_in_the_same_storage_and_no_other(tmp_path, cheap, kind):
    world = World(tmp_path)
    world.run(trials=3, storage=kind)
    world.run(trials=5, storage=kind)
    assert len(world.trials(TrialState.COMPLETE)) == 5
    other = "journal" if kind == "sqlite" else "sqlite"
    with pytest.raises(UserError, match=f"lies in storage={kind}, not {other}"):
        world.run(trials=6, storage=other)


def test_a_study_on_a_server_is_driven_from_one_folder(tmp_path, cheap):
    """Two folders have two locks, so the study itself refuses the second one."""
    url = f"sqlite:///{tmp_path / 'server.db'}"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    World(tmp_path / "one").run(trials=2, storage=url)
    with pytest.raises(UserError, match=f"is driven from {tmp_path / 'one'}"):
        World(tmp_path / "two").run(trials=2, storage=url)
    (tmp_path / "one").rename(tmp_path / "moved")
    world = World(tmp_path / "moved")
    world.run(trials=3, storage=url)
    assert len(world.trials()) == 3, "a folder that was moved is still the same"


def test_a_kill_before_the_folder_was_noted_is_mended(tmp_path, cheap):
    world = World(tmp_path)
    world.run(trials=2)
    (tmp_path / "sweep.json").unlink()
    world.run(trials=3)
    assert len(world.trials()) == 3


def test_unknown_storages_and_passwords():
    with pytest.raises(UserError, match="unknown storage 'sqlit'; choose one of: sqlite, "):
        check_storage("sqlit")
    shown = place(Path("x"), "postgresql://me:secret@host/db")
    assert shown == "postgresql://me@host/db"


def test_a_server_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot open the study /no/such/folder/x"):
        open_storage(tmp_path, "sqlite:////no/such/folder/x.db")


def test_attributes_of_the_sampler_are_not_constraints():
    plain = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        user_attrs={"fingerprint": "f"},
        system_attrs={"NSGAIISampler:generation": 2, **constraint_attributes({"macs": 1.0})},
    )
    assert candidates.candidate_of(plain).sampler_attributes == {"NSGAIISampler:generation": 2}


@pytest.mark.parametrize("storage", ["sqlite:///sub/my.db", "sqlite+pysqlite:///sub/my.db"])
def test_a_database_in_a_folder_below_out_is_made_and_shown_by_its_path(tmp_path, storage):
    folder = tmp_path / "runs" / "study"
    folder.mkdir(parents=True)
    open_study(folder, "study", storage, open_storage(folder, storage), {"kid": "minimize"})
    assert (tmp_path / "runs" / "sub" / "my.db").is_file()
    assert place(folder, storage) == str(tmp_path / "runs" / "sub" / "my.db")


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "{a}", "a b", "ü;&=", "[a]"])
@pytest.mark.parametrize("storage", ["sqlite", "sqlite:///my.db"])
def test_a_folder_may_be_called_anything(tmp_path, name, storage):
    folder = tmp_path / name / "study"
    folder.mkdir(parents=True)
    open_study(folder, "study", storage, open_storage(folder, storage), {"kid": "minimize"})
    assert stored_study(folder, "study").metric_names == ["kid"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    file = folder / "study.db" if storage == "sqlite" else folder.parent / "my.db"
    assert file.is_file()
    assert place(folder, storage) == str(file)


def test_a_database_is_shown_by_the_path_that_is_opened(tmp_path):
    """Of a URL, in which `%20` is a blank."""
    storage = f"sqlite:///{tmp_path}/my%20study%23.db"
    open_storage(tmp_path / "sweep", storage)
    assert Path(place(tmp_path / "sweep", storage)).is_file()


def test_a_relative_database_lies_below_the_output_folder_wherever_it_is_opened_from(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "study"
    folder.mkdir(parents=True)
    for number, working in enumerate(("here", "there")):
        (tmp_path / working).mkdir()
        monkeypatch.chdir(tmp_path / working)
        study = open_study(
            folder, "study", "sqlite:///my.db", open_storage(folder, "sqlite:///my.db"), {"kid": "minimize"}
        )
        assert len(study.trials) == number
        study.add_trial(create_trial(value=0.5))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["my.db", "study"]


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("foo://host/x", "storage=foo://host/x is no database's URL"),
        ("postgresql://me:secret@host:x/db", "storage=postgresql://me@host:x/db is no database's URL"),
        ("sqlite://", "storage=sqlite:// keeps nothing after the driver's end; name a file"),
        (
            "sqlite://my.db",
            "has two slashes, after which a host would come; a file takes three slashes, sqlite:///my.db",
        ),
        ("sqlite://sub/my.db", "a file takes three slashes, sqlite:///sub/my.db"),
        ("sqlite:///:memory:", "keeps nothing after the driver's end"),
        ("oracle+oracledb://host/x", "needs the Python package oracledb, which is not installed"),
    ],
)
def test_a_database_that_cannot_be_asked_is_refused_before_it_is(storage, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)) as refused:
        check_storage(storage)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99, 1.0])
def test_a_journal_cut_in_its_last_line_goes_on(tmp_path, cheap, share):
    """As a kill or a full disk leaves it; also where only the end of the line is missing."""
    world, journal = World(tmp_path), tmp_path / "study.journal"
    world.run(trials=4, storage="journal")
    whole = journal.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    journal.write_bytes(whole + last[: int(share * (len(last) - 1))])
    mend_journal(tmp_path)
    assert journal.read_bytes() == whole
    world.run(trials=6, storage="journal")
    assert len([trial for trial in stored_study(tmp_path, "fake").trials if trial.state == TrialState.COMPLETE]) == 6


def test_the_driver_mends_the_journal_that_it_goes_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = tmp_path / "runs" / "search" / "study.journal"
    Path("search.yaml").write_text(
        "space: laptop\nobjectives: {macs: minimize}\nsampler: random\nstorage: journal\ntrials: 2\n"
        "settings: {count_only: true, latency: none, coreml: none, tracker: none, seeds: [0], launcher: debug}\n"
    )
    assert main(["sweep", "search.yaml"]) == 0
    journal.write_bytes(journal.read_bytes() + b'{"op_code":6,"worker')
    assert main(["sweep", "search.yaml", "trials=3"]) == 0
    assert main(["sweep", "search.yaml", "trials=4"]) == 0
    states = [trial.state for trial in stored_study(journal.parent, "search").trials]
    assert states.count(TrialState.COMPLETE) == 4


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize(
    ("content", "left"), [(b"", b""), (b"ab", b""), (b"a\n", b"a\n"), (b"a\nbc\nde", b"a\nbc\n"), (b"\n\nx", b"\n\n")]
)
def test_only_an_incomplete_last_line_is_cut(content, left, block):
    file = io.BytesIO(content)
    cut_incomplete_line(file, block)
    assert file.getvalue() == left


def test_a_study_that_cannot_be_written_says_so(tmp_path, cheap):
    def read_only(connection, _record):
        connection.execute("PRAGMA query_only = ON")

    World(tmp_path).run(trials=2)
    event.listen(Engine, "connect", read_only)
    try:
        with pytest.raises(UserError, match="attempt to write a readonly database") as refused:
            World(tmp_path).run(trials=4)
    finally:
        event.remove(Engine, "connect", read_only)
    assert "max length" not in str(refused.value)


def test_a_stopped_candidate_shows_its_values_to_plain_optuna_and_the_dashboard(tmp_path, cheap):
    World(tmp_path).run(trials=9, budgets=(100, 300))
    study = optuna.load_study(study_name="fake", storage=f"sqlite:///{tmp_path / 'study.db'}")
    attributes = study._storage.get_study_system_attrs(study._study_id)
    stopped = [trial for trial in study.trials if "stopped" in trial.user_attrs]
    assert stopped
    for trial in stopped:
        assert trial.values == trial.user_attrs["levels"][-1]["values"]
        assert serialize_frozen_trial(study._study_id, trial, attributes)["values"] == trial.values
    assert not {trial.number for trial in stopped} & {trial.number for trial in study.best_trials}
