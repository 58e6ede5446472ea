"""What a picture takes on a phone, by each stage's network: its passes, and the decoder's one."""

from collections.abc import Iterable, Mapping
from typing import Any

from harness.records.chain_summary import StageNetwork
from harness.reporting.format import number
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<div class="wide"><table class="ladder on-device">
<thead><tr><th scope="col">Stage</th><th scope="col">Passes</th>
{% for chip in chips %}<th scope="col">{{ chip }}</th>{% endfor %}</tr></thead><tbody>
{% for title, passes, cells in rows %}
<tr><th scope="row"><span class="title">{{ title }}</span></th><td>{{ passes }}</td>
{% for cell in cells %}<td>{% if cell %}<span class="k-{{ cell.kind }}" data-passes="{{ passes }}"
data-kind="{{ cell.kind }}" data-value="{{ cell.exact }}">{{ cell.text }}</span>
<span class="spread">{{ cell.note }}</span>{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="scale">{{ what }} Text encoders are left out. A dotted number is predicted, with its interval: no phone made
it.</p>
"""


def content(frames: Frames) -> Content | None:
    chain = frames.study.chain
    if chain is None or not chain.totals:
        return None
    networks = [each for each in chain.networks if each.name not in ("search", "teacher") and each.passes]
    rows = [(each.title, each.passes, [_cell(each.passes, total) for total in chain.totals]) for each in networks]
    rows += [
        (f"in {passes} passes", passes, [_cell(passes, total) for total in chain.totals])
        for passes in _others(chain.totals, networks)
    ]
    decoders = {str(total.get("decoder")) for total in chain.totals if total.get("decoder")}
    behind = f" and one of {decoders.pop()}" if decoders else ", which makes pictures itself"
    latent = chain.totals[0]["latent"]
    what = f"Passes of the exported network at a {latent} x {latent} latent{behind}."
    return Content(context={"rows": rows, "chips": [total["chip"] for total in chain.totals], "what": what})


def _others(totals: Iterable[Mapping[str, Any]], networks: Iterable[StageNetwork]) -> list[int]:
    """Numbers of passes that were asked for beside those of the stages."""
    known = {network.passes for network in networks}
    return sorted({each["steps"] for total in totals for each in total["totals"]} - known)


def _cell(passes: int, total: Mapping[str, Any]) -> dict[str, str] | None:
    line = next((each for each in total["totals"] if each["steps"] == passes), None)
    if line is None:
        return None
    if line["latency_ms"] is None:
        return {"kind": line["kind"], "text": line["kind"], "note": line.get("reason", ""), "exact": ""}
    between = "" if line["low_ms"] is None else f"{number(line['low_ms'])} to {number(line['high_ms'])}, "
    how = line["kind"] + (", extrapolated" if line.get("extrapolated") else "")
    value = float(line["latency_ms"])
    return {"kind": line["kind"], "text": number(value, "ms"), "note": f"{between}{how}", "exact": repr(value)}


SECTION = Section(name="on_device", title="On the phone", template=TEMPLATE, content=content, kinds=("chain",))
