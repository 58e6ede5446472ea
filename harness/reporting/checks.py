"""Whether a training counts: a control that beats it, and a loss that still falls.

Beaten        A control that needs no trained network (noise, a Gaussian fitted to the pixels) has a score no worse than
              the subject's mean, in any of the scores that controls have. Such a subject is drawn grey, not ranked, not
              compared.
Undertrained  The validation loss falls over the last third of the steps by more than its own jitter: a straight line
              through each seed's points, from the last one at or before two thirds of the steps; the fall is what the
              lines fall over that third, relative to where they end, as the mean over the seeds
              (`statistics_trends.falls`). Quality then belongs to this length of training. Where no curve has three
              points there, no jitter is known, and no fall is told, however steep: the page says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.measure.statistics_trends import Fall, falls
from harness.records.quantities import is_better, known_quantity
from harness.reporting.definition import ReportDefinition
from harness.reporting.format import change, listed, number
from harness.reporting.frames import Estimates, Reading, Records
from harness.reporting.subjects import Study, Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """What a trained network has to beat before its quality counts."""

    control: str
    quantity: str
    value: float | None  # None: not known, so that nothing can be said

    @property
    def name(self) -> str:
        return self.control.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingChecks:
    """What of the subjects' trainings has to be known before their quality is read."""

    bars: tuple[Bar, ...]
    beaten: Mapping[str, str]  # subject -> `by the pixel gaussian: KID 27 against 3.95`
    falls: Mapping[str, Fall]  # subject -> of its validation loss; one without enough points has none

    def why_unranked(self, subject: str, quantity: str) -> str:
        """Why this subject's score in `quantity` takes part in no comparison; empty where it does."""
        if subject in self.beaten:
            return f"beaten {self.beaten[subject]}"
        lost = [bar.name for bar in self.bars if bar.quantity == quantity and bar.value is None]
        return f"the control that a trained network must beat is not known: {listed(lost)}" if lost else ""

    @property
    def undertrained(self) -> dict[str, Fall]:
        return {subject: fall for subject, fall in self.falls.items() if fall.proved}

    def still_falls(self, subject: Subject) -> str:
        """Whose validation loss does, of the subject and the one it is compared to; empty where neither's does."""
        theirs = "the validation loss of what it is compared to"
        whose = {subject.name: "its validation loss", subject.against or "": theirs}
        parts = [
            f"{words} still falls ({change(-self.undertrained[name].value)})"
            for name, words in whose.items()
            if name in self.undertrained
        ]
        return " and ".join(parts)

    @property
    def too_few_validations(self) -> dict[str, Fall]:
        """Those of which two points a curve are all that there is: a fall without a jitter to judge it by."""
        return {subject: fall for subject, fall in self.falls.items() if fall.freedom == 0}

    def marks(self, subject: str) -> list[tuple[str, str]]:
        """(short mark, what it means) to stand beside the subject wherever it is named."""
        marks = []
        if subject in self.beaten:
            marks.append(("beaten", f"beaten {self.beaten[subject]}"))
        if subject in self.undertrained:
            fell = change(-self.falls[subject].value)
            marks.append((f"undertrained, {fell}", f"validation loss over the last third of the steps: {fell}"))
        return marks


def training_checks(
    study: Study,
    definition: ReportDefinition,
    controls: Sequence[Reading],
    estimates: Estimates,
    records: Records,
) -> TrainingChecks:
    bars = bars_of(definition, controls)
    reasons = {subject.name: _beaten_by(subject.name, bars, definition, estimates) for subject in study.subjects}
    beaten = {subject: reason for subject, reason in reasons.items() if reason}
    return TrainingChecks(bars=bars, beaten=beaten, falls=loss_falls(records, definition.validation_curve))


def bars_of(definition: ReportDefinition, controls: Sequence[Reading]) -> tuple[Bar, ...]:
    """The bar of every control that must be beaten, in every quantity that controls are scored in and noise is bad."""
    values = {(row.subject, row.quantity): row.value for row in controls}
    return tuple(
        Bar(control=control, quantity=quantity, value=values.get((control, quantity)))
        for control in definition.must_beat
        for quantity in definition.control_quantities
        if known_quantity(quantity).is_bar
    )


def loss_falls(records: Records, curve: str) -> dict[str, Fall]:
    """Subject -> how far its validation loss falls over the last third of its steps."""
    lines: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for (subject, seed), record in records.items():
        points = sorted((p.step, p.value) for p in (record.curve if record else ()) if p.name == curve)
        if points:
            lines.setdefault(subject, {})[seed] = _last_third(points)
    return falls(lines)


def _last_third(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """(share of the last third: 0 at two thirds of the steps, 1 at their end; loss)."""
    end = points[-1][0]
    begin = end * 2 / 3
    before = [step for step, _ in points if step <= begin]
    first = before[-1] if before else points[0][0]
    return [((step - begin) / (end - begin), loss) for step, loss in points if step >= first]


def _beaten_by(subject: str, bars: Sequence[Bar], definition: ReportDefinition, estimates: Estimates) -> str:
    reasons = []
    for bar in bars:
        ours = estimates[subject, bar.quantity].value
        if ours is not None and bar.value is not None and not is_better(bar.quantity, ours, bar.value):
            title = definition.column(bar.quantity).title
            reasons.append(f"by {bar.name}, {title} {number(ours)} against {number(bar.value)}")
    return "; ".join(reasons)
