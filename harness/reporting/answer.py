"""The paragraph at the top of a report: which rungs helped here, at what cost. Computed, never written by hand."""

from collections import Counter
from collections.abc import Sequence

from harness.records.manifest import Manifest
from harness.reporting.claims import Claim, effect
from harness.reporting.definition import Column, ReportDefinition
from harness.reporting.format import change, number
from harness.reporting.frames import Estimate, Estimates, relative


def answer(
    manifest: Manifest, definition: ReportDefinition, estimates: Estimates, claims: Sequence[Claim]
) -> list[tuple[str, str]]:
    """(lead, sentence) pairs, in the order of reading."""
    lines: list[tuple[str, str]] = []
    quality = [claim for claim in claims if claim.rule.rule == "seeds"]
    if quality:
        lines += _quality_lines(manifest, definition, estimates, quality)
    if _one_at_a_time(manifest):
        lines.append(("Lowest", _lowest(manifest, definition, estimates)))
    else:
        lines.append(("From the first rung to the last", _overall(manifest, definition, estimates)))
    if any(claim.verdict.state != "no claim" for claim in claims):
        lines.append(("The published claims", _count(claims)))
    return lines


def _quality_lines(
    manifest: Manifest, definition: ReportDefinition, estimates: Estimates, quality: Sequence[Claim]
) -> list[tuple[str, str]]:
    titles = {rung.name: rung.title for rung in manifest.rungs}
    name = definition.column(quality[0].rule.quantity).title
    by_effect = {state: [c for c in quality if effect(c) == state] for state in ("improved", "hurt", "same", "unknown")}
    counts = {state: len(chosen) for state, chosen in by_effect.items()}
    same = f", {counts['same']} left it as it was" if counts["same"] else ""
    lines = [
        (
            "In short",
            f"{counts['improved']} of {len(quality)} changes improved {name} by more than the seeds differ, "
            f"{counts['hurt']} worsened it{same}, and of {counts['unknown']} this run cannot tell.",
        )
    ]
    for state, lead in (("improved", "Helped"), ("hurt", "Hurt"), ("same", "Made no difference")):
        told = "; ".join(f"{titles[c.rung]} ({_costs(c.rung, definition, estimates)})" for c in by_effect[state])
        if told:
            lines.append((lead, f"{told}."))
    for why in dict.fromkeys(claim.interval.unknown for claim in by_effect["unknown"]):
        chosen = [claim for claim in by_effect["unknown"] if claim.interval.unknown == why]
        told = "; ".join(f"{titles[c.rung]} ({_costs(c.rung, definition, estimates)})" for c in chosen)
        lines.append(("Cannot be told", f"{told}; {why or 'the seeds differ by as much'}."))
    return lines


def _costs(rung: str, definition: ReportDefinition, estimates: Estimates) -> str:
    """All known changes of one rung: `KID −12.0%, parameters −3.1%`."""
    parts = []
    for column in (column for column in definition.columns if column.summary):
        found = estimates[rung, column.quantity]
        if found.change is not None:
            parts.append(f"{_named(column, found)} {change(found.change)}")
    return ", ".join(parts) or "nothing known"


def _overall(manifest: Manifest, definition: ReportDefinition, estimates: Estimates) -> str:
    parts = []
    for column in (column for column in definition.columns if column.summary):
        first, last = (estimates[rung.name, column.quantity] for rung in (manifest.rungs[0], manifest.rungs[-1]))
        total = relative(last.value, first.value) if first.kind == last.kind else None
        if first.value is not None and last.value is not None and total is not None:
            values = f"{number(first.value, first.unit)} to {number(last.value, last.unit)}"
            parts.append(f"{_named(column, last)} {change(total)} ({values})")
    return ", ".join(parts) + "." if parts else "nothing is known of both yet."


def _one_at_a_time(manifest: Manifest) -> bool:
    """Whether every rung stands on its own beside the first, so that the last is not the sum of all changes."""
    return len(manifest.rungs) > 2 and all(rung.against == manifest.rungs[0].name for rung in manifest.rungs[1:])


def _lowest(manifest: Manifest, definition: ReportDefinition, estimates: Estimates) -> str:
    """The rung with the least of each quantity, where it is known of every rung in the same way."""
    parts = []
    for column in (column for column in definition.columns if column.summary):
        found = [estimates[rung.name, column.quantity] for rung in manifest.rungs]
        values = [one.value for one in found if one.value is not None]
        if len(values) == len(found) and len({one.kind for one in found}) == 1:
            least = values.index(min(values))
            told = f"{manifest.rungs[least].title} ({number(values[least], found[least].unit)})"
            parts.append(f"{_named(column, found[least])} {told}")
    return ", ".join(parts) + "." if parts else "nothing is known of all rungs yet."


def _named(column: Column, estimate: Estimate) -> str:
    """`parameters`, or `predicted latency on iPhone`: a prediction is never told as if it were measured."""
    return ("predicted " if estimate.kind == "predicted" else "") + _inside(column.title)


def _inside(title: str) -> str:
    """A heading inside a sentence: `Parameters` becomes `parameters`, `KID` stays."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _count(claims: Sequence[Claim]) -> str:
    states = Counter(claim.verdict.state for claim in claims)
    made = len(claims) - states["no claim"]
    return (
        f"of {made} statements about single rungs, this run supports {states['supports']}, "
        f"contradicts {states['contradicts']} and cannot tell {states['cannot tell']}."
    )
