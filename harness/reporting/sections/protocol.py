"""The protocol at the page's head: what was trained on what, how, how it was sampled and scored, a line each; and of
how many of the page's networks that is not so."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reporting.entries import Entry, entries
from harness.reporting.format import listed
from harness.reporting.frames import flat
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<table class="protocol"><caption>Protocol{% if name %}: {{ name }}{% endif %}</caption><tbody>
{% for title, pairs, differing in lines %}
<tr data-protocol="{{ title }}"><th scope="row">{{ title }}</th><td>
{%- for key, value in pairs %}<span class="pair">{% if key %}<i>{{ key }}</i> {% endif %}{{ value }}</span>{% endfor %}
{%- for one in differing %}<span class="differs">&dagger; {{ one }}</span>{% endfor %}</td></tr>
{% endfor %}
</tbody></table>
"""
LINES: Mapping[str, tuple[str, Sequence[str]]] = {
    "Data": ("data", ("kind", "size", "channels", "crop", "images")),
    "Latents": ("autoencoder", ("kind", "channels", "downsampling", "encoding")),
    "Text": ("text", ("template",)),
    "Training": ("recipe", ("steps", "batch_size", "learning_rate", "schedule", "ema_decay", "cfg_dropout")),
    "Objective": ("objective", ("kind", "scaling", "features", "task_weight", "output_weight", "feature_weight",
                                "steps", "teacher_steps", "adversarial_weight", "adversarial_loss")),
    "Teacher": ("teacher", ("kind", "weights", "guidance_scale", "precision")),
    "Sampling": ("sampling", ("solver", "steps", "times", "guidance_scale", "guidance_interval", "labels")),
    "Score": ("quality", ("extractor.kind", "extractor.resolution", "samples", "reference", "reference_samples")),
}  # fmt: skip
"""Line -> the protocol's section, and its settings in the order of reading. The section "Measured under" has all."""
PLAIN = ("kind", "template", "solver", "extractor.kind")
"""Settings whose values say what they are."""


def content(frames: Frames) -> Content:
    rows = entries(frames)
    lines = [("Networks", [("", _networks(rows))], _printed(rows))]
    for title, (section, names) in LINES.items():
        pairs = _pairs(frames.study.protocol.get(section, {}), names)
        if pairs:
            lines.append((title, pairs, _differing(rows, section)))
        elif section == "teacher":
            lines += _teachers(frames, title, names)
    return Content(context={"name": frames.study.protocol_name, "lines": lines})


def _pairs(section: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    settings = flat(section)
    return [("" if name in PLAIN else _words(name), _text(settings[name])) for name in names if name in settings]


def _teachers(frames: Frames, title: str, names: Sequence[str]) -> list[tuple[str, list[tuple[str, str]], list[str]]]:
    """Of a study whose protocol, its first network's, has none: those of the others, each once with whom it teaches."""
    taught: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for (name, _), record in frames.records.items():
        if record is not None and (pairs := _pairs(record.protocol.get("teacher", {}), names)):
            taught.setdefault(tuple(pairs), []).append(frames.study.titles[name])
    return [(title, [*pairs, ("of", listed(list(dict.fromkeys(titles))))], []) for pairs, titles in taught.items()]


def _networks(rows: Sequence[Entry]) -> str:
    own = [each.title for each in rows if each.source == "study"]
    return listed(own) if len(own) <= 8 else f"{len(own)}, in the table"


def _printed(rows: Sequence[Entry]) -> list[str]:
    printed = sum(each.source == "printed" for each in rows)
    return [f"{printed} printed ones have protocols of their own"] if printed else []


def _differing(rows: Sequence[Entry], section: str) -> list[str]:
    """`sampling.steps=50 in thin SDXL, best of 12`: each way in which networks depart from the section, and which."""
    ways: dict[str, list[str]] = {}
    for each in rows:
        if parts := [part for part in each.departures if part.startswith((f"{section}.", f"{section}="))]:
            ways.setdefault(", ".join(parts), []).append(each.title)
    return [f"{way} in {listed(titles)}" for way, titles in ways.items()]


def _words(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(str, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "all" if value is None else str(value)  # of pictures


SECTION = Section(name="protocol", title="Protocol", template=TEMPLATE, content=content, place="header")
