"""Where the numbers come from: what all records share stands once, what differs as a range or a list."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reporting.format import number, several
from harness.reporting.frames import flat
from harness.reporting.section import Content, Frames, Section

MOST_ON_PAPER = 1_000
"""Keys that are unfolded there: a browser breaks longer lists over pages in minutes."""
TEMPLATE = """
{% from "macros.html.j2" import setting_list %}
{% if command %}
<p>To repeat all of this:</p>
<pre><code>{{ command }}</code></pre>
{% endif %}
{% for title, rows in origins %}
<h3>{{ title }}</h3>
{{ setting_list(rows) }}
{% endfor %}
<details{% if keys | length > most_on_paper %} data-long{% endif %}><summary>Keys of the records</summary>
<dl class="settings">
{% for name, seed, key, href in keys %}
<div><dt>{{ name }}, seed {{ seed }}</dt>
<dd>{% if href %}<a href="{{ href }}">{{ key }}</a>{% else %}{{ key }}{% endif %}</dd></div>
{% endfor %}
</dl></details>
{% if index %}<p><a href="{{ index }}">All studies of this folder</a></p>{% endif %}
"""


def content(frames: Frames) -> Content:
    trials = provenance_rows([record.provenance for record in frames.records.values() if record is not None])
    controls = provenance_rows([one.provenance for one in frames.controls.values() if one is not None])
    keys = []
    for (name, seed), record in frames.records.items():
        state = "" if record is None or record.state == "complete" else f" ({record.state})"
        key, href = ("not measured", "") if record is None else (f"{record.key}{state}", frames.links.trial(record.key))
        keys.append((name, seed, key, href))
    origins = [(title, rows) for title, rows in (("Trials", trials), ("Controls", controls)) if rows]
    context = {"command": frames.study.command, "origins": origins, "keys": keys, "index": frames.links.index}
    return Content(context=context | {"most_on_paper": MOST_ON_PAPER})


def provenance_rows(provenances: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """(name, value or values, whether all records share it), over the provenance of many records."""
    flats = [flat(provenance) for provenance in provenances]
    names = list(dict.fromkeys(name for one in flats for name in one))
    rows = []
    for name in names:
        values = [one[name] for one in flats if name in one]
        distinct = list(dict.fromkeys(map(str, values)))
        shared = len(distinct) == 1 and len(values) == len(flats)
        total = f", {number(float(sum(values)))} in all" if not shared and _additive(values) else ""
        rows.append((name, several(values) + total, shared))
    return rows


def facts_of(frames: Frames) -> list[tuple[str, str]]:
    """The head of the page: the definition's facts, how many subjects, the seeds, the machine, the records."""
    study, definition = frames.study, frames.definition
    protocol = flat(study.protocol)
    named = study.protocol_name and "protocol" not in definition.sections  # which says it too
    rows = [("Protocol", study.protocol_name)] if named else []
    for fact in definition.facts:
        value = protocol.get(fact.setting)
        if value is not None or not fact.optional:
            rows.append((fact.title, "not recorded" if value is None else f"{value} {fact.unit}".strip()))
    rows.append((f"{study.noun.capitalize()}s", str(sum(one.child_of is None for one in study.subjects))))
    rows.append(("Seeds", ", ".join(map(str, study.seeds))))
    records = [record for record in frames.records.values() if record is not None]
    shared = {name: value for name, value, _ in provenance_rows([record.provenance for record in records])}
    rows.append(("Machine", shared.get(definition.machine, "not recorded")))
    rows.append(("Records", f"{len(records)} of {len(frames.records)}"))
    return rows


def _additive(values: Sequence[Any]) -> bool:
    """Numbers with a fraction, such as seconds and hours, have a sum worth showing; counts such as cores do not."""
    return all(isinstance(value, float) for value in values)


SECTION = Section(name="provenance", title="Provenance", template=TEMPLATE, content=content)
