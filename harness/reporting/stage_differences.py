"""What a stage of a chain bought: its network's score less that of the one before it, with an interval.

Several seeds   one noise for all networks, paired by seed (`harness.measure.statistics`)
One seed        both networks' samples begin with the same noise and are asked for the same classes, so that what they
                share cancels: the interval is that of the samples' noise alone, and another training would differ by
                more

A network that samples in few steps is held against the one before it twice: sampled in the same few steps, by scores
of `harness evaluate`, one a seed, and sampled as that one is usually.

`better` and `worse` are told where p is below 5%, corrected for all differences of the page, in all its scores: at most
one page in twenty tells a false one. The interval is each difference's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from harness.measure.statistics import LEVEL, Noise, noise_of, sampling_difference, sampling_p
from harness.measure.statistics_joint import Difference as NoDifference
from harness.measure.statistics_joint import Single, Test, corrected
from harness.records.chain_summary import ChainSummary, StageNetwork
from harness.records.errors import UserError
from harness.records.quantities import more_is_better
from harness.records.quantity import Measured
from harness.records.record import Measurement
from harness.reporting.format import signed
from harness.reporting.section import Frames

Told: TypeAlias = Literal["better", "worse", "not told", "unknown"]
FEW = "few_steps"
ALIKE = "sampled_alike"
"""The network before, in the same few steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    against: str  # "Trained", "Distilled, in the same 4 steps"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    told: Told = "unknown"
    p: float | None = None  # of no difference, corrected for all of the page
    why: str = ""  # of an unknown one; else what its interval is of

    @property
    def data(self) -> dict[str, str]:
        """Every digit, for a program."""
        ends = {"value": self.value, "low": self.low, "high": self.high, "p": self.p}
        pieces = {"difference": self.against, "told": self.told}
        return pieces | {name: "" if end is None else repr(end) for name, end in ends.items()}

    @property
    def shown(self) -> str:
        if self.value is None:
            return "not known"
        if self.low is None or self.high is None:
            return f"{signed(self.value)}, without an interval,"
        return f"{signed(self.value)} ({signed(self.low)} to {signed(self.high)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tested:
    """A difference before it is told; without a test it stays as it is."""

    difference: Difference
    test: Test | None = None


Place: TypeAlias = tuple[str, str, int]
"""Quantity, network, which of its differences."""


def differences(frames: Frames) -> dict[str, dict[str, list[Difference]]]:
    """Score -> network -> its differences; of every column with a spread over seeds."""
    scores = [column.quantity for column in frames.columns if column.spread == "seeds"]
    tested = {quantity: _tested(frames, quantity) for quantity in scores}
    tests: dict[Place, Test] = {
        (quantity, network, at): each.test
        for quantity, by_network in tested.items()
        for network, several in by_network.items()
        for at, each in enumerate(several)
        if each.test is not None
    }
    p = corrected(tests)
    return {
        quantity: {
            network: [
                _told(each.difference, p.get((quantity, network, at)), quantity) for at, each in enumerate(several)
            ]
            for network, several in by_network.items()
        }
        for quantity, by_network in tested.items()
    }


def _tested(frames: Frames, quantity: str) -> dict[str, list[_Tested]]:
    """Network -> its differences in this score."""
    chain = frames.study.chain
    assert chain is not None
    titles, noise = frames.study.titles, noise_over_seeds(frames, quantity)
    tested: dict[str, list[_Tested]] = {}
    for network in chain.networks:
        if network.before is None or network.before not in titles:
            continue
        several: list[_Tested] = []
        if network.name == FEW:
            several.append(_in_the_same_steps(frames, chain, network, quantity))
        several.append(_between(frames, network, quantity, noise))
        tested[network.name] = several
    return tested


def noise_over_seeds(frames: Frames, quantity: str) -> Noise | None:
    """None with one seed."""
    return noise_of(_over_seeds(frames, quantity))


def _over_seeds(frames: Frames, quantity: str) -> dict[str, dict[int, float]]:
    """Network -> seed -> score."""
    scores: dict[str, dict[int, float]] = {}
    for row in frames.readings:
        if row.quantity == quantity and row.kind == "measured" and row.value is not None and row.seed is not None:
            scores.setdefault(row.subject, {})[row.seed] = row.value
    return scores


