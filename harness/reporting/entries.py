"""The networks of a page as one list: printed ones, those of the study, and the best point of each stored score sweep.

Printed and own numbers have other trainings, other samples and often another score. So an entry says where its numbers
come from, and whether they may share an axis is decided here: only where both are the same score, at full size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.records.record import Measurement
from harness.reporting.cells import names_of
from harness.reporting.definition import Column
from harness.reporting.frames import Estimate, Reading, departures
from harness.reporting.published import PublishedCell
from harness.reporting.score_sweep import best_note
from harness.reporting.scored import ScoreSweep, protocol_of, reading_of, score_sweeps
from harness.reporting.section import Frames

Source = Literal["printed", "study", "best"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One network with one way of sampling it."""

    source: Source
    name: str  # of the published row, or of the subject
    title: str
    printed: Mapping[str, PublishedCell] = field(default_factory=dict)  # by published column
    estimates: Mapping[str, Estimate] = field(default_factory=dict)  # by quantity: of a subject, over its seeds
    readings: Mapping[str, Reading] = field(default_factory=dict)  # by quantity: scores of the best point
    chosen: str = ""  # from how many points the best was chosen, and which it is
    departures: tuple[str, ...] = ()  # in what its protocol is not the page's: `sampling.steps=50`

    def value(self, column: Column) -> float | None:
        """Our own number in the column; None where there is none, and of a printed entry."""
        own = self.readings.get(column.quantity) or self.estimates.get(column.quantity)
        return None if own is None else own.value


def score_column(frames: Frames) -> Column | None:
    """The score that the page is about: its first column with a spread over seeds."""
    return next((column for column in frames.columns if column.spread == "seeds"), None)


def cost_columns(frames: Frames) -> list[Column]:
    """What the score is drawn against: the picture's columns that are no scores."""
    return [column for column in frames.columns if column.spread != "seeds" and column.panel]


def entries(frames: Frames) -> list[Entry]:
    """Printed rows in their order, each followed by the subject of its name and that one's best points; then the other
    subjects with theirs."""
    own: dict[str, list[Entry]] = {one.name: [] for one in frames.study.subjects}
    for entry in (*_of_study(frames), *_best(frames)):
        own[entry.name].append(entry)
    rows: list[Entry] = []
    for name, row in frames.published.rows.items():
        rows.append(Entry(source="printed", name=name, title=row.title or name, printed=row.cells))
        rows += own.pop(name, [])
    return [*rows, *(entry for several in own.values() for entry in several)]


def _of_study(frames: Frames) -> Iterator[Entry]:
    for one in frames.study.subjects:
        values = {column.quantity: frames.estimates[one.name, column.quantity] for column in frames.columns}
        records = [record for seed in one.trials if (record := frames.records[one.name, seed]) is not None]
        others = dict.fromkeys(
            each for record in records for each in departures(record.protocol, frames.study.protocol)
        )
        yield Entry(source="study", name=one.name, title=one.title, estimates=values, departures=tuple(others))


def _best(frames: Frames) -> Iterator[Entry]:
    column = score_column(frames)
    for sweep in swept(frames) if column is not None else ():
        best = sweep.best(column.quantity) if column is not None and len(sweep.measurements) > 1 else None
        if column is not None and best is not None:
            yield _best_point(frames, sweep, best, column.quantity)


def _best_point(frames: Frames, sweep: ScoreSweep, best: Measurement, score: str) -> Entry:
    """Its scores, and what the network costs."""
    study, name = frames.study, sweep.subject
    scores = [c.quantity for c in frames.columns if c.spread == "seeds" and c.quantity in best.quantities]
    costs = [c.quantity for c in frames.columns if c.spread != "seeds"]
    seed = f", seed {sweep.seed}" if len(study.seeds) > 1 else ""
    return Entry(
        source="best",
        name=name,
        title=f"{study.titles[name]}{seed}, best of {len(sweep.measurements)}",
        estimates={each: frames.estimates[name, each] for each in costs},
        readings={each: reading_of(sweep, best, f"{name}, best", each, study) for each in scores},
        chosen=best_note(sweep.points, score),
        departures=tuple(departures(protocol_of(best, study), study.protocol)),
    )


def swept(frames: Frames) -> list[ScoreSweep]:
    """The stored score sweeps of the page's trials."""
    return score_sweeps(frames.study, frames.scores())


def same_score(frames: Frames, column: Column) -> bool:
    """Whether the printed column beside ours is the same score, so that both may share an axis: the definition says
    that the page is at full size, and our scores, where there are any, bear the printed name (`FID`)."""
    if frames.definition.scale != "full" or column.published is None:
        return False
    ours = names_of([row for row in frames.shown if row.value is not None and row.quantity == column.quantity])
    name = ours.get(column.quantity, "")
    return not name or name.split(",")[0] == frames.published.columns[column.published].title


def printed_only(frames: Frames) -> list[str]:
    """The published columns that no column of the page stands beside."""
    beside = {column.published for column in frames.columns}
    return [name for name in frames.published.columns if name not in beside]
