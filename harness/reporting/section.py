"""A section of a page: a pure function from frames to what its piece of HTML needs, and to its figure.

A new section is one file in `sections/` that makes a `Section`, and its line in `sections/__init__.py`. A page names it
under `sections` in reports/NAME.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go

from harness.records.manifest import Promotion
from harness.records.placed_cost import PlacedCost
from harness.records.quantities import TWIN, title_of
from harness.records.quantity import Quantity
from harness.records.record import Measurement, TrialRecord
from harness.reporting.checks import TrainingChecks
from harness.reporting.claims import Claim
from harness.reporting.definition import Column, ReportDefinition
from harness.reporting.findings import Corrected
from harness.reporting.format import number
from harness.reporting.frames import Estimates, Reading, Records
from harness.reporting.links import Links
from harness.reporting.networks import ShownNetwork
from harness.reporting.published import Published
from harness.reporting.subjects import PageKind, Study

KINDS: tuple[PageKind, ...] = ("ablation", "sweep", "chain", "trial", "comparison")


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """What was known of a subject's network before it was promoted."""

    searched: Sequence[TrialRecord]  # its trainings in the study, one a seed
    promotion: Promotion | None
    again: Sequence[TrialRecord]  # its trainings with fresh seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """All that the sections of a page are computed from."""

    study: Study
    definition: ReportDefinition
    published: Published  # without columns and rows where the page has none
    records: Records
    controls: Mapping[str, Measurement | None]
    readings: Sequence[Reading]  # every quantity of every record, as the store has it
    shown: Sequence[Reading]  # the same with what stands in for what nobody could measure
    control_readings: Sequence[Reading]
    estimates: Estimates  # of `shown`
    apart: Mapping[tuple[str, str], str]  # (subject, quantity) -> the conditions by which it is not compared
    examples: Mapping[str, Reading]  # quantity -> one reading of it that has a value
    checks: TrainingChecks
    claims: Sequence[Claim]
    tests: Corrected
    artifact: Callable[[str, str], bytes | None]  # (key of a record, file name) -> its content; None: there is none
    scores: Callable[[], Sequence[Measurement]]  # every stored score, read when a section asks for them
    counted: Mapping[str, Mapping[str, Quantity]]  # name in the definition's `others` -> what its architecture costs
    promises: Mapping[str, Promise]  # of those subjects that were promoted, and whose parent the store has
    search: "Frames | None" = None  # of a chain, those of its search
    unreadable: Mapping[tuple[str, int], str] = field(
        default_factory=dict
    )  # (subject, seed) -> why its record is not read
    links: Links = field(default_factory=Links)  # to other pages of the same output folder, where they are
    placed: Mapping[str, PlacedCost] = field(
        default_factory=dict
    )  # subject -> its costs by operator, if a section asks
    networks: Mapping[str, ShownNetwork] = field(default_factory=dict)  # of a trial or comparison: subject -> network

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the picture, the table and the summary."""
        return self.definition.main(self.study)

    @property
    def asides(self) -> tuple[Column, ...]:
        return self.definition.asides(self.study)

    def title(self, quantity: str) -> str:
        """Its column's, or the one that it has everywhere."""
        titles = (column.title for column in self.definition.columns if column.quantity == quantity)
        return next(titles, title_of(quantity)) + (" of the twin" if quantity.startswith(TWIN) else "")

    def text(self, quantity: str, value: float) -> str:
        """The value with the quantity's unit, as a count where the records count it."""
        example = self.examples.get(quantity)
        if example is None:
            return number(value)
        return number(int(value) if example.kind == "counted" else value, example.unit)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    context: Mapping[str, Any]  # the names that the section's template uses, beside `height` and `choices` of a figure
    figure: go.Figure | Mapping[str, go.Figure] | None = None  # several: one is seen at a time, chosen by its name
    title: str = ""  # where it depends on the study

    @property
    def figures(self) -> Mapping[str, go.Figure]:
        """By what each is called; a single one is called nothing."""
        if self.figure is None:
            return {}
        return self.figure if isinstance(self.figure, Mapping) else {"": self.figure}


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    name: str  # its anchor, and what a report file calls it
    title: str  # its heading, and its entry in the contents
    template: str  # Jinja; `macros.html.j2` has what sections share
    content: Callable[[Frames], Content | None]  # None: there is nothing to show, and the section is left out
    kinds: tuple[PageKind, ...] = KINDS  # the pages that have what it shows
    place: Literal["header", "body"] = "body"
