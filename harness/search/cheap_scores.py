"""What a study's records know of their architectures earlier or cheaper than the dear score, as one frame.

A row is an architecture; all were trained under one protocol with one seed, to the end. Where a sweep chose by early
scores who goes on, those who did are no test of early scores, so such sweeps are refused; other ways in which the
architectures may have been chosen are said.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState

from harness.records.errors import UserError
from harness.records.manifest import study_folder
from harness.records.quantity import value_of
from harness.records.record import Protocol, TrialRecord
from harness.search.driver import definition_of
from harness.search.promote import candidates
from harness.search.proxies import CheapScore, First
from harness.search.sample_parts import Part
from harness.search.storage import stored_study
from harness.search.study import samplers_used
from harness.trials.ablation import ablation
from harness.trials.prepared import Prepared, prepare
from harness.trials.spec import store_of
from harness.trials.studies import read_study

FEWEST = 24  # architectures: with fewer, an interval of tau says next to nothing
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the training, at which the curves are read
SMALL = (64, 128, 256)  # first samples
COUNTS = ("params", "macs")
CURVES = ("validation_loss", "train_loss")
BY_HAND = "the rungs were chosen by hand: these are no draw of a space"
FAIR_SAMPLERS = ("random", "qmc")
LARGE_FIRST: First = "largest"  # what is larger is presumed better; whether that is so, tau's sign says


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedAlike:
    """Architectures of a study that were trained to the end with one seed under one protocol."""

    records: tuple[TrialRecord, ...]  # of different architectures
    prepared: Prepared
    notes: tuple[str, ...]  # on how they were chosen

    @property
    def seed(self) -> int:
        return self.records[0].seed

    @property
    def steps(self) -> int:
        return int(self.records[0].protocol["recipe"]["steps"])


def trained_alike(name: str, overrides: Sequence[str], dear: str) -> TrainedAlike:
    """The study's architectures that have the `dear` score, of the seed that most have; UserError if they are too few,
    or survivors of halving."""
    sweeps = "space" in read_study("sweeps", name)
    prepared = prepare(definition_of(name, overrides)[1]) if sweeps else ablation(name, overrides, "").prepared
    stem, out = Path(name).stem, prepared.settings.out
    notes = _how_swept(stored_study(study_folder(out, stem), stem), stem) if sweeps else [BY_HAND]
    found = [record for record in candidates(out, stem) if value_of(record.quantities.get(dear)) is not None]
    counts = Counter(record.seed for record in found)
    seed = min(counts, key=lambda seed: (-counts[seed], seed), default=0)
    records = tuple(record for record in found if record.seed == seed)
    if len(records) < FEWEST:
        more = f"harness sweep {stem if sweeps else 'unselected'} trials={FEWEST}"
        raise UserError(
            f"'{name}' has {len(records)} architectures with a {dear} under one protocol and seed, and tau needs at "
            f"least {FEWEST} to say anything; `{more}` trains as many"
        )
    if len({record.protocol_fingerprint for record in records}) > 1:
        raise UserError(
            f"the candidates of '{name}' differ in their recipe, and tau compares what was trained alike; judge scores "
            "on a space without knobs of the recipe: `harness sweep unselected`"
        )
    return TrainedAlike(records=records, prepared=prepared, notes=tuple(notes))


def other_seeds(alike: TrainedAlike) -> dict[int, dict[str, TrialRecord]]:
    """Seed -> architecture's fingerprint -> its complete record under the same protocol with that other seed."""
    found: dict[int, dict[str, TrialRecord]] = {}
    for record in _of_the_same_architectures(alike):
        if record.protocol_fingerprint == alike.records[0].protocol_fingerprint and record.seed != alike.seed:
            found.setdefault(record.seed, {})[record.architecture_fingerprint] = record
    return found


def shorter_trainings(alike: TrainedAlike) -> dict[int, dict[str, TrialRecord]]:
    """Steps -> architecture's fingerprint -> its complete record of so many steps of the same training.

    A sweep of the same candidates with fewer `recipe.steps` leaves them: what halving chooses by.
    """
    found: dict[int, dict[str, TrialRecord]] = {}
    if alike.prepared.settings.recipe.begins_longer_ones:
        for record in _of_the_same_architectures(alike):
            steps = int(record.protocol["recipe"]["steps"])
            longer = {**record.protocol, "recipe": {**record.protocol["recipe"], "steps": alike.steps}}
            same = Protocol(sections=longer).fingerprint == alike.records[0].protocol_fingerprint
            if same and steps < alike.steps and record.seed == alike.seed:
                found.setdefault(steps, {})[record.architecture_fingerprint] = record
    return dict(sorted(found.items()))


