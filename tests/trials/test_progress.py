"""The board: the newest trials, a row a name and a column a seed, at a cost that does not grow with the trials."""

import io
import sys
from types import SimpleNamespace

from rich.console import Console

from harness.launch.events import Progress
from harness.trials import progress
from harness.trials.progress import PLAIN_EVERY_S, ROWS, Show


def spec(name, seed=0, key=None):
    return SimpleNamespace(name=name, seed=seed, key=key or f"{name}-{seed}", label=name)


def drawn(show):
    console = Console(file=io.StringIO(), width=80)
    console.print(show._table())
    return console.file.getvalue()


def lines_run(function):
    """Lines of the board's own file that a call runs."""
    count, code = 0, Show.add.__code__.co_filename

    def trace(frame, event, _argument):
        nonlocal count
        count += event == "line" and frame.f_code.co_filename == code
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)
    return count


def test_the_newest_names_are_shown_with_what_each_seed_says():
    show = Show(Console(file=io.StringIO()))
    for number in range(ROWS + 2):
        show.add(spec(f"trial-{number:02d}"))
    show.add(spec("trial-03", seed=1))
    show.running({"trial-03-1": Progress(phase="train", step=3, of=9, time=0.0)})
    text = drawn(show)
    names = [line.split("│")[1].strip() for line in text.splitlines() if "trial-" in line]
    assert names == [f"trial-{number:02d}" for number in range(2, ROWS + 2)]
    assert "seed 0" in text
    (row,) = [line for line in text.splitlines() if "trial-03" in line]
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["waiting", "train 3/9"]


def test_a_promoted_candidate_keeps_its_row_and_says_what_its_newest_trial_does():
    show = Show(Console(file=io.StringIO()))
    show.add(spec("trial-0", key="short"))
    show.add(spec("trial-1"))
    show.add(spec("trial-0", key="long"))
    show.running({"long": Progress(phase="sample", step=1, of=1, time=0.0)})
    rows = [line for line in drawn(show).splitlines() if "trial-" in line]
    assert ["trial-0" in row for row in rows] == [True, False]
    assert "sample" in rows[0]


def test_drawing_costs_the_same_after_thousands_of_trials():
    costs = []
    show = Show(Console(file=io.StringIO()))
    for number in range(3000):
        if number in (100, 2999):
            costs.append(lines_run(show._table))
        show.add(spec(f"trial-{number}"))
    assert costs[0] == costs[1]


def test_a_long_row_of_refused_candidates_is_told_of_and_a_short_one_is_not(monkeypatch):
    """Refusing 1,000 candidates takes minutes, in which nothing else is said."""
    show, now = Show(Console(file=io.StringIO(), width=120)), SimpleNamespace(s=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.s)
    for row in (2, 5):
        for count in range(1, row + 1):
            show.refused(count, f"reason {count}")
            now.s += 0.4 * PLAIN_EVERY_S
    printed = show.console.file.getvalue()
    assert printed == "4 candidates in a row were refused, the last because reason 4\n"
