"""The pages of an output folder together: the index of its studies, and a study's page with those of its trials."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from harness.commands.pages import out_words, trial_page
from harness.commands.report import report
from harness.commands.status import status_of
from harness.records.errors import UserError
from harness.records.manifest import MANIFEST_FILE, TRAINING
from harness.records.quantity import Known
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.reporting.format import number
from harness.reporting.index_page import IndexedStudy, IndexedTrial, write_index
from harness.reporting.links import STUDY_PAGE

NEWEST = 40
"""Trials that an index lists."""
MOST = 200
"""Pages of trials that one command writes."""
SCORES = ("kid", "psnr", "fd")
"""The first of these that a record has stands in its line."""


def index_page(out: Path) -> Path:
    """Write OUT/index.html; its path."""
    from harness.trials.spec import store_of

    if not out.is_dir():
        raise UserError(f"there is no folder {out}; say with out=FOLDER where the studies lie")
    store = store_of(out)
    files = sorted((store.root / "trials").glob("*.json"), key=lambda file: (-file.stat().st_mtime, file.name))
    trials = [_trial(store, file) for file in files[:NEWEST]]
    where = "".join(f" {word}" for word in out_words(out))
    return write_index(out, [*_studies(out, where), *_chains(out, where)], trials, len(files), where)


def _studies(out: Path, where: str) -> Iterator[IndexedStudy]:
    from harness.search.study import SWEEP_FILE, studies_in

    for name in studies_in(out):
        sweep, folder = (out / name / SWEEP_FILE).exists(), out / name
        begun = folder / (SWEEP_FILE if sweep else MANIFEST_FILE)
        kind = "sweep" if sweep else "training" if name.startswith(TRAINING) else "ablation"
        command = f"harness report {name}{where}"
        yield IndexedStudy(
            name=name, kind=kind, page=Path(name) / STUDY_PAGE, command=command, state=_state(out, name),
            changed=_time(begun),
        )  # fmt: skip


def _state(out: Path, name: str) -> str:
    """`14 complete, 2 failed`; why it cannot be told, where the folder is damaged."""
    try:
        states = status_of(out, out / name, name).states
    except UserError as error:
        return str(error)
    return ", ".join(f"{count} {state}" for state, count in states.items() if count) or "nothing yet"


def _chains(out: Path, where: str) -> Iterator[IndexedStudy]:
    from harness.chain.status import chains_in

    for name in chains_in(out):
        yield IndexedStudy(
            name=name, kind="chain", page=Path(name) / STUDY_PAGE, command=f"harness report {name}{where}",
            state=_state(out, name), changed=_time(out / name),
        )  # fmt: skip


def _trial(store: Store, file: Path) -> IndexedTrial:
    key = file.stem
    try:
        record = store.trial(key)
    except UserError as error:
        return IndexedTrial(key=key, name="(unreadable)", state=str(error), score="", stored=_time(file))
    if record is None:  # it was removed meanwhile
        return IndexedTrial(key=key, name="(removed)", state="", score="", stored="")
    name = f"{record.name}, seed {record.seed}"
    return IndexedTrial(key=key, name=name, state=record.state, score=_score(record), stored=_time(file))


def _score(record: TrialRecord) -> str:
    """`KID 0.05`"""
    for name in SCORES:
        if isinstance(quantity := record.quantities.get(name), Known):
            return f"{name.upper()} {number(quantity.value, quantity.unit)}"
    return ""


def _time(file: Path) -> str:
    return f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC"


def report_with_trials(
    out: Path, name: str, page: str | None = None, *, linked: bool = False, latex: bool = False
) -> Path:
    """The study's page with those of its trials, each linked to the other; its path. Of a sweep the front's trials and
    the finalists'."""
    from harness.trials.spec import store_of

    keys = trial_keys(out, name)
    there = set(store_of(out).keys(TrialRecord))
    stored = [key for key in keys if key in there]
    if len(stored) > MOST:
        raise UserError(
            f"{name} has {len(stored)} stored trials, and --trials writes at most {MOST} pages; write those that you "
            "want with `harness report KEY`"
        )
    report(out, name, page, linked=linked)  # so that the trials' pages have it to link to
    for key in stored:
        trial_page(out, key, linked=linked)
    return report(out, name, page, linked=linked, latex=latex)


def trial_keys(out: Path, name: str) -> list[str]:
    from harness.commands.report import source_of
    from harness.records.manifest import Manifest

    source = source_of(out, name)
    if isinstance(source, Manifest):
        return list(dict.fromkeys(source.key(rung, seed) for rung in source.rungs for seed in source.seeds))
    finals = () if source.conclusions is None else source.conclusions.finalists
    front = [each.key for each in source.candidates if each.name in source.front and each.key]
    return list(dict.fromkeys([*front, *(key for each in finals for key in each.trials.values())]))
