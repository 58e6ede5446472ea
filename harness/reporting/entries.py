"""The networks of a page as one list: printed ones, those of the study, others' weights that were scored here, and the
best point of each stored score sweep.

Printed and own numbers have other trainings, other samples and often another score. So an entry says where its numbers
come from, and whether they may share an axis is decided here: only where both are the same score, at full size. Ours
too are of one column only where they are one score: what is not, stands with its own name beside the column's values.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.records.quantity import Counted
from harness.records.record import Measurement
from harness.reporting.definition import Column
from harness.reporting.frames import Estimate, Reading, departures, is_below, own_departures, reading
from harness.reporting.published import PublishedCell
from harness.reporting.score_sweeps import Scored, ScoreSweep, best_note, protocol_of, score_sweeps
from harness.reporting.section import Frames
from harness.reporting.subjects import Study

Source = Literal["printed", "study", "best", "others"]
BASIS = ("label", "samples", "reference", "reference_samples")
"""Conditions in which scores of one name must agree to be one score."""
OWN = "its own"
"""What is known of a protocol's parts that others' weights were trained under."""
TRAINING = ("autoencoder", "text", "recipe")
"""A protocol's parts that make the weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What a score is, and what it is of."""

    conditions: tuple[Any, ...]  # by `BASIS`
    whole: bool  # its reference is all of the training set, or ADM's

    @property
    def label(self) -> str:
        """`FID, N=50000`; empty where the record does not say."""
        return str(self.conditions[0] or "")

    @property
    def samples(self) -> int | None:
        return self.conditions[1]  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One network with one way of sampling it."""

    source: Source
    name: str  # of the published row, or of the subject
    title: str
    printed: Mapping[str, PublishedCell] = field(default_factory=dict)  # by published column
    estimates: Mapping[str, Estimate] = field(default_factory=dict)  # by quantity: of a subject, over its seeds
    readings: Mapping[str, Reading] = field(default_factory=dict)  # by quantity: scores of one point of a sweep
    bases: Mapping[str, tuple[Basis, ...]] = field(default_factory=dict)  # by quantity: what its scores are
    elsewhere: Mapping[str, str] = field(
        default_factory=dict
    )  # by quantity: how a score that is not the column's is called
    sweep: tuple[Any, ...] = ()  # of a best point of a study's network: its seed, what all points share, and the points
    chosen: str = ""  # from how many points the best was chosen, and which it is
    departures: tuple[str, ...] = ()  # in what its protocol is not the page's: `sampling.steps=50`

    def value(self, column: Column) -> float | None:
        """Our own number in the column; None where there is none, where it is another score, and of a printed entry."""
        own = self.own(column.quantity)
        return None if own is None or column.quantity in self.elsewhere else own.value

    def own(self, quantity: str) -> Reading | Estimate | None:
        return self.readings.get(quantity) or self.estimates.get(quantity)


def score_column(frames: Frames) -> Column | None:
    """The score that the page is about: its first column with a spread over seeds."""
    return next((column for column in frames.columns if column.spread == "seeds"), None)


def cost_columns(frames: Frames) -> list[Column]:
    """What the score is drawn against: the picture's columns that are no scores; beside a twin's costs, the times that
    were measured of the networks trained here."""
    costs = [column for column in frames.columns if column.spread != "seeds" and column.panel]
    return costs + [column for column in frames.asides if _is_measured_time(column, frames)]


def _is_measured_time(column: Column, frames: Frames) -> bool:
    example = frames.examples.get(column.quantity)
    return column.spread == "instrument" and example is not None and example.kind == "measured"


def entries(frames: Frames) -> list[Entry]:
    """Printed rows in their order, each followed by the subject of its name and that one's best points; then the other
    subjects with theirs."""
    own: dict[str, list[Entry]] = {one.name: [] for one in frames.study.subjects}
    for entry in (*_of_study(frames), *_scored(frames)):
        own.setdefault(entry.name, []).append(entry)
    rows: list[Entry] = []
    for name, row in frames.published.rows.items():
        rows.append(Entry(source="printed", name=name, title=row.title or name, printed=row.cells))
        rows += own.pop(name, [])
    return _told_apart([*rows, *(entry for several in own.values() for entry in several)], frames)


def column_basis(rows: Sequence[Entry], column: Column, frames: Frames) -> Basis | None:
    """What score a column has: that of most of the study's networks; where it has none yet, the printed one's, or else
    the first. None where nothing is scored."""
    studied = [basis for each in rows if each.source == "study" for basis in each.bases.get(column.quantity, ())]
    if studied:
        return Counter(studied).most_common(1)[0][0]
    scored = [basis for each in rows for basis in each.bases.get(column.quantity, ())]
    return next((basis for basis in scored if not _why_not_printed(basis, column, frames)), next(iter(scored), None))


def _told_apart(rows: Sequence[Entry], frames: Frames) -> list[Entry]:
    """The same, in which scores that are not their column's are named."""
    bases = {c.quantity: column_basis(rows, c, frames) for c in frames.columns if c.spread == "seeds"}
    return [replace(each, elsewhere=_elsewhere(each, bases)) for each in rows]


