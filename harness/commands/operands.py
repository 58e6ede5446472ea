"""What the words after a verb name: an architecture with its edits, a study and where it lies; and what names exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.errors import UserError, unknown_name
from harness.records.manifest import study_folder
from harness.records.record import KEY

if TYPE_CHECKING:
    import argparse

    from harness.architecture.config import ArchitectureConfig


WEIGHTS = ".safetensors"
PUBLISHED = "--published"
ATTEMPTS = "attempts"
"""In a study's folder, its jobs; all that commands without a study, as `harness evaluate`, have in theirs."""


def published_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        PUBLISHED,
        metavar="FOLDER",
        action="append",
        default=[],
        help="a folder that `harness publish` wrote elsewhere than below out=; may be repeated",
    )


def edited(name: str, edits: Sequence[str]) -> ArchitectureConfig:
    """The architecture of that name, or that a file of weights is of, with knobs set on the command line:
    feed_forward.ratio=3."""
    from harness.architecture.edits import with_edits
    from harness.trials.compose import parsed

    return with_edits(_named(name), parsed(edits))


def latent_of(flag: int | None, config: ArchitectureConfig, *names: str) -> int:
    """The flag's, else the one that a file of `names` says its network was trained on, else as `deployment_latent`."""
    from harness.architecture.latents import deployment_latent

    trained = {size: name for name in names if (size := _trained_on(name)) is not None}
    if flag is None and len(trained) > 1:
        each = ", ".join(f"{name} on {size}x{size}" for size, name in trained.items())
        raise UserError(f"they were trained on different latents, {each}; choose one with --latent")
    return deployment_latent(flag, config, next(iter(trained), None))


def say_latent(latent: int, name: str) -> None:
    """A line where costs are not for the latent that the file `name` says its network was trained on."""
    if (trained := _trained_on(name)) not in (None, latent):
        print(
            f"note: {name} was trained on {trained}x{trained} latents; this is for {latent}x{latent}", file=sys.stderr
        )


def _trained_on(name: str) -> int | None:
    from harness.architecture.latents import trained_latent

    if not name.endswith(WEIGHTS):
        return trained_latent(Path(name))
    from harness.models.weights import read_identity

    training = read_identity(Path(name))[1]
    return None if training is None else training.latent


def _named(name: str) -> ArchitectureConfig:
    from harness.architecture.catalogue import architecture

    if KEY.fullmatch(name):
        raise UserError(
            f"'{name}' is a trial's key, and an architecture is meant here; give the trial's weights, "
            f"OUT/store/artifacts/{name}/ema{WEIGHTS}, or the YAML that `harness promote STUDY {name} --to FILE` writes"
        )
    if not name.endswith(WEIGHTS):
        return architecture(name)
    from harness.models.weights import read_identity

    return read_identity(Path(name))[0]


def out_of(overrides: Sequence[str], name: str | None = None) -> Path:
    """The folder under which studies lie: as the command line says, as the study's YAML does, or the default."""
    from harness.trials.compose import compose_plain, parsed
    from harness.trials.studies import read_study

    chosen = parsed(overrides)
    if unknown := sorted(chosen.keys() - {"out"}):
        raise UserError(f"the only setting here is out=FOLDER, where the study lies, not {unknown[0]}")
    if not chosen and name is not None and is_defined(name):
        chosen = {
            key: value for key, value in dict(read_study("sweeps", name).get("settings") or {}).items() if key == "out"
        }
    return Path(str(compose_plain(defaults=chosen)["out"]))


def begun_study(out: Path, name: str, *others: str, known: Sequence[str] = ()) -> tuple[str, Path]:
    """Name and folder of a study that was begun; UserError says which were, among them the `known`. One has a file of
    `study.MARKS`, or one of the `others`."""
    from harness.search.study import MARKS, studies_in

    marks = (*MARKS, *others)
    name = Path(name).stem if name.endswith((".yaml", ".yml")) else name.strip("/")
    folder = study_folder(out, name)
    if any((folder / mark).exists() for mark in marks):
        return name, folder
    names = [*studies_in(out, marks), *known]
    if not names:
        raise UserError(f"no study was begun in {out}; say where it lies with out=FOLDER")
    raise unknown_name(f"study in {out}:", name, names)


def is_defined(name: str) -> bool:
    """Whether there is a YAML of that name, or at that path."""
    from harness.trials.studies import study_folders, study_names

    if name.endswith((".yaml", ".yml")):
        return Path(name).is_file()
    return bool(study_folders("sweeps")) and name in study_names("sweeps")


def listing(what: str, verb: str) -> str:
    """`architectures`, `spaces`, `chains`, `ablations`, `sweeps`, or `studies`, which are both."""
    own = {"architectures": _architectures, "spaces": _spaces, "chains": _chains}
    lines = list(own.get(what, lambda: _studies(what))())
    width = max((len(name) for name, _ in lines), default=0)
    shown = [f"  {name:<{width}}  {text}".rstrip() for name, text in lines]
    return "\n".join([f"`harness {verb} NAME`, where NAME is the path of a YAML or one of:", *shown])


def first_sentence(text: str) -> str:
    """Up to the first full stop before a capital; those of `Fig. 3` are none."""
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0]


def _architectures() -> Iterable[tuple[str, str]]:
    from harness.architecture.catalogue import FOLDER, catalogue_names
    from harness.records.yaml_text import leading_comment

    return [(name, first_sentence(leading_comment(FOLDER / f"{name}.yaml"))) for name in catalogue_names()]


def _spaces() -> Iterable[tuple[str, str]]:
    from harness.records.yaml_text import leading_comment
    from harness.trials.studies import find_study, read_study, study_names

    for name in study_names("search_spaces"):
        try:
            base = read_study("search_spaces", name).get("base")
        except UserError as error:  # one broken file hides no other
            yield name, str(error)
            continue
        yield name, f"around {base}: {first_sentence(leading_comment(find_study('search_spaces', name)))}"


def _chains() -> Iterable[tuple[str, str]]:
    from harness.chain.definition import CHAINS
    from harness.trials.studies import read_study, study_names

    for name in study_names(CHAINS):
        try:
            yield name, str(read_study(CHAINS, name).get("summary") or "")
        except UserError as error:  # as above
            yield name, str(error)


def _studies(kind: str) -> Iterable[tuple[str, str]]:
    from harness.records.yaml_text import leading_comment
    from harness.trials.studies import KINDS, find_study, read_study, study_names

    content_keys = [key for one, key in KINDS.items() if kind in (f"{one}s", "studies")]
    for name in study_names("sweeps"):
        try:
            content = read_study("sweeps", name)
        except UserError as error:  # as above
            yield name, str(error)
            continue
        if any(key in content for key in content_keys):
            yield name, first_sentence(leading_comment(find_study("sweeps", name)))
