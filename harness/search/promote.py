"""Promotion: the trials of a study that can be, and the file of the one that is, which `trials/promoted.py` reads.

Which one a rule chooses: `rules.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from harness.architecture.config import ArchitectureConfig
from harness.records.errors import UserError, unknown_name
from harness.records.manifest import MANIFEST_FILE, Promotion, read_manifest, study_folder
from harness.records.plain import from_plain, to_plain
from harness.records.quantity import value_of
from harness.records.record import TrialRecord, key_that_begins, why
from harness.records.sweep_summary import grouped
from harness.search.candidates import Candidate, candidate_of, checkpoints_key
from harness.search.study import CHECKPOINTS, DEFINITION, stored_study, studies_in
from harness.training.checkpoint import has_checkpoints
from harness.trials.promoted import Origin, trained_on, written
from harness.trials.spec import store_of
from harness.trials.studies import study_names
from harness.trials.task_config import task_of
from harness.trials.varied import with_names


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
        names = {manifest.key(rung, seed): rung.name for rung in manifest.rungs for seed in manifest.seeds}
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


def named(records: Sequence[TrialRecord], trial: str) -> TrialRecord:
    """The record of that name or key, or whose key begins so; of a name with several seeds the first."""
    matches = [record for record in records if record.name == trial]
    if not matches and (key := key_that_begins(trial, {record.key: record.name for record in records})) is not None:
        matches = [record for record in records if record.key == key]
    if not matches:
        raise unknown_name("trial", trial, {record.name for record in records})
    return min(matches, key=lambda record: record.seed)


def chosen_settings(out: Path, name: str, trial: str) -> dict[str, Any]:
    """Those that the study's YAML and command line chose, with the edits of that rung's training; none where it did not
    write them down."""
    folder = study_folder(out, name)
    if (study := stored_study(folder, name)) is not None:
        return dict(study.user_attrs.get(DEFINITION, {}).get("settings", {}))
    manifest = read_manifest(out, name)
    edits = next((rung.trained for rung in manifest.rungs if rung.name == trial), {})
    return with_names(manifest.settings, edits)


def kept_checkpoints(out: Path, study: str, record: TrialRecord) -> str | None:
    """The folder, below `out`, with the checkpoints that the sweep keeps of one of its candidates, if it does."""
    sweep = stored_study(study_folder(out, study), study)
    names = {} if sweep is None else {each.levels[-1].key: checkpoints_key(each) for each in _complete(sweep)}
    folder = Path(study) / CHECKPOINTS / names.get(record.key, "none")
    return folder.as_posix() if has_checkpoints(out / folder) else None


def promoted_yaml(
    record: TrialRecord,
    settings: Mapping[str, Any],
    *,
    study: str = "",
    checkpoints: str | None = None,
    remarks: Sequence[str] = (),
    overrides: Sequence[str] = (),
    promotion: Promotion | None = None,
) -> str:
    """The file (`harness.trials.promoted`), by whose `settings` it is trained; `remarks` stand in its head, and
    `overrides` are what the command line had of the settings. A record itself does not say of which `study` it is:
    several may have asked for it."""
    config = from_plain(ArchitectureConfig, record.architecture)
    origin = Origin(
        study=study,
        name=record.name,
        trial=record.key,
        seed=record.seed,
        fingerprint=config.fingerprint,
        commit=str(record.provenance.get("code", {}).get("commit", "")),
        latent=record.trained_latent,
        checkpoints=checkpoints,
        trained_on=trained_on(record.protocol),
        promotion=promotion or Promotion(trials=(record.key,)),
    ).under(overrides)
    names = (*task_of(record.protocol).judging.scores, "params", "macs")
    shown = [f"{name} {value:.6g}" for name in names if (value := value_of(record.quantities.get(name))) is not None]
    head = [f"{record.name}{study and f' of {study}'}, seed {record.seed}: {', '.join(shown)}", *remarks]
    return written(
        origin, settings, to_plain(config), [*head, "`harness train THIS_FILE` trains it by the settings below"]
    )


def _complete(study: optuna.Study) -> list[Candidate]:
    return [candidate_of(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
