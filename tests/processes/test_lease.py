"""A heartbeat counts from 1 without gaps, survives a file system that hiccups, and is silent after its exit."""

import time
from pathlib import Path

import pytest

from harness.processes.lease import Heartbeat


def wait_for(path: Path, count: int) -> None:
    """Until the count is there or past: a reader of a busy machine does not see every beat."""
    deadline = time.monotonic() + 10
    while not path.exists() or int(path.read_text().removeprefix("me ") or 0) < count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_it_counts_from_one_the_first_at_once_and_never_after_the_exit(tmp_path, monkeypatch):
    counts = []
    beat = Heartbeat._beat
    monkeypatch.setattr(Heartbeat, "_beat", lambda self, count: counts.append(count) or beat(self, count))
    lease = tmp_path / "folder" / "lease"
    with Heartbeat(lease, 0.01, owner="me"):
        wait_for(lease, 5)
    ended = len(counts)
    time.sleep(0.05)
    assert counts == list(range(1, ended + 1))
    assert not lease.exists()
    with Heartbeat(lease, 1000, owner="me"):  # at once, not after the 1,000 s; the exit does not wait for them either
        wait_for(lease, 1)


def test_a_file_system_that_hiccups_costs_a_beat_and_no_more(tmp_path, monkeypatch):
    beat = Heartbeat._beat

    def hiccups(self, count):
        if count < 3:
            raise OSError("stale file handle")
        beat(self, count)

    monkeypatch.setattr(Heartbeat, "_beat", hiccups)
    with Heartbeat(tmp_path / "lease", 0.01, owner="me"):
        wait_for(tmp_path / "lease", 3)


@pytest.mark.parametrize("cut", ["", "m"])
def test_a_line_cut_short_is_still_ones_own(tmp_path, cut):
    lease, lost = tmp_path / "lease", []
    with Heartbeat(lease, 1000, owner="me", on_lost=lambda: lost.append(1)) as heartbeat:
        wait_for(lease, 1)
        lease.write_text(cut)
        heartbeat._beat(2)
        assert lease.read_text() == "me 2"
    assert not lost
