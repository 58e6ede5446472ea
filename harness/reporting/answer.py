"""The top of a report: what spoils its reading, what came out, what was tested and what was not. Computed, never
written by hand; nothing that was not tested is told as a result."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.records.manifest import Manifest
from harness.reporting.claims import Claim
from harness.reporting.definition import ClaimRule, Column, ReportDefinition
from harness.reporting.findings import Corrected, change_of
from harness.reporting.format import change, listed, number, points
from harness.reporting.frames import Estimate, Estimates, relative
from harness.reporting.standing import Standing


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    lead: str
    text: str
    kind: Literal["warning", "result", "tested", "untested"] = "result"


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """All that the top of the page is made of."""

    manifest: Manifest
    definition: ReportDefinition
    estimates: Estimates
    claims: Sequence[Claim]
    standing: Standing
    tests: Corrected

    @property
    def titles(self) -> dict[str, str]:
        return {rung.name: rung.title for rung in self.manifest.rungs}

    @property
    def summed(self) -> tuple[Column, ...]:
        return tuple(column for column in self.definition.main(self.manifest) if column.summary)


def answer(told: Told) -> list[Line]:
    """The lines, in the order of reading."""
    return [*_warnings(told), *_quality(told), *_ends(told), *_published(told), *_tested(told), *_untested(told)]


def _warnings(told: Told) -> Iterable[Line]:
    named = [f"{title} ({told.standing.beaten[rung]})" for rung, title in told.titles.items()
             if rung in told.standing.beaten]  # fmt: skip
    if named:
        those = "It is" if len(named) == 1 else "They are"
        text = f"{'; '.join(named)}. {those} grey, unranked and compared with nothing in quality."
        yield Line(lead="Beaten without training", text=text, kind="warning")
    falling = {rung: fall.value for rung, fall in told.standing.undertrained.items()}
    if falling:
        worst, total = max(falling, key=lambda rung: falling[rung]), len(told.manifest.rungs)
        who = f"all {total} rungs" if len(falling) == total else listed([told.titles[rung] for rung in falling])
        fell = f"{min(falling.values()):.1%} to {max(falling.values()):.1%}" if len(falling) > 1 else ""
        most = f"{fell}, most in {told.titles[worst]}" if fell else f"{falling[worst]:.1%}"
        text = (
            f"{who}: the validation loss still falls over the last third of the steps, by {most}. "
            "Quality here is that of a short training."
        )
        yield Line(lead="Undertrained", text=text, kind="warning")


def _quality(told: Told) -> Iterable[Line]:
    quality = [claim for claim in told.claims if claim.rule.rule == "seeds"]
    if not quality:
        return
    name = told.definition.column(quality[0].rule.quantity).title
    by_effect: dict[str, list[Claim]] = {"improved": [], "hurt": [], "same": [], "not told": []}
    for claim in quality:
        by_effect[claim.finding.effect].append(claim)
    count = {effect: len(chosen) for effect, chosen in by_effect.items()}
    same = f", {count['same']} left it as it was" if count["same"] else ""
    yield Line(
        lead="In short",
        text=f"of {len(quality)} changes {count['improved']} improved {name}, {count['hurt']} worsened it{same}; "
        f"{count['not told']} {'is' if count['not told'] == 1 else 'are'} not told.",
    )
    for effect, lead in (("improved", "Helped"), ("hurt", "Hurt"), ("same", "Made no difference")):
        if by_effect[effect]:
            text = "; ".join(f"{told.titles[c.rung]} ({_costs(c.rung, told)})" for c in by_effect[effect])
            yield Line(lead=lead, text=f"{text}.")
    open_ = [told.titles[claim.rung] for claim in by_effect["not told"] if not claim.finding.unknown]
    if open_:
        yield Line(lead="Not told", text=f"{'; '.join(open_)}: tested, and the seeds leave it open.")


def _costs(rung: str, told: Told) -> str:
    """All known changes of one rung: `KID −12.0% (−20.0% to −3.0%), parameters −3.1%`."""
    parts = []
    against = next(one.against for one in told.manifest.rungs if one.name == rung)
    for column in told.summed:
        found = told.estimates[rung, column.quantity]
        seeds = change_of(told.tests.noises.get(column.quantity), rung, against)
        if seeds is not None:
            parts.append(f"{_named(column, found)} {seeds.shown}")
        elif found.change is not None and column.spread != "seeds":
            parts.append(f"{_named(column, found)} {change(found.change)}")
    return ", ".join(parts) or "nothing known"


def _ends(told: Told) -> Iterable[Line]:
    if _one_at_a_time(told.manifest):
        yield Line(lead="Lowest", text=_lowest(told))
    else:
        yield Line(lead="From the first rung to the last", text=_overall(told))


def _overall(told: Told) -> str:
    """What is exact or measured of both ends; scores only as they are, for nothing here tests the two ends."""
    parts = []
    first, last = told.manifest.rungs[0].name, told.manifest.rungs[-1].name
    for column in told.summed:
        before, after = told.estimates[first, column.quantity], told.estimates[last, column.quantity]
        if before.value is None or after.value is None or before.kind != after.kind:
            continue
        values = f"{number(before.value, before.unit)} to {number(after.value, after.unit)}"
        if column.spread == "seeds":
            if not {first, last} & set(told.standing.beaten):
                parts.append(f"{_named(column, after)} {values} (means, not tested)")
            continue
        total = relative(after.value, before.value)
        if total is not None:
            parts.append(f"{_named(column, after)} {change(total)} ({values})")
    return ", ".join(parts) + "." if parts else "nothing is known of both yet."


def _one_at_a_time(manifest: Manifest) -> bool:
    """Whether every rung stands on its own beside the first, so that the last is not the sum of all changes."""
    return len(manifest.rungs) > 2 and all(rung.against == manifest.rungs[0].name for rung in manifest.rungs[1:])


def _lowest(told: Told) -> str:
    """The rung with the least of each quantity, of those that no control beats, where it is known of all in one way."""
    parts = []
    rungs = [rung for rung in told.manifest.rungs if rung.name not in told.standing.beaten]
    for column in told.summed:
        found = [told.estimates[rung.name, column.quantity] for rung in rungs]
        values = [one.value for one in found if one.value is not None]
        if values and len(values) == len(found) and len({one.kind for one in found}) == 1:
            least = values.index(min(values))
            how = "mean, order not tested" if column.spread == "seeds" else ""
            value = ", ".join(filter(None, [number(values[least], found[least].unit), how]))
            parts.append(f"{_named(column, found[least])} {rungs[least].title} ({value})")
    return ", ".join(parts) + "." if parts else "nothing is known of all rungs yet."


def _named(column: Column, estimate: Estimate) -> str:
    """`parameters`, or `predicted latency on iPhone`: a prediction is never told as if it were measured."""
    return ("predicted " if estimate.kind == "predicted" else "") + inside(column.title)


def inside(title: str) -> str:
    """A heading inside a sentence: `Parameters` becomes `parameters`, `KID` stays."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _published(told: Told) -> Iterable[Line]:
    states = Counter(claim.direction.state for claim in told.claims)
    made = len(told.claims) - states["no claim"]
    if not made:
        return
    text = (
        f"of {made} published directions this run supports {states['supports']} and contradicts "
        f"{states['contradicts']}; {states['not told']} are not told."
    )
    sizes = Counter(claim.size.state for claim in told.claims)
    printed = len(told.claims) - sizes["no claim"]
    if printed:
        text += (
            f" Of {printed} printed sizes {sizes['met']} are met within {points(told.definition.tolerance)}, "
            f"{sizes['missed']} missed, {sizes['not told']} not told."
        )
    yield Line(lead="The published claims", text=text)


