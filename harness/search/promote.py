"""Promotion: the architecture of a chosen trial, and the recipe it was trained by, as a YAML file of their own.

The recipe stands in the file's head, which `trials/promoted.py` reads again.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import optuna
from optuna.trial import TrialState

from harness.architecture.catalogue import to_yaml
from harness.architecture.config import ArchitectureConfig
from harness.architecture.latents import latent_line
from harness.measure.statistics import Scores, standard_error
from harness.records.errors import UserError, unknown_name
from harness.records.manifest import MANIFEST_FILE, read_manifest, study_folder
from harness.records.plain import canonical_json, from_plain
from harness.records.quantities import more_is_better, title_of
from harness.records.quantity import known, value_of
from harness.records.record import TrialRecord, trial_key, why
from harness.search.candidates import Candidate, candidate_of, checkpoints_key, rescored_in
from harness.search.status import grouped
from harness.search.study import CHECKPOINTS, stored_study, studies_in
from harness.training.checkpoint import has_checkpoints
from harness.trials.spec import store_of
from harness.trials.studies import study_names
from harness.trials.task_config import task_of

OTHERWISE = ("task", "objective")
"""Sections of a protocol that are there where they are not the default."""
KEY_PREFIX = re.compile(r"[0-9a-f]{4,16}")


def candidates(out: Path, name: str, trial: str | None = None) -> list[TrialRecord]:
    """The complete trials of an ablation, or of a sweep at its top budget, each under the name that this study has for
    it. Of a sweep, one that was stopped at a lower budget is among them where it is the `trial` named."""
    folder = study_folder(out, name)
    study = stored_study(folder, name)
    of_sweep = [] if study is None else [candidate_of(each) for each in study.get_trials(deepcopy=False)]
    if study is not None:
        names = {each.levels[-1].key: each.name for each in of_sweep if _can_be_promoted(each, trial)}
    elif (folder / MANIFEST_FILE).exists():
        manifest = read_manifest(out, name)
        names = {
            trial_key(rung.architecture_fingerprint, manifest.protocol_fingerprint, seed): rung.name
            for rung in manifest.rungs
            for seed in manifest.seeds
        }
    else:
        raise _no_study(out, name)
    store = store_of(out)
    records = {key: record for key in names if (record := store.trial(key)) is not None}
    complete = [replace(record, name=names[key]) for key, record in records.items() if record.state == "complete"]
    for each in of_sweep:
        if each.name == trial and not _can_be_promoted(each, trial):
            because = f": {each.reason}" if each.reason else ", and has no result yet"
            raise UserError(f"{trial} of '{name}' is {each.state}{because}; name one that was trained")
    if not complete:
        ended = [why(record) for record in records.values()]
        raise UserError(_none_is_complete(name, of_sweep, ended if len(ended) == len(names) else []))
    return complete


def _can_be_promoted(candidate: Candidate, trial: str | None) -> bool:
    """Whether it is complete; or was trained, stopped, and is the `trial` named, by its name or its key."""
    if candidate.state == "complete":
        return True
    trained = candidate.state == "stopped" and candidate.levels[-1].values is not None
    return trained and trial in (candidate.name, candidate.levels[-1].key)


def _none_is_complete(name: str, of_sweep: Sequence[Candidate], ended: Sequence[str]) -> str:
    """`of_sweep`: a sweep's candidates; `ended` is why each trial of an ablation has none, if all ended."""
    failed = [each.reason for each in of_sweep if each.state == "failed"] or ended
    stopped = [each for each in of_sweep if each.state == "stopped"]
    running = any(each.state == "running" for each in of_sweep)
    if failed and not stopped and not running:
        reasons = "; ".join(f"{each.text} ({each.times})" for each in grouped(failed)[:2])
        return (
            f"no trial of '{name}' was trained to its end, and none is running: {reasons}; mend that and run it again"
        )
    if not stopped or running:
        return f"'{name}' has no complete trial yet; run it to its end first"
    reasons = "; ".join(f"{each.text} ({each.times})" for each in grouped(each.reason for each in stopped)[:2])
    return (
        f"no candidate of '{name}' was trained to its top budget: {len(stopped)} were stopped before, {reasons}; name "
        f"one of them ({', '.join(each.name for each in stopped[:10])}), or raise the budgets in a new sweep"
    )


def _no_study(out: Path, name: str) -> UserError:
    """A name that is in no list is mistyped; one that is was not run, or elsewhere."""
    if name not in (names := {*studies_in(out), *study_names("sweeps")}):
        return unknown_name(f"study in {out}/ or sweeps/:", name, names)
    return UserError(
        f"there is no study in {study_folder(out, name)}; run `harness ablate {name}` or `harness sweep {name}` first, "
        "or say where it lies with out=FOLDER"
    )


