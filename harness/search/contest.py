"""Among whom a promotion chooses: the trials of a study, and what is known of each.

Of a sweep with finalists these are its re-scored ones, each with the records of its fresh trainings: the best of the
search's own values is partly the luckiest. Of another sweep, its complete candidates; of an ablation, its rungs, each
with one record a seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from harness.measure.statistics import noise_of
from harness.records.errors import unknown_name
from harness.records.manifest import study_folder
from harness.records.quantities import QUANTITIES, TWIN, is_learnt
from harness.records.quantity import Known, Quantity, Unavailable
from harness.records.record import TrialRecord
from harness.search.candidates import FreshScore, rescored_in
from harness.search.finalists import Compared
from harness.search.study import directions_of, stored_study
from harness.trials.spec import store_of
from harness.trials.task_config import task_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """What a contender has of a quantity."""

    value: float  # the mean, of several trainings
    low: float | None = None
    high: float | None = None
    trainings: int = 1
    kind: str = "measured"  # counted, measured, predicted

    @property
    def text(self) -> str:
        """`0.412 (0.35 to 0.474, 3 trainings)`, `40.1 (36 to 45, predicted)`, `1,250,000`."""
        if self.kind == "counted":
            return f"{self.value:,.0f}"
        between = [] if self.low is None or self.high is None else [f"{self.low:.4g} to {self.high:.4g}"]
        how = ["predicted"] if self.kind == "predicted" else []
        count = [f"{self.trainings} trainings"] if self.trainings > 1 else []
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

    def own_value(self, name: str) -> Known | None:
        """Of a quantity that no seed changes: that of the record to be promoted, else of another."""
        found = (known_or_expected(each.quantities.get(name)) for each in (self.record, *self.told_by.values()))
        return next((each for each in found if each is not None), None)

    def told_value(self, name: str) -> Known | None:
        """Of one that a seed changes: that of the first seed that has it."""
        found = (known_or_expected(each.quantities.get(name)) for each in self.told_by.values())
        return next((each for each in found if each is not None), None)

    def scores(self, name: str) -> dict[int, float]:
        """Seed -> value of a quantity that a seed changes."""
        told = {seed: known_or_expected(each.quantities.get(name)) for seed, each in self.told_by.items()}
        return {seed: float(each.value) for seed, each in told.items() if each is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    study: str
    contenders: tuple[Contender, ...]
    left_out: int = 0
    """Complete candidates that are not among them, since they were not re-scored."""
    objectives: tuple[str, ...] = ()
    """A sweep's."""

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
    def basis(self) -> str:
        """By whose values it is decided."""
        if self.is_rescored:
            seeds = max(len(each.told_by) for each in self.contenders)
            others = f"; {self.left_out} complete candidates were not re-scored and are not among them"
            return (
                f"{len(self.contenders)} re-scored finalists, by the means of {seeds} fresh seeds"
                f"{others if self.left_out else ''}"
            )
        trainings = max(len(each.told_by) for each in self.contenders)
        if trainings > 1:
            return f"{len(self.contenders)} rungs, by the means of {trainings} seeds"
        own = "the search's own values" if self.objectives else "their own values"
        return f"{len(self.contenders)} trials, by {own}, one training each: the best of them is partly the luckiest"

    def check(self, name: str) -> None:
        """UserError for a name that no quantity has."""
        known = {each for one in self.contenders for each in one.record.quantities}
        if name not in known and name.removeprefix(TWIN) not in QUANTITIES:
            raise unknown_name(f"quantity of the trials of '{self.study}':", name, known)

    def values(self, name: str) -> dict[str, Value]:
        """Contender -> its value; those that have none are not there."""
        return self._of_trainings(name) if is_learnt(name) else self._of_networks(name)

    def _of_networks(self, name: str) -> dict[str, Value]:
        told = {each.name: each.own_value(name) for each in self.contenders}
        return {who: _value(value) for who, value in told.items() if value is not None}

    def _of_trainings(self, name: str) -> dict[str, Value]:
        """With intervals of the trainings' noise; with one training each, the record's own, of its samples."""
        scores = self.scores(name)
        noise = noise_of(scores)
        if noise is None:
            told = {each.name: each.told_value(name) for each in self.contenders}
            return {who: _value(value) for who, value in told.items() if value is not None}
        intervals = {who: noise.contrast({who: 1.0}) for who in scores}
        return {
            who: Value(value=fmean(of.values()), low=at.low, high=at.high, trainings=len(of))
            for (who, of), at in zip(scores.items(), intervals.values(), strict=True)
        }

    def scores(self, name: str) -> dict[str, dict[int, float]]:
        """Contender -> seed -> value."""
        scores = {each.name: each.scores(name) for each in self.contenders}
        return {who: of for who, of in scores.items() if of}

    def ties(self, name: str, who: str, among: Iterable[str]) -> list[str]:
        """Those of `among` that are not told apart from this one: by the seeds, corrected for all pairs as on the
        sweep's page; with one training each, those whose intervals overlap."""
        others, values = [each for each in among if each != who], self.values(name)
        if not is_learnt(name):
            return [each for each in others if values[each].value == values[who].value]
        if noise_of(self.scores(name)) is None:
            return [each for each in others if _overlap(values[each], values[who])]
        learnt = [each for each in self.objectives if is_learnt(each) and each != name]
        compared = Compared.of({each: self.scores(each) for each in (name, *learnt)})
        return [each for each in compared.ties(name, who) if each in others]


def contest_of(out: Path, study: str, complete: Sequence[TrialRecord]) -> Contest:
    """Of the study's `complete` trials, each under the name that it has there."""
    stored = stored_study(study_folder(out, study), study)
    finalists = {} if stored is None else rescored_in(stored.user_attrs)
    own = {each.name: each for each in complete}
    told = {name: _fresh_records(out, scores) for name, scores in finalists.items() if name in own}
    again = [
        Contender(name=name, record=own[name], told_by=records, is_rescored=True)
        for name, records in told.items()
        if records
    ]
    contenders = again or by_name(complete)
    return Contest(
        study=study,
        contenders=tuple(contenders),
        left_out=len(own) - len(again) if again else 0,
        objectives=() if stored is None else tuple(directions_of(stored)),
    )


def by_name(complete: Sequence[TrialRecord]) -> list[Contender]:
    seeds: dict[str, dict[int, TrialRecord]] = {}
    for each in sorted(complete, key=lambda record: record.seed):
        seeds.setdefault(each.name, {})[each.seed] = each
    return [Contender(name=name, record=next(iter(of.values())), told_by=of) for name, of in seeds.items()]


def _fresh_records(out: Path, scores: Sequence[FreshScore]) -> dict[int, TrialRecord]:
    store = store_of(out)
    told = {each.seed: store.trial(each.key) for each in scores if each.values is not None or each.score is not None}
    return {seed: record for seed, record in told.items() if record is not None and record.state == "complete"}


def known_or_expected(quantity: Quantity | None) -> Known | None:
    """Its value; where a queue is still asked, what a model of the instrument says meanwhile."""
    if isinstance(quantity, Unavailable):
        return quantity.expected
    return quantity if isinstance(quantity, Known) else None


def _value(known: Known) -> Value:
    low, high = getattr(known, "low", None), getattr(known, "high", None)
    return Value(value=float(known.value), low=low, high=high, kind=known.kind)


def _overlap(one: Value, other: Value) -> bool:
    """Where an interval is not known, nothing tells two apart."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return True
    return one.low <= other.high and other.low <= one.high
