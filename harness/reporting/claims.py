"""The claim sheet: does this run support, contradict, or not tell what was published? The rules, in full:

1. A change is known here as an interval of relative change [low, high]:
   - `count`: exact, so low = high.
   - `seeds` (quality): the difference of the two rungs' means, plus and minus t * s * sqrt(1/n1 + 1/n2). Here s is the
     standard deviation over seeds within a rung, pooled over all rungs of the run (one number per quantity),
     t Student's 97.5% quantile at its degrees of freedom, n the seeds of each rung. The interval is widened to the
     seeds' own extreme differences, so that two rungs whose seeds overlap are never told apart.
   - `instrument` (latency): from the instrument's intervals, or the seeds' range where that is wider:
     [low / high' - 1, high / low' - 1], the primes marking the rung it is compared to.
2. The claim "lower" is supported if high < 0 and contradicted if low >= 0 ("higher": mirrored). The claim "same" is
   supported if the interval lies within +-same_within, contradicted if it lies wholly outside.
3. In a full-size run a printed change of a count must also be met within `tolerance` points.
4. Else, and wherever a value, a spread or comparability is lacking, the run cannot tell, and says why. A prediction, a
   measurement beside a prediction, a substitute device, or a network no better than the control that must be beaten (or
   one whose control is not known) never decides.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.records.manifest import Manifest, Rung
from harness.reporting.definition import ClaimRule, ReportDefinition
from harness.reporting.format import change
from harness.reporting.frames import Estimate, Estimates, Reading
from harness.reporting.published import Published, PublishedCell

State = Literal["supports", "contradicts", "cannot tell", "no claim"]

# Student's 97.5% quantiles at 1, 2, ... 30 degrees of freedom; beyond, the last one (a little strict).
# fmt: off
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A relative change as this run knows it; `unknown` says why it does not."""

    low: float = math.nan
    high: float = math.nan
    unknown: str = ""

    def within(self, margin: float) -> bool:
        return -margin <= self.low and self.high <= margin

    @property
    def shown(self) -> str:
        if self.unknown:
            return ""
        return change(self.low) if self.low == self.high else f"{change(self.low)} to {change(self.high)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The standard deviation over seeds within a rung, pooled over rungs, with its degrees of freedom."""

    deviation: float
    freedom: int

    def half_width(self, n: int, m: int) -> float:
        """Half the 95% interval of the difference between means of n and m seeds."""
        return student(self.freedom) * self.deviation * math.sqrt(1 / n + 1 / m)


@dataclass(frozen=True, slots=True)
class Bar:
    """What a trained network has to beat before its quality counts."""

    control: str
    value: float | None  # None: not known, so nothing can be told


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    rung: str
    rule: ClaimRule
    published: PublishedCell | None
    interval: Interval
    ours: float | None  # the relative change, by the means
    verdict: Verdict


def student(freedom: int) -> float:
    return _STUDENT[min(freedom, len(_STUDENT)) - 1]


