"""The index of an output folder: its studies, its newest trials and its comparisons, with links to the pages there are
and the commands that make the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from harness.records.store import write_atomic
from harness.reporting.links import INDEX, PAGES, Links, links_from
from harness.reporting.page import TEMPLATES

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Studies in {{ out }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<main>
<header id="top"><p class="kicker">Index</p><h1>Studies in {{ out }}</h1>
{% if not studies and not trials %}
<p class="question">Nothing was begun here yet. <code>harness ablate fig3</code> begins a study.</p>
{% endif %}
</header>
{% if studies %}
<section id="studies"><h2>Studies</h2>
<div class="wide"><table class="plain index"><thead><tr><th scope="col">Study</th><th scope="col">Kind</th>
<th scope="col">How far</th><th scope="col">Last change</th></tr></thead><tbody>
{% for study in studies %}
<tr><th scope="row">{% if study.href %}<a href="{{ study.href }}">{{ study.name }}</a>{% else %}{{ study.name }}
<span class="name">its page: {{ study.command }}</span>{% endif %}</th>
<td>{{ study.kind }}</td><td>{{ study.state }}</td><td>{{ study.changed }}</td></tr>
{% endfor %}
</tbody></table></div></section>
{% endif %}
{% if trials %}
<section id="trials"><h2>
{% if trials | length < known %}The newest {{ trials | length }} of {{ known }} trials{% else %}Trials{% endif %}</h2>
<div class="wide"><table class="plain index"><thead><tr><th scope="col">Trial</th><th scope="col">Key</th>
<th scope="col">State</th><th scope="col">Score</th><th scope="col">Stored</th></tr></thead><tbody>
{% for trial in trials %}
<tr><th scope="row">{{ trial.name }}</th>
<td>{% if trial.href %}<a href="{{ trial.href }}"><code>{{ trial.key }}</code></a>{% else %}<code>{{ trial.key }}</code>
<span class="name">its page: harness report {{ trial.key }}{{ where }}</span>{% endif %}</td>
<td>{{ trial.state }}</td><td>{{ trial.score }}</td><td>{{ trial.stored }}</td></tr>
{% endfor %}
</tbody></table></div></section>
{% endif %}
{% if comparisons %}
<section id="comparisons"><h2>Comparisons</h2>
<ul>{% for name, href in comparisons %}<li><a href="{{ href }}">{{ name }}</a></li>{% endfor %}</ul></section>
{% endif %}
</main>
</body>
</html>
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedStudy:
    name: str
    kind: str
    page: Path  # below the output folder, whether it is there or not
    command: str  # that makes it
    state: str
    changed: str


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedTrial:
    key: str
    name: str
    state: str
    score: str
    stored: str


def write_index(
    out: Path, studies: Sequence[IndexedStudy], trials: Sequence[IndexedTrial], known: int, where: str
) -> Path:
    """Write OUT/index.html, and return its path. `known`: how many trials there are; `where`: ` out=FOLDER`, as
    commands need it."""
    path = out / INDEX
    links = links_from(path, out)
    text = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE).render(
        out=str(out),
        studies=[_linked(each, links.to(each.page)) for each in studies],
        trials=[_linked(each, links.trial(each.key)) for each in trials],
        comparisons=_comparisons(out, links),
        known=known,
        where=where,
        style=Markup((TEMPLATES / "style.css").read_text()),
    )  # fmt: skip
    write_atomic(path, text.encode())
    return path


def _linked(each: IndexedStudy | IndexedTrial, href: str) -> dict[str, object]:
    return {name: getattr(each, name) for name in each.__dataclass_fields__} | {"href": href}


def _comparisons(out: Path, links: Links) -> list[tuple[str, str]]:
    pages = sorted((out / PAGES).glob("*_and_*.html"))
    return [(page.stem.replace("_and_", " and "), links.to(page.relative_to(out))) for page in pages]
