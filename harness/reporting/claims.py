"""The claim sheet: does this run support or contradict what was published, or leave it open? Two verdicts, apart:

Direction. "Lower" is supported where the change is proved to be lower, contradicted where it is proved to be higher
("higher": mirrored); an exact count also contradicts by not being lower. "Same" is supported where the change is proved
to be within +-same_within, contradicted where it is proved to be beyond. All else is inconclusive: a lack of evidence
for a difference is none for equality. What proves a change is said in `harness.reporting.findings`. What is published
is of networks trained to the end: a change in quality that is proved while the validation loss of one of the two still
falls holds at this length of training, and neither supports nor contradicts.

Size. A printed change of a count or a latency is met where ours is within `tolerance` of it, and missed by so many
points where it is not; an interval must lie wholly inside or outside. Scores are judged by direction alone: ours and
the publication's are of other images and other features.

Counts and latencies of a laptop-size network are no evidence: there the deployment twin's are judged, never its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.reporting.definition import ClaimRule, ReportDefinition
from harness.reporting.findings import Finding, Key, claimed
from harness.reporting.format import listed, points
from harness.reporting.frames import Estimates
from harness.reporting.published import Direction, Published, PublishedCell
from harness.reporting.subjects import Study

State = Literal["supports", "contradicts", "at this length", "inconclusive", "no claim"]
SizeState = Literal["met", "missed", "inconclusive", "no claim"]


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Size:
    state: SizeState
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    rung: str
    rule: ClaimRule
    published: PublishedCell | None
    finding: Finding
    direction: Verdict
    size: Size


def claim_sheet(
    study: Study,
    definition: ReportDefinition,
    published: Published,
    estimates: Estimates,
    findings: Mapping[Key, Finding],
) -> list[Claim]:
    """One Claim per rung (but the base) and rule."""
    sheet = []
    for rung in (rung for rung in study.subjects if rung.against is not None):
        for rule in definition.claims:
            way = claimed(published, rung, rule)
            cell = published.cell(rung.name, rule.published)
            if cell is not None and published.rows[rung.name].against != rung.against:
                cell = None  # published against another rung: nothing to compare with
            finding = _of_twin(findings[rung.name, rule.quantity], rule, study)
            ours = estimates[rung.name, rule.quantity].change
            sheet.append(
                Claim(
                    rung=rung.name,
                    rule=rule,
                    published=cell,
                    finding=finding,
                    direction=judge_direction(way, finding, rule.same_within),
                    size=judge_size(cell, finding, ours, rule, definition.tolerance),
                )
            )
    return sheet


def judge_direction(way: Direction | None, finding: Finding, margin: float | None) -> Verdict:
    if way is None:
        return Verdict("no claim", "nothing is published")
    if finding.unknown:
        return Verdict("inconclusive", finding.unknown)
    if way == "same":
        supported, contradicted = finding.same, finding.beyond
    else:
        supported, opposite = (finding.lower, finding.higher) if way == "lower" else (finding.higher, finding.lower)
        contradicted = opposite or (finding.exact and not supported)
    if (supported or contradicted) and finding.still_falls:
        agrees = "as published" if supported else "against what is published"
        return Verdict("at this length", f"{finding.shown}, {agrees}, while {finding.still_falls}")
    if supported or contradicted:
        return Verdict("supports" if supported else "contradicts", finding.shown)
    claim: str = way
    if way == "same":
        claim = "about the same, for which no margin was fixed" if margin is None else f"within ±{margin:.0%}"
    return Verdict("inconclusive", f"{finding.shown} leaves open whether it is {claim}")


def judge_size(
    cell: PublishedCell | None, finding: Finding, ours: float | None, rule: ClaimRule, tolerance: float
) -> Size:
    """Whether a printed change is met within `tolerance`; a score's never is judged."""
    if cell is None or cell.change is None or rule.rule == "seeds":
        return Size("no claim", "")
    if finding.unknown or ours is None:
        return Size("inconclusive", "")
    nearest, farthest = _distances(finding.low - cell.change, finding.high - cell.change)
    if farthest <= tolerance:
        return Size("met", f"met within {points(tolerance)}")
    if nearest > tolerance:
        return Size("missed", f"missed by {points(ours - cell.change)}")
    return Size("inconclusive", f"its interval leaves open whether it is within {points(tolerance)}")


def caption_verdict(claims: Sequence[Claim]) -> Verdict:
    """The caption's claim over one rung's rows: something improves and nothing is hurt.

    What was tested decides: one hurt metric contradicts whatever the others are, but only where all are known can
    nothing be hurt. A change proved to be within +-same_within neither improves nor hurts. One that holds at this
    length of training alone is not known."""
    titles: dict[str, list[str]] = {"improved": [], "hurt": [], "same": [], "inconclusive": [], "at this length": []}
    for claim in claims:
        effect = claim.finding.effect
        short = claim.finding.still_falls and effect != "inconclusive"
        titles["at this length" if short else effect].append(claim.rule.title)
    better, worse = titles["improved"], titles["hurt"]
    if worse:
        return Verdict("contradicts", f"hurt: {listed(worse)}")
    reasons = {
        "improved": better, "known at this length of training only": titles["at this length"],
        "not known": titles["inconclusive"],
    }  # fmt: skip
    if titles["inconclusive"] or titles["at this length"]:
        reason = "; ".join(f"{what}: {listed(which)}" for what, which in reasons.items() if which)
        return Verdict("inconclusive", reason)
    if better:
        return Verdict("supports", f"improved: {listed(better)}; nothing hurt")
    return Verdict("contradicts", "all is known and nothing improves")


def _of_twin(finding: Finding, rule: ClaimRule, study: Study) -> Finding:
    if rule.rule == "seeds" or study.twin is not None or not rule.quantity.startswith("twin."):
        return finding
    return Finding(unknown="the study names no deployment twin, and counts of a small network are no evidence")


def _distances(low: float, high: float) -> tuple[float, float]:
    """How near and how far from 0 an interval reaches."""
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return nearest, max(abs(low), abs(high))
