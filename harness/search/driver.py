"""`harness sweep NAME`: the sweep's files, its study and its queue put together.

OUT/NAME/study.db     the Optuna study; any Optuna tool opens it
OUT/NAME/attempts/    the jobs
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from harness.architecture.catalogue import architecture
from harness.launch.pool import Pool
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.search.space import space as space_of
from harness.search.study import SweepStudy, check_objectives, check_unchanged, open_study, writing
from harness.search.sweep import Sweep
from harness.trials.ablation import study_folder
from harness.trials.compose import parsed
from harness.trials.outcomes import quantity_names
from harness.trials.prepared import prepare
from harness.trials.progress import Show
from harness.trials.queue import TrialQueue
from harness.trials.settings import Settings, settings_of
from harness.trials.studies import read_study

OWN_SETTINGS = ("trials", "sampler", "sampler_seed", "max_rejections")
"""Settings of the sweep itself that the command line may override; every other is one of config.yaml's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    study: optuna.Study
    settings: Settings
    path: Path  # of the study's file
    ending: str


def sweep(name: str, overrides: Sequence[str], show: Show) -> Swept:
    """Run the sweep, or go on with it, to its end."""
    content = read_study("sweeps", name)
    if "space" not in content:
        raise UserError(f"'{name}' is no sweep: it has no 'space'; `harness ablate {name}` runs an ablation")
    own = {key: value for key, value in parsed(overrides).items() if key in OWN_SETTINGS}
    definition = from_plain(SweepStudy, {**content, **own})
    others = [text for text in overrides if text.split("=")[0].strip() not in OWN_SETTINGS]
    settings = settings_of(others, definition.settings)
    if len(settings.seeds) != 1:
        raise UserError(f"a sweep trains each candidate once; give one seed: seeds=[0], not {list(settings.seeds)}")
    check_objectives(definition.objectives, quantity_names(settings))
    space = space_of(read_study("search_spaces", definition.space))
    prepared = prepare(settings)
    name, folder = Path(name).stem, study_folder(settings.out, Path(name).stem)
    with writing(folder / "study.db"), Pool(folder / "attempts", settings.launcher) as pool:
        study = open_study(folder / "study.db", name, definition)
        began = {
            "space": space,
            "base": architecture(space.base),  # its file may change while its name stays
            "objectives": definition.objectives,
            "protocol": prepared.protocol.sections,
            "seed": settings.seeds[0],
        }
        check_unchanged(study, began)
        running = Sweep(name, definition, space, prepared, study, TrialQueue(pool, on_loss=show.lost), show)
        ending = running.run()
    return Swept(study=study, settings=settings, path=folder / "study.db", ending=ending.reason)
