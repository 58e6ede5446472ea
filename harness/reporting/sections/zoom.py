"""Pictures that networks made again, enlarged: the original, what each network makes of it, and their difference.

The picture of a trial (`harness.trials.tasks.reconstructing`) has them in three rows, a column each, two pixels apart;
it is shown through windows on it, so that no pixel is made anew.
"""

import base64
import struct
from dataclasses import dataclass
from typing import Any

from harness.reporting.cells import heads
from harness.reporting.format import listed
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<p>{{ caption }} Seed {{ seed }}; enlarged {{ factor }} times, without smoothing.{% if left_out %} Without {{ left_out
}}: of {{ "it" if is_one_out else "them" }} there is no picture of that size.{% endif %}</p>
<div class="zoom" style="--side: {{ side }}px; --factor: {{ factor }}">
<fieldset class="choices"><legend>Picture</legend>
{% for column in range(columns) %}
<label><input type="radio" name="zoom" value="{{ column }}"{% if column == 0 %} checked{% endif %}> {{ column + 1
}}</label>
{% endfor %}
</fieldset>
<div class="wide"><div class="windows">
{% for picture in pictures %}
<figure data-zoom="{{ picture.name }}" style="--sheet: url({{ picture.uri }}); --width: {{ picture.width }}px">
{% for row, what in rows %}
<i role="img" aria-label="{{ what }}, {{ picture.title }}" style="--row: {{ row }}"></i>
{% endfor %}
<figcaption><span class="number">{{ picture.number }}</span>{{ picture.title }}<span class="spread">{{ picture.score
}}</span></figcaption></figure>
{% endfor %}
</div></div>
</div>
"""
ROWS = ((0, "original"), (1, "reconstruction"), (2, "eight times the difference"))
GAP = 2
LEAST_SIDE = 160
"""Of a window, in pixels of the page."""
MOST_COLUMNS = 12
"""That style.css has a rule for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    name: str
    number: str
    title: str
    uri: str
    width: int
    score: str


def content(frames: Frames) -> Content | None:
    seed, name = frames.study.seeds[0], frames.definition.samples
    sheets, left_out, size = [], [], None
    for subject, head in heads(frames).items():
        record = frames.records.get((subject, seed))
        image = frames.artifact(record.key, name) if record and name in record.artifacts.values() else None
        size = size or (png_size(image) if image else None)
        if image is None or png_size(image) != size:
            left_out.append(head.title)
            continue
        uri = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        score = _score(frames, subject)
        sheets.append(Sheet(name=subject, number=head.number, title=head.title, uri=uri, width=size[0], score=score))
    if size is None:
        return None
    context = {"pictures": sheets, "seed": seed, "rows": ROWS, "left_out": listed(left_out)}
    return Content(context={**context, "is_one_out": len(left_out) == 1, **_windows(frames, *size)})


def _windows(frames: Frames, width: int, height: int) -> dict[str, Any]:
    side = (height - 2 * GAP) // 3
    columns = min(MOST_COLUMNS, (width + GAP) // (side + GAP))
    factor = max(1, -(-LEAST_SIDE // side))
    return {"side": side, "columns": columns, "factor": factor, "caption": frames.study.judging.caption}


def _score(frames: Frames, subject: str) -> str:
    first = frames.study.judging.first
    estimate = frames.estimates.get((subject, first))
    if estimate is None or estimate.value is None:
        return ""
    return f"{frames.title(first)} {frames.text(first, estimate.value)}"


def png_size(content: bytes) -> tuple[int, int]:
    """Width and height: of a PNG's first chunk, IHDR (ISO/IEC 15948, 11.2.2)."""
    width, height = struct.unpack(">II", content[16:24])
    return width, height


SECTION = Section(name="zoom", title="Enlarged", template=TEMPLATE, content=content, kinds=("ablation",))
