"""`harness sweep NAME`: search, then its Pareto front and what its re-scored finalists tell, as tables."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.conclusions import Conclusions, RescoredObjective
from harness.records.errors import UserError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from rich.table import Table

    from harness.search.driver import Swept
    from harness.search.rehearsal import Proposed, Rehearsal


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
    from harness.trials.studies import read_study

    definition, settings = sweep_study(arguments.name, arguments.overrides)
    base = read_study("search_spaces", definition.space).get("base")
    known = [architecture(base)] if isinstance(base, str) else []
    check_study(settings, known, name=Path(arguments.name).stem)
    check_page("sweep", Path(arguments.name).stem, definition.report)


def run(arguments: argparse.Namespace) -> int:
    from harness.records.terminal import console
    from harness.search.conclusions import conclude
    from harness.search.driver import sweep
    from harness.trials.progress import Show

    show, terminal = Show(), console()
    if arguments.dry_run is not None:
        return _dry_run(arguments)
    swept = sweep(arguments.name, arguments.overrides, show)
    show.note(swept.ending)
    if (front := _front(swept)).row_count:
        terminal.print("Pareto front of the search's own values", front, sep="\n")
    if (found := conclude(swept.study)) is not None:
        terminal.print("Finalists, re-scored with fresh seeds and samples", _finalists(found), sep="\n")
        for line in [*remarks(found), *best_of_each(found, swept.study), *at_an_end(found, swept.study)]:
            terminal.print(line, soft_wrap=True)
    print(swept.place)
    return 0


VERB = Verb(
    summary="search an architecture space with Optuna",
    name="a sweep in sweeps/, or the path of its YAML",
    example="harness sweep laptop trials=20",
    settings="trials, sampler, sampler_seed, max_rejections, budgets, reduction, enqueue, storage, hours, "
    "gpu_hours, wait_hours, finalists, report",
    lists="sweeps",
    flags=flags,
    check=check,
    run=run,
)


def _dry_run(arguments: argparse.Namespace) -> int:
    from harness.search.rehearsal import rehearse

    if arguments.dry_run < 1:
        raise UserError(f"--dry-run shows at least 1 training, not {arguments.dry_run}")
    print(rehearsed(rehearse(arguments.name, arguments.overrides, arguments.dry_run)))
    return 0


def _front(swept: Swept) -> Table:
    """The candidates that no other beats in every objective, limits met."""
    from rich.table import Table

    from harness.search.candidates import candidate_name, front_trials

    names = swept.study.metric_names or []
    table = Table("trial", *names, "candidate")
    for trial in front_trials(swept.study):
        table.add_row(candidate_name(trial.number), *(f"{value:.6g}" for value in trial.values), _chosen(trial.params))
    return table


def _finalists(found: Conclusions) -> Table:
    """The search's values beside the re-scored ones; the best re-scored first."""
    from rich.table import Table

    table = Table("trial")
    for name in found.directions:
        if name in found.varying:
            for head in (name, f"{name} re-scored", "search - re-scored", "rank", "not told apart from"):
                table.add_column(head)
        else:
            table.add_column(name)
    table.add_column("front")
    for finalist in found.finalists:
        cells = [cell for name in found.directions for cell in _cells(finalist.objectives[name], name in found.varying)]
        table.add_row(finalist.name, *cells, "yes" if finalist.on_front else "no")
    return table


def _cells(objective: RescoredObjective, varies: bool) -> list[str]:
    if not varies:
        return [f"{objective.mean:.6g}"]
    ties = ", ".join(f"{name} ≈" if name in objective.equivalent else name for name in objective.ties) or "none"
    return [
        f"{objective.search:.4g}",
        interval(objective),
        f"{objective.search_minus_mean:+.4g}",
        str(objective.rank),
        ties,
    ]


def interval(objective: RescoredObjective) -> str:
    """`0.412 ± 0.031 (k=3)`: the mean and its standard error."""
    error = "" if objective.standard_error is None else f" ± {objective.standard_error:.2g}"
    return f"{objective.mean:.4g}{error} (k={len(objective.scores)})"


