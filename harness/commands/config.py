"""`harness config NAME`: the settings that a study would run with, every one of them, as YAML that runs again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.errors import UserError, unknown_name
from harness.records.manifest import StudyKind
from harness.records.plain import to_plain
from harness.records.record import KEY

if TYPE_CHECKING:
    from harness.architecture.config import ArchitectureConfig
    from harness.trials.promoted import Promoted
    from harness.trials.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    from harness.records.yaml_text import write_yaml
    from harness.trials.compose import groups
    from harness.trials.promoted import promoted_in

    name, overrides = arguments.name, arguments.overrides
    if name in groups():
        print(write_yaml(_group(name, overrides), flow=None), end="")
    elif KEY.fullmatch(name):
        print(_trial(name, overrides), end="")
    elif (promoted := promoted_in(Path(name))).origin is not None:
        print(_training(Path(name), promoted, overrides), end="")
    else:
        head, verb, content, settings = _study(name, overrides)
        protocol = _protocol(settings)
        print(f"# {head}: every setting that it would run with; `harness {verb} THIS_FILE` runs it")
        print(f"# protocol: {protocol}")
        print(write_yaml(content, flow=None), end="")
    return 0


VERB = Verb(
    summary="print every setting that a study would run with, as YAML that runs again; or a group's, or a trial",
    name="a study in sweeps/ or the path of its YAML, a promoted file, a group of settings, or a trial's key",
    example="harness config fig3 recipe.steps=600",
    lists="studies",
    run=run,
)


def _study(name: str, overrides: list[str]) -> tuple[str, str, dict[str, Any], Settings]:
    """What it is called, the verb that runs it, its YAML with all settings filled in, and these."""
    from harness.architecture.catalogue import architecture
    from harness.commands.report import check_page
    from harness.search.definition import definition_of
    from harness.search.space import read_space
    from harness.trials.ablation_study import ablation_study, twins_of
    from harness.trials.compose import groups
    from harness.trials.studies import KINDS, SWEEPS, read_study, study_names

    if not name.endswith((".yaml", ".yml")) and name not in (studies := study_names(SWEEPS)):
        raise unknown_name("study or group of settings", name, [*studies, *groups()])
    content, page_name = read_study("sweeps", name), Path(name).stem
    if KINDS["ablation"] in content:
        study, settings = ablation_study(name, overrides)
        check_page("ablation", page_name, study.report, settings.task.judging)
        twins_of(study, settings)
        _check(
            settings, [architecture for _, architecture in study.architecture.architectures()], page_name, "ablation"
        )
        page = study.report or (name if name in study_names("reports") else None)
        own = {"architecture": content["architecture"], **({"report": page} if page else {})}
        return f"the ablation {name}", "ablate", {**own, "settings": _flat(settings)}, settings
    definition, settings = definition_of(name, overrides)
    check_page("sweep", page_name, definition.report, settings.task.judging)
    _check(settings, [architecture(read_space(definition.space).base)], page_name, "sweep")
    plain: Any = to_plain(definition)
    own = {key: value for key, value in plain.items() if key not in ("settings", "twin") and value not in (None, [])}
    chosen = _flat(settings)
    if definition.says_how_long:
        del chosen["recipe.steps"]  # the budgets, or the epochs, do
    return f"the sweep {name}", "sweep", {**own, "settings": chosen}, settings


def _protocol(settings: Settings) -> str:
    """Its name; where the autoencoder is not here, and its latents are not known, a word in its place."""
    from harness.trials.protocols import protocol_name

    try:
        return protocol_name(settings)
    except UserError as error:
        print(f"harness: the protocol is not known here: {error}", file=sys.stderr)
        return "not known here"


def _check(settings: Settings, architectures: list[ArchitectureConfig], name: str, kind: StudyKind) -> None:
    """Refuse what no machine could run; what this one cannot is a word beside the YAML, which may be for another."""
    from harness.trials.checks import check_network_sizes, check_study, check_task, training_sizes

    sizes = None
    try:
        sizes = training_sizes(settings)
        check_study(settings, [], name=name, kind=kind)
    except UserError as error:  # the data or the autoencoder, Slurm or a GPU: not here
        print(f"harness: here it would not run: {error}", file=sys.stderr)
    for architecture in architectures:
        check_task(settings, architecture)
        check_network_sizes(settings, architecture, sizes)


def _training(file: Path, promoted: Promoted, overrides: list[str]) -> str:
    """Of a promotion's file: every setting that `harness train` would run with, in the same form."""
    from harness.trials.promoted import written
    from harness.trials.settings import settings_of

    assert promoted.origin is not None
    settings = settings_of(overrides, promoted.settings)
    head = [f"every setting that {file} would be trained with; `harness train THIS_FILE` trains it"]
    return written(
        promoted.origin.under(overrides),
        _flat(settings),
        promoted.architecture,
        [*head, f"protocol: {_protocol(settings)}"],
    )


def _group(name: str, overrides: list[str]) -> dict[str, Any]:
    """Lines for the `settings:` of a study."""
    from harness.trials.settings import settings_of

    settings = _flat(settings_of(overrides))
    return {key: value for key, value in settings.items() if key.split(".")[0] == name}


def _flat(settings: Settings) -> dict[str, Any]:
    """As a study's `settings:` has them: the option of each group, then each of its settings by its path."""
    from harness.records.yaml_text import read_yaml
    from harness.trials.compose import CONF, groups
    from harness.trials.task_config import groups_of_tasks

    plain: Any = to_plain(settings)
    flat: dict[str, Any] = {}
    for group, options in groups().items():
        if group in groups_of_tasks() and group not in settings.task.groups:
            continue
        kind = plain[group].get("kind")
        contents = {option: read_yaml(CONF / group / f"{option}.yaml") or {} for option in options}
        if all(content.get("kind") != kind for content in contents.values()):  # of a kind that is no option
            flat[group] = plain[group]
            continue
        flat[group] = max(options, key=lambda option: _alike(contents[option], plain[group]))
        flat |= {f"{group}.{key}": value for key, value in plain[group].items() if key != "kind"}
    return flat | {key: value for key, value in plain.items() if key not in groups()}


def _alike(option: dict[str, Any], chosen: dict[str, Any]) -> tuple[bool, int]:
    """Of the same kind, and in how many settings the same: the nearest option has all that is set."""
    same = sum(chosen.get(key) == value for key, value in option.items())
    return option.get("kind") == chosen.get("kind"), same


def _trial(key: str, overrides: list[str]) -> str:
    """Its architecture and its recipe, as `harness promote` writes it and `harness train` reads it."""
    from harness.commands.operands import out_of
    from harness.search.promote import promoted_yaml
    from harness.trials.promoted import on_any_machine, trial_settings
    from harness.trials.spec import store_of

    store = store_of(out_of(overrides))
    record = store.trial(key)
    if record is None:
        raise UserError(f"there is no trial {key} in {store.root}; say where its store lies with out=FOLDER")
    return promoted_yaml(record, on_any_machine(trial_settings(record, {})))
