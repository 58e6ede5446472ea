"""Settings from YAML groups, a study's defaults and the command line, composed by Hydra into one plain mapping.

    harness/conf/config.yaml     which option of each group, and the settings outside groups
    harness/conf/GROUP/NAME.yaml the options: `data=image_folder` chooses one
    harness/conf/protocol/NAME.yaml  options and settings of several groups under one word: `protocol=fig3`
    a study's `settings`         overrides of its own: {data: digits, recipe: laptop, recipe.steps: 600}
    the command line             overrides these: key=value ...

A protocol's word stands for its lines and is gone once they are written out: identity is the settings, not the word.

Names are checked where they are known best: an option against the group's files here, a setting's name and type by
`from_plain` when the dataclass is made. Hydra is imported late: `harness --help` does without it.
"""

import copy
import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records.errors import UserError, first_line, unknown_name
from harness.records.plain import canonical_json, tag_of
from harness.records.yaml_text import read_yaml
from harness.trials.task_config import DEFAULT

CONF = Path(__file__).parent.parent / "conf"
PATH_VALUE = re.compile(r"(?:~|/|\./|\.\./).*", re.DOTALL)
PATHS = frozenset((
    "out", "data.path", "data.names", "task.scored_on.path", "latency.iphone.queue", "quality.extractor.weights",
    "quality.reference_path", "autoencoder.encoder", "autoencoder.decoder", "autoencoder.file",
    "autoencoder.encoded_by.encoder", "autoencoder.encoded_by.decoder",
    "task.extractor.weights", "task.perceptual.trunk", "task.perceptual.heads", "objective.perceptual.trunk",
    "objective.perceptual.heads",
))  # fmt: skip
"""The settings that are paths: whatever they are called is taken as it is, unless it is quoted or null."""
KEYS = frozenset(("objective.teacher.name", "initial", "autoencoder.record"))
"""Those that may be a path or a trial's key, which may look like a number: 1234567812345678, 12345e67. Likewise."""
LIST_OF_NUMBERS = re.compile(r"\[[-+\d.e, ]+|[-+\d.e, ]+\]|\([-+\d.e, ]+\)")
"""One whose bracket is left open, or is of another shape."""
SEVERAL = frozenset(("initial",))
"""Of these, those that may be a list of such."""


PROTOCOL = "protocol"
"""The word that chooses one, and its folder in `CONF`."""

KIND = ".kind"
"""How the path of a setting ends that says which of several forms a mapping has."""
NO_GROUPS = ("architecture", PROTOCOL)


def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> the names of its options."""
    folders = [folder for folder in sorted(CONF.iterdir()) if folder.is_dir() and folder.name not in NO_GROUPS]
    return {folder.name: _names_in(folder) for folder in folders}


def protocols() -> tuple[str, ...]:
    """The names of the protocols that there are."""
    return _names_in(CONF / PROTOCOL)


def protocol_lines(name: object) -> dict[str, Any]:
    """What the protocol chooses and sets, as a study's `settings` have it; UserError for one that does not exist, or
    whose file is no such mapping."""
    if not isinstance(name, str):
        names = ", ".join(protocols())
        raise UserError(f"{PROTOCOL} is one of {names}, not {canonical_json(name)}; write {PROTOCOL}=NAME")
    if name not in protocols():
        raise unknown_name(PROTOCOL, name, protocols())
    path = CONF / PROTOCOL / f"{name}.yaml"
    lines = read_yaml(path)
    if not isinstance(lines, Mapping):
        raise UserError(f"{path} must hold settings, key: value, such as recipe: laptop; write some")
    for key in lines:
        if str(key).split(".")[0] not in groups():
            raise unknown_name(f"group in {path}:", str(key), groups())
    return {str(key): value for key, value in lines.items()}


def _names_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def default_of(group: str) -> str:
    """The option that is taken where none is chosen; of what the task decides, the default task's."""
    defaults = read_yaml(CONF / "config.yaml")["defaults"]
    option = next(each[group] for each in defaults if isinstance(each, dict) and group in each)
    return str(option or tag_of(DEFAULT.objectives[0]))