def remarks(found: Conclusions) -> list[str]:
    """What the table rests on, and what went wrong."""
    failed = {finalist.name: finalist.failures for finalist in found.finalists if finalist.failures}
    said = [
        "front and ranks are by the re-scored means, ± is their standard error over k fresh seeds; not told apart: the "
        f"difference's p, corrected for all pairs, is at least {1 - found.level:.2g}; ≈ where each is proved to "
        f"lie within {found.margin:.0%} of the other (two one-sided tests)",
        *(f"{name}: {sentence}" for name, sentence in found.noise.items()),
    ]
    for name, reasons in {**failed, **found.without_score}.items():
        said.append(f"{name}: {len(reasons)} fresh training(s) failed: {'; '.join(dict.fromkeys(reasons))}")
    return said


def best_of_each(found: Conclusions, study: optuna.Study) -> list[str]:
    """Where finalists were chosen for each value of a knob, a line for each: who they are, and their first score."""
    from harness.search.study import DEFINITION

    knob = (study.user_attrs[DEFINITION]["finalists"] or {}).get("each")
    if knob is None:
        return []
    order = {str(value): at for at, value in enumerate(_values_of(knob, study))}
    finalists = sorted(found.finalists, key=lambda each: order.get(str(each.parameters.get(knob)), len(order)))
    scored = found.varying[0]
    return [
        f"{_chosen(each.parameters)}: {scored} {interval(each.objectives[scored])}, "
        f"{each.objectives[scored].search:.4g} in the search ({each.name})"
        for each in finalists
    ]


def _values_of(knob: str, study: optuna.Study) -> Sequence[object]:
    """A knob's choices in their order; none of a range."""
    from optuna.distributions import CategoricalDistribution

    found = (trial.distributions.get(knob) for trial in study.get_trials(deepcopy=False))
    return next((each.choices for each in found if isinstance(each, CategoricalDistribution)), ())


def at_an_end(found: Conclusions, study: optuna.Study) -> list[str]:
    """Finalists whose setting of the recipe is the lowest or highest that was asked: a better one may lie beyond."""
    ends = {name: ends for trial in study.get_trials(deepcopy=False) for name, ends in _ends(trial).items()}
    return [
        f"{finalist.name}: {name}={value:g} is the {'lowest' if value == ends[name][0] else 'highest'} that was asked; "
        "a better one may lie beyond"
        for finalist in found.finalists
        for name, value in finalist.parameters.items()
        if name in ends and isinstance(value, int | float) and value in ends[name]
    ]


def _ends(trial: FrozenTrial) -> dict[str, tuple[float, float]]:
    """The lowest and highest value of each knob that is a number of the recipe's."""
    from optuna.distributions import CategoricalDistribution

    from harness.search.knobs import RECIPE

    found = {}
    for name, each in trial.distributions.items():
        values = each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)  # type: ignore[attr-defined]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if name.startswith(RECIPE) and len(numbers) == len(values) and len(set(numbers)) > 1:
            found[name] = min(numbers), max(numbers)
    return found


def _chosen(parameters: Mapping[str, object]) -> str:
    return ", ".join(f"{knob}={value}" for knob, value in parameters.items())


def rehearsed(found: Rehearsal) -> str:
    lines = [
        f"budgets: {', '.join(f'{steps:,}' for steps in found.budgets)} steps",
        f"floor: {found.floor}",
        f"the study has {found.goes_on:,} candidates, {found.in_flight:,} of them in flight" if found.goes_on else "",
        *(f"{name} is promoted" for name in found.promoted),
        *(f"the phone would make {count:,} measurements of {name}" for name, count in found.measurements.items()),
        *found.remarks,
    ]
    proposed = [line for each in found.proposed for line in _candidate(each)]
    ending = [f"then it ends: {found.ending}"] if found.ending else []
    last = [f"jobs: {found.submission}", "dry run: nothing was run or written"]
    return "\n".join([*filter(None, lines), "", *proposed, *ending, "", *last])


def _candidate(proposed: Proposed) -> list[str]:
    """Its name, what becomes of it and what it counts; its knobs under that."""
    name = f"{proposed.name}, {proposed.enqueued}" if proposed.enqueued else proposed.name
    counted = "; ".join(f"{what} {value:,.0f}" for what, value in proposed.counted.items())
    fate = (
        f"refused: {proposed.refused}" if proposed.refused else "in the store already" if proposed.known else "trained"
    )
    knobs = ", ".join(f"{knob}={value}" for knob, value in proposed.parameters.items())
    return [f"{name}: {fate}" + (f" ({counted})" if counted and not proposed.refused else ""), f"    {knobs}"]