def rescored(out: Path, name: str) -> dict[str, dict[int, float]]:
    """Candidate -> fresh seed -> first score of a sweep's finalists; none where there was no such round."""
    study = stored_study(study_folder(out, name), name)
    finalists = {} if study is None else rescored_in(study.user_attrs)
    scores = {
        name: {each.seed: each.score for each in fresh if each.score is not None} for name, fresh in finalists.items()
    }
    return {name: values for name, values in scores.items() if values}


def choose(records: Sequence[TrialRecord], trial: str | None, again: Scores) -> TrialRecord:
    """The record of that name or key, or whose key begins so (the best seed, if a name has several); None: the best of
    all, by the first score of their task.

    `again` has the finalists' re-scored ones: where there are some, the best is that of the best mean of those, since
    the best of the search's own is partly luck.
    """
    first = score_of(records[0])
    sign = -1.0 if more_is_better(first) else 1.0
    if trial is None and (scored := [record for record in records if record.name in again]):
        return min(scored, key=lambda record: sign * fmean(again[record.name].values()))
    names = sorted({record.name for record in records})
    if trial is None and all(_value(record, first) is None for record in records):
        best = f"{'highest' if more_is_better(first) else 'lowest'} {title_of(first)}"
        raise UserError(f"--best is the {best}, and no trial here has one; name a trial: {', '.join(names)}")
    named = [record for record in records if trial is None or trial in (record.name, record.key)]
    if not named and KEY_PREFIX.fullmatch(str(trial)):
        named = [record for record in records if record.key.startswith(str(trial))]
        if len(named) > 1:
            keys = ", ".join(f"{record.key} ({record.name})" for record in named)
            raise UserError(f"'{trial}' begins the keys of {len(named)} trials; give more of the key: {keys}")
    if not named:
        raise unknown_name("trial", str(trial), names)
    return min(named, key=lambda record: math.inf if (value := _value(record, first)) is None else sign * value)


def score_of(record: TrialRecord) -> str:
    """The quantity that ranks: the first score of its task."""
    return task_of(record.protocol).judging.first


def kept_checkpoints(out: Path, study: str, record: TrialRecord) -> str | None:
    """The folder, below `out`, with the checkpoints that the sweep keeps of one of its candidates, if it does."""
    sweep = stored_study(study_folder(out, study), study)
    names = {} if sweep is None else {each.levels[-1].key: checkpoints_key(each) for each in _complete(sweep)}
    folder = Path(study) / CHECKPOINTS / names.get(record.key, "none")
    return folder.as_posix() if has_checkpoints(out / folder) else None


def promoted_yaml(
    record: TrialRecord, study: str = "", again: Sequence[float] = (), *, checkpoints: str | None = None
) -> str:
    """The architecture, whole, under a head that says where it comes from; `again` are its re-scored KIDs. A record
    itself does not say of which `study` it is: several may have asked for it."""
    config = from_plain(ArchitectureConfig, record.architecture)
    names = (*task_of(record.protocol).judging.scores, "params", "macs")
    shown = [f"{name} {value:.6g}" for name in names if (value := _value(record, name))]
    head = [
        f"# {record.name}{study and f' of {study}'}, seed {record.seed}: {', '.join(shown)}",
        *([f"# re-scored: {rescored_text(record, again)}"] if again else []),
        f"# parent: {record.key}",
        f"# fingerprint: {config.fingerprint}",
        *(f"# {name}: {canonical_json(record.protocol[name])}" for name in OTHERWISE if name in record.protocol),
        f"# recipe: {canonical_json(record.protocol.get('recipe', {}))}",
        *([] if record.trained_latent is None else [latent_line(record.trained_latent)]),
        *([] if checkpoints is None else [f"# checkpoints: {checkpoints}"]),
        "# harness train THIS_FILE recipe.steps=N trains it longer",
    ]
    return "\n".join([*head, to_yaml(config)])


def rescored_text(record: TrialRecord, again: Sequence[float]) -> str:
    """`kid 0.412 ± 0.031 with 3 fresh seeds, 0.35 in the search`."""
    error = standard_error(again)
    spread = "" if error is None else f" ± {error:.2g}"
    first = score_of(record)
    searched = known(record.quantities[first]).value
    return f"{first} {fmean(again):.4g}{spread} with {len(again)} fresh seeds, {searched:.4g} in the search"


def _complete(study: optuna.Study) -> list[Candidate]:
    return [candidate_of(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]


def _value(record: TrialRecord, name: str) -> float | None:
    return value_of(record.quantities.get(name))
