"""What networks cost place by place and operator by operator: parameters and multiply-adds counted, milliseconds
predicted. Of two networks both stand side by side, with the difference of what is predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.placed_cost import PlacedCost, Share
from harness.records.quantity import Predicted
from harness.reporting.cells import Text, exact
from harness.reporting.format import number, signed
from harness.reporting.networks import ShownNetwork
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece %}
{% for table in tables %}
<details{% if loop.first %} open{% endif %}><summary>{{ table.title }}</summary>
{% for line in table.lines %}<p class="scale">{{ line }}</p>{% endfor %}
{% for part in table.parts %}
<h3>{{ part.title }}</h3>
<div class="wide"><table class="plain places"><thead>
{% if part.heads %}
<tr><th></th>
{% for head in part.heads %}<th scope="colgroup" colspan="{{ head.span }}">{{ head.text }}</th>{% endfor %}
</tr>
{% endif %}
<tr><th scope="col">{{ part.first }}</th>
{% for name in part.columns %}<th scope="col">{{ name }}</th>{% endfor %}
</tr></thead><tbody>
{% for row in part.rows %}
<tr{% if row.total %} class="total"{% endif %}><th scope="row">
{%- if row.code %}<code>{{ row.name }}</code>{% else %}{{ row.name }}{% endif %}</th>
{% for cell in row.cells %}<td>{% if cell %}{{ piece(cell) }}{% endif %}</td>{% endfor %}
{% if row.share %}
<td><span class="share" style="width:{{ row.share.px }}px"></span>{{ row.share.text }}</td>
{% endif %}
</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
</details>
{% endfor %}
{% for line in missing %}<p class="scale">{{ line }}</p>{% endfor %}
"""
COLUMNS: Mapping[str, str] = {"params": "Parameters", "macs": "Multiply-adds", "ms": "Predicted", "calls": "Calls"}
BAR_PX = 120
OVERHEAD = "start of a prediction"


def content(frames: Frames) -> Content | None:
    networks = list(frames.networks.values())
    one = "This network" if len(networks) == 1 else "The networks"
    tables = [
        _table(networks, [each.twin for each in networks], "At deployment: the twin"),
        _table(networks, [each.cost for each in networks], one),
    ]
    shown = [table for table in tables if table]
    missing = [f"{each.title}: {line}" if len(networks) > 1 else line for each in networks for line in each.no_cost]
    return Content(context={"tables": shown, "missing": missing}) if shown or missing else None


def _table(networks: Sequence[ShownNetwork], costs: Sequence[PlacedCost | None], title: str) -> dict[str, Any] | None:
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs) or not known:
        return None
    names = [each.title for each in networks]
    latents = dict.fromkeys(cost.latent for cost in known)
    sizes = " and ".join(f"{latent}x{latent}" for latent in latents)
    parts = [
        _part("By place", "Place", names, [cost.places for cost in known], known, tuple(COLUMNS)),
        _part("By operator", "Operator", names, [cost.operators for cost in known], known, ("calls", "macs", "ms")),
    ]
    return {"title": f"{title}, at a {sizes} latent", "names": names, "parts": parts, "lines": _lines(names, known)}


def _lines(names: Sequence[str], costs: Sequence[PlacedCost]) -> list[str]:
    """What the predictions are, whole."""
    several = len(names) > 1
    lines = [_line(f"{name}: " if several else "", cost) for name, cost in zip(names, costs, strict=True)]
    predicted = any(isinstance(cost.latency, Predicted) for cost in costs)
    return [*lines, *(["An interval is of the whole; a place has none of its own."] if predicted else [])]


def _line(of: str, cost: PlacedCost) -> str:
    latency = cost.latency
    if not isinstance(latency, Predicted):
        return f"{of}no milliseconds: {latency.reason}."
    interval = f"{latency.conditions['nominal']:.0%} interval {number(latency.low)} to {number(latency.high, 'ms')}"
    why = "; ".join(latency.conditions["extrapolated_because"])
    beyond = f"; extrapolated: {why}" if latency.extrapolated else ""
    if fitted_to := latency.conditions["fitted_to"]:
        beyond += f"; fitted, so this tests nothing: the data have {fitted_to}"
    value = number(latency.value, "ms")
    return f"{of}predicted for the {cost.chip}, not measured: {value}, {interval}{beyond}."


