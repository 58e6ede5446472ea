"""What each number was measured under, and the protocol."""

from collections.abc import Iterable, Sequence

from harness.reporting.definition import ReportDefinition
from harness.reporting.format import several
from harness.reporting.frames import Reading, flat
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<div class="wide"><table class="plain cards">
<thead><tr><th scope="col">Quantity</th><th scope="col">How</th><th scope="col">Unit</th><th scope="col">Its
interval</th>
<th scope="col">Conditions</th></tr></thead><tbody>
{% for title, kinds, unit, spread, conditions in rows %}
<tr><th scope="row">{{ title }}</th><td data-label="How">{{ kinds }}</td><td data-label="Unit">{{ unit }}</td>
<td data-label="Its interval">{{ spread }}</td><td data-label="Conditions">
{%- for name, value in conditions %}<span class="pair"><i>{{ name }}</i> {{ value }}</span>{% endfor %}</td></tr>
{% endfor %}
</tbody></table></div>
<details><summary>The protocol{% if name %}, {{ name }}{% endif %}: every setting that can change a result (fingerprint
{{ fingerprint }})</summary>
<dl class="settings">
{% for name, value in protocol.items() %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
</dl></details>
"""

LISTED = 40  # of a setting that is a list
Row = tuple[str, str, str, str, list[tuple[str, str]]]
"""Quantity, kinds, unit, what its spread is, [(condition, its value or values)]."""


def content(frames: Frames) -> Content:
    rows = condition_rows(frames.definition, [*frames.readings, *frames.control_readings])
    study = frames.study
    return Content(
        context={
            "rows": rows,
            "fingerprint": study.protocol_fingerprint,
            "protocol": {name: _shown(value) for name, value in flat(study.protocol).items()},
            "name": study.protocol_name,
        },
    )


def _shown(value: object) -> object:
    """Of a long list, such as a thousand prompts, the first ones and how many there are."""
    if not isinstance(value, list | tuple) or len(value) <= LISTED:
        return value
    return f"{', '.join(map(str, value[:LISTED]))}, ... ({len(value):,})"


def condition_rows(definition: ReportDefinition, readings: Sequence[Reading]) -> list[Row]:
    """One for each quantity with values."""
    titles = {column.quantity: column.title for column in definition.columns}
    readings_with_value: dict[str, list[Reading]] = {}
    for row in readings:
        if row.value is not None:
            readings_with_value.setdefault(row.quantity, []).append(row)
    return [_row(titles.get(quantity, quantity), rows) for quantity, rows in readings_with_value.items()]


def _row(title: str, readings: Sequence[Reading]) -> Row:
    stated = [flat(reading.conditions) for reading in readings]
    names = sorted({name for one in stated for name in one})
    conditions = [(name, several([one.get(name, "not stated") for one in stated])) for name in names]
    kinds, units, spreads = (
        _distinct(getattr(reading, field) for reading in readings if getattr(reading, field))
        for field in ("kind", "unit", "spread")
    )
    return title, kinds, units, spreads, conditions


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


SECTION = Section(name="conditions", title="Measured under", template=TEMPLATE, content=content)
