"""Trainings of a sweep that ended without a result, each with its reason."""

from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<div class="wide"><table class="plain failures">
<thead><tr><th scope="col">Candidate</th><th scope="col">Why</th></tr></thead><tbody>
{% for name, reason in rows %}
<tr data-row="{{ name }}"><th scope="row">{{ name }}</th><td>{{ reason }}</td></tr>
{% endfor %}
</tbody></table></div>
"""


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None:
        return None
    rows = [(each.name, each.reason) for each in search.candidates if each.state == "failed"]
    if search.conclusions is not None:
        fresh = {each.name: each.failures for each in search.conclusions.finalists if each.failures}
        fresh |= search.conclusions.without_score
        rows += [(f"{name}, fresh seed", reason) for name, reasons in fresh.items() for reason in reasons]
    return Content(context={"rows": rows}) if rows else None


SECTION = Section(name="failures", title="Failures", template=TEMPLATE, content=content, kinds=("sweep",))
