"""From the store to one self-contained HTML file: records to frames, frames to sections, sections to a page."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from harness.records.chain_summary import ChainSummary
from harness.records.errors import UserError, unknown_name
from harness.records.judging import GENERATED_PICTURES, Judging
from harness.records.manifest import Manifest, Promotion
from harness.records.placed_cost import PlacedCost
from harness.records.plain import from_plain
from harness.records.quantity import Quantity
from harness.records.store import Store, write_atomic
from harness.records.sweep_summary import SweepSummary
from harness.reporting.checks import training_checks
from harness.reporting.claims import claim_sheet
from harness.reporting.definition import ReportDefinition, read_definition
from harness.reporting.findings import findings
from harness.reporting.frames import (
    Records,
    controls_of,
    estimates,
    incomparable,
    read_controls,
    read_trials,
    records_of,
    with_stand_ins,
)
from harness.reporting.latex import latex_table
from harness.reporting.links import links_from
from harness.reporting.page import SCRIPT, render
from harness.reporting.published import Published
from harness.reporting.section import Frames, Promise
from harness.reporting.sections import SECTIONS
from harness.reporting.subjects import PageKind, Study, study_of

NOTHING: Mapping[str, Mapping[str, Quantity]] = {}
UNPLACED: Mapping[str, PlacedCost] = {}
SCORE = "score"
"""The subject of a Measurement that scores a network's or a pipeline's samples, or pictures at hand."""
UNPUBLISHED = Published(title="", source="", conditions="", columns={}, rows={})


def write_report(
    store: Store,
    source: Manifest | SweepSummary | ChainSummary,
    definition: Mapping[str, Any],
    published: Mapping[str, Any] | None,
    path: Path,
    protocol_name: str = "",
    counted: Mapping[str, Mapping[str, Quantity]] = NOTHING,
    *,
    placed: Mapping[str, PlacedCost] = UNPLACED,
    scripts: Path | None = None,
    latex: bool = False,
) -> Path:
    """Write the report of a study as one HTML file that opens offline, and return its path.

    store:      where its records are; what is missing there is shown as not measured
    source:     the study: an ablation's manifest, a sweep's or a chain's summary
    definition: what to show and how to judge: the content of reports/NAME.yaml; {} is the default page
    published:  the numbers to stand beside ours: the content of reports/published/NAME.yaml; None without any
    protocol_name: what the study's protocol is called; a page cannot know, as names are the trials'
    counted:    what others' weights cost, by their name in the definition; a page cannot count
    placed:     what each subject's network costs operator by operator, for the section of that name; likewise
    scripts:    the folder that has plotly's script for several pages, which link to it; None: the page has it in
                itself, and is whole wherever it is sent
    latex:      its main table too, beside the page, as LaTeX; a chain has none
    """
    study = replace(study_of(source), protocol_name=protocol_name)
    page, numbers = checked_definition(definition, published, study.kind, study.judging)
    frames = frames_of(store, study, page, numbers, counted)
    if study.chain is not None and study.chain.search is not None:
        searched = study_of(study.chain.search)
        default = read_definition({}, "sweep", study.judging)
        frames = replace(frames, search=frames_of(store, searched, default, UNPUBLISHED))
    path = Path(path)
    frames = replace(frames, links=links_from(path, store.root.parent), placed=placed)
    script = script_address(scripts, path)
    write_atomic(path, render(frames, [SECTIONS[name] for name in frames.definition.sections], script).encode())
    if latex:
        write_atomic(path.with_suffix(".tex"), latex_table(frames).encode())
    return path


def script_address(scripts: Path | None, page: Path) -> str:
    """Of plotly's script as that page has it, from the folder `scripts`, in which it then lies; empty without one."""
    return "" if scripts is None else os.path.relpath(_shared_script(scripts), page.parent)


def _shared_script(folder: Path) -> Path:
    path = folder / SCRIPT
    if not path.is_file():
        write_atomic(path, get_plotlyjs().encode())
    return path


