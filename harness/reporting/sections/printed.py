"""What a publication printed, whole, and below it the same quantities of this study's networks: a column of its own for
each processor and for each score that is not the printed one."""

from collections.abc import Sequence

from harness.reporting.cells import Text, heads, value_text
from harness.reporting.definition import Column
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece %}
<p>{{ source }} {{ conditions }}</p>
<div class="wide"><table class="printed-rows">
<thead><tr><th scope="col">Network</th>
{% for title, unit in columns %}
<th scope="col">{{ title }}{% if unit %}<small>{{ unit }}</small>{% endif %}</th>
{% endfor %}
</tr></thead><tbody>
<tr class="group"><th scope="rowgroup" colspan="{{ columns | length + 1 }}">Printed</th></tr>
{% for title, cells in printed %}
<tr><th scope="row"><span class="title">{{ title }}</span></th>
{% for cell in cells %}<td>{% if cell %}<span class="k-published" data-printed="{{ cell.shown }}">{{ cell.shown }}
<span class="source">{{ cell.source }}</span></span>{% endif %}</td>{% endfor %}</tr>
{% endfor %}
<tr class="group"><th scope="rowgroup" colspan="{{ columns | length + 1 }}">Here{% if twin %}; costs of {{ twin }}{%
endif %}</th></tr>
{% for head, cells in ours %}
<tr{% if head.beaten %} class="beaten"{% endif %}><th scope="row"><span class="number">{{ head.number }}</span>
<span class="title">{{ head.title }}</span></th>
{% for cell in cells %}<td>{% if cell %}{{ piece(cell) }}{% if cell.data.low and cell.data.high %}
<span class="spread">{{ cell.data.low | float | round(2) }} to {{ cell.data.high | float | round(2) }}</span>{% endif
%}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% for note in notes %}
<p class="scale">{{ note }}</p>
{% endfor %}
"""


def content(frames: Frames) -> Content | None:
    published = frames.published
    if not published.rows:
        return None
    beside = {column.published: column for column in frames.columns if column.published}
    alone = [column for column in frames.columns if column.published is None and column.spread == "seeds"]
    columns = [(each.title, each.unit) for each in published.columns.values()]
    columns += [(f"{column.title}, here", "") for column in alone]
    printed = [
        (row.title or name, [*(row.cells.get(column) for column in published.columns), *(None for _ in alone)])
        for name, row in published.rows.items()
    ]
    ours = [
        (head, _ours(frames, name, [*(beside.get(each) for each in published.columns), *alone]))
        for name, head in heads(frames).items()
    ]
    context = {
        "source": f"{published.title}. {published.source}.", "conditions": published.conditions, "columns": columns,
        "printed": printed, "ours": ours, "twin": frames.study.twin_name, "notes": published.notes,
    }  # fmt: skip
    return Content(context=context)


def _ours(frames: Frames, name: str, columns: Sequence[Column | None]) -> list[Text | None]:
    return [None if each is None else value_text(frames.estimates[name, each.quantity], each) for each in columns]


SECTION = Section(
    name="printed", title="Printed, and made here", template=TEMPLATE, content=content, kinds=("ablation",)
)
