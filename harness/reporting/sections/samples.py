"""What the networks make: a picture of each trial and real pictures; any of them enlarged, two side by side."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.records.judging import REAL_PICTURES
from harness.records.record import TrialRecord
from harness.reporting.cells import heads
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.curves import trained
from harness.reporting.subjects import Subject

TEMPLATE = """
{% from "macros.html.j2" import attributes %}
{% macro enlargeable(uri, text) %}
<button type="button" class="enlarge" aria-label="enlarge: {{ text }}"><img src="{{ uri }}" alt="{{ text }}"></button>
{% endmacro %}
{% if caption %}
<p>{{ caption }}</p>
{% endif %}
{% if real %}
<p>Real pictures of the same classes, one each, in the columns of the samples:</p>
<div class="grid"><figure data-real="yes">{{ enlargeable(real, "real pictures, one of each class") }}
<figcaption>Real pictures</figcaption></figure></div>
{% endif %}
{% for seed, row in pictures.items() %}
<details{% if loop.first %} open{% endif %}><summary>Seed {{ seed }}</summary>
<div class="grid">
{% for picture in row %}
<figure{{ attributes({"subject": picture.name, "seed": seed, "samples": "yes" if picture.uri else "no"}) }}>
{% if picture.uri %}
{{ enlargeable(picture.uri, "samples of " ~ picture.title ~ ", seed " ~ seed) }}
{% else %}
<div class="empty">{{ picture.note }}</div>
{% endif %}
<figcaption>{% if picture.number %}<span class="number">{{ picture.number }}</span>{% endif %}
{% if picture.href %}<a href="{{ picture.href }}">{{ picture.title }}</a>{% else %}{{ picture.title }}{% endif %}
</figcaption></figure>
{% endfor %}
</div></details>
{% endfor %}
{% if several %}
<div class="two-samples" hidden><h3>Two side by side</h3>
{% for side in ("left", "right") %}
<figure><figcaption><label>{{ side | capitalize }}: <select></select></label></figcaption>
<button type="button" class="enlarge"></button></figure>
{% endfor %}
</div>
{% endif %}
<dialog id="enlarged" aria-label="enlarged picture">
<form method="dialog"><button>Close</button></form></dialog>
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    name: str
    number: str
    title: str
    uri: str  # the image itself, as a data URI; empty where there is none
    note: str
    href: str = ""  # of its trial's page, where there is one


def content(frames: Frames) -> Content | None:
    subjects = _chosen(frames)
    if not trained(frames) or not subjects or not frames.definition.samples:
        return None
    numbers = {name: head.number for name, head in heads(frames).items()} if frames.study.kind == "ablation" else {}
    pictures: dict[int, list[Picture]] = {}
    for subject in subjects:
        for seed in subject.trials:
            pictures.setdefault(seed, []).append(_picture(frames, subject, seed, numbers.get(subject.name, "")))
    drawn = sum(bool(picture.uri) for row in pictures.values() for picture in row)
    return Content(
        context={
            "pictures": pictures, "caption": frames.study.judging.caption, "several": drawn > 1,
            "real": _real(frames, frames.records.values()),
        }
    )  # fmt: skip


def _chosen(frames: Frames) -> Sequence[Subject]:
    """All of an ablation; of a sweep the front, the best of the first objective first."""
    study = frames.study
    if study.search is None:
        return study.subjects
    by_name = {subject.name: subject for subject in study.subjects}
    return [by_name[name] for name in study.search.front if name in by_name]


def _picture(frames: Frames, subject: Subject, seed: int, number: str) -> Picture:
    record = frames.records[subject.name, seed]
    uri = "" if record is None else _uri(frames, record, frames.definition.samples)
    href = "" if record is None else frames.links.trial(record.key)
    note = "" if uri else _why(record)
    return Picture(name=subject.name, number=number, title=subject.title, uri=uri, note=note, href=href)


def _real(frames: Frames, records: Iterable[TrialRecord | None]) -> str:
    """Of one of the trials, since all saw the same data; empty where none kept any, as before they did."""
    uris = (_uri(frames, record, REAL_PICTURES) for record in records if record is not None)
    return next(filter(None, uris), "")


def _uri(frames: Frames, record: TrialRecord, name: str) -> str:
    image = frames.artifact(record.key, name) if name in record.artifacts.values() else None
    return "" if image is None else f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _why(record: TrialRecord | None) -> str:
    return "not measured" if record is None else f"no samples: the trial is {record.state}"


SECTION = Section(name="samples", title="Samples", template=TEMPLATE, content=content)
