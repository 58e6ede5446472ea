"""What was exported of a chain, and whether the package computes what the network does."""

from collections.abc import Mapping
from typing import Any

from harness.reporting.format import number
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<div class="wide"><table class="plain exports">
<thead><tr><th scope="col">Network</th><th scope="col">Package</th><th scope="col">Operators</th>
<th scope="col">Parity in float32</th><th scope="col">Rounded to fp16</th><th scope="col">Known limits it
meets</th></tr></thead><tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.name }}</th><td>{{ row.size }}</td><td>{{ row.operators }}</td>
<td data-db="{{ row.float32 }}">{{ row.parity32 }}</td><td data-db="{{ row.float16 }}">{{ row.parity16 }}</td>
<td>{{ row.findings }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="scale">Parity is the package's output against the network's, on Linux: it proves the graph, not the Neural
Engine's arithmetic.</p>
"""


def content(frames: Frames) -> Content | None:
    chain = frames.study.chain
    if chain is None or not chain.exports:
        return None
    return Content(context={"rows": [_row(each) for each in chain.exports]})


def _row(said: Mapping[str, Any]) -> dict[str, Any]:
    parity = said.get("parity") or {}
    return {
        "name": said["name"],
        "size": number(int(said["bytes"]), "bytes"),
        "operators": sum(said["operators"].values()),
        "float32": parity.get("float32_db", ""),
        "float16": parity.get("float16_db", ""),
        "parity32": f"{parity['float32_db']:.1f} dB" if parity else "not asked",
        "parity16": f"{parity['float16_db']:.1f} dB" if parity else "not asked",
        "findings": "; ".join(finding["message"] for finding in said["findings"]) or "none",
    }


SECTION = Section(name="exports", title="Export", template=TEMPLATE, content=content, kinds=("chain",))
