"""The page: tables, figures and pictures put into one HTML file that needs nothing else to open."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.records.manifest import Manifest
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.reporting.frames import Records

TEMPLATES = Path(__file__).parent / "templates"
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    rung: str
    title: str
    uri: str  # the image itself, as a data URI; empty where there is none
    note: str


def render(context: Mapping[str, Any], figures: Mapping[str, go.Figure]) -> str:
    """The HTML text. Every text is escaped by the template; figures are data that page.js draws."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {name: json.loads(figure.to_json()) for name, figure in figures.items()}
    return environment.get_template("report.html.j2").render(
        **context,
        figures=drawn,
        heights={name: figure.layout.height for name, figure in figures.items()},
        payload=_json({"figures": drawn, "light": _theme("#1d2330", "#e4e7ec"), "dark": _theme("#d7dbe3", "#333a46")}),
        plotly_js=Markup(get_plotlyjs()),
        style=Markup((TEMPLATES / "style.css").read_text()),
        script=Markup((TEMPLATES / "page.js").read_text()),
    )


def pictures(store: Store, manifest: Manifest, records: Records, name: str) -> dict[int, list[Picture]]:
    """Seed -> the sample picture of each rung, in the manifest's order."""
    return {
        seed: [_picture(store, rung.name, rung.title, records[rung.name, seed], name) for rung in manifest.rungs]
        for seed in manifest.seeds
    }


def _picture(store: Store, rung: str, title: str, record: TrialRecord | None, name: str) -> Picture:
    if record is None:
        return Picture(rung=rung, title=title, uri="", note="not measured")
    path = store.artifact(record.key, name)
    if name not in record.artifacts.values() or not path.is_file():
        return Picture(rung=rung, title=title, uri="", note=f"no samples: the trial is {record.state}")
    content = base64.b64encode(path.read_bytes()).decode()
    return Picture(rung=rung, title=title, uri=f"data:image/png;base64,{content}", note="")


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