def _elsewhere(entry: Entry, bases: Mapping[str, Basis | None]) -> dict[str, str]:
    other = {
        quantity: [basis for basis in several if basis != bases.get(quantity)]
        for quantity, several in entry.bases.items()
    }
    return {
        quantity: " and ".join(dict.fromkeys(basis.label or "another score" for basis in several))
        for quantity, several in other.items()
        if several
    }


def _basis(row: Reading, quality: Mapping[str, Any]) -> Basis:
    """Of a score that was made under these settings of quality."""
    whole = quality.get("reference") == "train" and quality.get("reference_samples") is None
    adm = quality.get("reference") == "path" and quality.get("reference_build") == "adm"
    return Basis(conditions=tuple(row.conditions.get(name) for name in BASIS), whole=whole or adm)


def _of_study(frames: Frames) -> Iterator[Entry]:
    for one in frames.study.subjects:
        columns = (*frames.columns, *frames.asides)
        values = {column.quantity: frames.estimates[one.name, column.quantity] for column in columns}
        records = [record for seed in one.trials if (record := frames.records[one.name, seed]) is not None]
        others = dict.fromkeys(each for record in records for each in own_departures(record, one, frames.study))
        bases = {c.quantity: _bases_of(frames, one.name, c.quantity) for c in frames.columns if c.spread == "seeds"}
        yield Entry(
            source="study", name=one.name, title=one.title, estimates=values, bases=bases, departures=tuple(others)
        )  # fmt: skip


def _bases_of(frames: Frames, name: str, quantity: str) -> tuple[Basis, ...]:
    """Of the scores of a subject's seeds, each once."""
    several = []
    for row in frames.shown:
        if (row.subject, row.quantity) == (name, quantity) and row.value is not None and row.seed is not None:
            record = frames.records[name, row.seed]
            protocol = frames.study.protocol if record is None else record.protocol
            several.append(_basis(row, protocol.get("quality", {})))
    return tuple(dict.fromkeys(several))


def _scored(frames: Frames) -> Iterator[Entry]:
    """The best point of each sweep of several points; of others' weights of any, or an entry without scores."""
    column = score_column(frames)
    if column is None:
        return
    best = [(sweep, point) for sweep in swept(frames) if (point := sweep.best(column.quantity)) is not None]
    for sweep, point in best:
        if sweep.of.seed is None or len(sweep.measurements) > 1:
            yield _best_point(frames, sweep, point, column.quantity)
    scored = {sweep.of.name for sweep, _ in best if sweep.of.seed is None}
    for each in _others(frames).values():
        if each.name not in scored:
            costs = _counted(frames, each.name)
            yield Entry(source="others", name=each.name, title=each.title, estimates=costs, departures=(OWN,))


def _best_point(frames: Frames, sweep: ScoreSweep, best: Measurement, score: str) -> Entry:
    """Its scores, and what the network costs."""
    of, study = sweep.of, frames.study
    apart = sweep_departures(sweep, best, study)
    scores = [c.quantity for c in frames.columns if c.spread == "seeds" and c.quantity in best.quantities]
    costs = [c.quantity for c in (*frames.columns, *frames.asides) if c.spread != "seeds"]
    rows = {each: reading(f"{sweep.title}, best", of.seed, each, best) for each in scores}
    several = len(sweep.measurements) > 1
    return Entry(
        source="others" if of.seed is None else "best",
        name=of.name,
        title=f"{sweep.title}, best of {len(sweep.measurements)}" if several else sweep.title,
        estimates=_counted(frames, of.name) if of.seed is None else {c: frames.estimates[of.name, c] for c in costs},
        readings={each: replace(row, other_protocol=", ".join(apart)) for each, row in rows.items()},
        bases={each: (_basis(row, best.settings["quality"]),) for each, row in rows.items() if row.value is not None},
        sweep=() if of.seed is None else (of.seed, sweep.shared, frozenset(sweep.places)),
        chosen=best_note(sweep.points, score) if several else "",
        departures=tuple(apart),
    )


