"""What one change did to one quantity, in a word with its difference: the cells of a page's first table.

better, worse   shown: a score by the page's corrected tests (`harness.reporting.findings`), a count exactly, a time
                where the two intervals are apart, which of a predicted one is marked as predicted
same            shown to lie within the margin of the page's rule; without one, of a count only no difference at all
not told        all else, and why

The difference is absolute, in the quantity's unit, with its interval: of scores by the noise model, for this difference
alone; of times from one's low end minus the other's high end to the reverse; of counts exact. It has a percentage only
where it is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.records.errors import UserError
from harness.records.quantities import more_is_better
from harness.reporting.cells import names_of
from harness.reporting.claims import Claim
from harness.reporting.definition import Column
from harness.reporting.findings import Finding, Key, images_difference
from harness.reporting.format import change, number, signed
from harness.reporting.frames import Estimate, Kind
from harness.reporting.section import Frames
from harness.reporting.subjects import Subject

Word = Literal["better", "same", "worse", "not told"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    rung: str
    quantity: str
    word: Word
    kind: Kind  # how the two values are known; what one of them lacks where there is no difference
    why: str = ""  # of `not told`; of `same` the margin
    difference: float | None = None  # an int of counts
    low: float | None = None
    high: float | None = None
    relative: float | None = None  # only where it is told
    unit: str = ""
    claim: Claim | None = None  # what is published of it, and whether this run agrees

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None


def columns_of(frames: Frames) -> list[Column]:
    """The quantities of the table: scores first."""
    shown = [column for column in frames.columns if column.summary]
    return sorted(shown, key=lambda column: column.spread != "seeds")


def outcomes_of(frames: Frames) -> dict[Key, Outcome]:
    """(rung, quantity) -> what the change did, for every rung that is compared to another and every column."""
    compared = [rung for rung in frames.study.subjects if rung.against is not None]
    return {
        (rung.name, column.quantity): _outcome(frames, rung, column)
        for rung in compared
        for column in columns_of(frames)
    }


def _outcome(frames: Frames, rung: Subject, column: Column) -> Outcome:
    ours, theirs = frames.estimates[rung.name, column.quantity], frames.estimates[rung.against or "", column.quantity]
    claim = next((c for c in frames.claims if (c.rung, c.rule.quantity) == (rung.name, column.quantity)), None)
    blank = Outcome(rung=rung.name, quantity=column.quantity, word="not told", kind=ours.kind, claim=claim)
    if why := _without_value(ours, theirs):
        return replace(blank, why=why, kind=ours.kind if ours.value is None else theirs.kind)
    apart = frames.apart.get((rung.name, column.quantity), "")
    if apart or ours.other_protocol != theirs.other_protocol:
        return replace(blank, why=apart or f"another protocol: {ours.other_protocol or theirs.other_protocol}")
    if column.spread == "seeds":
        return _of_score(blank, ours, theirs, frames)
    margin = 0.0 if claim is None else claim.rule.margin
    return _of_count(blank, ours, theirs, margin) if ours.kind == "counted" else _of_time(blank, ours, theirs, margin)


def _without_value(ours: Estimate, theirs: Estimate) -> str:
    for estimate, whose in ((ours, ""), (theirs, "the rung it is compared to is ")):
        if estimate.value is None:
            return whose + ("not measured" if estimate.kind == "missing" else f"{estimate.kind}: {estimate.note}")
    if ours.kind != theirs.kind:
        return f"{ours.kind} here, {theirs.kind} in the rung it is compared to"
    return ""


def _of_score(blank: Outcome, ours: Estimate, theirs: Estimate, frames: Frames) -> Outcome:
    finding = None if blank.claim is None else blank.claim.finding
    against, noise = theirs.subject, frames.tests.noises.get(blank.quantity)
    unranked = frames.checks.why_unranked(blank.rung, blank.quantity) or frames.checks.why_unranked(
        against, blank.quantity
    )  # fmt: skip
    if unranked:
        return replace(blank, why=unranked if finding is None else finding.unknown)
    if noise is not None and {blank.rung, against} <= set(noise.groups):
        apart = noise.compare(blank.rung, against)
        outcome = replace(blank, difference=apart.difference, low=apart.low, high=apart.high, unit=ours.unit)
        return replace(outcome, word=_word(finding), why=_why(finding, outcome, frames))
    why = "this page tests no such difference" if finding is None else finding.unknown
    return _by_images(replace(blank, why=why, unit=ours.unit), against, ours, theirs, frames)


def _by_images(blank: Outcome, against: str, ours: Estimate, theirs: Estimate, frames: Frames) -> Outcome:
    """One seed each: the difference, with the noise of the images alone where that is known."""
    assert ours.value is not None
    assert theirs.value is not None
    if len(ours.values) > 1 or len(theirs.values) > 1:
        return replace(blank, difference=ours.value - theirs.value)
    try:
        apart = images_difference(blank.rung, against, blank.quantity, frames.shown)
    except UserError:
        return replace(blank, difference=ours.value - theirs.value)
    why = f"{blank.why}; the interval is of the images' noise alone"
    return replace(blank, difference=apart.value, low=apart.low, high=apart.high, why=why)


def _word(finding: Finding | None) -> Word:
    if finding is None or finding.unknown:
        return "not told"
    words: dict[str, Word] = {"improved": "better", "hurt": "worse", "same": "same", "inconclusive": "not told"}
    return words[finding.effect]


def _why(finding: Finding | None, outcome: Outcome, frames: Frames) -> str:
    if finding is None:
        return "this page tests no such difference"
    if finding.unknown or finding.effect != "inconclusive":
        return finding.unknown
    assert outcome.low is not None
    assert outcome.high is not None
    if outcome.low <= 0 <= outcome.high:
        return "the seeds leave it open"
    return f"not after correction for {len(frames.tests.adjusted)} tests"


def _of_count(blank: Outcome, ours: Estimate, theirs: Estimate, margin: float) -> Outcome:
    assert ours.value is not None
    assert theirs.value is not None
    difference = ours.value - theirs.value
    same = abs(difference) <= margin * abs(theirs.value)
    word: Word = "same" if same else _better_if(difference < 0, blank.quantity)
    relative = difference / theirs.value if theirs.value else None
    why = f"within \u00b1{margin:.0%}" if same and difference else ""
    return replace(blank, word=word, why=why, difference=difference, relative=relative)


def _of_time(blank: Outcome, ours: Estimate, theirs: Estimate, margin: float) -> Outcome:
    """Measured or predicted, each with its instrument's interval or the range of its runs."""
    assert ours.value is not None
    assert theirs.value is not None
    (low, high), (their_low, their_high) = ours.ends, theirs.ends
    outcome = replace(
        blank, difference=ours.value - theirs.value, low=low - their_high, high=high - their_low, unit=ours.unit
    )  # fmt: skip
    relative = outcome.difference / theirs.value if theirs.value and outcome.difference is not None else None
    if theirs.value and -margin * theirs.value <= low - their_high and high - their_low <= margin * theirs.value:
        return replace(outcome, word="same", why=f"within \u00b1{margin:.0%}", relative=relative)
    if ours.overlaps(theirs):
        whose = "predicted intervals" if ours.kind == "predicted" else "intervals"
        return replace(outcome, why=f"the {whose} overlap")
    return replace(outcome, word=_better_if(high < their_low, blank.quantity), relative=relative)


