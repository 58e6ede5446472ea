"""The files a researcher edits, found by name: `sweeps/NAME.yaml`, `search_spaces/NAME.yaml`.

Looked up in the working directory first, then in the repository that holds this package.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records.errors import UserError, unknown_name
from harness.records.yaml_text import read_yaml

SWEEPS = "sweeps"
"""Where ablations and sweeps lie."""
KINDS = {"ablation": "architecture", "sweep": "space"}
"""What sweeps/ holds -> the key that only that kind has."""

REPOSITORY = Path(__file__).parent.parent.parent


def read_study(folder: str, name: str) -> dict[str, Any]:
    """The mapping in FOLDER/NAME.yaml, or in the file `name` if that is the path of one; UserError says what exists."""
    path = find_study(folder, name)
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must hold a mapping of settings, key: value, {_kind_of(content)}")
    return {str(key): value for key, value in content.items()}


def _kind_of(content: Any) -> str:
    if content is None:
        return "and it is empty"
    return "not a list" if isinstance(content, list) else f"not {content!r}"


def read_kind(kind: str, name: str) -> dict[str, Any]:
    """The mapping in sweeps/NAME.yaml, which is of that kind: `ablation` or `sweep`."""
    content = read_study(SWEEPS, name)
    if all(key in content for key in KINDS.values()):
        keys = ", and ".join(f"'{key}', as {_a(one)} has it" for one, key in KINDS.items())
        raise UserError(f"'{name}' has both {keys}; a file is one study; leave out one of them")
    actual = next((one for one, key in KINDS.items() if key in content), None)
    if actual == kind:
        return content
    if actual is None:
        rules = ", nor ".join(f"{_a(one)}, which has '{key}'" for one, key in KINDS.items())
        raise UserError(f"'{name}' is neither {rules}; it has {', '.join(content) or 'nothing'}")
    verbs = {"ablation": f"`harness ablate {name}` runs an ablation", "sweep": f"`harness sweep {name}` runs a sweep"}
    raise UserError(f"'{name}' is no {kind}: it has no '{KINDS[kind]}'; {verbs[actual]}")


def _a(kind: str) -> str:
    """`an ablation`, `a sweep`."""
    return f"a{'n' * (kind[0] == 'a')} {kind}"


def find_study(folder: str, name: str) -> Path:
    """The path of FOLDER/NAME.yaml: in the working directory first, then in the repository."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the path of a YAML file, or a name from {folder}/")
        if not path.is_file():
            raise UserError(f"there is no file {path}; give a path that exists, or a name from {folder}/")
        return path
    places = study_folders(folder)
    for place in places:
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    if not places:
        raise UserError(
            f"there is no folder {folder}/ in {Path.cwd()} nor in {REPOSITORY}; run from a clone of the repository, "
            f"or give the path of a YAML file"
        )
    if (here := Path(f"{name}.yaml")).is_file():
        raise UserError(f"there is no {folder}/{name}.yaml; the file {here} is named by its path: give {here}")
    raise unknown_name(f"name in {folder}/:", name, study_names(folder))


def study_folders(folder: str) -> list[Path]:
    places = (Path.cwd() / folder, REPOSITORY / folder)
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def study_names(folder: str) -> list[str]:
    return sorted({path.stem for place in study_folders(folder) for path in place.glob("*.yaml")})
