"""Preparing data in the launcher's jobs: some shards each, on this machine's cores or on a cluster.

A job opens the folder that its driver began, and makes those of its shards that are not there. So a job that is lost,
or a driver that is killed, costs the shards that were being made, and the next attempt makes only these.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.data.dataset import load_dataset
from harness.data.prepare import Preparation, PrepareConfig, begin, encoder_of, prepare_data
from harness.data.prompts import class_prompts
from harness.launch.config import threads_of
from harness.launch.events import report_progress
from harness.launch.pool import Pool
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.plain import Plain
from harness.training.device import resolve_device, use_threads
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder

JOBS = "jobs"
"""In the folder of prepared data, while jobs fill it."""


@dataclass(frozen=True, slots=True)
class ShardsJob:
    """What a worker calls."""

    settings: Settings
    config: PrepareConfig
    names: tuple[str, ...]

    def __call__(self, attempt_folder: Path) -> Plain:
        use_threads(threads_of(self.settings.launcher))
        device = resolve_device(self.settings.recipe.device)
        data = load_dataset(self.settings.data, cache=cache_folder(self.settings.out))
        preparation = begin(self.config, data, self.settings.autoencoder, device)
        encode = encoder_of(preparation.plan, self.settings.autoencoder, device)
        missing = set(preparation.missing)
        for number, name in enumerate(self.names):
            report_progress(attempt_folder, "prepare", number, len(self.names))
            if name in missing:
                preparation.make(name, encode)
        return list(self.names)


def prepare_folder(settings: Settings, config: PrepareConfig) -> Preparation:
    """Fill the folder from the settings' data, here or in jobs. Errors: as `prepare_data`, and a job's that failed."""
    cache = cache_folder(settings.out)
    data = load_dataset(settings.data, cache=cache)
    class_prompts(settings.text, data.class_names, cache, captions=data.captions)  # refuses classes that it reads alike
    device = resolve_device(settings.recipe.device)
    if config.job_shards is None:
        return prepare_data(config, data, settings.autoencoder, device)
    fill = _Jobs(settings, config, config.job_shards)
    preparation = prepare_data(config, data, settings.autoencoder, device, fill)
    shutil.rmtree(config.to / JOBS, ignore_errors=True)
    return preparation


@dataclass(frozen=True, slots=True)
class _Jobs:
    settings: Settings
    config: PrepareConfig
    shards: int  # a job

    def __call__(self, preparation: Preparation) -> None:
        """Have the missing shards made; UserError for a job that cannot."""
        missing = preparation.missing
        parts = [tuple(missing[at : at + self.shards]) for at in range(0, len(missing), self.shards)]
        with Pool(preparation.folder / JOBS, self.settings.launcher) as pool:
            for names in parts:
                key = f"{Path(names[0]).stem}-{len(names)}"
                pool.submit(
                    key, ShardsJob(self.settings, self.config, names), holds=partial(_there, preparation, names)
                )
            finals = (outcome for outcome in pool.outcomes() if outcome.is_final)
            for outcome in with_eta(finals, f"filling {preparation.folder}, in jobs", len(parts)):
                if outcome.state == "failed":
                    raise UserError(f"the job of {outcome.key} failed: {outcome.error}")


def _there(preparation: Preparation, names: Sequence[str], _result: Plain) -> bool:
    """Whether what a job of an earlier run made is still there."""
    return not set(names) & set(preparation.missing)
