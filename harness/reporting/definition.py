"""What a ladder's report shows, and by which rules it judges: `reports/NAME.yaml`, read by `from_plain`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.records.errors import UserError, unknown_name
from harness.records.manifest import Manifest
from harness.reporting.frames import TWIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One quantity of the records, as a panel of the picture and a column of the table."""

    quantity: str  # its name in the records: `kid`
    title: str
    explanation: str  # for a reader who does not know the quantity
    spread: Literal["seeds", "instrument", "none"] = "none"  # where its spread comes from
    published: str | None = None  # the published column that stands beside it
    stand_in: str | None = None  # the quantity shown in its place, as what it is, where nobody could measure this one
    panel: bool = True  # whether the picture has a panel for it
    summary: bool = True  # whether the answer at the top tells its changes
    aside: bool = False  # told in one small column with the others so marked; in no picture and no summary

    @property
    def of_twin(self) -> bool:
        return self.quantity.startswith(TWIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRule:
    """What is tested of every rung, and which published column it judges. The rules: harness/reporting/claims.py."""

    quantity: str  # what is tested here: `kid`
    title: str
    rule: Literal["seeds", "count", "instrument"]
    same_within: float  # relative, fixed before the run: a change proved to be within it counts as "about the same"
    published: str | None = None  # the published column that it is held against: `fid`
    beside: str | None = None  # another quantity of this run, told with its change but never judged

    def __post_init__(self) -> None:
        if not 0 < self.same_within < 1:
            raise UserError(f"same_within is a relative change between 0 and 1, not {self.same_within}; 0.05 is 5%")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One line of the page's head: a setting of the protocol, by its dotted path."""

    title: str
    setting: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportDefinition:
    title: str
    question: str
    scale: Literal["laptop", "full"]  # laptop: counts and latencies are judged on the deployment twin only
    scale_note: str  # how this run relates to the published one, in plain words
    tolerance: float  # relative: how far from a printed change ours may be and still meet its size; 0.015 is 1.5 points
    columns: tuple[Column, ...]
    claims: tuple[ClaimRule, ...]
    facts: tuple[Fact, ...]
    controls: Mapping[str, str]  # name in the manifest -> what it is
    control_quantities: tuple[str, ...]
    must_beat: tuple[str, ...]  # the controls that a trained network has to beat before its quality counts
    observed: tuple[str, ...] = ()  # conditions that were found, not set: rungs that differ in them are comparable
    published: str = ""  # the name in reports/published/ of the numbers to stand beside; the caller reads them
    train_curve: str = "train_loss"
    validation_curve: str = "validation_loss"
    samples: str = "samples.png"  # the artifact of a trial that shows its samples
    machine: str = "processor"  # the dotted name in a record's provenance that tells the machine

    def __post_init__(self) -> None:
        names = [column.quantity for column in self.columns]
        used = [*self.control_quantities, *(rule.quantity for rule in self.claims)]
        for name in [*used, *(rule.beside for rule in self.claims if rule.beside)]:
            if name not in names:
                raise unknown_name("column of the report", name, names)
        for name in self.must_beat:
            if name not in self.controls:
                raise unknown_name("control", name, self.controls)
        for rule in self.claims:
            if self.scale == "laptop" and rule.rule != "seeds" and not rule.quantity.startswith(TWIN):
                raise UserError(
                    f"at laptop size '{rule.quantity}' is no evidence for a published count or latency; judge the "
                    f"deployment twin's: quantity: {TWIN}{rule.quantity}"
                )

    @property
    def stand_ins(self) -> dict[str, str]:
        """Quantity -> what stands in for it."""
        return {column.quantity: column.stand_in for column in self.columns if column.stand_in}

    def main(self, manifest: Manifest) -> tuple[Column, ...]:
        """The columns of the picture, the table and the summary; the twin's only where the study names a twin."""
        return tuple(c for c in self.columns if not c.aside and (manifest.twin is not None or not c.of_twin))

    @property
    def asides(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.aside)

    def column(self, quantity: str) -> Column:
        return next(column for column in self.columns if column.quantity == quantity)
