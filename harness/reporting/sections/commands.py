"""The commands of a chain, stage by stage, as they are typed; how often they were begun, and how long they took."""

from harness.reporting.format import duration
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<p>Any of them goes on by hand; the chain takes what it finds in the store.</p>
{% for run in runs %}
<h3>{{ run.name }}{% if not run.done %}, still to come{% endif %}</h3>
{% if run.told %}<p class="scale">{{ run.told }}</p>{% endif %}
{% if run.commands %}<pre><code>{{ run.commands | join("\n") }}</code></pre>{% endif %}
{% endfor %}
"""


def content(frames: Frames) -> Content | None:
    if (chain := frames.study.chain) is None:
        return None
    runs = []
    for run in chain.runs:
        ended = f"{run.tries} command{'s' if run.tries != 1 else ''} ended, in {duration(run.seconds)}"
        failed = f"; {run.failures} before it was done" if run.failures else ""
        tries = f"{ended}{failed}" if run.tries else ""
        runs.append({"name": run.name, "done": run.done, "commands": run.commands, "told": tries})
    return Content(context={"runs": runs})


SECTION = Section(name="commands", title="Commands", template=TEMPLATE, content=content, kinds=("chain",))
