"""What W&B is to show of a study: its runs by their ids, its knobs and objectives, its candidates as a table, and which
run's weights each promoted training began from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.dashboards.files import children_of
from harness.records.errors import UserError
from harness.records.manifest import Manifest, read_manifest
from harness.records.plain import fingerprint
from harness.records.quantities import more_is_better
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.search.pareto import Direction
from harness.search.status import read_stored, sweep_summary
from harness.search.study import SWEEP_FILE
from harness.tracking.config import WandbTracker
from harness.tracking.wandb_run import summary_of
from harness.trials.settings import settings_of

STUDY = "study"
"""The job type of the run that has the study's table, page and packages; the others are its trials'."""
Cell = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A run that uses the weights of another."""

    run: str
    weights_of: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    name: str
    summary: str  # one paragraph, for the report
    tracker: WandbTracker
    objectives: Mapping[str, Direction]  # the score that ranks first
    knobs: tuple[str, ...]  # of a sweep
    keys: tuple[str, ...]  # of its trainings, which are the ids of their runs
    children: tuple[TrialRecord, ...]  # trained from one of them
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]  # one a candidate, or one a rung and seed
    picture: str = ""  # the artifact that shows what a network makes, without its suffix
    front: tuple[str, ...] = field(default=())

    @property
    def run_id(self) -> str:
        """Of the run that has the study's table, page and packages."""
        return fingerprint(["study", self.name], schema="wandb-1")

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(Link(run=each.key, weights_of=each.parent) for each in self.children if each.parent is not None)


def study_of(out: Path, name: str) -> Study:
    """The sweep or ablation OUT/NAME. UserError where there is none, or its runs were not written for W&B."""
    store, folder = Store(out / "store"), out / name
    if (folder / SWEEP_FILE).exists():
        return _sweep(store, folder, name)
    return _ablation(store, read_manifest(out, name))


def tracker_of(name: str, settings: Mapping[str, Any]) -> WandbTracker:
    """The study's own, by the settings that it wrote down."""
    own = {key: value for key, value in settings.items() if key.split(".")[0] == "tracker"}
    tracker = settings_of((), own).tracker
    if not isinstance(tracker, WandbTracker):
        raise UserError(
            f"'{name}' ran with tracker={tracker.kind}, so there is nothing of it for W&B; run it with tracker=wandb"
        )
    return tracker


def _sweep(store: Store, folder: Path, name: str) -> Study:
    stored, summary = read_stored(folder, name), sweep_summary(folder, name)
    assert stored is not None  # else there is no summary
    levels = [level.key for each in stored.candidates for level in each.levels]
    keys = tuple(dict.fromkeys([*levels, *(score.key for score in stored.fresh)]))
    knobs = tuple(dict.fromkeys(knob for each in summary.candidates for knob in each.parameters))
    objectives = _ranking_first(summary)
    rescored = _rescored(summary)
    return Study(
        name=name,
        summary=_of_sweep(summary),
        tracker=tracker_of(name, stored.definition.get("settings") or {}),
        objectives=objectives,
        knobs=knobs,
        keys=keys,
        children=tuple(each for each in children_of(store, keys) if each.key not in keys),
        columns=(
            *("candidate", "state", "steps", "on the search's front"),
            *summary.objectives,
            *(f"rescored {each}" for each in summary.objectives),
            *(f"knob {knob}" for knob in knobs),
            *("reason", "run"),
        ),
        rows=tuple(_row(each, summary, rescored.get(each.name, {}), knobs) for each in summary.candidates),
        picture=Path(summary.judging.picture).stem,
        front=summary.front,
    )


def _row(
    candidate: CandidateSummary, summary: SweepSummary, rescored: Mapping[str, float], knobs: Sequence[str]
) -> tuple[Cell, ...]:
    values = candidate.values or (None,) * len(summary.objectives)
    return (
        *(candidate.name, candidate.state, candidate.steps or None, candidate.name in summary.front),
        *values,
        *(rescored.get(name) for name in summary.objectives),
        *(_cell(candidate.parameters.get(knob)) for knob in knobs),
        *(candidate.reason, candidate.key),
    )


def _cell(value: Any) -> Cell:
    """A column of a table has one type, and a knob's choices may have several."""
    return value if isinstance(value, float) else None if value is None else str(value)


def _ranking_first(summary: SweepSummary) -> dict[str, Direction]:
    scores = [name for name in summary.objectives if name in summary.judging.scores]
    return {name: summary.objectives[name] for name in dict.fromkeys([*scores, *summary.objectives])}


def _rescored(summary: SweepSummary) -> dict[str, dict[str, float]]:
    finalists = summary.conclusions.finalists if summary.conclusions is not None else ()
    return {each.name: {name: one.mean for name, one in each.objectives.items()} for each in finalists}


def _of_sweep(summary: SweepSummary) -> str:
    states = [each.state for each in summary.candidates]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    finalists = summary.conclusions.finalists if summary.conclusions is not None else ()
    again = f"{len(finalists)} were trained again with fresh seeds" if finalists else "none was trained again"
    return (
        f"{len(summary.candidates)} candidates: {counted}. {again[0].upper()}{again[1:]}. By the search's own values, "
        f"which are low partly by luck, the front is {', '.join(summary.front) or 'empty'}. `{summary.command}`"
    )


def _ablation(store: Store, manifest: Manifest) -> Study:
    trials = {(rung.name, seed): manifest.key(rung, seed) for rung in manifest.rungs for seed in manifest.seeds}
    keys = tuple(dict.fromkeys(trials.values()))
    cost = "macs" if manifest.twin is None else "twin.macs"
    shown = dict.fromkeys((*manifest.judging.scores, cost))
    records = {key: store.trial(key) for key in keys}
    return Study(
        name=manifest.name,
        summary=f"{len(manifest.rungs)} rungs, {len(manifest.seeds)} seeds each. `{manifest.command}`",
        tracker=tracker_of(manifest.name, manifest.settings),
        objectives={
            name: "maximize" if more_is_better(name) else "minimize" for name in (manifest.judging.first, cost)
        },
        knobs=(),
        keys=keys,
        children=tuple(each for each in children_of(store, keys) if each.key not in keys),
        columns=("rung", "seed", "state", *shown, "without a value", "run"),
        rows=tuple(
            (
                name,
                seed,
                "missing" if record is None else record.state,
                *_values(record, shown),
                _reasons(record, shown),
                key,
            )
            for (name, seed), key in trials.items()
            for record in (records[key],)
        ),
        picture=Path(manifest.judging.picture).stem,
    )


def _values(record: TrialRecord | None, names: Iterable[str]) -> list[Cell]:
    return [None if record is None else value_of(record.quantities.get(name)) for name in names]


def _reasons(record: TrialRecord | None, names: Iterable[str]) -> str:
    """Why those that have no value have none: `fd: quality: no memory`."""
    quantities = {} if record is None else record.quantities
    summaries = [(name, summary_of(name, quantities[name])) for name in names if name in quantities]
    return "; ".join(f"{name}: {next(iter(each.values()))}" for name, each in summaries if name not in each)
