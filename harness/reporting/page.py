"""The page: its sections put into one HTML file that needs nothing else to open."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from harness.reporting.section import Content, Frames, Section

TEMPLATES = Path(__file__).parent / "templates"
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


SCRIPT = f"plotly-{get_plotlyjs_version()}.min.js"
"""What the script that draws figures is called where pages link to it."""


def render(frames: Frames, sections: Sequence[Section], script: str = "") -> str:
    """The HTML text. Every text is escaped by the templates; figures are data that page.js draws.

    `script`: the relative address of plotly's script, which then has to lie there; empty: it stands in the page.
    """
    contents = [(section, content) for section in sections if (content := section.content(frames)) is not None]
    drawn = {
        section.name: [{"name": name, **json.loads(figure.to_json())} for name, figure in content.figures.items()]
        for section, content in contents
        if content.figures
    }
    template = _environment().get_template("page.html.j2")
    return template.render(
        study=frames.study,
        title=frames.definition.title or frames.study.name,
        question=frames.definition.question,
        header=list(_pieces(contents, "header")),
        body=list(_pieces(contents, "body")),
        payload=_json({"figures": drawn, "light": _theme("#1d2330", "#e4e7ec"), "dark": _theme("#d7dbe3", "#333a46")}),
        plotly_js="" if script else Markup(get_plotlyjs()),
        plotly_at=script,
        style=Markup((TEMPLATES / "style.css").read_text()),
        script=Markup((TEMPLATES / "page.js").read_text()),
    )


@functools.cache  # with the templates that it has compiled
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _template(text: str) -> Template:
    return _environment().from_string(text)


def _pieces(contents: Sequence[tuple[Section, Content]], place: str) -> Iterator[Mapping[str, object]]:
    """Name, title and HTML of each section in this place; its template sees its context, and of its figures the height
    and the names."""
    for section, content in contents:
        if section.place == place:
            figure: dict[str, object] = {}
            if content.figures:
                height = max(each.layout.height for each in content.figures.values())
                figure = {"height": height, "choices": list(content.figures)}
            html = _template(section.template).render(**content.context, **figure)
            yield {"name": section.name, "title": content.title or section.title, "html": Markup(html)}


def _theme(text: str, grid: str) -> dict[str, Any]:
    """A figure's look in light or dark; everything else about it is in the figure."""
    axis = {"gridcolor": grid, "linecolor": grid, "zerolinecolor": grid, "automargin": True, "tickfont": {"size": 11}}
    layout = go.Layout(
        font={"family": FONT, "size": 12, "color": text},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis=axis,
        yaxis=axis,
        bargap=0.3,
        annotationdefaults={"font": {"size": 12}},
        hoverlabel={"font": {"family": FONT}},
    )
    return dict(json.loads(plotly.io.to_json(go.layout.Template(layout=layout))))


def _json(value: Any) -> Markup:
    """JSON that is safe inside a script element: no `<` remains, so none can close it."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026"))