def compose_plain(overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings as plain data: config.yaml, then the study's `defaults`, then `overrides` (`key=value` each)."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
    from yaml import YAMLError

    typed = parsed(overrides)
    chosen = merged(dict(defaults or {}), typed)
    try:
        config = copy.deepcopy(_composed(CONF, tuple(_group_choices(chosen))))
        for key in sorted(chosen, key=lambda key: (key in typed, not key.endswith(KIND))):  # a kind, then its settings
            if key not in groups() or isinstance(chosen[key], Mapping):
                _set(config, key, chosen[key])
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        missing = error.full_key
        raise UserError(f"the setting '{missing}' has no default; give it as {missing}=VALUE") from error
    except InterpolationResolutionError as error:
        reason = first_line(error).removeprefix("KeyError raised while resolving interpolation: ")
        raise UserError(f"'{error.full_key}' refers with ${{...}} to what is not there: {reason}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"cannot compose the settings: {first_line(error)}") from error
    except (YAMLError, UnicodeDecodeError):  # of a group's file that somebody edited; our reader says which, and where
        for path in sorted(CONF.rglob("*.yaml")):
            read_yaml(path)
        raise
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@functools.cache
def _composed(conf: Path, choices: tuple[str, ...]) -> Any:
    """The groups' files under one config, as an OmegaConf: tenths of a second, and a command asks several times."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("config", overrides=list(choices))


def _set(config: Any, key: str, value: Any) -> None:
    """Set it even where the YAML does not list it, as `from_plain` knows what exists. A mapping joins what is there;
    of another kind (`quality.extractor={kind: dinov2}`, `quality.extractor.kind=dinov2`) it has nothing of that."""
    from omegaconf import OmegaConf

    if key.endswith(KIND):
        key, value = key.removesuffix(KIND), {"kind": value}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    before = None if kind is None else OmegaConf.select(config, key)
    is_of_another = isinstance(before, Mapping) and before.get("kind", kind) != kind
    OmegaConf.update(config, key, value, merge=not is_of_another, force_add=True)


def parsed(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as a mapping, the values read by Hydra's grammar: numbers, lists, null, quoted texts.

    A path is taken as it is, spaces and brackets included: the value of a setting that is one, or a value that begins
    as one does (`~`, `/`, `./`, `../`). Shells leave the `~` of `data.path=~/images` alone, and Hydra's grammar knows
    none. So is a prompt's template, whose `{}` is no mapping.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, result = OverridesParser.create(), {}
    for text in overrides:
        key, _, value = text.partition("=")
        if _is_path(key, value):
            result[key] = _named(key, value)
            continue
        if _is_template(key, value):
            result[key] = value.replace("${", "\\${")
            continue
        if advice := _slip(key, value):
            raise UserError(f"cannot read the setting {text!r}; {advice}")
        try:  # Hydra knows no `*`, which edits do: stages.*.channels=64
            override = parser.parse_override(f"every={value}" if "*" in key else text)
        except HydraException as error:
            advice = f"quote the value: '{key}=\"{value}\"'" if value else "write key=value"
            raise UserError(f"cannot read the setting {text!r}; {advice}") from error
        if override.is_delete():
            raise UserError(f"cannot delete a setting ({text!r}); give it a value: key=value")
        if override.is_sweep_override():
            listed = value if re.fullmatch(r"[^(){}\[\]]*", value) else "0, 1, 2"
            raise UserError(
                f"{text!r} stands for several studies, and a command runs one; write a list in brackets, "
                f"'{key}=[{listed}]', and a text with commas in quotes, '{key}=\"{value}\"'"
            )
        if override.package is not None:
            raise UserError(f"a setting is written as key=value, without the '@{override.package}' of {text!r}")
        if (twice := repeated_key(value)) is not None:
            raise UserError(f"{text!r} sets '{twice}' twice in one mapping; keep one of them")
        result[key if "*" in key else override.key_or_group] = _unquoted(override.value())
    return result


def _named(key: str, value: str) -> str | list[str]:
    """A path, or a key; where there may be several, a list of them in brackets."""
    if key in SEVERAL and value.startswith("[") and value.endswith("]"):
        return [str(_named(key, each.strip())) for each in value[1:-1].split(",")]
    return str(Path(value).expanduser()).replace("${", "\\${")  # which would be another setting's value


def _slip(key: str, value: str) -> str:
    """What to write instead of what Hydra's grammar would take for something else, or not at all."""
    if value.startswith("="):
        return f"write one equals sign: {key}={value.lstrip('=')}"
    if re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+", value):
        return (
            f"a number is written without commas, {key}={value.replace(',', '')}, a list in brackets, '{key}=[{value}]'"
        )
    if LIST_OF_NUMBERS.fullmatch(value):
        return f"write a list in square brackets, '{key}=[{value.strip('[]() ')}]'"
    return ""


def repeated_key(value: str) -> str | None:
    """A key that stands twice in one mapping of a text that Hydra has read, and of which it has kept the last."""
    keys: list[list[str] | None] = []  # of each bracket that is open, outermost first; None of a list
    start = 0
    for part in re.finditer(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\\.|[\[\](){},:]""", value):
        sign = part[0]
        if sign in ("{", "[", "("):
            keys.append([] if sign == "{" else None)
        elif sign in ("}", "]", ")"):
            keys.pop()
        elif sign == ":" and keys and (inside := keys[-1]) is not None and start >= 0:
            key = value[start : part.start()].strip().strip("\"'")
            if key in inside:
                return key
            inside.append(key)
            start = -1  # a colon in the value is part of it
        if sign in ("{", ","):
            start = part.end()
    return None


def _is_path(key: str, value: str) -> bool:
    if not re.fullmatch(r"[\w.]+", key):
        return False
    is_literal = value in ("", "null") or value[0] in "\"'"
    return PATH_VALUE.fullmatch(value) is not None or (key in PATHS | KEYS and not is_literal and "${" not in value)


def _is_template(key: str, value: str) -> bool:
    """`text.template={}` is the name alone, and no empty mapping."""
    return key.split(".")[-1] == "template" and value not in ("", "null") and value[0] not in "\"'"


def merged(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The later wins; choosing another option of a group drops the defaults meant for the option it replaces, and
    another protocol those of every group that it is about. A protocol is written out, under what stands beside it."""
    replaced = {key for key in overrides if key in groups() and defaults.get(key) != overrides[key]}
    if PROTOCOL in overrides and defaults.get(PROTOCOL) != overrides[PROTOCOL]:
        replaced |= {PROTOCOL, *(key.split(".")[0] for key in protocol_lines(overrides[PROTOCOL]))}
    remaining = {key: value for key, value in defaults.items() if key.split(".")[0] not in replaced}
    return _written_out(remaining | dict(overrides))


def _written_out(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol's lines in its place; of a group for which another option than the protocol's is chosen beside it,
    none, and standard error names the settings that fall."""
    if inside := next((key for key in chosen if key.startswith(f"{PROTOCOL}.")), None):
        raise UserError(f"a protocol has no settings of its own, such as '{inside}'; write the group's, recipe.steps=N")
    if PROTOCOL not in chosen:
        return dict(chosen)
    lines = protocol_lines(chosen[PROTOCOL])
    named = {group for group in groups() if group in chosen}
    other = {group for group in named if chosen[group] != lines.get(group, default_of(group))}
    kept = {key: value for key, value in lines.items() if key.split(".")[0] not in other}
    for group in sorted(other):
        fallen = [f"{key}={value}" for key, value in lines.items() if key.startswith(f"{group}.")]
        if fallen:
            _say(f"{group}={chosen[group]} is not {PROTOCOL}={chosen[PROTOCOL]}'s own: without its {', '.join(fallen)}")
    return kept | {key: value for key, value in chosen.items() if key != PROTOCOL}


@functools.cache
def _say(text: str) -> None:
    """Once a process: a command composes its settings several times."""
    print(f"harness: {text}", file=sys.stderr)


def _group_choices(chosen: Mapping[str, Any]) -> list[str]:
    options = groups()
    for key, value in chosen.items():
        if key in options and isinstance(value, Mapping) and "kind" in value:
            continue  # a whole group, written out
        if key in options and not isinstance(value, str):
            raise UserError(
                f"{key} is one of {', '.join(options[key])}, not {canonical_json(value)}; "
                f"write {key}=NAME, and a setting of it as {key}.SETTING=VALUE"
            )
        if key in options and value not in options[key]:
            raise unknown_name(key, value, options[key])
    return [f"{key}={value}" for key, value in chosen.items() if key in options and isinstance(value, str)]


def _unquoted(value: Any) -> Any:
    """Hydra keeps quoted texts as objects of its own."""
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    if isinstance(value, dict):
        return {str(getattr(key, "text", key)): _unquoted(item) for key, item in value.items()}
    return getattr(value, "text", value)
