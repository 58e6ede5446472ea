"""From the store to one self-contained HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records.errors import UserError
from harness.records.manifest import Manifest
from harness.records.plain import from_plain
from harness.records.store import Store, write_atomic
from harness.reporting.answer import Told, answer, twin_name
from harness.reporting.claims import claim_sheet
from harness.reporting.definition import ReportDefinition
from harness.reporting.figures import controls_figure, controls_frame, curves_figure
from harness.reporting.findings import findings
from harness.reporting.frames import (
    Reading,
    Records,
    controls_of,
    curves,
    estimates,
    flat,
    read_controls,
    read_trials,
    records_of,
    stood_in,
)
from harness.reporting.ladder import ladder_figure, ladder_frame
from harness.reporting.page import pictures, render
from harness.reporting.provenance import facts, provenance_rows
from harness.reporting.published import LABELS, Published
from harness.reporting.standing import standing
from harness.reporting.tables import (
    absences,
    claim_rows,
    condition_rows,
    labels_of,
    ladder_rows,
    reading_rows,
    reading_text,
    touched_text,
)


def write_report(
    store: Store,
    manifest: Manifest,
    definition: ReportDefinition | Mapping[str, Any],
    published: Published | Mapping[str, Any],
    path: Path,
) -> Path:
    """Write the report of an ablation as one HTML file that opens offline, and return its path.

    store:      where its records are; what is missing there is shown as not measured
    manifest:   its rungs, seeds and controls
    definition: what to show and how to judge: reports/NAME.yaml
    published:  the numbers to stand beside ours: reports/published/NAME.yaml
    """
    if not isinstance(definition, ReportDefinition):
        definition = from_plain(ReportDefinition, definition)
    if not isinstance(published, Published):
        published = from_plain(Published, published)
    if not manifest.rungs or not manifest.seeds:
        raise UserError(f"the manifest of '{manifest.name}' has no rungs or no seeds: there is nothing to report")
    _check_columns(definition, published)
    path = Path(path)
    write_atomic(path, report_html(store, manifest, definition, published).encode())
    return path


def report_html(store: Store, manifest: Manifest, definition: ReportDefinition, published: Published) -> str:
    records, controls = records_of(store, manifest), controls_of(store, manifest)
    quantities = _quantities(records, definition)
    readings = read_trials(records, quantities, manifest)
    control_readings = read_controls(controls, definition.controls, definition.control_quantities)
    shown = stood_in(readings, definition.stand_ins)
    estimated = estimates(shown, manifest)
    stands = standing(manifest, definition, control_readings, estimated, records)
    found, tests = findings(manifest, definition, published, estimated, shown, stands)
    claims = claim_sheet(manifest, definition, published, estimated, found)
    told = Told(
        manifest=manifest, definition=definition, estimates=estimated, claims=claims, standing=stands, tests=tests
    )
    columns = definition.main(manifest)
    hidden = {column.quantity for column in definition.columns if column.of_twin and column not in columns}
    told_quantities = [name for name in quantities if name not in hidden]
    curve = curves(records, (definition.train_curve, definition.validation_curve))
    figures = {"ladder": ladder_figure(ladder_frame(manifest, definition, published, estimated, stands))}
    if not curve.empty:
        figures["curves"] = curves_figure(curve, manifest, definition, stands)
    control_frame = controls_frame(manifest, definition, control_readings, estimated, stands)
    if any(row.value is not None for row in control_readings):
        figures["controls"] = controls_figure(control_frame)
    provenances = [record.provenance for record in records.values() if record is not None]
    ladder = ladder_rows(manifest, definition, published, estimated, tests)
    scored = definition.control_quantities
    context = {
        "manifest": manifest,
        "definition": definition,
        "published": published,
        "labels": LABELS,
        "names": labels_of([*shown, *control_readings]),
        "numbers": {
            rung.name: (published.rows[rung.name].number if rung.name in published.rows else "") or str(index)
            for index, rung in enumerate(manifest.rungs)
        },
        "titles": {rung.name: rung.title for rung in manifest.rungs},
        "edits": {rung.name: flat(rung.edits) for rung in manifest.rungs},
        "records": records,
        "done": sum(record is not None for record in records.values()),
        "answer": answer(told),
        "marks": {rung.name: stands.marks(rung.name) for rung in manifest.rungs},
        "beaten": stands.beaten,
        "falls": stands.falls,
        "touched": {rung.name: touched_text(rung.touched) for rung in manifest.rungs},
        "columns": columns,
        "twin": twin_name(manifest) if manifest.twin is not None else "",
        "facts": facts(manifest, definition, provenances),
        "ladder": ladder,
        "absences": absences(columns, estimated),
        "claims": claim_rows(manifest, definition, published, claims, estimated),
        "noises": tests.noises,
        "statements": len(tests.adjusted),
        "seeded": list(dict.fromkeys(rule.quantity for rule in definition.claims if rule.rule == "seeds")),
        "pictures": pictures(store, manifest, records, definition.samples),
        "controls": _control_table(control_readings),
        "rung_quality": {
            row.rung: [cell.value for cell, column in zip(row.cells, columns, strict=True) if column.quantity in scored]
            for row in ladder
        },
        "quantities": told_quantities,
        "readings": reading_rows([row for row in readings if row.quantity in told_quantities]),
        "conditions": condition_rows(definition, [*readings, *control_readings]),
        "provenance": provenance_rows(provenances),
        "control_provenance": provenance_rows([found.provenance for found in controls.values() if found is not None]),
        "protocol": flat(manifest.protocol),
    }
    return render(context, figures)


def _quantities(records: Records, definition: ReportDefinition) -> list[str]:
    """The definition's quantities, then whatever else the records hold: nothing known is left out."""
    found = sorted({name for record in records.values() if record is not None for name in record.quantities})
    return list(dict.fromkeys([*(column.quantity for column in definition.columns), *found]))


def _control_table(controls: list[Reading]) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {}
    for row in controls:
        table.setdefault(row.subject, []).append(reading_text(row))
    return table


def _check_columns(definition: ReportDefinition, published: Published) -> None:
    wanted = [column.published for column in definition.columns if column.published]
    for name in [*wanted, *(rule.published for rule in definition.claims if rule.published)]:
        if name not in published.columns:
            known = ", ".join(published.columns)
            raise UserError(f"the report asks for the published column '{name}'; '{published.title}' has: {known}")
