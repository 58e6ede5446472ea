"""From the store to one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from harness.records.errors import UserError
from harness.records.manifest import Manifest
from harness.records.plain import from_plain
from harness.records.record import Measurement
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
    readings = read_trials(records, _quantities(records, definition), manifest)
    control_readings = read_controls(controls, definition.controls, definition.control_quantities)
    shown = stood_in(readings, definition.stand_ins)
    estimated = estimates(shown, manifest)
    stands = standing(manifest, definition, control_readings, estimated, records)
    found, tests = findings(manifest, definition, published, estimated, shown, stands)
    claims = claim_sheet(manifest, definition, published, estimated, found)
    told = Told(
        manifest=manifest, definition=definition, estimates=estimated, claims=claims, standing=stands, tests=tests
    )
    context = {
        "manifest": manifest,
        "definition": definition,
        "published": published,
        "labels": LABELS,
        "names": labels_of([*shown, *control_readings]),
        "answer": answer(told),
        "twin": twin_name(manifest) if manifest.twin is not None else "",
        "pictures": pictures(store, manifest, records, definition.samples),
        "controls": _control_table(control_readings),
        **_rung_heads(told, published),
        **_tables(told, published),
        **_readings(told, readings, control_readings),
        **_origins(told, records, controls),
    }
    return render(context, _figures(told, published, records, control_readings))


def _figures(told: Told, published: Published, records: Records, controls: Sequence[Reading]) -> dict[str, go.Figure]:
    manifest, definition, stands = told.manifest, told.definition, told.standing
    figures = {"ladder": ladder_figure(ladder_frame(manifest, definition, published, told.estimates, stands))}
    curve = curves(records, (definition.train_curve, definition.validation_curve))
    if not curve.empty:
        figures["curves"] = curves_figure(curve, manifest, definition, stands)
    if any(row.value is not None for row in controls):
        figures["controls"] = controls_figure(controls_frame(manifest, definition, controls, told.estimates, stands))
    return figures


def _rung_heads(told: Told, published: Published) -> dict[str, Any]:
    """What stands beside each rung wherever it is named."""
    rungs, rows = told.manifest.rungs, published.rows
    return {
        "numbers": {
            rung.name: (rows[rung.name].number if rung.name in rows else "") or str(index)
            for index, rung in enumerate(rungs)
        },
        "titles": told.titles,
        "edits": {rung.name: flat(rung.edits) for rung in rungs},
        "marks": {rung.name: told.standing.marks(rung.name) for rung in rungs},
        "touched": {rung.name: touched_text(rung.touched) for rung in rungs},
        "beaten": told.standing.beaten,
        "falls": told.standing.falls,
    }


def _tables(told: Told, published: Published) -> dict[str, Any]:
    """The ladder's table and the claim sheet."""
    manifest, definition = told.manifest, told.definition
    columns = definition.main(manifest)
    ladder = ladder_rows(manifest, definition, published, told.estimates, told.tests)
    scored = [at for at, column in enumerate(columns) if column.quantity in definition.control_quantities]
    return {
        "columns": columns,
        "ladder": ladder,
        "absences": absences(columns, told.estimates),
        "claims": claim_rows(manifest, definition, published, told.claims, told.estimates),
        "noises": told.tests.noises,
        "statements": len(told.tests.adjusted),
        "seeded": list(dict.fromkeys(rule.quantity for rule in definition.claims if rule.rule == "seeds")),
        "rung_quality": {row.rung: [row.cells[at].value for at in scored] for row in ladder},
    }


def _readings(told: Told, readings: Sequence[Reading], controls: Sequence[Reading]) -> dict[str, Any]:
    """Every reading, but the twin's where the study names none."""
    definition, columns = told.definition, told.definition.main(told.manifest)
    hidden = {column.quantity for column in definition.columns if column.of_twin and column not in columns}
    chosen = [row for row in readings if row.quantity not in hidden]
    return {
        "quantities": list(dict.fromkeys(row.quantity for row in chosen)),
        "readings": reading_rows(chosen),
        "conditions": condition_rows(definition, [*readings, *controls]),
    }


def _origins(told: Told, records: Records, controls: Mapping[str, Measurement | None]) -> dict[str, Any]:
    """Settings and provenance."""
    provenances = [record.provenance for record in records.values() if record is not None]
    return {
        "records": records,
        "done": len(provenances),
        "facts": facts(told.manifest, told.definition, provenances),
        "provenance": provenance_rows(provenances),
        "control_provenance": provenance_rows([found.provenance for found in controls.values() if found is not None]),
        "protocol": flat(told.manifest.protocol),
    }


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
