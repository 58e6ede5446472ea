"""What a page about single networks is told beside the records: their architectures, what they cost place by place,
and where else they stand. The caller finds it out, since that needs torch and the studies' folders."""

from dataclasses import dataclass

from harness.architecture.config import ArchitectureConfig
from harness.architecture.outline_edits import Edited, edited, unedited
from harness.architecture.outlines import outline
from harness.records.placed_cost import PlacedCost


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    text: str
    href: str = ""  # relative to the page; empty: there is no page
    note: str = ""  # what stands behind it: how to make the page


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """The network that another is an edit of."""

    title: str
    config: ArchitectureConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownNetwork:
    title: str
    config: ArchitectureConfig | None = None
    unknown: str = ""  # why there is no architecture, where there is none
    before: Before | None = None
    cost: PlacedCost | None = None  # at the latent that it was trained on, or is made for
    twin: PlacedCost | None = None  # of its deployment twin
    no_cost: tuple[str, ...] = ()  # why something of both is not there
    key: str = ""  # of its trial; empty where it is none's
    said: tuple[str, ...] = ()  # what is to know before its numbers are read
    links: tuple[Link, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()  # (what it does, what to type)

    def drawn(self) -> Edited | None:
        """What its picture shows: against the network before, where both are of one family."""
        if self.config is None:
            return None
        if self.before is None or type(self.before.config) is not type(self.config):
            return unedited(outline(self.config))
        return edited(outline(self.before.config), outline(self.config))