def _counted(frames: Frames, name: str) -> dict[str, Estimate]:
    """What the architecture of others' weights costs, as far as it is counted."""
    return {
        quantity: Estimate(
            subject=f"{name}, others", quantity=quantity, kind=known.kind, values=(known.value,), value=known.value,
            unit=known.unit,
        )
        for quantity, known in frames.counted.get(name, {}).items()
        if isinstance(known, Counted)
    }  # fmt: skip


def swept(frames: Frames) -> list[ScoreSweep]:
    """The stored score sweeps of the page's trials, and of others' weights that it names."""
    return score_sweeps({**study_networks(frames), **_others(frames)}, frames.scores())


def study_networks(frames: Frames) -> dict[str, Scored]:
    """The page's trials, by their keys."""
    study, networks = frames.study, dict[str, Scored]()
    for one in study.subjects:
        for seed, key in one.trials.items():
            title = f"{one.title}, seed {seed}" if len(study.seeds) > 1 else one.title
            record, varied = frames.records[one.name, seed], one.compared
            trained = study.protocol if record is None else record.protocol
            networks[key] = Scored(name=one.name, title=title, seed=seed, protocol=trained, compared=varied)
    return networks


def sweep_departures(sweep: ScoreSweep, point: Measurement, study: Study) -> list[str]:
    """In what the protocol of a sweep's point is not the study's. What the study varies of the training is what it
    compares; the point's sampling is the sweep's choice."""
    apart = [(each, each.partition("=")[0]) for each in departures(protocol_of(sweep, point), study.protocol)]
    departing = [each for each, path in apart if not is_below(path, sweep.of.compared) or path.startswith("sampling.")]
    return [_with_used(each, point) if each.startswith("quality.samples=") else each for each in departing]


def _with_used(departure: str, point: Measurement) -> str:
    """`quality.samples=2000 (1285 used)`: the data set may have been too small for so many (`fewer_for_floor`)."""
    used = point.settings["samples"]
    return departure if departure == f"quality.samples={used}" else f"{departure} ({used} used)"


def _others(frames: Frames) -> dict[str, Scored]:
    """Key -> others' weights, of whose training no more is known than that it is not the study's."""
    study, rows = frames.study.protocol, frames.published.rows
    trained = {**study, **{part: OWN for part in TRAINING if part in study}}
    return {
        each.key: Scored(
            name=name, title=each.title or f"{rows[name].title if name in rows else name}, published weights",
            seed=None, protocol=trained,
        )
        for name, each in frames.definition.others.items()
    }  # fmt: skip


def why_apart(frames: Frames, column: Column) -> str:
    """Why printed networks share no axis with ours in this score; empty where they do. They do only where the page says
    that it is at full size, and our scores in the column bear the printed one's name (`FID`) and number of samples, and
    are against all of the training set or ADM's reference."""
    if frames.definition.scale != "full":
        return "they are of another size"
    if column.published is None:
        return f"their score is not {column.title}"
    drawn = [each for each in entries(frames) if each.value(column) is not None]
    bases = dict.fromkeys(basis for each in drawn for basis in each.bases.get(column.quantity, ()))
    return next(filter(None, (_why_not_printed(basis, column, frames) for basis in bases)), "")


def _why_not_printed(basis: Basis, column: Column, frames: Frames) -> str:
    """Why a score is not the printed one of its column; empty where it is, or nothing is printed."""
    if column.published is None:
        return ""
    printed, label = frames.published.columns[column.published], basis.label or column.title
    if label.split(",")[0] != printed.title:
        return f"their {printed.title} is not {label}"
    if printed.samples not in (None, basis.samples):
        return f"their {printed.title} is of {printed.samples:,} samples, ours of {basis.samples}"
    return "" if basis.whole else f"their {printed.title} is against all of the training set, and ours is not"


def printed_only(frames: Frames) -> list[str]:
    """The published columns that no column of the page stands beside."""
    beside = {column.published for column in frames.columns}
    return [name for name in frames.published.columns if name not in beside]
