"""How well a proxy metric, known earlier or cheaper, predicts the target metric: Kendall's tau and top-k regret.

    tau       Kendall's tau-b of the proxy as it is with the target: +1 where both order alike, -1 where a large proxy
              goes with a small target, 0 where it tells nothing
    interval  percentile bootstrap over architectures: what other architectures of the same space might have given. Two
              copies of one architecture are tied in both scores, and tau-b leaves such pairs out
    regret    the target of the best among the k architectures that the proxy ranks first, minus that of the best of
              all: what is lost by training those k alone

The target is better where it is lower. A row of the frame is an architecture; all were trained under one protocol with
one seed, to the end. Where a sweep chose by early scores who goes on, those who did are no test of early scores, so
such sweeps are refused; other ways in which the architectures may have been chosen are noted.

What `quality.samples=64` would have measured is measured from the samples that a trial stored. Each trial's scores are
a Measurement of their own, so asking again, or after an interruption, costs nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import optuna
import pandas as pd
import torch
from numpy.typing import NDArray
from optuna.trial import TrialState
from torch import Tensor

from harness.measure.quality import DISTANCES, distance
from harness.measure.quality_reference import Reference
from harness.measure.statistics_ranks import Tau, tau
from harness.records.errors import UserError, unknown_name
from harness.records.manifest import study_folder
from harness.records.plain import canonical_json
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import value_of
from harness.records.record import Measurement, Protocol, TrialRecord, measurement_key
from harness.records.store import Store
from harness.search.definition import definition_of
from harness.search.promote import candidates
from harness.search.study import samplers_used, stored_study
from harness.trials.ablation import ablation
from harness.trials.prepared import Prepared, prepare
from harness.trials.progress import Show
from harness.trials.spec import store_of
from harness.trials.studies import read_study
from harness.trials.tasks.denoise import Denoise

Vector: TypeAlias = NDArray[np.float64]
First: TypeAlias = Literal["smallest", "largest"]
"""Which architectures a proxy metric ranks first: chosen beforehand, never from the target metric."""

TOP = (1, 3, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """A column of the frame, and how it is to be read."""

    name: str
    first: First
    cost: str  # what must be spent to know it


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    score: Proxy
    tau: Tau
    regrets: Mapping[int, float]  # k -> regret


def judge(frame: pd.DataFrame, target: str, scores: Sequence[Proxy]) -> list[Judged]:
    """Each proxy metric against the column `target`, over the architectures (rows) that have both."""
    judged = []
    for score in scores:
        both = frame[[score.name, target]].dropna()
        cheap, truth = both[score.name].to_numpy(float), both[target].to_numpy(float)
        ranks_first = cheap if score.first == "smallest" else -cheap
        regrets = {k: regret(ranks_first, truth, k) for k in TOP}
        judged.append(Judged(score=score, tau=tau(cheap, truth), regrets=regrets))
    return judged


def random_regrets(target: Vector) -> dict[int, float]:
    """The regret to expect of k architectures chosen at random: a score that calls all equal."""
    return {k: regret(np.zeros(len(target)), target, k) for k in TOP}


def regret(cheap: Vector, target: Vector, k: int) -> float:
    """Of the k smallest `cheap`; where ties leave open which k these are, the mean over all choices."""
    order = np.sort(cheap)
    k = min(k, len(order))
    last = order[k - 1]
    surely = target[cheap < last]
    tied = np.sort(np.minimum(target[cheap == last], surely.min(initial=np.inf)))
    drawn, count = k - len(surely), len(tied)
    # the smallest of `drawn` from `count` is the i-th if the others come from the count - 1 - i above it
    chances = [comb(count - 1 - i, drawn - 1) / comb(count, drawn) for i in range(count)]
    return float(np.dot(chances, tied) - target.min())


SAMPLES = "samples.npz"
JUDGING = ("data", "quality")
"""The sections of a protocol that a score of given samples depends on."""


@dataclass(frozen=True, slots=True)
class Part:
    """Samples `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.first}:{self.end}"


def part_scores(
    records: Sequence[TrialRecord], prepared: Prepared, score: str, parts: Sequence[Part], show: Show
) -> dict[str, dict[str, float]]:
    """Trial key -> part's name -> `kid` or `fd` of that part, under the protocol that the trials were scored by."""
    if score not in DISTANCES:
        raise unknown_name("score", score, DISTANCES)
    denoise = prepared.task
    if not isinstance(denoise, Denoise):
        raise UserError(f"parts of samples are scored, and task={prepared.settings.task.name} samples nothing")
    for record in records:
        _check_protocol(record, prepared)
    store, scores = store_of(prepared.settings.out), {}
    missing = [record for record in records if store.measurement(_key(record, score, parts)) is None]
    reference = denoise.reference if missing else None
    for number, record in enumerate(missing):
        assert reference is not None
        show.note(f"{score} of parts of the samples of {record.name} [{number + 1}/{len(missing)}]")
        store.put(_measure(store, record, score, parts, reference))
    for record in records:
        measurement = store.measurement(_key(record, score, parts))
        assert measurement is not None
        scores[record.key] = {name: float(quantity.value) for name, quantity in measurement.quantities.items()}  # type: ignore[union-attr]
    return scores


def _check_protocol(record: TrialRecord, prepared: Prepared) -> None:
    now = prepared.protocol.sections
    changed = [name for name in JUDGING if canonical_json(now[name]) != canonical_json(record.protocol[name])]
    if changed:
        raise UserError(
            f"{record.name} was scored with other settings of {' and '.join(changed)} than these; give the settings "
            "that the study was run with, for example quality.samples=256"
        )


def _measure(store: Store, record: TrialRecord, score: str, parts: Sequence[Part], reference: Reference) -> Measurement:
    begun = provenance()
    images, labels = _samples(store, record)
    features = reference.extractor.features(images).double()
    chosen = {part.name: slice(part.first, part.end) for part in parts}
    quantities = {name: distance(score, features[at], labels[at], reference) for name, at in chosen.items()}
    return Measurement(
        subject="sample_parts",
        settings=_settings(record, score, parts),
        quantities=quantities,
        provenance=completed_provenance(begun),
    )


def _samples(store: Store, record: TrialRecord) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,)."""
    path = store.artifact(record.key, SAMPLES)
    try:
        with np.load(path) as stored:
            return torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"cannot read the samples of {record.name}, {path}: {error}") from error


def _key(record: TrialRecord, score: str, parts: Sequence[Part]) -> str:
    return measurement_key("sample_parts", _settings(record, score, parts))


def _settings(record: TrialRecord, score: str, parts: Sequence[Part]) -> Mapping[str, Any]:
    return {"trial": record.key, "score": score, "parts": [part.name for part in parts]}


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


def trained_alike(name: str, overrides: Sequence[str], target: str) -> TrainedAlike:
    """The study's architectures that have the `target` metric, of the seed that most have; UserError if they are too
    few, or survivors of halving."""
    sweeps = "space" in read_study("sweeps", name)
    prepared = prepare(definition_of(name, overrides)[1]) if sweeps else ablation(name, overrides, "").prepared
    stem, out = Path(name).stem, prepared.settings.out
    notes = _how_swept(stored_study(study_folder(out, stem), stem), stem) if sweeps else [BY_HAND]
    scored = [record for record in candidates(out, stem) if value_of(record.quantities.get(target)) is not None]
    counts = Counter(record.seed for record in scored)
    seed = min(counts, key=lambda seed: (-counts[seed], seed), default=0)
    records = tuple(record for record in scored if record.seed == seed)
    if len(records) < FEWEST:
        more = f"harness sweep {stem if sweeps else 'unselected'} trials={FEWEST}"
        raise UserError(
            f"'{name}' has {len(records)} architectures with a {target} under one protocol and seed, and tau needs at "
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
    by_seed: dict[int, dict[str, TrialRecord]] = {}
    for record in _of_the_same_architectures(alike):
        if record.protocol_fingerprint == alike.records[0].protocol_fingerprint and record.seed != alike.seed:
            by_seed.setdefault(record.seed, {})[record.architecture_fingerprint] = record
    return by_seed


def shorter_trainings(alike: TrainedAlike) -> dict[int, dict[str, TrialRecord]]:
    """Steps -> architecture's fingerprint -> its complete record of so many steps of the same training.

    A sweep of the same candidates with fewer `recipe.steps` leaves them: what halving chooses by.
    """
    by_steps: dict[int, dict[str, TrialRecord]] = {}
    if alike.prepared.settings.recipe.is_extendable:
        for record in _of_the_same_architectures(alike):
            steps = int(record.protocol["recipe"]["steps"])
            longer = {**record.protocol, "recipe": {**record.protocol["recipe"], "steps": alike.steps}}
            same = Protocol(sections=longer).fingerprint == alike.records[0].protocol_fingerprint
            if same and steps < alike.steps and record.seed == alike.seed:
                by_steps.setdefault(steps, {})[record.architecture_fingerprint] = record
    return dict(sorted(by_steps.items()))


def _of_the_same_architectures(alike: TrainedAlike) -> Iterator[TrialRecord]:
    """All complete trainings of them that the store has, whichever study ran them."""
    mine = {record.architecture_fingerprint for record in alike.records}
    for record in store_of(alike.prepared.settings.out).trials():
        trained = record.state == "complete" and "recipe" in record.protocol
        if trained and record.architecture_fingerprint in mine:
            yield record


def cheap_scores(alike: TrainedAlike, target: str) -> tuple[pd.DataFrame, list[Proxy]]:
    """The frame of what the records hold, the target metric among it, and how the other columns are read."""
    columns: dict[str, list[float | None]] = {target: [value_of(record.quantities[target]) for record in alike.records]}
    scores = []
    for name in (*COUNTS, *_latencies(alike.records)):
        columns[name] = [value_of(record.quantities.get(name)) for record in alike.records]
        scores.append(Proxy(name=name, first=LARGE_FIRST, cost="no training"))
    for name in CURVES:
        curves = [{point.step: point.value for point in record.curve if point.name == name} for record in alike.records]
        for step in _steps(curves, alike.steps):
            columns[at := f"{name}@{step}"] = [curve[step] for curve in curves]
            scores.append(Proxy(name=at, first="smallest", cost=f"{step / alike.steps:.0%} of the training"))
    for steps, records in shorter_trainings(alike).items():
        earlier = (records.get(record.architecture_fingerprint) for record in alike.records)
        columns[at := f"{target} after {steps} steps"] = [
            None if record is None else value_of(record.quantities.get(target)) for record in earlier
        ]
        scores.append(Proxy(name=at, first="smallest", cost=f"{steps / alike.steps:.0%} of the training, sampling"))
    keys = [record.key for record in alike.records]
    return pd.DataFrame(columns, index=keys, dtype=float), scores


def small_parts(samples: int) -> dict[int, Part]:
    """n -> the first n samples; fewer than half of all, or they are nearly the target metric itself."""
    return {n: Part(0, n) for n in SMALL if n <= samples // 2}


def part_columns(target: str, samples: int) -> list[Proxy]:
    """How the columns of `small_parts` are read: named `kid@64`."""
    return [
        Proxy(name=f"{target}@{n}", first="smallest", cost=f"all the training, {n} of {samples} samples")
        for n in small_parts(samples)
    ]


def _latencies(records: Iterable[TrialRecord]) -> list[str]:
    """Those that some record has a number of."""
    names = (
        name
        for record in records
        for name, quantity in record.quantities.items()
        if name.startswith("latency") and value_of(quantity) is not None
    )
    return list(dict.fromkeys(names))


def _steps(curves: Sequence[dict[int, float]], last: int) -> list[int]:
    """For each of SHARES, the last step until then at which all curves have a point."""
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    last_common = [max((step for step in common if step <= share * last), default=None) for share in SHARES]
    return [step for step in dict.fromkeys(last_common) if step is not None]


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
