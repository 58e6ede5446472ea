"""`harness sweep NAME`: search, then the Pareto front as a table."""

import argparse

from rich.console import Console
from rich.table import Table

from harness.search.candidates import candidate_name
from harness.search.driver import Swept, sweep
from harness.trials.progress import Show


def run(arguments: argparse.Namespace) -> int:
    show = Show()
    swept = sweep(arguments.name, arguments.overrides, show)
    show.note(swept.ending)
    Console().print(_front(swept))
    print(swept.place)
    return 0


def _front(swept: Swept) -> Table:
    """The candidates that no other beats in every objective, limits met."""
    names = swept.study.metric_names or []
    table = Table("trial", *names, "candidate", title="Pareto front")
    for trial in sorted(swept.study.best_trials, key=lambda trial: trial.values):
        chosen = ", ".join(f"{knob}={value}" for knob, value in trial.params.items())
        table.add_row(candidate_name(trial.number), *(f"{value:.6g}" for value in trial.values), chosen)
    return table