def _part(
    title: str,
    first: str,
    names: Sequence[str],
    shares: Sequence[Mapping[str, Share]],
    costs: Sequence[PlacedCost],
    columns: Sequence[str],
) -> dict[str, Any]:
    """A table; of two networks with their names below each heading, and what is the same in both in one line."""
    several, timed = len(names) > 1, all(isinstance(cost.latency, Predicted) for cost in costs)
    columns = [column for column in columns if timed or column != "ms"]
    places = _order(shares)
    same = [place for place in places if several and len({of.get(place) for of in shares}) == 1]
    rows = [_row(each, [of.get(each) for of in shares], costs, columns, first) for each in places if each not in same]
    if same:
        equal = [_sum([of[place] for place in same], None) for of in shares]
        rows.append(_row(f"the other {len(same)}, the same in both", equal, costs, columns, ""))
    placed = first == "Place"
    if placed and timed:
        rows.append(_row(OVERHEAD, [Share(ms=cost.fixed_ms) for cost in costs], costs, columns, ""))
    whole = [_sum(of.values(), cost if placed else None) for of, cost in zip(shares, costs, strict=True)]
    rows.append(_row("all", whole, costs, columns, "") | {"total": True})
    heads = [{"text": COLUMNS[column], "span": len(names) + (column == "ms")} for column in columns]
    below = [name for column in columns for name in (*names, *(["Difference"] if column == "ms" else []))]
    alone = [*(COLUMNS[column] for column in columns), *(["Share of the time"] if timed else [])]
    shown = {"heads": heads, "columns": below} if several else {"heads": [], "columns": alone}
    return {"title": title, "first": first, "rows": rows, **shown}


def _order(shares: Sequence[Mapping[str, Share]]) -> list[str]:
    """The first's places, each followed by those that only the second has before its next."""
    order = list(shares[0])
    for other in shares[1:]:
        at = 0
        for place in other:
            if place in order:
                at = order.index(place) + 1
            else:
                order.insert(at, place)
                at += 1
    return order


def _row(
    name: str, shares: Sequence[Share | None], costs: Sequence[PlacedCost], columns: Sequence[str], first: str
) -> dict[str, Any]:
    cells: list[Text | None] = []
    for column in columns:
        values = [None if share is None else getattr(share, column) for share in shares]
        cells += [_cell(name, column, value) for value in values]
        if column == "ms" and len(shares) > 1:
            cells.append(_difference(name, values))
    share = _share(shares[0], costs[0]) if len(shares) == 1 else None
    return {"name": name, "cells": cells, "code": bool(first), "share": share, "total": False}


def _share(own: Share | None, cost: PlacedCost) -> dict[str, Any] | None:
    """Of the predicted time, as a bar and in words."""
    if own is None or own.ms is None or not isinstance(cost.latency, Predicted):
        return None
    part = own.ms / cost.latency.value
    return {"px": round(BAR_PX * part, 1), "text": f"{part:.0%}"}


def _cell(name: str, column: str, value: float | None) -> Text | None:
    """Nothing where the network has no such place, or the place no such cost."""
    if value is None or (value == 0 and column != "calls"):
        return None
    kind, text = ("predicted", number(value, "ms")) if column == "ms" else ("counted", number(value))
    return Text(kind=kind, text=text, data={"place": name, "quantity": column, "value": exact(value)})


def _difference(name: str, values: Sequence[float | None]) -> Text | None:
    """Of what is predicted, in milliseconds; a place that one of them lacks takes none there."""
    change = (values[1] or 0.0) - (values[0] or 0.0)
    if not change:
        return None
    data = {"place": name, "quantity": "ms-difference", "value": exact(change)}
    return Text(kind="predicted", text=signed(change, "ms"), data=data)


def _sum(shares: Any, cost: PlacedCost | None) -> Share:
    shares = list(shares)
    times = [share.ms for share in shares if share.ms is not None]
    fixed = cost.fixed_ms if cost else 0.0
    return Share(
        params=sum(share.params for share in shares), macs=sum(share.macs for share in shares),
        calls=sum(share.calls for share in shares), ms=sum(times) + fixed if times else None,
    )  # fmt: skip


SECTION = Section(
    name="places", title="Cost by place", template=TEMPLATE, content=content, kinds=("trial", "comparison"),
)  # fmt: skip