def _tested(told: Told) -> Iterable[Line]:
    for rule in told.definition.claims:
        chosen = [claim for claim in told.claims if claim.rule == rule]
        known = [claim for claim in chosen if not claim.finding.unknown]
        if known:
            of = f"all {len(chosen)} changes" if len(known) == len(chosen) else f"{len(known)} of {len(chosen)} changes"
            what = f"{told.definition.column(rule.quantity).title} of " if rule.rule == "seeds" else ""
            yield Line(lead=rule.title, text=f"{what}{of}, {_how(rule, told)}", kind="tested")


def _how(rule: ClaimRule, told: Told) -> str:
    if rule.rule == "seeds":
        seeds, noise = len(told.manifest.seeds), told.tests.noises[rule.quantity]
        paired = ", paired by seed" if noise.paired else ""
        statements = len(told.tests.adjusted)
        return f"by {seeds} trainings a rung{paired}; Holm's correction over {statements} tests."
    where = f" on the deployment twin, {twin_name(told.manifest)}" if rule.quantity.startswith("twin.") else ""
    return f"counted{where}: exact." if rule.rule == "count" else f"measured{where}."


def twin_name(manifest: Manifest) -> str:
    """`thin_sdxl at a 128x128 latent`."""
    twin: Mapping[str, object] = manifest.twin or {}
    return f"{twin.get('base')} at a {twin.get('latent')}x{twin.get('latent')} latent"


def _untested(told: Told) -> Iterable[Line]:
    for rule in told.definition.claims:
        why: dict[str, list[str]] = {}
        for claim in (claim for claim in told.claims if claim.rule == rule and claim.finding.unknown):
            why.setdefault(claim.finding.unknown, []).append(told.titles[claim.rung])
        total = sum(claim.rule == rule for claim in told.claims)
        for reason, titles in why.items():
            who = "" if len(titles) == total else f"{listed(titles)}: "
            yield Line(lead=rule.title, text=f"{who}{reason}.", kind="untested")
    shown = [column.title for column in told.definition.main(told.manifest) if not _is_tested(column, told)]
    if shown:
        yield Line(lead=listed(shown), text="shown, not tested.", kind="untested")
    if told.definition.asides:
        text = "their counts and times are shown, and are no evidence for a published count or latency."
        yield Line(lead="The networks trained here", text=text, kind="untested")


def _is_tested(column: Column, told: Told) -> bool:
    return any(rule.quantity == column.quantity for rule in told.definition.claims)
