"""What a publication printed, whole, and below it the same quantities of this study's networks: a column of its own for
each processor and for each score that is not the printed one."""

from collections.abc import Sequence

from harness.measure.statistics import noise_of
from harness.reporting.cells import Text, heads, spread_text, value_text
from harness.reporting.definition import Column
from harness.reporting.format import number
from harness.reporting.frames import Estimate
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
{% for cell in cells %}<td>{% if cell %}{{ piece(cell[0]) }}{% if cell[1] %}
<span class="spread">{{ cell[1] }}</span>{% endif %}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="scale">Below a score of ours: the 95% interval of its mean over seeds; below a latency its
instrument's interval.</p>
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


def _ours(frames: Frames, name: str, columns: Sequence[Column | None]) -> list[tuple[Text, str] | None]:
    """With the interval of its mean over seeds, or the instrument's."""
    cells: list[tuple[Text, str] | None] = []
    for column in columns:
        if column is None:
            cells.append(None)
            continue
        estimate = frames.estimates[name, column.quantity]
        interval = _of_mean(frames, estimate) if column.spread == "seeds" else spread_text(estimate, column)
        cells.append((value_text(estimate, column), interval))
    return cells


def _of_mean(frames: Frames, estimate: Estimate) -> str:
    """By the noise of all rungs; of a beaten one, which is no part of it, by its own seeds. Empty where it has one."""
    noise = frames.tests.noises.get(estimate.quantity)
    if noise is None or estimate.subject not in noise.groups:
        noise = noise_of({estimate.subject: dict(enumerate(estimate.values))})
    if noise is None:
        return ""
    mean = noise.contrast({estimate.subject: 1.0})
    return f"{number(mean.low)} to {number(mean.high)}"


SECTION = Section(
    name="printed", title="Printed, and made here", template=TEMPLATE, content=content, kinds=("ablation",)
)
