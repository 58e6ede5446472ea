"""What a report shows, and by which rules it judges: `reports/NAME.yaml`, read by `read_definition`.

A study without such a file has the default page of its kind, in `defaults/`; it is written in the same form. What a
file leaves out is as on that page; where it has columns of its own, tests and controls are those of the default's that
are of these columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from harness.records.errors import UserError, unknown_name
from harness.records.judging import GENERATED_PICTURES, Judging
from harness.records.plain import from_plain
from harness.records.quantities import TWIN, Spread, is_relative, known_quantity
from harness.records.record import KEY
from harness.records.yaml_text import read_yaml
from harness.reporting.subjects import PageKind, Study

DEFAULTS = Path(__file__).parent / "defaults"
GENERAL = ("sections", "facts", "observed", "controls", "samples")
"""What is taken from the default page whichever columns a file has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One quantity of the records, as a panel of the picture and a column of the table."""

    quantity: str  # its name in the records: `kid`
    title: str = ""  # these three: where they are left out, as in `quantities`
    explanation: str = ""
    spread: Spread | None = None
    published: str | None = None  # the published column that stands beside it
    stand_in: str | None = None  # the quantity shown in its place, as what it is, where nobody could measure this one
    panel: bool = True  # whether the picture has a panel for it
    summary: bool = True  # whether the answer at the top has its changes
    aside: bool = False
    """Where costs are a twin's: in one small column with the others so marked; a time that was measured is among the
    costs that a reader chooses from too."""
    optional: bool = False  # left out where no record of the study has a value of it

    def __post_init__(self) -> None:
        defaults = known_quantity(self.quantity)
        if self.stand_in is not None:
            known_quantity(self.stand_in)
        for name in ("title", "explanation", "spread"):
            object.__setattr__(self, name, getattr(self, name) or getattr(defaults, name))

    @property
    def of_twin(self) -> bool:
        return self.quantity.startswith(TWIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRule:
    """What is tested of every rung, and which published column it judges. The rules: harness/reporting/claims.py."""

    quantity: str  # what is tested here: `kid`
    title: str
    rule: Literal["seeds", "count", "instrument"]
    same_within: float | None = None
    """Relative, fixed before the run: a change proved to be within it counts as "about the same". Every count and
    latency has one; a score that is a logarithm (PSNR) has no relative change, and none."""
    published: str | None = None  # the published column that it is held against: `fid`
    beside: str | None = None  # another quantity of this run, shown with its change but never judged

    def __post_init__(self) -> None:
        known_quantity(self.quantity)  # UserError for a name that there is not
        if self.same_within is None:
            if self.rule != "seeds":
                raise UserError(f"the claim on '{self.quantity}' lacks same_within, a relative change; 0.05 is 5%")
            return
        if not is_relative(self.quantity):
            raise UserError(f"'{self.quantity}' has no relative change; leave its same_within out")
        if not 0 < self.same_within < 1:
            raise UserError(f"same_within is a relative change between 0 and 1, not {self.same_within}; 0.05 is 5%")

    @property
    def margin(self) -> float:
        """0 where none is fixed, so that nothing is proved to be the same."""
        return self.same_within or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One line of the page's head: a setting of the protocol, by its dotted path."""

    title: str
    setting: str
    unit: str = ""
    optional: bool = False  # left out where the protocol has no such setting