def measured(frames: Frames, name: str, quantity: str) -> Measured | None:
    """The first seed's score of a network."""
    records = [record for (subject, _), record in frames.records.items() if subject == name and record is not None]
    score = records[0].quantities.get(quantity) if records else None
    return score if isinstance(score, Measured) else None


def scored_before(frames: Frames, chain: ChainSummary, network: StageNetwork) -> dict[int, Measurement]:
    """Seed -> the stored score of the network before, sampled as this one is and scored as both were."""
    trials = {seed: key for name, seeds in _trials(frames) if name == network.before for seed, key in seeds.items()}
    alike = {
        str(each.settings.get("trial")): each
        for each in frames.scores()
        if each.settings.get("quality") == chain.protocol.get("quality")
        and _is_like(each, chain.few_steps)
        and "average" not in each.settings
    }
    return {seed: alike[key] for seed, key in trials.items() if key in alike}


def scores_alike(measurements: Mapping[int, Measurement], quantity: str) -> dict[int, Measured]:
    """Seed -> the score."""
    scores = {seed: each.quantities.get(quantity) for seed, each in measurements.items()}
    return {seed: score for seed, score in scores.items() if isinstance(score, Measured)}


def _trials(frames: Frames) -> Iterable[tuple[str, Mapping[int, str]]]:
    return ((subject.name, subject.trials) for subject in frames.study.subjects)


def _is_like(score: Measurement, sampling: Mapping[str, Any]) -> bool:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in sampling.items()}
    return dict(score.settings.get("sampling", {})) == plain


def _in_the_same_steps(frames: Frames, chain: ChainSummary, network: StageNetwork, quantity: str) -> _Tested:
    assert network.before is not None
    name = f"{frames.study.titles[network.before]}, sampled alike"
    others = scores_alike(scored_before(frames, chain, network), quantity)
    if not others:
        return _Tested(difference=Difference(against=name, why="no such score of it is stored"))
    scores = {seed: score.value for seed, score in others.items()}
    noise = noise_of({**_over_seeds(frames, quantity), ALIKE: scores})
    if noise is not None and network.name in noise.groups:
        return _of_seeds(name, noise, network.name, ALIKE)
    return _of_samples(name, measured(frames, network.name, quantity), next(iter(others.values())))


def _between(frames: Frames, network: StageNetwork, quantity: str, noise: Noise | None) -> _Tested:
    assert network.before is not None
    name = frames.study.titles[network.before]
    if network.name == FEW:
        before = next(each for each in frames.study.chain.networks if each.name == network.before)  # type: ignore[union-attr]
        name = f"{name}, in its own {before.sampling}"
    if noise is not None and {network.name, network.before} <= set(noise.groups):
        return _of_seeds(name, noise, network.name, network.before)
    return _of_samples(name, measured(frames, network.name, quantity), measured(frames, network.before, quantity))


def _of_seeds(name: str, noise: Noise, own: str, other: str) -> _Tested:
    comparison = noise.compare(own, other)
    shown = Difference(
        against=name, value=comparison.difference, low=comparison.low, high=comparison.high, why=noise.sentence
    )
    return _Tested(difference=shown, test=NoDifference(noise=noise, one=own, other=other))


def _of_samples(name: str, own: Measured | None, other: Measured | None) -> _Tested:
    if own is None or other is None:
        return _Tested(difference=Difference(against=name, why="one of them has no such score"))
    try:
        interval = sampling_difference(own, other)
    except UserError as error:
        return _Tested(difference=Difference(against=name, value=own.value - other.value, why=str(error)))
    why = "the samples' noise alone, of one training each: another training would differ by more"
    shown = Difference(against=name, value=interval.value, low=interval.low, high=interval.high, why=why)
    return _Tested(difference=shown, test=Single(p=sampling_p(own, other)))


def _told(difference: Difference, p: float | None, quantity: str) -> Difference:
    """By its corrected p; None where it is not tested."""
    if p is None or difference.value is None:
        return difference
    if p >= 1 - LEVEL:
        return replace(difference, told="not told", p=p)
    better = (difference.value > 0) == more_is_better(quantity)
    return replace(difference, told="better" if better else "worse", p=p)
