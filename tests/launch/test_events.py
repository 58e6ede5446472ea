"""The logs of attempts survive a death or a full disk at any byte of a line."""

import os
from pathlib import Path

import pytest

from harness.launch.attempt import current_attempt, new_attempt
from harness.launch.events import log_event, read_events, read_progress
from harness.launch.observe import work_log_of
from harness.records.errors import UserError


def test_a_line_cut_at_any_byte_costs_that_line_alone(tmp_path: Path) -> None:
    """Also inside a character of several bytes."""
    log = tmp_path / "attempts.log"
    log_event(tmp_path, "started", key="first", attempt="attempt-001")
    before = log.read_bytes()
    log_event(tmp_path, "failed", key="cut", attempt="attempt-001", error="größer")
    line = log.read_bytes().removeprefix(before)
    for length in range(len(line)):
        log.write_bytes(before + line[:length])
        log_event(tmp_path, "finished", key="first", attempt="attempt-001")
        events = [(event["key"], event["event"]) for event in read_events(tmp_path)]
        whole = length == len(line) - 1  # all but its end: the next line ends it
        assert events == [("first", "started"), *[("cut", "failed")] * whole, ("first", "finished")]
        assert [job.key for job in work_log_of(tmp_path).finished] == ["first"]
        assert ("1 of its lines" in work_log_of(tmp_path).damage) == (length > 0 and not whole)


def test_a_full_disk_is_said_though_the_write_took_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(UserError, match="No space left on device"):
        log_event(tmp_path, "started", key="k", attempt="attempt-001")


@pytest.mark.parametrize("torn", [b"", b'{"state": "do', b'{"value": "caf\xc3', bytes(60), b"[1]"])
def test_an_attempts_file_that_a_power_loss_tore_is_as_if_it_were_not_there(tmp_path: Path, torn: bytes) -> None:
    """The attempt is lost then, and another follows; no reader of these files ends in a traceback."""
    attempt = new_attempt(tmp_path / "key")
    attempt.make_current()
    assert attempt.is_current
    for name in ("result.json", "submitted.json", "timeouts", "progress.json"):
        (attempt.folder / name).write_bytes(torn)
    assert attempt.result() is None
    assert attempt.submitted() == {}
    assert attempt.timeouts_of_key() == 0
    assert read_progress(attempt.folder) is None
    (tmp_path / "key" / "current").write_bytes(torn)
    assert current_attempt(tmp_path / "key") is None
