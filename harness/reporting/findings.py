"""What this run knows of one change: which way a quantity went, and how far. By the rule of the claim:

count       exact arithmetic on the network.
instrument  from the instrument's intervals, or the seeds' range where that is wider: from low / high' - 1 to
            high / low' - 1, the primes marking the rung that it is compared to.
seeds       by `harness.measure.statistics`: one noise model a quantity over all rungs, paired by seed where the rungs
            share their seeds; p is corrected for all statements of the page (`statistics_joint`), so that at most one
            page in twenty has a wrong one. What is tested is fixed by what is published, before the run: of "lower" and
            "higher", and where nothing is published, whether there is a difference; of "same", whether the change is
            within `same_within` of the other's mean (two one-sided tests), and whether it is beyond. With one seed a
            rung nothing is tested: the difference stands with the noise of its images alone, which says nothing of
            seeds.

Whatever lacks a value, comparable conditions or a spread, or is beaten by a control, is unknown, and says why.
A prediction is no measurement: it decides nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from harness.measure.statistics import LEVEL, Comparison, Interval, Noise, noise_of, sampling_difference
from harness.measure.statistics_joint import Difference, Single, Test, corrected
from harness.records.errors import UserError
from harness.records.quantities import is_relative, more_is_better
from harness.records.quantity import Measured
from harness.reporting.checks import TrainingChecks
from harness.reporting.definition import ClaimRule, ReportDefinition
from harness.reporting.format import change, signed
from harness.reporting.frames import Estimate, Estimates, Reading
from harness.reporting.published import Direction, Published
from harness.reporting.subjects import Study, Subject

Question = Literal["differs", "within", "beyond"]
Key: TypeAlias = tuple[str, str]
"""(rung, quantity)."""
WIDEST = 1.0  # a relative interval over more than 100 points says little: the absolute difference stands instead


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One rung against the one it is compared to, in one quantity."""

    unknown: str = ""  # why this run does not know; then nothing else is set, but what is `shown` of it
    lower: bool = False  # proved
    higher: bool = False  # proved
    more_is_better: bool = False  # of the quantity
    same: bool = False  # proved to be within `same_within`
    beyond: bool = False  # proved to be outside of it
    exact: bool = False  # no noise: what is not proved is disproved
    still_falls: str = ""  # whose validation loss does, by how much: then this holds at this length of training
    low: float = math.nan  # the relative change's interval; nan where a relative change is ill-determined
    high: float = math.nan
    shown: str = ""  # the change with its interval
    tests: str = ""  # the tests' corrected p

    @property
    def effect(self) -> Literal["improved", "hurt", "same", "inconclusive"]:
        if self.unknown:
            return "inconclusive"
        if self.same:
            return "same"
        better, worse = (self.higher, self.lower) if self.more_is_better else (self.lower, self.higher)
        return "improved" if better else "hurt" if worse else "inconclusive"


@dataclass(frozen=True, kw_only=True, slots=True)
class Corrected:
    """Every statistical test of a page, corrected together."""

    noises: Mapping[str, Noise]  # by quantity
    adjusted: Mapping[tuple[str, str, Question], float]  # (rung, quantity, question) -> p, corrected

    def holds(self, key: Key, question: Question) -> bool:
        return self.adjusted.get((*key, question), 1.0) < 1 - LEVEL

    def shown(self, key: Key) -> str:
        """`p 0.012`, or `p 0.30 within, 1 beyond`."""
        words: dict[Question, str] = {"differs": "", "within": " within", "beyond": " beyond"}
        adjusted = {question: self.adjusted.get((*key, question)) for question in words}
        parts = [f"{_p_text(p)}{words[question]}" for question, p in adjusted.items() if p is not None]
        return f"p {', '.join(parts)}" if parts else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change of a score for the eye: relative where that is well determined, else absolute, with its interval."""

    comparison: Comparison
    value: float | None  # relative
    low: float = math.nan
    high: float = math.nan

    @property
    def shown(self) -> str:
        if self.value is not None:
            return f"{change(self.value)} ({change(self.low)} to {change(self.high)})"
        absolute = self.comparison
        return f"{signed(absolute.difference)} ({signed(absolute.low)} to {signed(absolute.high)})"


def findings(
    study: Study,
    definition: ReportDefinition,
    published: Published,
    estimates: Estimates,
    readings: Sequence[Reading],
    checks: TrainingChecks,
    apart: Mapping[Key, str],
) -> tuple[dict[Key, Finding], Corrected]:
    """(rung, quantity) -> what is known of its change, for every claim's quantity and every rung but the base; `apart`:
    what is `incomparable`."""
    compared = [rung for rung in study.subjects if rung.against is not None]
    unknown = _unknown(compared, definition, estimates, apart, checks)
    noises = noises_of(study, definition, readings, checks)
    questions = {
        (rung.name, rule.quantity): questions_of(published, rung, rule)
        for rule in definition.claims
        for rung in compared
        if rule.rule == "seeds" and (rung.name, rule.quantity) not in unknown
    }
    margins = {rule.quantity: rule.margin for rule in definition.claims}
    tests = Corrected(noises=noises, adjusted=corrected(_tests_of(study, noises, questions, margins)))
    result = {}
    for rule in definition.claims:
        for rung in compared:
            key = rung.name, rule.quantity
            finding = (
                Finding(unknown=unknown[key], shown=_untested(estimates[key]))
                if key in unknown
                else replace(
                    _finding(key, rung.against or "", rule, estimates, tests, readings),
                    still_falls=checks.still_falls(rung) if rule.rule == "seeds" else "",
                )
            )
            result[key] = replace(finding, more_is_better=more_is_better(rule.quantity))
    return result, tests


def questions_of(published: Published, rung: Subject, rule: ClaimRule) -> tuple[Question, ...]:
    """Which tests a rung's score gets: by what is published of it, never by the scores."""
    same = claimed(published, rung, rule) == "same" and rule.same_within is not None
    return ("within", "beyond") if same else ("differs",)


