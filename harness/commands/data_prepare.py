"""`harness data prepare NAME to=FOLDER`: encode every picture of a data set once, for trainings to read."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.plain import from_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data.prepare import PrepareConfig
    from harness.trials.settings import Settings

OWN_SETTINGS = ("to", "flips", "shard", "batch", "pictures", "job_shards", "scale_pictures")


def check(arguments: argparse.Namespace) -> None:
    _settings(arguments.name, arguments.overrides)


def run(arguments: argparse.Namespace) -> int:
    from harness.data.prepared import HELDOUT, TRAIN
    from harness.trials.preparing import prepare_folder

    settings, own = _settings(arguments.name, arguments.overrides)
    config = _config(own)
    preparation = prepare_folder(settings, config)
    data, plan = preparation.data, preparation.plan
    if data.warning:
        print(data.warning)
    train, heldout = plan.parts[TRAIN], plan.parts[HELDOUT]
    print(
        f"{train.rows:,} training and {heldout.rows:,} held-out pictures of {data.size}x{data.size}, rows of "
        f"{train.type} {train.shape}, {len(plan.shards):,} shards, {plan.fingerprint}"
    )
    print(f"data=prepared data.path={config.to}")
    return 0


VERB = Verb(
    summary="encode every picture of a data set once, into a folder that trainings read (data=prepared)",
    name="a data set: digits, emoji, fashion_mnist, image_folder, imagenet, metadata, parquet",
    settings="to=FOLDER, flips=true, shard=1024, batch=32, pictures=5000 (null: all), job_shards=8 (null: in this "
    "process), scale_pictures=512",
    example="harness data prepare image_folder data.path=~/my_images data.size=64 to=prepared/my_images",
    check=check,
    run=run,
)


def _settings(name: str, overrides: Sequence[str]) -> tuple[Settings, list[str]]:
    """The study's settings, and the verb's own, as they were written."""
    from harness.trials.settings import settings_of

    own = [text for text in overrides if text.partition("=")[0] in OWN_SETTINGS]
    if not any(text.removeprefix("to=") for text in own if text.startswith("to=")):
        raise UserError("prepared data lie in a folder of their own; give to=FOLDER")
    return settings_of([f"data={name}", *(text for text in overrides if text not in own)]), own


def _config(own: Sequence[str]) -> PrepareConfig:
    from harness.data.prepare import PrepareConfig
    from harness.trials.compose import parsed

    assert {field.name for field in dataclasses.fields(PrepareConfig)} == set(OWN_SETTINGS)
    folder = next(text for text in own if text.startswith("to=")).removeprefix("to=")
    others = parsed([text for text in own if not text.startswith("to=")])
    return from_plain(PrepareConfig, {**others, "to": str(Path(folder).expanduser())})