def _better_if(less: bool, quantity: str) -> Word:
    return "better" if less != more_is_better(quantity) else "worse"


def difference_texts(outcome: Outcome) -> tuple[str, str]:
    """`\u22120.0126` and `\u22120.019 to \u22120.006`: in the quantity's unit; with a percentage where it is told."""
    if outcome.difference is None:
        return "", ""
    text = _signed(outcome.difference, outcome)
    if outcome.relative is not None and outcome.difference:
        text += f" ({change(outcome.relative)})"
    if outcome.low is None or outcome.high is None:
        return text, ""
    return text, f"{_signed(outcome.low, outcome)} to {_signed(outcome.high, outcome)}"


def _signed(value: float, outcome: Outcome) -> str:
    if outcome.kind == "counted":
        return ("+" if value > 0 else "") + number(round(value))
    return signed(value, outcome.unit)


def caption(frames: Frames, columns: Sequence[Column]) -> str:
    """N, seeds and what the intervals are."""
    scores = [column for column in columns if column.spread == "seeds"]
    seeds = len(frames.study.seeds)
    parts = [f"{seeds} seed{'s' if seeds != 1 else ''} a {frames.study.noun}"]
    labels = [names_of(frames.shown).get(column.quantity, "") for column in scores]
    parts += [label for label in labels if label]
    if frames.tests.adjusted:
        tests = len(frames.tests.adjusted)
        parts.append(f"words of scores are corrected for {tests} tests, intervals are at 95% each for itself")
    if any(column.spread == "none" for column in columns):
        parts.append("counts are exact")
    return "; ".join(parts) + "."