def claimed(published: Published, rung: Subject, rule: ClaimRule) -> Direction | None:
    """Which way the quantity is said to go; None where nothing is published against the same rung."""
    cell = published.cell(rung.name, rule.published)
    if cell is None or published.rows[rung.name].against != rung.against:
        return None
    return cell.claimed


def noises_of(
    study: Study, definition: ReportDefinition, readings: Sequence[Reading], checks: TrainingChecks
) -> dict[str, Noise]:
    """One noise model for each score whose spread is over seeds; a rung that a control beats is no part of it. None of
    a sweep: it has one seed of each candidate, compares none by name, and the model takes the cube of their number in
    time; its finalists are compared where they are trained."""
    if study.kind == "sweep":
        return {}
    noises = {}
    for column in (column for column in definition.columns if column.spread == "seeds"):
        scores: dict[str, dict[int, float]] = {rung.name: {} for rung in study.subjects}
        for row in readings:
            counts = row.kind == "measured" and row.subject not in checks.beaten
            if row.quantity == column.quantity and counts and row.value is not None and row.seed is not None:
                scores[row.subject][row.seed] = row.value
        noise = noise_of(scores)
        if noise is not None:
            noises[column.quantity] = noise
    return noises


def change_of(noises: Mapping[str, Noise], quantity: str, rung: str, against: str | None) -> Change | None:
    """The rung's change with its interval, for this comparison alone; None where there is no spread over seeds."""
    if (noise := noises.get(quantity)) is None or against is None or not {rung, against} <= set(noise.groups):
        return None
    comparison = noise.compare(rung, against)
    relative = noise.relative(rung, against) if is_relative(quantity) else None
    if relative is None or relative.low < -1 or relative.high - relative.low > WIDEST:
        return Change(comparison=comparison, value=None)
    return Change(comparison=comparison, value=relative.value, low=relative.low, high=relative.high)


def _tests_of(
    study: Study,
    noises: Mapping[str, Noise],
    questions: Mapping[Key, Sequence[Question]],
    margins: Mapping[str, float],
) -> dict[tuple[str, str, Question], Test]:
    against = {rung: other or "" for rung, other in study.against.items()}
    return {
        (rung, quantity, question): _test_of(
            noises[quantity], question, (rung, quantity), against[rung], margins[quantity]
        )
        for (rung, quantity), tested in questions.items()
        if quantity in noises and {rung, against[rung]} <= set(noises[quantity].groups)
        for question in tested
    }


def _test_of(noise: Noise, question: Question, key: Key, against: str, margin: float) -> Test:
    rung, _ = key
    if question == "differs":
        return Difference(noise=noise, one=rung, other=against)
    p = noise.equivalent if question == "within" else noise.beyond
    return Single(p=p(rung, against, margin), pair=key)


