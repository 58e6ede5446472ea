"""A large picture decoded in tiles, against the same decoded whole: how close, and why it is not the same."""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.records.plain import from_plain
from harness.records.quantity import Measured
from harness.records.record import TrialRecord
from harness.reporting.cells import heads, value_text
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece %}
<p>{{ side }} px, decoded in tiles of {{ tiles.side }} x {{ tiles.side }} cells of the latent, of which neighbours share
{{ tiles.overlap }}, against the same picture decoded whole: held-out pictures, enlarged, which are smoother than
photographs of that size. From {{ enough }} dB on of every picture the two are called equal.</p>
<div class="wide"><table class="tiles">
<thead><tr><th scope="col">Decoder</th><th scope="col">In tiles</th><th scope="col">Why</th></tr></thead><tbody>
{% for head, cell, is_equal, why in rows %}
<tr data-tiles="{{ head.name }}" data-equal="{{ is_equal }}"><th scope="row">
<span class="number">{{ head.number }}</span> <span class="title">{{ head.title }}</span></th>
<td>{{ piece(cell) }}{% if not is_equal %} <span class="mark">not equal</span>{% endif %}</td><td>{{ why }}</td></tr>
{% endfor %}
</tbody></table></div>
"""
IN_TILES = "in_tiles"
ENOUGH_DB = 40


def content(frames: Frames) -> Content | None:
    tiled, example = frames.study.protocol.get("task", {}).get("tiled"), frames.examples.get(IN_TILES)
    if tiled is None or example is None:
        return None
    column, rows = frames.definition.column(IN_TILES), []
    for name, head in heads(frames).items():
        estimate = frames.estimates[name, IN_TILES]
        is_equal = estimate.value is not None and _lowest(frames, name) >= ENOUGH_DB
        rows.append((head, value_text(estimate, column), is_equal, _why(frames, name, tiled["tiles"], is_equal)))
    return Content(context={"rows": rows, "side": tiled["side"], "tiles": tiled["tiles"], "enough": ENOUGH_DB})


def _records(frames: Frames, subject: str) -> Iterator[TrialRecord]:
    kept = (frames.records.get((subject, seed)) for seed in frames.study.seeds)
    return (record for record in kept if record is not None)


def _lowest(frames: Frames, subject: str) -> float:
    """Of all its pictures and seeds."""
    tiled = (record.quantities.get(IN_TILES) for record in _records(frames, subject))
    return min((each.low for each in tiled if isinstance(each, Measured) and each.low is not None), default=0.0)


def _why(frames: Frames, subject: str, tiles: Mapping[str, Any], is_equal: bool) -> str:
    """Of the subject's first record."""
    record = next(_records(frames, subject), None)
    network = None if record is None else from_plain(ArchitectureConfig, record.architecture)
    if not isinstance(network, DecoderConfig):
        return ""
    if network.sees_all:
        by = " and its ".join(network.sees_all)
        although = "equal by the numbers alone: " if is_equal else ""
        return f"{although}by its {by} a pixel depends on the whole latent, and in a tile on the tile"
    left_out = (tiles["overlap"] - tiles["blend"]) // 2
    sees = f"a pixel depends on {network.reach} cells to each side, and {left_out} are left out of a tile"
    return f"{sees}: the same arithmetic" if network.reach <= left_out else f"{sees}: too few"


SECTION = Section(name="tiles", title="In tiles", template=TEMPLATE, content=content, kinds=("ablation",))
