"""What the networks make: a picture of each trial."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records.record import TrialRecord
from harness.reporting.cells import heads
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.curves import trained
from harness.reporting.subjects import Subject

TEMPLATE = """
{% from "macros.html.j2" import attributes %}
{% if caption %}
<p>{{ caption }}</p>
{% endif %}
{% for seed, row in pictures.items() %}
<details{% if loop.first %} open{% endif %}><summary>Seed {{ seed }}</summary>
<div class="grid">
{% for picture in row %}
<figure{{ attributes({"subject": picture.name, "seed": seed, "samples": "yes" if picture.uri else "no"}) }}>
{% if picture.uri %}
<img src="{{ picture.uri }}" alt="samples of {{ picture.title }}, seed {{ seed }}">
{% else %}
<div class="empty">{{ picture.note }}</div>
{% endif %}
<figcaption>{% if picture.number %}<span class="number">{{ picture.number }}</span>{% endif %}{{ picture.title }}
</figcaption></figure>
{% endfor %}
</div></details>
{% endfor %}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    name: str
    number: str
    title: str
    uri: str  # the image itself, as a data URI; empty where there is none
    note: str


def content(frames: Frames) -> Content | None:
    subjects = _chosen(frames)
    if not trained(frames) or not subjects or not frames.definition.samples:
        return None
    numbers = {name: head.number for name, head in heads(frames).items()} if frames.study.kind == "ablation" else {}
    pictures: dict[int, list[Picture]] = {}
    for subject in subjects:
        for seed in subject.trials:
            pictures.setdefault(seed, []).append(_picture(frames, subject, seed, numbers.get(subject.name, "")))
    return Content(context={"pictures": pictures, "caption": frames.study.judging.caption})


def _chosen(frames: Frames) -> Sequence[Subject]:
    """All of an ablation; of a sweep the front, the best of the first objective first."""
    study = frames.study
    if study.search is None:
        return study.subjects
    by_name = {subject.name: subject for subject in study.subjects}
    return [by_name[name] for name in study.search.front if name in by_name]


def _picture(frames: Frames, subject: Subject, seed: int, number: str) -> Picture:
    record, uri = frames.records[subject.name, seed], ""
    name = frames.definition.samples
    image = frames.artifact(record.key, name) if record and name in record.artifacts.values() else None
    if image is not None:
        uri = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return Picture(name=subject.name, number=number, title=subject.title, uri=uri, note="" if uri else _why(record))


def _why(record: TrialRecord | None) -> str:
    return "not measured" if record is None else f"no samples: the trial is {record.state}"


SECTION = Section(name="samples", title="Samples", template=TEMPLATE, content=content)
