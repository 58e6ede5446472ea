"""Every number of every record, nothing averaged."""

from harness.reporting.cells import Text, protocol_notes, reading_text
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece, other_protocols %}
<p>Every number of every record, nothing averaged.</p>
<div class="wide"><table class="readings">
<thead><tr><th scope="col">{{ noun | capitalize }}</th><th scope="col">Seed</th>
{% for name in quantities %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for (name, seed), cells in rows.items() %}
<tr><th scope="row">{{ name }}</th><td>{{ seed }}</td>{% for cell in cells %}<td>{{ piece(cell) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{{ other_protocols(notes, protocol_name) }}
"""


def content(frames: Frames) -> Content:
    """Every reading, but the twin's where the study names none."""
    definition = frames.definition
    hidden = {column.quantity for column in definition.columns if column.of_twin and column not in frames.columns}
    chosen = [row for row in frames.readings if row.quantity not in hidden]
    rows: dict[tuple[str, int | None], list[Text]] = {}
    for row in chosen:
        rows.setdefault((row.subject, row.seed), []).append(reading_text(row))
    quantities = list(dict.fromkeys(row.quantity for row in chosen))
    context = {"rows": rows, "quantities": quantities, "noun": frames.study.noun}
    return Content(context={**context, "notes": protocol_notes(chosen), "protocol_name": frames.study.protocol_name})


SECTION = Section(name="readings", title="All readings", template=TEMPLATE, content=content)
