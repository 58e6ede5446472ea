"""Settings from YAML groups, a study's defaults and the command line, composed by Hydra into one plain mapping.

    harness/conf/config.yaml     which option of each group, and the settings outside groups
    harness/conf/GROUP/NAME.yaml the options: `data=image_folder` chooses one
    a study's `settings`         overrides of its own: {data: digits, recipe: laptop, recipe.steps: 600}
    the command line             overrides these: key=value ...

Names are checked where they are known best: an option against the group's files here, a setting's name and type by
`from_plain` when the dataclass is made. Hydra is imported late: `harness --help` does without it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records.errors import UserError, unknown_name

CONF = Path(__file__).parent.parent / "conf"
PATH_SETTING = re.compile(r"([\w.]+)=((?:~|/|\./|\.\./).*)", re.DOTALL)


def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> the names of its options."""
    folders = [folder for folder in sorted(CONF.iterdir()) if folder.is_dir() and folder.name != "architecture"]
    return {folder.name: tuple(sorted(path.stem for path in folder.glob("*.yaml"))) for folder in folders}


def compose_plain(overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings as plain data: config.yaml, then the study's `defaults`, then `overrides` (`key=value` each)."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    chosen = merged(dict(defaults or {}), parsed(overrides))
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=_group_choices(chosen))
        for key, value in chosen.items():
            if key not in groups():  # added even where the YAML does not list it: `from_plain` knows what exists
                OmegaConf.update(config, key, value, force_add=True)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        missing = error.full_key
        raise UserError(f"the setting '{missing}' has no default; give it as {missing}=VALUE") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"cannot compose the settings: {str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def parsed(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as a mapping, the values read by Hydra's grammar: numbers, lists, null, quoted texts.

    A value that begins as a path does (`~`, `/`, `./`, `../`) is taken as it is, spaces and brackets included: shells
    leave the `~` of `data.path=~/images` alone, and Hydra's grammar knows none.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, result = OverridesParser.create(), {}
    for text in overrides:
        if (path := PATH_SETTING.fullmatch(text)) is not None:
            result[path[1]] = str(Path(path[2]).expanduser())
            continue
        key, _, value = text.partition("=")
        try:  # Hydra knows no `*`, which edits do: stages.*.channels=64
            override = parser.parse_override(f"every={value}" if "*" in key else text)
        except HydraException as error:
            advice = f"quote the value: '{key}=\"{value}\"'" if value else "write key=value"
            raise UserError(f"cannot read the setting {text!r}; {advice}") from error
        if override.is_delete():
            raise UserError(f"cannot delete a setting ({text!r}); give it a value: key=value")
        result[key if "*" in key else override.key_or_group] = _unquoted(override.value())
    return result


def merged(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The later wins; choosing another option of a group drops the defaults meant for the option it replaces."""
    replaced = {key for key in overrides if key in groups() and defaults.get(key) != overrides[key]}
    kept = {key: value for key, value in defaults.items() if key.split(".")[0] not in replaced}
    return kept | dict(overrides)


def _group_choices(chosen: Mapping[str, Any]) -> list[str]:
    options = groups()
    for key, value in chosen.items():
        if key in options and value not in options[key]:
            raise unknown_name(key, str(value), options[key])
    return [f"{key}={value}" for key, value in chosen.items() if key in options]


def _unquoted(value: Any) -> Any:
    """Hydra keeps quoted texts as objects of its own."""
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    if isinstance(value, dict):
        return {str(getattr(key, "text", key)): _unquoted(item) for key, item in value.items()}
    return getattr(value, "text", value)
