"""`harness status` of chains: what ran of each stage, and what is at work."""

import json

import pytest

from harness.chain.runner import COMMAND_LOCK, Ran, _log, read_log
from harness.cli import main
from harness.processes.locks import FileLock, lock_driver

LOG = [
    Ran("search", "harness sweep S", 0.0, 60.0, -9),
    Ran("search", "harness sweep S", 0.0, 30.0, 0),
    Ran("train", "harness train T", 0.0, 10.0, 2),
]


@pytest.fixture
def output_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "runs" / "chains" / "mine"
    folder.mkdir(parents=True)
    for ran in LOG:
        _log(folder, ran)

    def call(*words: str) -> str:
        assert main(["status", *words]) == 0
        return " ".join(capsys.readouterr().out.split())

    return call


def test_its_stages_and_how_their_newest_command_ended(output_of):
    assert "chains/mine chain none runs 1 done, 1 stopped or failed" in output_of()
    shown = output_of("chains/mine")
    assert "search 90 s 2 with 0: harness sweep S" in shown
    assert "train 10 s 1 with 2: harness train T" in shown
    plain = json.loads(output_of("chains/mine", "--json"))
    assert (plain["kind"], [each["seconds"] for each in plain["stages"]]) == ("chain", [90.0, 10.0])


def test_a_line_that_a_kill_cut_costs_that_line_alone(tmp_path):
    for ran in LOG[:2]:
        _log(tmp_path, ran)
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    _log(tmp_path, LOG[2])
    assert read_log(tmp_path) == [LOG[0], LOG[2]]


def test_the_command_at_work(output_of, tmp_path):
    """A chain's own, or one whose study has a driver: of that chain, not of another."""
    folder, out = tmp_path / "runs" / "chains" / "mine", tmp_path / "runs"
    lock = FileLock.acquire(folder / COMMAND_LOCK, command="harness export T")
    assert lock is not None
    with lock:
        assert "running `harness export T`" in output_of("chains/mine")
    for chain, expected in (("others", False), ("mine", True)):
        attempts = out / chain / "attempts"
        attempts.mkdir(parents=True)
        command = f"harness train runs/chains/{chain}/T.yaml"
        lock = FileLock.acquire(attempts / "driver.lock", command=command)
        assert lock is not None
        with lock:
            assert (f"running `{command}`" in output_of("chains/mine")) is expected
    with lock_driver(folder):
        assert "none runs" not in output_of("chains/mine")


def test_a_chain_that_was_not_begun_is_one_sentence(output_of, capsys):
    assert main(["status", "chains/other"]) == 2
    assert "unknown study in runs: 'chains/other'; choose one of: chains/mine" in capsys.readouterr().err
