"""The sections that a page can have. A new one is a file beside this one, and its line here."""

from harness.reporting.section import Section
from harness.reporting.sections import (
    against_cost,
    beside,
    candidates,
    claims,
    conditions,
    controls,
    curves,
    effects,
    failures,
    finalists,
    front,
    guidance,
    ladder,
    promise,
    protocol,
    provenance,
    readings,
    refusals,
    samples,
    steps,
    summary,
    sweep_summary,
    table,
)

SECTIONS: dict[str, Section] = {
    module.SECTION.name: module.SECTION
    for module in (
        protocol,
        summary,
        promise,
        ladder,
        beside,
        against_cost,
        guidance,
        steps,
        table,
        effects,
        claims,
        samples,
        curves,
        controls,
        conditions,
        readings,
        provenance,
        sweep_summary,
        front,
        finalists,
        refusals,
        candidates,
        failures,
    )
}