def checked_definition(
    definition: Mapping[str, Any],
    published: Mapping[str, Any] | None,
    kind: PageKind,
    judging: Judging = GENERATED_PICTURES,
) -> tuple[ReportDefinition, Published]:
    """Both as they are read; UserError names what a page of such a study cannot have. Nothing needs to have run."""
    page = read_definition(definition, kind, judging)
    numbers = UNPUBLISHED if published is None else from_plain(Published, published)
    section_names = [name for name, section in SECTIONS.items() if kind in section.kinds]
    for name in page.sections:
        if name not in section_names:
            raise unknown_name(f"section of {'an' if kind == 'ablation' else 'a'} {kind}'s report", name, section_names)
    if len(set(page.sections)) < len(page.sections):
        raise UserError(f"a section stands once on a page, not {', '.join(page.sections)}")
    _check_published(page, numbers)
    return page, numbers


def _check_published(page: ReportDefinition, published: Published) -> None:
    published_names = [column.published for column in page.columns if column.published]
    for name in [*published_names, *(rule.published for rule in page.claims if rule.published)]:
        if published is UNPUBLISHED:
            raise UserError(
                f"the report asks for the published column '{name}' and names no published numbers; name them, e.g. "
                "published: fig3, or leave out the column's published"
            )
        if name not in published.columns:
            columns = ", ".join(published.columns)
            raise UserError(f"the report asks for the published column '{name}'; '{published.title}' has: {columns}")


def frames_of(
    store: Store,
    study: Study,
    definition: ReportDefinition,
    published: Published,
    counted: Mapping[str, Mapping[str, Quantity]] = NOTHING,
) -> Frames:
    """All that the study's sections are computed from."""
    (records, unreadable), controls = records_of(store, study), controls_of(store, study)
    recorded = sorted({name for record in records.values() if record is not None for name in record.quantities})
    quantities = dict.fromkeys([*(column.quantity for column in definition.columns), *recorded])
    readings = read_trials(records, list(quantities), study)
    shown = with_stand_ins(readings, definition.stand_ins)
    quantities_with_values = {row.quantity for row in shown if row.kind not in ("unavailable", "missing")}
    definition = definition.with_values(quantities_with_values, study)
    control_readings = read_controls(controls, definition.controls, definition.control_quantities)
    apart = incomparable(study, shown, definition.observed)
    estimated = estimates(shown, study, apart)
    checks = training_checks(study, definition, control_readings, estimated, records)
    changes, tests = findings(study, definition, published, estimated, shown, checks, apart)
    return Frames(
        study=study,
        definition=definition,
        published=published,
        records=records,
        unreadable=unreadable,
        controls=controls,
        readings=readings,
        shown=shown,
        control_readings=control_readings,
        estimates=estimated,
        apart=apart,
        examples={row.quantity: row for row in shown if row.value is not None},
        checks=checks,
        claims=claim_sheet(study, definition, published, estimated, changes),
        tests=tests,
        artifact=lambda key, name: _content(store.artifact(key, name)),
        scores=cache(lambda: tuple(store.measurements(SCORE))),
        counted=counted,
        promises=_promises(store, records, study.promotion),
    )


def _promises(store: Store, records: Records, promotion: Promotion | None) -> dict[str, Promise]:
    """Of each subject the trials that it was promoted from, and that one's trainings with fresh seeds."""
    promoted = {
        name: each.parent for (name, _), each in records.items() if each is not None and each.fidelity == "full"
    }
    parents = {name: parent for name, key in promoted.items() if key and (parent := store.trial(key)) is not None}
    again = [each for each in store.trials() if each.fidelity == "final"] if parents else []
    seeds = [] if promotion is None else [each for key in promotion.trials if (each := store.trial(key)) is not None]
    return {
        name: Promise(
            searched=seeds if parent.key in [each.key for each in seeds] else [parent],
            promotion=promotion,
            again=[each for each in again if each.parent == parent.key],
        )
        for name, parent in parents.items()
    }


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