def _of_the_same_architectures(alike: TrainedAlike) -> Iterator[TrialRecord]:
    """All complete trainings of them that the store has, whichever study ran them."""
    mine = {record.architecture_fingerprint for record in alike.records}
    for record in store_of(alike.prepared.settings.out).trials():
        trained = record.state == "complete" and "recipe" in record.protocol
        if trained and record.architecture_fingerprint in mine:
            yield record


def cheap_scores(alike: TrainedAlike, dear: str) -> tuple[pd.DataFrame, list[CheapScore]]:
    """The frame of what the records hold, the dear score among it, and how the other columns are read."""
    columns: dict[str, list[float | None]] = {dear: [value_of(record.quantities[dear]) for record in alike.records]}
    scores = []
    for name in (*COUNTS, *_latencies(alike.records)):
        columns[name] = [value_of(record.quantities.get(name)) for record in alike.records]
        scores.append(CheapScore(name=name, first=LARGE_FIRST, cost="no training"))
    for name in CURVES:
        curves = [{point.step: point.value for point in record.curve if point.name == name} for record in alike.records]
        for step in _steps(curves, alike.steps):
            columns[at := f"{name}@{step}"] = [curve[step] for curve in curves]
            scores.append(CheapScore(name=at, first="smallest", cost=f"{step / alike.steps:.0%} of the training"))
    for steps, records in shorter_trainings(alike).items():
        earlier = (records.get(record.architecture_fingerprint) for record in alike.records)
        columns[at := f"{dear} after {steps} steps"] = [
            None if record is None else value_of(record.quantities.get(dear)) for record in earlier
        ]
        scores.append(
            CheapScore(name=at, first="smallest", cost=f"{steps / alike.steps:.0%} of the training, sampling")
        )
    keys = [record.key for record in alike.records]
    return pd.DataFrame(columns, index=keys, dtype=float), scores


def small_parts(samples: int) -> dict[int, Part]:
    """n -> the first n samples; fewer than half of all, or they are nearly the dear score itself."""
    return {n: Part(0, n) for n in SMALL if n <= samples // 2}


def part_columns(dear: str, samples: int) -> list[CheapScore]:
    """How the columns of `small_parts` are read: named `kid@64`."""
    return [
        CheapScore(name=f"{dear}@{n}", first="smallest", cost=f"all the training, {n} of {samples} samples")
        for n in small_parts(samples)
    ]


def _latencies(records: Iterable[TrialRecord]) -> list[str]:
    """Those that some record has a number of."""
    known = (
        name
        for record in records
        for name, quantity in record.quantities.items()
        if name.startswith("latency") and value_of(quantity) is not None
    )
    return list(dict.fromkeys(known))


def _steps(curves: Sequence[dict[int, float]], last: int) -> list[int]:
    """For each of SHARES, the last step until then at which all curves have a point."""
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    found = [max((step for step in common if step <= share * last), default=None) for share in SHARES]
    return [step for step in dict.fromkeys(found) if step is not None]


def _how_swept(study: optuna.Study | None, name: str) -> list[str]:
    """Sentences on how the architectures came to be these. Errors: UserError if early scores chose them."""
    if study is None:
        return []
    budgets = study.user_attrs.get("began", {}).get("budgets", [])
    if len(budgets) > 1:
        top = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        raise UserError(
            f"'{name}' chose by scores at {budgets[0]} steps which candidates go on to {budgets[-1]}: the {top} that "
            "did are no fair test of early scores; judge those on a sweep with one budget: `harness sweep unselected`"
        )
    trials = study.get_trials(deepcopy=False)
    samplers = samplers_used(study)
    notes = [f"chosen by the sampler: {', '.join(samplers) or 'not noted'}"]
    if not samplers or set(samplers) - set(FAIR_SAMPLERS):
        notes.append("a sampler that learns looks for good architectures: these are no fair draw of the space")
    if enqueued := sum("enqueued" in trial.user_attrs for trial in trials):
        notes.append(f"{enqueued} were enqueued, not drawn")
    if failed := sum(trial.state == TrialState.FAIL for trial in trials):
        notes.append(f"{failed} failed and are left out: those may be the ones that an early score would have told")
    if running := sum(trial.state == TrialState.RUNNING for trial in trials):
        notes.append(f"{running} are not finished and left out")
    return notes