def pooled(estimates: Estimates, quantity: str) -> Spread | None:
    """The seed spread of one quantity; None where no rung has two seeds."""
    groups = [e.values for (_, name), e in estimates.items() if name == quantity and len(e.values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if freedom == 0:
        return None
    squares = sum((x - sum(values) / len(values)) ** 2 for values in groups for x in values)
    return Spread(deviation=math.sqrt(squares / freedom), freedom=freedom)


def must_beat(definition: ReportDefinition, controls: Sequence[Reading]) -> dict[str, Bar]:
    """The bar of every quantity that the controls are scored in; none where the definition names no control."""
    name = definition.must_beat
    if name is None:
        return {}
    values = {row.quantity: row.value for row in controls if row.subject == name}
    return {quantity: Bar(name, values.get(quantity)) for quantity in definition.control_quantities}


def claim_sheet(
    manifest: Manifest,
    definition: ReportDefinition,
    published: Published,
    estimates: Estimates,
    readings: Sequence[Reading],
    bars: Mapping[str, Bar],
) -> list[Claim]:
    """One Claim per rung (but the base) and rule. `bars`: quantity -> what has to be beaten before it counts."""
    incomparable = _incomparable(manifest, readings, definition.observed)
    sheet = []
    for rung in (rung for rung in manifest.rungs if rung.against is not None):
        for rule in definition.claims:
            interval = change_interval(rung, rule, estimates, incomparable, bars.get(rule.quantity))
            cell = published.cell(rung.name, rule.published)
            if cell is not None and published.rows[rung.name].against != rung.against:
                cell = None  # published against another rung: nothing to compare with
            ours = estimates[rung.name, rule.quantity].change
            tolerance = definition.tolerance if definition.scale == "full" else None
            verdict = judge(cell, interval, ours, rule, tolerance)
            sheet.append(
                Claim(rung=rung.name, rule=rule, published=cell, interval=interval, ours=ours, verdict=verdict)
            )
    return sheet


def change_interval(
    rung: Rung,
    rule: ClaimRule,
    estimates: Estimates,
    incomparable: Mapping[tuple[str, str], str],
    bar: Bar | None = None,
) -> Interval:
    """Rule 1: the relative change of one rung against the one it is compared to."""
    ours, theirs = estimates[rung.name, rule.quantity], estimates[rung.against or "", rule.quantity]
    why = _without_value(ours, theirs) or incomparable.get((rung.name, rule.quantity), "")
    if not why and bar is not None:
        why = _not_beaten(bar, ours, theirs)
    if not why and (theirs.value or 0) <= 0:
        why = "the reference is not above zero, so a relative change means nothing"
    if why:
        return Interval(unknown=why)
    if rule.rule == "count":
        exact = ours.change if ours.change is not None else math.nan
        return Interval(low=exact, high=exact)
    return (
        _instrument(ours, theirs)
        if rule.rule == "instrument"
        else _seeds(ours, theirs, pooled(estimates, rule.quantity))
    )


def judge(
    cell: PublishedCell | None, interval: Interval, ours: float | None, rule: ClaimRule, tolerance: float | None
) -> Verdict:
    """Rules 2 to 4. `tolerance` is None in a run that is not full-size."""
    claimed = cell.claimed if cell is not None else None
    if cell is None or claimed is None:
        return Verdict("no claim", "nothing is published")
    if interval.unknown:
        return Verdict("cannot tell", interval.unknown)
    low, high, margin = interval.low, interval.high, rule.same_within
    if claimed == "same":
        supported, contradicted = interval.within(margin), high < -margin or low > margin
    elif claimed == "lower":
        supported, contradicted = high < 0, low >= 0
    else:
        supported, contradicted = low > 0, high <= 0
    if not supported and not contradicted:
        asked = f"within ±{margin:.0%}" if claimed == "same" else claimed
        return Verdict("cannot tell", f"{interval.shown} leaves open whether it is {asked}")
    if supported and rule.rule == "count" and tolerance is not None and cell.change is not None and ours is not None:
        apart = abs(ours - cell.change)
        if apart > tolerance:
            return Verdict(
                "contradicts", f"{change(ours)}: {apart:.1%} from the printed change, more than {tolerance:.1%}"
            )
    return Verdict("supports" if supported else "contradicts", interval.shown)


def caption_verdict(claims: Sequence[Claim]) -> Verdict:
    """The caption's claim over one rung's rows: something improves and nothing is hurt. Lower is better in all."""
    better = [claim.rule.title for claim in claims if claim.interval.high < 0]
    worse = [c.rule.title for c in claims if c.interval.low > 0 and not c.interval.within(c.rule.same_within)]
    unclear = [claim.rule.title for claim in claims if effect(claim) == "unknown"]
    told = "; ".join(
        f"{title}: {', '.join(names)}"
        for title, names in (("improved", better), ("hurt", worse), ("not known", unclear))
        if names
    )
    if worse:
        return Verdict("contradicts", told)
    if unclear:
        return Verdict("cannot tell", told)
    return Verdict("supports" if better else "contradicts", told or "nothing changed")


def effect(claim: Claim) -> Literal["improved", "hurt", "same", "unknown"]:
    """What the change did to a metric of which less is better."""
    if claim.interval.unknown:
        return "unknown"
    if claim.interval.high < 0:
        return "improved"
    if claim.interval.within(claim.rule.same_within):
        return "same"
    return "hurt" if claim.interval.low > 0 else "unknown"


def _not_beaten(bar: Bar, ours: Estimate, theirs: Estimate) -> str:
    if bar.value is None:
        return f"the control that a trained network must beat, {bar.control.replace('_', ' ')}, is not known"
    if max(ours.value or 0, theirs.value or 0) >= bar.value:
        return "one of the two is no better than the control that a trained network must beat"
    return ""


def _seeds(ours: Estimate, theirs: Estimate, spread: Spread | None) -> Interval:
    if spread is None or ours.value is None or theirs.value is None:
        return Interval(unknown="one seed a rung: there is no seed spread to compare with")
    difference, half = ours.value - theirs.value, spread.half_width(len(ours.values), len(theirs.values))
    (low, high), (their_low, their_high) = ours.seed_range, theirs.seed_range
    return Interval(
        low=min(difference - half, low - their_high) / theirs.value,
        high=max(difference + half, high - their_low) / theirs.value,
    )


def _instrument(ours: Estimate, theirs: Estimate) -> Interval:
    (low, high), (their_low, their_high) = _widest(ours), _widest(theirs)
    return Interval(low=low / their_high - 1, high=high / their_low - 1)


def _widest(estimate: Estimate) -> tuple[float, float]:
    low, high = estimate.seed_range
    return (
        low if estimate.low is None else min(low, estimate.low),
        high if estimate.high is None else max(high, estimate.high),
    )


def _without_value(ours: Estimate, theirs: Estimate) -> str:
    for estimate in (ours, theirs):
        if estimate.value is None:
            what = "not measured" if estimate.kind == "missing" else f"{estimate.kind}: {estimate.note}"
            return what if estimate is ours else f"the rung it is compared to is {what}"
    if ours.kind != theirs.kind:
        return f"this one is {ours.kind}, the rung it is compared to {theirs.kind}"
    if ours.kind == "predicted":
        return f"predicted{f' {change(ours.change)}' if ours.change is not None else ''}, not measured"
    return ""


def _incomparable(
    manifest: Manifest, readings: Sequence[Reading], observed: Collection[str]
) -> dict[tuple[str, str], str]:
    """(rung, quantity) -> which condition differs from the rung it is compared to, seed by seed."""
    by_key = {(row.subject, row.seed, row.quantity): row for row in readings if row.value is not None}
    against = {rung.name: rung.against for rung in manifest.rungs}
    found = {}
    for (rung, seed, quantity), row in by_key.items():
        other = by_key.get((against[rung] or "", seed, quantity))
        names = _differences(row, other, observed) if other is not None else []
        if names:
            found[rung, quantity] = f"measured under different conditions: {', '.join(names)}"
    return found


def _differences(row: Reading, other: Reading, observed: Collection[str]) -> list[str]:
    names = {*row.conditions, *other.conditions} - set(observed)
    differing = sorted(name for name in names if row.conditions.get(name) != other.conditions.get(name))
    return differing + (["unit"] if row.unit != other.unit else [])
