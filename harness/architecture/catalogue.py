"""Architectures by name: one YAML file each, either whole or as edits of another.

base: mqa                                      latent_channels: 16
edits:                              or         context_width: 768
  context_width: 2304                          ...

Edits may also be a list: of another catalogue architecture's, by its name, and of what is otherwise in them,
`edits: [sepconv, {convolution.kernel_size: 3}]`.

A base that is a file's path is looked for beside the file that names it. What `harness promote` writes has one of the
two under `architecture`, beside where it comes from and how it is trained (`harness.trials.promoted`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import parse_edits, with_edits
from harness.records.errors import UserError, of_file, unknown_name
from harness.records.plain import from_plain, to_plain
from harness.records.yaml_text import read_yaml, write_yaml

PROMOTED = "architecture"
"""The section of a promotion's file that has it."""
FOLDER = Path(__file__).parent.parent / "conf" / "architecture"


def catalogue_names() -> tuple[str, ...]:
    """The names that `architecture` knows: `sdxl`, `laptop/thin_sdxl`, ..."""
    return tuple(sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml")))


def architecture(name: str) -> ArchitectureConfig:
    """The architecture of that catalogue name, or in that YAML file (`path/to/mine.yaml`)."""
    return _named(name, ())


def named_edits(name: str, where: str) -> dict[str, Any]:
    """The edits by which the catalogue makes the architecture `name` of its base: a design choice, written once."""
    if name not in catalogue_names():
        raise unknown_name(f"architecture whose edits are '{where}':", name, catalogue_names())
    data = read_yaml(FOLDER / f"{name}.yaml")
    if not isinstance(data, Mapping) or "base" not in data:
        raise UserError(f"'{where}' names {name}, which is an architecture of its own and no edit; write the edits")
    return _edits_of_file(data.get("edits", {}), f"{name}.edits")


def _edits_of_file(value: Any, where: str) -> dict[str, Any]:
    """The edits of an architecture's file: one mapping, or several in turn, of which a later one changes what is inside
    an earlier one's value."""
    merged: dict[str, Any] = {}
    for part in value if isinstance(value, list) else [value]:
        for path, content in (edits_of(part, where) if isinstance(value, list) else parse_edits(part, where)).items():
            outer, _, inner = path.rpartition(".")
            if isinstance(merged.get(outer), Mapping):
                merged[outer] = {**merged[outer], inner: content}
            else:
                merged[path] = content
    return parse_edits(merged, where)


def edits_of(value: Any, where: str) -> dict[str, Any]:
    """The edits that a YAML file writes out, or names: `sepconv` stands for those of that catalogue architecture."""
    return named_edits(value, where) if isinstance(value, str) else parse_edits(value, where)


def _named(name: str, through: tuple[Path, ...]) -> ArchitectureConfig:
    """`through` are the files whose base it is, the nearest last: a relative path is meant from that one's folder."""
    if name in catalogue_names():
        return _read(FOLDER / f"{name}.yaml", through)
    if name.endswith((".yaml", ".yml")):
        return _read(through[-1].parent / name if through else Path(name), through)
    if Path(f"{name}.yaml").is_file():
        raise UserError(
            f"the catalogue has no architecture '{name}'; the file {name}.yaml is named by its path: give it"
        )
    raise unknown_name("architecture", name, catalogue_names())


def _architecture_of(data: Any, through: tuple[Path, ...], *, where: str) -> ArchitectureConfig:
    """The architecture that plain data describes: whole, or `base` and `edits`; of a promotion's file, its own."""
    if isinstance(data, Mapping) and {PROMOTED, "origin"} <= set(data):
        if unknown := set(data) - {PROMOTED, "origin", "settings"}:
            raise unknown_name("section", str(min(unknown)), (PROMOTED, "origin", "settings"))
        return _architecture_of(data[PROMOTED], through, where=PROMOTED)
    if isinstance(data, Mapping) and "base" in data:
        if unknown := set(data) - {"base", "edits"}:
            raise unknown_name("setting", f"{where}.{min(unknown)}", (f"{where}.base", f"{where}.edits"))
        return with_edits(_named(str(data["base"]), through), _edits_of_file(data.get("edits", {}), f"{where}.edits"))
    if not isinstance(data, Mapping):
        raise UserError(f"an {where} is a mapping of knobs, or of `base` and `edits`, not {data!r}")
    return from_plain(ArchitectureConfig, data)


def to_yaml(config: ArchitectureConfig) -> str:
    """The whole architecture as a YAML file's text; `architecture` reads it back."""
    return write_yaml(to_plain(config), flow=None)


def _read(path: Path, through: tuple[Path, ...]) -> ArchitectureConfig:
    if (place := path.resolve()) in through:
        circle = " -> ".join(file.name for file in [*through[through.index(place) :], place])
        way = f" ({circle})" if len(through) > 1 else ""
        raise UserError(f"{place} is its own base{way}; name another")
    data = read_yaml(path, "the architecture ")
    with of_file(path):
        return _architecture_of(data, (*through, place), where="architecture")
