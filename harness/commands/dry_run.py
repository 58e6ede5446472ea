"""What `--dry-run` shows: the trainings that would be submitted, what would be refused, and how jobs would start."""

from collections.abc import Sequence
from pathlib import Path

from harness.commands.tables import table
from harness.launch.executors import submission_of
from harness.records.quantity import value_of
from harness.records.record import why
from harness.search.rehearsal import Proposed, Rehearsal
from harness.trials.ablation import ablation
from harness.trials.ablation_study import ablation_study
from harness.trials.outcomes import finished, rejected
from harness.trials.scratch import scratch
from harness.trials.spec import TrialSpec


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


def planned_ablation(name: str, overrides: Sequence[str]) -> str:
    """Every (rung, seed): whether the store has it, a limit refuses it, or it would be trained; and how."""
    out = ablation_study(name, overrides)[1].out
    with scratch(out) as place:
        job = ablation(name, [*overrides, f"out={place}"], "")
        specs = {spec.key: spec for spec in job.specs()}
        fates = {key: _fate(spec) for key, spec in specs.items()}
        rows = [(spec.name, str(spec.seed), fates[key]) for key, spec in specs.items()]
        keys = [key for key, fate in fates.items() if fate == "would run"] or ["KEY"]
        submission = submission_of(job.settings.launcher, job.folder / "attempts", keys)
        submission = submission.replace(str(place), str(Path(out).absolute()))
    runs = sum(fate == "would run" for fate in fates.values())
    shown = table(("rung", "seed", "what becomes of it"), rows)
    return f"{shown}\n{runs} of {len(rows)} would run\n\njobs: {submission}\ndry run: nothing was run or written"


def _fate(spec: TrialSpec) -> str:
    if (record := finished(spec)) is not None:
        kid = value_of(record.quantities.get("kid"))
        return f"in the store: {record.state}" + (f", KID {kid:.4g}" if kid is not None else "")
    if (refused := rejected(spec)) is not None:
        return f"refused: {why(refused)}"
    return "would run"
