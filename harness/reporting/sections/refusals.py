"""Why candidates of a sweep were refused untrained, or stopped before the last level."""

from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<p>Sentences that differ in a number alone are one reason, with &hellip; in its place.</p>
{% for title, total, reasons in groups %}
<h3>{{ title }}: {{ total }}</h3>
<div class="wide"><table class="plain reasons">
<thead><tr><th scope="col">Times</th><th scope="col">Reason</th></tr></thead><tbody>
{% for reason in reasons %}
<tr><td data-reason="{{ reason.text }}">{{ reason.times }}</td><td>{{ reason.text }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
"""
TITLES = {"refused": "Refused by a rule or a limit, untrained", "stopped": "Stopped before the last level"}


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None:
        return None
    groups = [
        (title, sum(reason.times for reason in search.reasons[state]), search.reasons[state])
        for state, title in TITLES.items()
        if search.reasons.get(state)
    ]
    return Content(context={"groups": groups}) if groups else None


SECTION = Section(name="refusals", title="Refusals", template=TEMPLATE, content=content, kinds=("sweep",))
