"""What each stage's network makes of the same noise, under each other."""

import base64

from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<p>Same place, same noise, same class or caption asked for: what differs is the network, and how it is sampled.</p>
{% for title, name, uri in pictures %}
<figure data-stage="{{ name }}"><figcaption>{{ title }}</figcaption>
<img src="{{ uri }}" alt="samples: {{ title }}" style="max-width: 720px"></figure>
{% endfor %}
"""


def content(frames: Frames) -> Content | None:
    chain = frames.study.chain
    if chain is None or not chain.pictures:
        return None
    pictures = [
        (each.title, each.name, f"data:image/png;base64,{base64.b64encode(each.content).decode()}")
        for each in chain.pictures
    ]
    return Content(context={"pictures": pictures})


SECTION = Section(name="stage_samples", title="Samples", template=TEMPLATE, content=content, kinds=("chain",))
