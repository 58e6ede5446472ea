"""`harness sweep NAME`: search, then its Pareto front and what its re-scored finalists tell, as tables."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.conclusions import Conclusions, RescoredObjective
from harness.records.errors import UserError, of_file

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from rich.table import Table

    from harness.search.driver import DryRun, Proposed, Swept


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run",
        type=int,
        nargs="?",
        const=5,
        metavar="N",
        help="show the next N trainings and how they would be submitted; run and write nothing; default 5",
    )


def check(arguments: argparse.Namespace) -> None:
    from harness.architecture.catalogue import architecture
    from harness.commands.report import check_page
    from harness.search.definition import sweep_study
    from harness.trials.checks import check_study
    from harness.trials.studies import SWEEPS, find_study, read_study

    definition, settings = sweep_study(arguments.name, arguments.overrides)
    with of_file(find_study(SWEEPS, arguments.name)):
        base = read_study("search_spaces", definition.space).get("base")
    architectures = [architecture(base)] if isinstance(base, str) else []
    check_page("sweep", Path(arguments.name).stem, definition.report, settings.task.judging)
    name, is_dry = Path(arguments.name).stem, arguments.dry_run is not None
    check_study(settings, architectures, name=name, kind="sweep", dry_run=is_dry)


def run(arguments: argparse.Namespace) -> int:
    """0; 1 if all that was trained failed: the page is written all the same."""
    from harness.commands.report import report
    from harness.records.terminal import console
    from harness.search.driver import sweep
    from harness.search.finalists import conclude
    from harness.trials.progress import Show

    show, terminal = Show(), console()
    if arguments.dry_run is not None:
        return _dry_run(arguments)
    swept = sweep(arguments.name, arguments.overrides, show)
    show.note(swept.ending)
    if (front := _front(swept)).row_count:
        terminal.print("Pareto front of the search's own values", front, sep="\n")
    if (conclusions := conclude(swept.study)) is not None:
        terminal.print("Finalists, re-scored with fresh seeds and samples", _finalists(conclusions), sep="\n")
        of_study = [*best_of_each(conclusions, swept.study), *at_an_end(conclusions, swept.study)]
        for line in [*remarks(conclusions), *of_study]:
            terminal.print(line, soft_wrap=True)
    print(swept.place)
    print(report(swept.settings.out, Path(arguments.name).stem))
    return 1 if swept.failed else 0


VERB = Verb(
    summary="search an architecture space with Optuna",
    name="a sweep in sweeps/, or the path of its YAML",
    example="harness sweep laptop trials=20",
    settings="trials, sampler, sampler_seed, max_rejections, budgets, epochs, reduction, enqueue, storage, hours, "
    "gpu_hours, wait_hours, finalists, report",
    lists="sweeps",
    flags=flags,
    check=check,
    run=run,
)


def _dry_run(arguments: argparse.Namespace) -> int:
    from harness.search.definition import sweep_study
    from harness.search.driver import dry_run
    from harness.search.estimate import without_data

    if arguments.dry_run < 1:
        raise UserError(f"--dry-run shows at least 1 training, not {arguments.dry_run}")
    definition, settings = sweep_study(arguments.name, arguments.overrides)
    if settings.lacks_data:
        print(without_data(definition, settings))
        return 0
    print(dry_run_text(dry_run(arguments.name, arguments.overrides, arguments.dry_run)))
    return 0


def _front(swept: Swept) -> Table:
    """The candidates that no other beats in every objective, within the limits."""
    from rich.table import Table

    from harness.search.candidates import candidate_name, front_trials

    names = swept.study.metric_names or []
    table = Table("trial", *names, "candidate")
    for trial in front_trials(swept.study):
        table.add_row(candidate_name(trial.number), *(f"{value:.6g}" for value in trial.values), _chosen(trial.params))
    return table


def _finalists(conclusions: Conclusions) -> Table:
    """The search's values beside the re-scored ones; the best re-scored first."""
    from rich.table import Table

    table = Table("trial")
    for name in conclusions.directions:
        if name in conclusions.varying:
            for head in (name, f"{name} re-scored", "search - re-scored", "rank", "not told apart from"):
                table.add_column(head)
        else:
            table.add_column(name)
    table.add_column("front")
    for finalist in conclusions.finalists:
        cells = [_cells(finalist.objectives[name], name in conclusions.varying) for name in conclusions.directions]
        table.add_row(finalist.name, *itertools.chain(*cells), "yes" if finalist.on_front else "no")
    return table


def _cells(objective: RescoredObjective, varies: bool) -> list[str]:
    if not varies:
        return [f"{objective.mean:.6g}"]
    ties = ", ".join(f"{name} ≈" if name in objective.equivalent else name for name in objective.ties) or "none"
    return [
        f"{objective.search:.4g}",
        interval(objective),
        f"{objective.search_minus_mean:+.4g}",
        "beaten" if objective.rank is None else str(objective.rank),
        ties,
    ]


