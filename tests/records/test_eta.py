"""What is said of a long work: an estimate; of a short one: nothing. The parts come through as they are."""

import io

import pytest
from rich.console import Console

from harness.records import eta
from harness.records.eta import duration, with_eta


class Clock:
    """A clock that each part moves on by `step` seconds."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def parts(self, count: int):
        for index in range(count):
            self.now += self.step
            yield index


def lines(monkeypatch, *, step: float, count: int) -> list[str]:
    clock, console = Clock(step), Console(file=io.StringIO(), width=40)
    monkeypatch.setattr(eta.time, "monotonic", lambda: clock.now)
    assert list(with_eta(clock.parts(count), "reading [/images]", count, console=console)) == list(range(count))
    return console.file.getvalue().splitlines()


def test_a_long_work_says_every_ten_seconds_how_much_is_left(monkeypatch):
    printed = lines(monkeypatch, step=4.0, count=3000)
    assert printed[0] == "reading [/images]: 3 of 3,000, about 3 h 20 min left"  # 2,997 parts of 4 s
    assert len(printed) == 3000 // 3 - 1  # the last part ends it
    assert printed[-1] == "reading [/images]: 2,997 of 3,000, about 12 s left"


def test_a_short_work_says_nothing(monkeypatch):
    assert lines(monkeypatch, step=0.01, count=900) == []


def test_a_terminal_shows_a_bar_that_goes_again(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert list(with_eta(iter("abc"), "reading [/images]", 3, console=console)) == ["a", "b", "c"]
    shown = console.file.getvalue()
    assert "reading [/images]" in shown
    assert "3/3" in shown
    assert shown.endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.2, "45 s"), (720, "12 min"), (11_100, "3 h 05 min"), (188_000, "2 d 4 h")]
)
def test_a_duration_for_people(seconds, text):
    assert duration(seconds) == text