def _finding(
    key: Key, against: str, rule: ClaimRule, estimates: Estimates, tests: Corrected, readings: Sequence[Reading]
) -> Finding:
    ours, theirs = estimates[key], estimates[against, rule.quantity]
    if rule.rule == "seeds":
        return _by_seeds(key, against, tests, readings)
    if ours.change is None:
        return Finding(unknown="the rung it is compared to is not above zero, so that a relative change means nothing")
    if rule.rule == "count":
        return _by_interval(ours.change, ours.change, rule.margin, change(ours.change), exact=True)
    (low, high), (their_low, their_high) = ours.ends, theirs.ends
    low, high = low / their_high - 1, high / their_low - 1
    shown = f"{change(ours.change)} ({change(low)} to {change(high)})"
    return _by_interval(low, high, rule.margin, shown, exact=False)


def _by_seeds(key: Key, against: str, tests: Corrected, readings: Sequence[Reading]) -> Finding:
    rung, quantity = key
    shown = change_of(tests.noises, quantity, rung, against)
    if shown is None:
        return Finding(
            unknown="one seed per rung: there is no spread over seeds to compare with",
            shown=by_images(rung, against, quantity, readings),
        )
    apart = tests.holds(key, "differs") or tests.holds(key, "beyond")
    return Finding(
        lower=apart and shown.comparison.difference < 0,
        higher=apart and shown.comparison.difference > 0,
        same=tests.holds(key, "within"),
        beyond=tests.holds(key, "beyond"),
        low=shown.low,
        high=shown.high,
        shown=shown.shown,
        tests=tests.shown(key),
    )


def by_images(rung: str, against: str, quantity: str, readings: Sequence[Reading]) -> str:
    """The difference of two single scores, as far as their images can say."""
    try:
        apart = images_difference(rung, against, quantity, readings)
    except UserError as why:
        return f"the difference has no interval either: {why}"
    interval = f"{signed(apart.value)} ({signed(apart.low)} to {signed(apart.high)})"
    return f"these two networks differ by {interval}, 95% of their images' noise alone: other seeds may say otherwise"


def images_difference(rung: str, against: str, quantity: str, readings: Sequence[Reading]) -> Interval:
    """Of two single scores, whose samples begin with the same noise, by the noise of their images alone; UserError
    where that cannot be known."""
    scores = {
        row.subject: Measured(value=row.value, unit=row.unit, replicates=row.replicates, conditions=row.conditions)
        for row in readings
        if row.quantity == quantity and row.kind == "measured" and row.value is not None
    }
    return sampling_difference(scores[rung], scores[against])


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _by_interval(low: float, high: float, margin: float, shown: str, *, exact: bool) -> Finding:
    same = -margin <= low and high <= margin
    beyond = high < -margin or low > margin
    return Finding(
        lower=high < 0, higher=low > 0, same=same, beyond=beyond, exact=exact, low=low, high=high, shown=shown
    )


def _unknown(
    rungs: Sequence[Subject],
    definition: ReportDefinition,
    estimates: Estimates,
    differing: Mapping[Key, str],
    checks: TrainingChecks,
) -> dict[Key, str]:
    """(rung, quantity) -> why nothing can be said of its change."""
    reasons = {}
    for rung in rungs:
        for rule in definition.claims:
            ours, theirs = estimates[rung.name, rule.quantity], estimates[rung.against or "", rule.quantity]
            why = _without_value(ours, theirs) or differing.get((rung.name, rule.quantity), "")
            if not why and rule.rule == "seeds":
                why = _unranked(rung, rule.quantity, checks) or _of_other_protocols(ours, theirs)
            if why:
                reasons[rung.name, rule.quantity] = why
    return reasons


def _of_other_protocols(ours: Estimate, theirs: Estimate) -> str:
    if ours.other_protocol == theirs.other_protocol:
        return ""
    return f"made under another protocol than what it is compared to: {ours.other_protocol or theirs.other_protocol}"


def _unranked(rung: Subject, quantity: str, checks: TrainingChecks) -> str:
    theirs = checks.why_unranked(rung.against or "", quantity)
    reason = f"the rung it is compared to is {theirs}" if rung.against in checks.beaten else theirs
    return checks.why_unranked(rung.name, quantity) or reason


def _without_value(ours: Estimate, theirs: Estimate) -> str:
    for estimate in (ours, theirs):
        if estimate.value is None:
            what = "not measured" if estimate.kind == "missing" else f"{estimate.kind}: {estimate.note}"
            return what if estimate is ours else f"the rung it is compared to is {what}"
    if ours.kind != theirs.kind:
        return f"this one is {ours.kind}, the rung it is compared to {theirs.kind}"
    if ours.kind == "predicted":
        return "predicted, not measured"
    return ""


def _untested(estimate: Estimate) -> str:
    """A predicted change, to be read and not judged."""
    if estimate.kind != "predicted" or estimate.change is None:
        return ""
    return f"predicted {change(estimate.change)}"