def interval(objective: RescoredObjective) -> str:
    """`0.412 ± 0.031 (k=3)`: the mean and its standard error."""
    error = "" if objective.standard_error is None else f" ± {objective.standard_error:.2g}"
    return f"{objective.mean:.4g}{error} (k={len(objective.scores)})"


def remarks(conclusions: Conclusions) -> list[str]:
    """What the table rests on, and what went wrong."""
    failed = {finalist.name: finalist.failures for finalist in conclusions.finalists if finalist.failures}
    lines = [
        "front and ranks are by the re-scored means, ± is their standard error over k fresh seeds; not told apart: the "
        f"difference's p, corrected for all pairs, is at least {1 - conclusions.level:.2g}; ≈ where each is proved to "
        f"lie within {conclusions.margin:.0%} of the other (two one-sided tests)",
        *(f"{name}: {sentence}" for name, sentence in conclusions.noise.items()),
    ]
    for name, reasons in {**failed, **conclusions.without_score}.items():
        lines.append(f"{name}: {len(reasons)} fresh training(s) failed: {'; '.join(dict.fromkeys(reasons))}")
    return lines


def best_of_each(conclusions: Conclusions, study: optuna.Study) -> list[str]:
    """Where finalists were chosen for each value of a knob, a line for each: who they are, and their first score."""
    from harness.search.study import DEFINITION

    knob = (study.user_attrs[DEFINITION]["finalists"] or {}).get("each")
    if knob is None:
        return []
    order = {str(value): at for at, value in enumerate(_values_of(knob, study))}
    finalists = sorted(conclusions.finalists, key=lambda each: order.get(str(each.parameters.get(knob)), len(order)))
    scored = conclusions.varying[0]
    return [
        f"{_chosen(each.parameters)}: {scored} {interval(each.objectives[scored])}, "
        f"{each.objectives[scored].search:.4g} in the search ({each.name})"
        for each in finalists
    ]


def _values_of(knob: str, study: optuna.Study) -> Sequence[object]:
    """A knob's choices in their order; none of a range."""
    from optuna.distributions import CategoricalDistribution

    distributions = (trial.distributions.get(knob) for trial in study.get_trials(deepcopy=False))
    return next((each.choices for each in distributions if isinstance(each, CategoricalDistribution)), ())


def at_an_end(conclusions: Conclusions, study: optuna.Study) -> list[str]:
    """Finalists whose setting of the recipe is the lowest or highest that was asked: a better one may lie beyond."""
    ends = {name: ends for trial in study.get_trials(deepcopy=False) for name, ends in _ends(trial).items()}
    return [
        f"{finalist.name}: {name}={value:g} is the {'lowest' if value == ends[name][0] else 'highest'} that was asked; "
        "a better one may lie beyond"
        for finalist in conclusions.finalists
        for name, value in finalist.parameters.items()
        if name in ends and isinstance(value, int | float) and value in ends[name]
    ]


def _ends(trial: FrozenTrial) -> dict[str, tuple[float, float]]:
    """The lowest and highest value of each knob that is a number of the recipe's."""
    from optuna.distributions import CategoricalDistribution

    from harness.search.knob import RECIPE

    ends = {}
    for name, each in trial.distributions.items():
        values = each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)  # type: ignore[attr-defined]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if name.startswith(RECIPE) and len(numbers) == len(values) and len(set(numbers)) > 1:
            ends[name] = min(numbers), max(numbers)
    return ends


def _chosen(parameters: Mapping[str, object]) -> str:
    return ", ".join(f"{knob}={value}" for knob, value in parameters.items())


def dry_run_text(planned: DryRun) -> str:
    steps, count = ", ".join(f"{steps:,}" for steps in planned.budgets), planned.candidates
    lines = [
        f"budgets: {steps} steps",
        f"floor: {planned.floor}",
        f"the study has {count:,} candidates, {planned.in_flight:,} of them in flight" if count else "",
        *(f"{name} is promoted" for name in planned.promoted),
        *(f"the phone would make {count:,} measurements of {name}" for name, count in planned.measurements.items()),
        *planned.remarks,
    ]
    proposed = [line for each in planned.proposed for line in _candidate(each)]
    ending = [f"then it ends: {planned.ending}"] if planned.ending else []
    last = [*planned.estimate, "", f"how: {planned.submission}", "dry run: nothing was run or written"]
    return "\n".join([*filter(None, lines), "", *proposed, *ending, "", *last])


def _candidate(proposed: Proposed) -> list[str]:
    """Its name, what becomes of it and what it counts; its knobs under that."""
    name = f"{proposed.name}, {proposed.enqueued}" if proposed.enqueued else proposed.name
    counted = "; ".join(f"{what} {value:,.0f}" for what, value in proposed.counted.items())
    fate = "in the store already" if proposed.in_store else "would be trained"
    if counted:
        fate = f"{fate} ({counted})"
    if proposed.refused:
        fate = f"refused: {proposed.refused}"
    return [f"{name}: {fate}", f"    {_chosen(proposed.parameters)}"]
