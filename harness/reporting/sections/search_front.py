"""A chain's search: the front that its sweep's own page has."""

from dataclasses import replace

from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections import front

TEMPLATE = front.TEMPLATE.replace('drawing("front"', 'drawing("search_front"')


def content(frames: Frames) -> Content | None:
    front_content = None if frames.search is None else front.content(frames.search)
    return (
        None if front_content is None else replace(front_content, context={**front_content.context, "by_table": False})
    )


SECTION = Section(name="search_front", title="Search", template=TEMPLATE, content=content, kinds=("chain",))
