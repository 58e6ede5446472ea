"""Among whom a promotion chooses: the trials of a study, and what is known of each.

Of a sweep with finalists these are its re-scored ones, each with the records of its fresh trainings: the best of the
search's own values is partly the luckiest. Of another sweep, its complete candidates; of an ablation, its rungs, each
with one record a seed. Only one that has all its seeds can be chosen: a mean of those that did not fail is not one of
fewer, it is one of others.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import optuna

from harness.measure.statistics import noise_of
from harness.records.errors import UserError, unknown_name
from harness.records.judging import Judging
from harness.records.manifest import Manifest, read_manifest, study_folder
from harness.records.quantities import QUANTITIES, TWIN, is_learnt, title_of
from harness.records.quantity import Known, known_or_expected, value_of
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.records.terminal import count_text
from harness.search.candidates import FreshScore, rescored_in
from harness.search.finalists import Compared
from harness.search.study import DEFINITION, FLOOR, directions_of, stored_study
from harness.trials.spec import store_of
from harness.trials.task_config import task_of

FAILED, NO_RESULT = "failed", "without a result yet"
NOTHING: Mapping[str, Mapping[int, str]] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """What a contender has of a quantity."""

    value: float  # the mean, of several trainings
    low: float | None = None
    high: float | None = None
    trainings: int | None = None
    """Of a quantity that a seed changes."""
    kind: str = "measured"  # counted, measured, predicted

    @property
    def text(self) -> str:
        """`0.412 (0.35 to 0.474, 3 trainings)`, `0.4 (0.39 to 0.41, 1 training)`, `40.1 (36 to 45, predicted)`,
        `1,250,000`."""
        if self.kind == "counted":
            return f"{self.value:,.0f}"
        between = [] if self.low is None or self.high is None else [f"{self.low:.4g} to {self.high:.4g}"]
        how = ["predicted"] if self.kind == "predicted" else []
        count = [] if self.trainings is None else [count_text(self.trainings, "training")]
        said = ", ".join([*between, *how, *count])
        return f"{self.value:.4g}{said and f' ({said})'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    name: str
    record: TrialRecord
    """What would be promoted."""
    told_by: Mapping[int, TrialRecord]
    """Seed -> the record that tells of it: a finalist's fresh trainings, else its own."""
    is_rescored: bool = False
    missing: Mapping[int, str] = field(default_factory=dict)
    """Seed -> why it tells nothing: `failed`, or `without a result yet`."""

    def lacks(self, name: str) -> str:
        """Which of its seeds have no such score: `2 of 3 seeds failed`; empty where all have one."""
        without = dict.fromkeys(self.told_by.keys() - self.scores(name).keys(), f"without {name}")
        seeds = len(self.told_by) + len(self.missing)
        counts = Counter({**self.missing, **without}.values())
        return ", ".join(f"of {count_text(seeds, 'seed')} {count} {why}" for why, count in sorted(counts.items()))

    def own_value(self, name: str) -> Known | None:
        """Of a quantity that no seed changes: that of the record to be promoted, else of another."""
        return _first(name, (self.record, *self.told_by.values()))

    def told_value(self, name: str) -> Known | None:
        """Of one that a seed changes: that of the first seed that has it."""
        return _first(name, self.told_by.values())

    def scores(self, name: str) -> dict[int, float]:
        """Seed -> value of a quantity that a seed changes."""
        values = {seed: known_or_expected(each.quantities.get(name)) for seed, each in self.told_by.items()}
        return {seed: float(each.value) for seed, each in values.items() if each is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    study: str
    contenders: tuple[Contender, ...]
    left_out: int = 0
    """Complete candidates that are not among them, since they were not re-scored."""
    objectives: tuple[str, ...] = ()
    """A sweep's."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Who would be among them and has not one result -> why."""
    beaten: tuple[str, ...] = ()
    """Who would be among them, and is no better than the floor of its study."""

    @property
    def first(self) -> str:
        """The score that ranks."""
        return task_of(self.contenders[0].record.protocol).judging.first

    @property
    def cost(self) -> str:
        """What a knee weighs it against, unless another is named."""
        return next((name for name in self.objectives if not is_learnt(name)), "macs")

    @property
    def is_rescored(self) -> bool:
        return any(each.is_rescored for each in self.contenders)

    @property
    def names(self) -> list[str]:
        return sorted(each.name for each in self.contenders)

    @property
    def seeds(self) -> int:
        """How many each should have."""
        return max(len(each.told_by) + len(each.missing) for each in self.contenders)

    @property
    def kind(self) -> Literal["rescored", "rungs", "search"]:
        if self.is_rescored:
            return "rescored"
        return "search" if self.objectives or self.seeds == 1 else "rungs"

    @property
    def basis(self) -> str:
        """By whose values it is decided."""
        absent = "".join(f"; without a result: {name} ({why})" for name, why in sorted(self.absent.items()))
        if self.beaten:
            absent += f"; beaten by what needs no network, and not among them: {', '.join(sorted(self.beaten))}"
        if self.kind == "rescored":
            others = f"; {self.left_out} complete candidates were not re-scored and are not among them"
            return (
                f"{len(self.contenders)} re-scored finalists, by the means of {self.seeds} fresh seeds"
                f"{others if self.left_out else ''}{absent}"
            )
        if self.kind == "rungs":
            return f"{len(self.contenders)} rungs, by the means of {self.seeds} seeds{absent}"
        own = "the search's own values" if self.objectives else "their own values"
        lucky = "one training each: the best of them is partly the luckiest"
        return f"{len(self.contenders)} trials, by {own}, {lucky}{absent}"

    def check(self, name: str) -> None:
        """UserError for a name that no quantity has."""
        known = {each for one in self.contenders for each in one.record.quantities}
        if name not in known and name.removeprefix(TWIN) not in QUANTITIES:
            raise unknown_name(f"quantity of the trials of '{self.study}':", name, known)

    def values(self, name: str) -> dict[str, Value]:
        """Contender -> its value; those that have none are not there."""
        return self._of_trainings(name) if is_learnt(name) else self._of_networks(name)

    def _of_networks(self, name: str) -> dict[str, Value]:
        values = {each.name: each.own_value(name) for each in self.contenders}
        return {who: _value(value) for who, value in values.items() if value is not None}

    def _of_trainings(self, name: str) -> dict[str, Value]:
        """With intervals of the trainings' noise; where no one has two trainings, the record's own, of its samples."""
        scores = self.scores(name)
        noise = noise_of(scores)
        if noise is None:
            values = {each.name: each.told_value(name) for each in self.contenders}
            return {who: replace(_value(value), trainings=1) for who, value in values.items() if value is not None}
        intervals = {who: noise.contrast({who: 1.0}) for who in scores}
        return {
            who: Value(value=fmean(of.values()), low=at.low, high=at.high, trainings=len(of))
            for (who, of), at in zip(scores.items(), intervals.values(), strict=True)
        }

    def may_win(self, name: str) -> dict[str, Value]:
        """The values of those that have all their seeds; of a quantity that no seed changes, of all. UserError where a
        score is known and nobody has all."""
        values = self.values(name)
        if not is_learnt(name):
            return values
        lacking = {each.name: lacks for each in self.contenders if (lacks := each.lacks(name))}
        whole = {who: value for who, value in values.items() if who not in lacking}
        if values and not whole:
            reasons = "; ".join(f"{who}: {lacks}" for who, lacks in sorted(lacking.items())[:3])
            raise UserError(
                f"none of {len(self.contenders)} in '{self.study}' has a {name} of all its seeds ({reasons}); run the "
                "study's command to its end first, or name a trial"
            )
        return whole

    def scores(self, name: str) -> dict[str, dict[int, float]]:
        """Contender -> seed -> value."""
        scores = {each.name: each.scores(name) for each in self.contenders}
        return {who: of for who, of in scores.items() if of}

    def ties(self, name: str, who: str, among: Iterable[str]) -> list[str]:
        """Those of `among` that are not told apart from this one: by the seeds, corrected for all pairs as on the
        sweep's page. With one training each nobody is, since how much trainings differ is not known."""
        others, values = [each for each in among if each != who], self.values(name)
        if not is_learnt(name):
            return [each for each in others if values[each].value == values[who].value]
        if noise_of(self.scores(name)) is None:
            return others
        learnt = [each for each in self.objectives if is_learnt(each) and each != name]
        compared = Compared.of({each: self.scores(each) for each in (name, *learnt)})
        return [each for each in compared.ties(name, who) if each in others]


def contest_of(out: Path, study: str, complete: Sequence[TrialRecord]) -> Contest:
    """Of the study's `complete` trials, each under the name that it has there."""
    stored = stored_study(study_folder(out, study), study)
    own = {each.name: each for each in complete}
    if stored is None:
        return _of_rungs(out, study, complete)
    again, absent = _finalists(out, stored, own)
    contenders, floor = again or by_name(complete), stored.user_attrs.get(FLOOR)
    count, beaten = _above_floor(study, task_of(contenders[0].record.protocol).judging, floor, contenders)
    return Contest(
        study=study,
        contenders=tuple(count),
        left_out=len(own) - len(again) - len(absent) if again else 0,
        objectives=tuple(directions_of(stored)),
        absent=absent if again else {},
        beaten=beaten,
    )


def _above_floor(
    study: str, judging: Judging, floor: float | None, contenders: Sequence[Contender]
) -> tuple[list[Contender], tuple[str, ...]]:
    """Those whose mean first score is not worse than the study's floor, and the names of the others. UserError where
    everybody's is."""
    scores = {each.name: of for each in contenders if (of := list(each.scores(judging.first).values()))}
    beaten = judging.beaten_of(scores, floor)
    if len(beaten) == len(contenders):
        what = "the floor" if judging.floor is None else judging.floor.what
        raise UserError(
            f"none of {len(contenders)} in '{study}' has a better {title_of(judging.first)} than {what}, {floor:.4g}: "
            f"train longer, as another study, or name a trial: {', '.join(sorted(beaten))}"
        )
    return [each for each in contenders if each.name not in beaten], tuple(beaten)


def _finalists(
    out: Path, stored: optuna.Study, own: Mapping[str, TrialRecord]
) -> tuple[list[Contender], dict[str, str]]:
    """Those with a fresh score, and why others have none. Each should have as many as the sweep asks for."""
    finalists = {name: scores for name, scores in rescored_in(stored.user_attrs).items() if name in own}
    planned = (stored.user_attrs.get(DEFINITION, {}).get("finalists") or {}).get("seeds", 0)
    seeds = sorted({score.seed for scores in finalists.values() for score in scores})
    seeds += [-number for number in range(1, planned - len(seeds) + 1)]  # those that nobody began with yet
    again, absent = [], {}
    for name, scores in finalists.items():
        fresh, failed = _fresh_records(out, scores), {score.seed for score in scores if score.failed}
        missing = {seed: FAILED if seed in failed else NO_RESULT for seed in seeds if seed not in fresh}
        one = Contender(name=name, record=own[name], told_by=fresh, is_rescored=True, missing=missing)
        if fresh:
            again.append(one)
        else:
            absent[name] = one.lacks("")
    return again, absent


def _of_rungs(out: Path, study: str, complete: Sequence[TrialRecord]) -> Contest:
    """Of an ablation, which says which seeds each rung should have."""
    manifest, store = read_manifest(out, study), store_of(out)
    missing: dict[str, dict[int, str]] = {}
    trained = {(each.name, each.seed) for each in complete}
    for rung in manifest.rungs:
        for seed in (each for each in manifest.seeds if (rung.name, each) not in trained):
            key = manifest.key(rung, seed)
            missing.setdefault(rung.name, {})[seed] = NO_RESULT if store.trial(key) is None else FAILED
    contenders = by_name(complete, missing)
    names = {each.name for each in contenders}
    count, beaten = _above_floor(study, manifest.judging, _floor_of(manifest, store), contenders)
    empty = {name: Contender(name=name, record=complete[0], told_by={}, missing=of) for name, of in missing.items()}
    return Contest(
        study=study,
        contenders=tuple(count),
        absent={name: one.lacks("") for name, one in empty.items() if name not in names},
        beaten=beaten,
    )


def _floor_of(manifest: Manifest, store: Store) -> float | None:
    """What the control that an ablation's rungs have to beat scores; None where it has none, or was not scored."""
    floor = manifest.judging.floor
    control = None if floor is None else store.measurement(manifest.controls.get(floor.control, ""))
    return None if control is None else value_of(control.quantities.get(manifest.judging.first))


def by_name(complete: Sequence[TrialRecord], missing: Mapping[str, Mapping[int, str]] = NOTHING) -> list[Contender]:
    seeds: dict[str, dict[int, TrialRecord]] = {}
    for each in sorted(complete, key=lambda record: record.seed):
        seeds.setdefault(each.name, {})[each.seed] = each
    return [
        Contender(name=name, record=next(iter(of.values())), told_by=of, missing=missing.get(name, {}))
        for name, of in seeds.items()
    ]


def _fresh_records(out: Path, scores: Sequence[FreshScore]) -> dict[int, TrialRecord]:
    store = store_of(out)
    records = {each.seed: store.trial(each.key) for each in scores if each.values is not None or each.score is not None}
    return {seed: record for seed, record in records.items() if record is not None and record.state == "complete"}


def _first(name: str, records: Iterable[TrialRecord]) -> Known | None:
    """What the first of them has that has it."""
    values = (known_or_expected(each.quantities.get(name)) for each in records)
    return next((each for each in values if each is not None), None)


def _value(known: Known) -> Value:
    low, high = getattr(known, "low", None), getattr(known, "high", None)
    return Value(value=float(known.value), low=low, high=high, kind=known.kind)
