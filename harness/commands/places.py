"""Where the studies lie that were begun: for verbs that look at one, end one or take from it,
without its settings."""

from collections.abc import Sequence
from pathlib import Path

from harness.records.errors import UserError, unknown_name
from harness.records.manifest import study_folder
from harness.search.begun import MARKS, begun
from harness.trials.compose import compose_plain, parsed
from harness.trials.studies import read_study, study_folders, study_names


def out_of(overrides: Sequence[str], name: str | None = None) -> Path:
    """The folder under which studies lie: as the command line says, as the study's YAML does, or the default."""
    given = parsed(overrides)
    if unknown := sorted(given.keys() - {"out"}):
        raise UserError(f"the only setting here is out=FOLDER, where the study lies, not {unknown[0]}")
    if not given and name is not None and _is_defined(name):
        given = {
            key: value for key, value in dict(read_study("sweeps", name).get("settings") or {}).items() if key == "out"
        }
    return Path(str(compose_plain(defaults=given)["out"]))


def begun_study(out: Path, name: str) -> tuple[str, Path]:
    """Name and folder of a study that was begun; UserError says which were."""
    name = Path(name).stem if name.endswith((".yaml", ".yml")) else name.strip("/")
    folder = study_folder(out, name)
    if any((folder / mark).is_file() for mark in MARKS):
        return name, folder
    names = begun(out)
    if not names:
        raise UserError(f"no study was begun in {out}; say where it lies with out=FOLDER")
    raise unknown_name(f"study in {out}:", name, names)


def _is_defined(name: str) -> bool:
    if name.endswith((".yaml", ".yml")):
        return Path(name).is_file()
    return bool(study_folders("sweeps")) and name in study_names("sweeps")
