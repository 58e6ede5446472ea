"""A beat counts from 1 without gaps, survives a file system that hiccups, and is silent after its exit."""

import threading
import time

from harness.records.beat import Beat


def test_it_counts_from_one_the_first_at_once_and_never_after_the_exit():
    seen, enough = [], threading.Event()

    def beat(count: int) -> None:
        seen.append(count)
        if count == 3:
            enough.set()

    with Beat(beat, 0.01):
        assert enough.wait(10)
    ended = len(seen)
    time.sleep(0.05)
    assert seen == list(range(1, ended + 1))
    with Beat(seen.append, 1000):
        while len(seen) == ended:  # at once, not after the 1,000 s; the exit does not wait for them either
            time.sleep(0.001)


def test_a_file_system_that_hiccups_costs_a_beat_and_no_more():
    seen, third = [], threading.Event()

    def beat(count: int) -> None:
        seen.append(count)
        if count < 3:
            raise OSError("stale file handle")
        third.set()

    with Beat(beat, 0.01):
        assert third.wait(10)
    assert seen[:3] == [1, 2, 3]
