"""The stage that promotes: its command, and whether what it wrote stands.

The file stands as long as the search that there is now would choose its trial, by the same rule among as many by the
same values; one that somebody edited, as long as its trial is chosen.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.architecture.config import ArchitectureConfig
from harness.chain.definition import Promote
from harness.chain.step import Step
from harness.records.errors import UserError
from harness.records.manifest import Promotion, study_folder
from harness.records.plain import differences, from_plain, to_plain
from harness.records.record import TrialRecord
from harness.search.contest import contest_of
from harness.search.promote import candidates, chosen_settings
from harness.search.rules import by_rule
from harness.trials.promoted import Promoted, promoted_in, training_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """What `harness promote` would choose."""

    record: TrialRecord
    how: Promotion


def chosen_now(out: Path, search: str, own: Promote, *, is_over: bool) -> Chosen | None:
    """None where the search has no trial yet, or none that the rule can choose. UserError of a rule that cannot choose
    among all that the search came to."""
    if not study_folder(out, search).is_dir():
        return None
    try:
        contest = contest_of(out, search, candidates(out, search))
    except UserError:  # `harness promote` says it
        return None
    try:
        choice = by_rule(contest, own.rule, own.score, own.cost, own.at_most)
    except UserError:
        if not is_over:  # it may be able to, then
            return None
        raise
    how = Promotion(rule=choice.rule, basis=contest.kind, among=len(contest.contenders))
    return Chosen(record=choice.chosen.record, how=how)


def promote_step(own: Promote, search: str, path: Path, out: Path, chosen: Chosen | None) -> Step:
    flags = [("--rule", own.rule), ("--score", own.score), ("--cost", own.cost)]
    words = [word for flag, value in flags if value is not None for word in (flag, str(value))]
    limits = ["--at-most", *(f"{name}={most:g}" for name, most in own.at_most.items())] if own.at_most else []
    stands = promoted_in(path) if path.is_file() else Promoted()
    changed = None if stands.origin is None or chosen is None else _changed(stands, chosen, out, search)
    return Step(
        words=("promote", search, *words, "--to", str(path), f"out={out}", *limits),
        done=changed == "",
        old=path if path.is_file() and changed != "" else None,
        edited=(f"{path.name} was {changed}",) if changed else (),
    )


def _changed(stands: Promoted, chosen: Chosen, out: Path, search: str) -> str:
    """As what the file stands there, where it is to be written again; else empty."""
    origin, how = stands.origin, chosen.how
    assert origin is not None
    if origin.trial != chosen.record.key:
        return f"of trial {origin.trial}"
    was = origin.promotion
    is_so = (origin.study, was.rule, was.basis, was.among) == (search, how.rule, how.basis, how.among)
    if is_so or _is_edited(stands, chosen.record, out, search):
        return ""
    return f"chosen by rule {was.rule or 'none'} among {was.among} of {origin.study}, by {was.basis or 'no'} values"


def _is_edited(stands: Promoted, record: TrialRecord, out: Path, search: str) -> bool:
    """Whether the file is otherwise than `harness promote` writes it of that trial."""
    settings = training_settings(record, chosen_settings(out, search, record.name))
    config = from_plain(ArchitectureConfig, stands.architecture)
    is_other = stands.origin is not None and stands.origin.fingerprint != config.fingerprint
    return is_other or bool(differences(to_plain(dict(stands.settings)), to_plain(settings)))
