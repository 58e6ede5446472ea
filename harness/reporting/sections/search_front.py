"""A chain's search: the front that its sweep's own page has."""

from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections import front

TEMPLATE = front.TEMPLATE.replace('drawing("front"', 'drawing("search_front"')


def content(frames: Frames) -> Content | None:
    return None if frames.search is None else front.content(frames.search)


SECTION = Section(name="search_front", title="Search", template=TEMPLATE, content=content, kinds=("chain",))
