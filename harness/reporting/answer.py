"""The paragraph at the top of a report: which rungs helped here, at what cost. Computed, never written by hand."""

from collections import Counter
from collections.abc import Sequence

from harness.records.manifest import Manifest
from harness.reporting.claims import Claim, effect
from harness.reporting.definition import ReportDefinition
from harness.reporting.format import change, number
from harness.reporting.frames import Estimates, relative


def answer(
    manifest: Manifest, definition: ReportDefinition, estimates: Estimates, claims: Sequence[Claim]
) -> list[tuple[str, str]]:
    """(lead, sentence) pairs, in the order of reading."""
    lines = []
    quality = [claim for claim in claims if claim.rule.rule == "seeds"]
    if quality:
        lines += _quality_lines(manifest, definition, estimates, quality)
    lines.append(("From the first rung to the last", _overall(manifest, definition, estimates)))
    lines.append(("The published claims", _count(claims)))
    return lines


def _quality_lines(
    manifest: Manifest, definition: ReportDefinition, estimates: Estimates, quality: Sequence[Claim]
) -> list[tuple[str, str]]:
    titles = {rung.name: rung.title for rung in manifest.rungs}
    name = definition.column(quality[0].rule.quantity).title
    leads = (("improved", "Helped"), ("hurt", "Hurt"), ("same", "Made no difference"))
    lines = []
    for state, lead in leads:
        chosen = [claim for claim in quality if effect(claim) == state]
        told = "; ".join(f"{titles[c.rung]} ({_costs(c.rung, definition, estimates)})" for c in chosen)
        if chosen:
            lines.append((lead, f"{told}."))
    if not any(effect(claim) == "improved" for claim in quality):
        lines.insert(0, ("Helped", f"no rung improved {name} by more than the seeds differ."))
    unknown = [titles[claim.rung] for claim in quality if effect(claim) == "unknown"]
    if unknown:
        seeds = "1 seed" if len(manifest.seeds) == 1 else f"{len(manifest.seeds)} seeds"
        lead = f"Cannot be told with {seeds}"
        lines.append(
            (
                lead,
                f"whether {name} got better or worse in {len(unknown)} of {len(quality)} rungs: {'; '.join(unknown)}.",
            )
        )
    return lines


def _costs(rung: str, definition: ReportDefinition, estimates: Estimates) -> str:
    """All known changes of one rung: `KID −12.0%, Parameters −3.1%`."""
    parts = []
    for column in definition.columns:
        value = estimates[rung, column.quantity].change
        if value is not None:
            parts.append(f"{column.title} {change(value)}")
    return ", ".join(parts)


def _overall(manifest: Manifest, definition: ReportDefinition, estimates: Estimates) -> str:
    parts = []
    for column in definition.columns:
        first, last = (estimates[rung.name, column.quantity] for rung in (manifest.rungs[0], manifest.rungs[-1]))
        total = relative(last.value, first.value) if first.kind == last.kind else None
        if first.value is not None and last.value is not None and total is not None:
            values = f"{number(first.value)} to {number(last.value, last.unit if last.kind != 'counted' else '')}"
            parts.append(f"{column.title} {change(total)} ({values})")
    return ", ".join(parts) + "." if parts else "nothing is known of both yet."


def _count(claims: Sequence[Claim]) -> str:
    states = Counter(claim.verdict.state for claim in claims)
    made = len(claims) - states["no claim"]
    return (
        f"of {made} statements about single rungs, this run supports {states['supports']}, "
        f"contradicts {states['contradicts']} and cannot tell {states['cannot tell']}."
    )