@dataclass(frozen=True, kw_only=True, slots=True)
class OthersWeights:
    """Weights that others trained: converted and scored here, they stand beside the study's own networks."""

    architecture: str  # the catalogue's name of their form: `published/dit_xl_2`; its costs are counted
    key: str
    """What stands for a trial's key in their scores' records: of a converted file the first 16 digits of the published
    file's sha256, of a diffusers pipeline those of its files' digest."""
    title: str = ""  # where it is left out, the printed row's, with "published weights"

    def __post_init__(self) -> None:
        if KEY.fullmatch(self.key) is None:
            raise UserError(
                "others' weights have a key of 16 hex digits, the `trial` of their scores in the store's measurements, "
                f"not '{self.key}'"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportDefinition:
    sections: tuple[str, ...]  # their names in harness/reporting/sections, in the order of the page
    columns: tuple[Column, ...]
    title: str = ""  # where it is left out, the study's name
    question: str = ""
    scale: Literal["laptop", "full"] = "full"  # laptop: counts and latencies are judged on the deployment twin only
    scale_note: str = ""  # how this run relates to the published one, in plain words
    tolerance: float = 0.015  # relative: how far from a printed change ours may be and still meet its size
    claims: tuple[ClaimRule, ...] = ()
    facts: tuple[Fact, ...] = ()
    controls: Mapping[str, str] = field(default_factory=dict)  # name in the manifest -> what it is
    control_quantities: tuple[str, ...] = ()
    must_beat: tuple[str, ...] = ()  # the controls that a trained network has to beat before its quality counts
    observed: tuple[str, ...] = ()  # conditions that were seen, not set: rungs that differ in them are comparable
    published: str = ""  # the name in reports/published/ of the numbers to stand beside; the caller reads them
    others: Mapping[str, OthersWeights] = field(default_factory=dict)  # by the printed row that they stand below
    train_curve: str = "train_loss"
    validation_curve: str = "validation_loss"
    samples: str = "samples.png"  # the artifact of a trial that shows what its network makes; empty: none
    machine: str = "processor"  # the dotted name in a record's provenance that names the machine
    importance: Literal["ped_anova", "fanova"] = (
        "ped_anova"  # of a sweep's knobs; fanova takes minutes of 10,000 trials
    )

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

    def main(self, study: Study) -> tuple[Column, ...]:
        """The columns of the picture, the table and the summary: the twin's where the study names a twin, and then
        without the asides."""
        if study.twin is None:
            return tuple(column for column in self.columns if not column.of_twin)
        return tuple(column for column in self.columns if not column.aside)

    def asides(self, study: Study) -> tuple[Column, ...]:
        return () if study.twin is None else tuple(column for column in self.columns if column.aside)

    def column(self, quantity: str) -> Column:
        return next(column for column in self.columns if column.quantity == quantity)

    def with_values(self, quantities: set[str], study: Study) -> "ReportDefinition":
        """Without the optional columns of other quantities, and what is built on them; whole, where nothing is left."""
        columns = tuple(c for c in self.columns if not c.optional or c.quantity in quantities)
        names = {column.quantity for column in columns}
        shown = replace(
            self,
            columns=columns,
            claims=tuple(
                replace(rule, beside=rule.beside if rule.beside in names else None)
                for rule in self.claims
                if rule.quantity in names
            ),
            control_quantities=tuple(name for name in self.control_quantities if name in names),
        )
        return shown if shown.main(study) else self


def read_definition(
    plain: Mapping[str, Any], kind: PageKind, judging: Judging = GENERATED_PICTURES
) -> ReportDefinition:
    """The definition of a page for a study of this kind, of a task that is judged so; UserError names the key that is
    wrong."""
    default = page_of(kind, judging)
    if "columns" in plain:
        default = _on_columns(default, plain)
    return from_plain(ReportDefinition, {**default, **plain})


def _on_columns(default: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What a file with columns of its own leaves as it is on the default page: a column more or less must not silence
    the tests and the controls of the others."""
    columns = plain["columns"] if isinstance(plain["columns"], list) else []
    names = {column.get("quantity") for column in columns if isinstance(column, Mapping)}
    kept = {key: default[key] for key in GENERAL if key in default}
    scored = [name for name in default.get("control_quantities", ()) if name in names]
    controls = plain.get("controls", default.get("controls", {}))
    if scored and isinstance(controls, Mapping):
        kept["control_quantities"] = scored
        kept["must_beat"] = [name for name in default.get("must_beat", ()) if name in controls]
    rules = [rule for rule in default.get("claims", ()) if rule["quantity"] in names]
    kept["claims"] = [{**rule, "beside": other if (other := rule.get("beside")) in names else None} for rule in rules]
    return kept


def page_of(kind: PageKind, judging: Judging) -> dict[str, Any]:
    """The default page of a study whose task is judged so: with its scores, its controls, its picture."""
    page = {**default_page(kind), "samples": judging.picture}
    if kind == "ablation":
        page["controls"] = judging.controls
    if any(column["quantity"] in judging.scores for column in page["columns"]):
        return page
    costs = [column for column in page["columns"] if known_quantity(column["quantity"]).spread != "seeds"]
    scores = [{"quantity": name, "optional": True, "summary": name == judging.first} for name in judging.scores]
    page["columns"] = scores + costs
    if kind in ("ablation", "comparison"):
        margin = {"same_within": 0.1} if is_relative(judging.first) else {}
        page["claims"] = [{"quantity": judging.first, "title": "Quality", "rule": "seeds", **margin}]
    if kind == "ablation":
        page["control_quantities"] = list(judging.scores) if judging.controls else []
        page["must_beat"] = list(judging.must_beat)
    return page


@cache
def default_page(kind: PageKind) -> dict[str, Any]:
    """The page of a study that has none of its own, as it would stand in reports/NAME.yaml."""
    content = read_yaml(DEFAULTS / f"{kind}.yaml")
    assert isinstance(content, dict)
    return content
