"""The networks as pictures, each with its edits against the one before it."""

from markupsafe import Markup

from harness.architecture.difference import edits_between
from harness.records.yaml_text import write_yaml
from harness.reporting.network_drawing import network_svg, page_style
from harness.reporting.networks import ShownNetwork
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<style>{{ style }}</style>
{% for one in drawings %}
{% if one.folded %}<details><summary>{{ one.title }} alone</summary>{% endif %}
{% if one.edits is not none %}
<p>{% if one.edits %}{{ one.edits | length }} {{ "edits" if one.edits | length > 1 else "edit" }} of {{ one.before }},
marked in the picture:{% else %}The same network as {{ one.before }}.{% endif %}</p>
{% if one.edits %}
<div class="wide"><table class="plain edits"><thead><tr><th scope="col">Knob</th><th scope="col">{{ one.before }}</th>
<th scope="col">{{ one.title }}</th></tr></thead><tbody>
{% for path, before, after in one.edits %}
<tr><th scope="row"><code>{{ path }}</code></th><td>{{ before }}</td><td>{{ after }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% endif %}
{% if one.picture %}
<div class="wide">{{ one.picture }}</div>
{% else %}
<p class="k-unavailable">no picture: {{ one.unknown }}</p>
{% endif %}
{% if one.folded %}</details>{% endif %}
{% endfor %}
<p class="scale">{% if marked %}A mark stands where an edit acts; a change of width is marked at its level.
{% endif %}A pointer over a box shows its settings.</p>
"""


def content(frames: Frames) -> Content | None:
    if not frames.networks:
        return None
    shown = list(frames.networks.items())
    if frames.study.kind == "comparison":
        shown.reverse()  # the edited one first
    drawings = [_drawing(one, f"network-{index}", folded=index > 0) for index, (_, one) in enumerate(shown)]
    marked = any(each["edits"] for each in drawings)
    return Content(context={"drawings": drawings, "marked": marked, "style": Markup(page_style())})


def _drawing(one: ShownNetwork, name: str, *, folded: bool) -> dict[str, object]:
    drawn = one.drawn()
    side = None if one.cost is None else one.cost.latent
    title = one.title if one.before is None else f"{one.title}, its edits of {one.before.title} marked"
    picture = None if drawn is None else Markup(network_svg(drawn, title=title, side=side, name=name))
    return {
        "title": one.title,
        "folded": folded,
        "before": one.before.title if one.before else "",
        "edits": _edits(one),
        "picture": picture,
        "unknown": one.unknown,
    }


def _edits(one: ShownNetwork) -> list[tuple[str, str, str]] | None:
    """(knob, before, after); None where nothing is before it."""
    if one.before is None or one.config is None:
        return None
    if type(one.before.config) is not type(one.config):
        return [("family", type(one.before.config).__name__, type(one.config).__name__)]
    return [(each.path, _yaml(each.before), _yaml(each.after)) for each in edits_between(one.before.config, one.config)]


def _yaml(value: object) -> str:
    return write_yaml(value, flow=True, width=10_000).removesuffix("\n...\n").strip()


SECTION = Section(
    name="network", title="Network", template=TEMPLATE, content=content, kinds=("trial", "comparison"),
)  # fmt: skip
