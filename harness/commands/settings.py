"""`harness settings [GROUP]`: every group of settings, its options, and each setting with type, default and meaning."""

import argparse
import sys
import typing
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from harness.commands.operands import first_sentence
from harness.commands.verb import Verb
from harness.records.errors import UserError, unknown_name
from harness.records.fields import FieldDescription, describe_fields, forms, value_text
from harness.records.plain import tag_of

WIDTH = 118


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.compose import PROTOCOL, groups

    if arguments.overrides:
        raise UserError(f"settings shows what there is, and takes none ('{arguments.overrides[0]}'); leave it out")
    if arguments.name not in (None, PROTOCOL, *groups()):
        raise unknown_name("group of settings", arguments.name, [PROTOCOL, *groups()])
    if arguments.name is None:
        print("\n".join(overview()))
    else:
        print("\n".join(protocol_overview() if arguments.name == PROTOCOL else group(arguments.name)))
    return 0


VERB = Verb(
    summary="list the groups of settings and their options, or a group's settings with type, default and meaning",
    name="a group: task, data, autoencoder, text, recipe, sampling, quality, latency, coreml, launcher, tracker, "
    "watch; or protocol",
    operands="[GROUP]",
    example="harness settings recipe",
    run=run,
)


def overview() -> Iterator[str]:
    """The groups with their options, then the settings outside groups."""
    from harness.trials.compose import PROTOCOL, groups, protocols
    from harness.trials.settings import Settings

    yield f"{PROTOCOL}={', '.join(protocols())}"
    yield f"    Options and settings of several groups under one word; `harness settings {PROTOCOL}`"
    chosen = default_options()
    for name, options in groups().items():
        listed = ", ".join(f"{option} (default)" if option == chosen[name] else option for option in options)
        yield f"{name}={listed}"
        yield f"    {purpose(name)}; `harness settings {name}`"
    for line in describe_fields(Settings, ""):
        if line.path.partition(".")[0] not in groups() and "." not in line.path:
            yield from shown(line)


def protocol_overview() -> Iterator[str]:
    """Each protocol with what it is and the lines that it stands for."""
    from harness.records.yaml_text import leading_comment
    from harness.trials.compose import CONF, PROTOCOL, protocol_lines, protocols

    yield "A protocol chooses options and sets settings; any of them may stand beside it, and wins."
    yield f"Each file says of each line whether it is printed in the paper or ours: {CONF / PROTOCOL}"
    for name in protocols():
        yield from wrap(f"{PROTOCOL}={name}  {leading_comment(CONF / PROTOCOL / f'{name}.yaml')}", WIDTH)
        lines = " ".join(f"{key}={value_text(value)}" for key, value in protocol_lines(name).items())
        yield from wrap(lines, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def group(name: str) -> Iterator[str]:
    """The options with what each sets otherwise than the defaults, then every setting of every kind."""
    from harness.records.yaml_text import leading_comment, read_yaml
    from harness.trials.compose import CONF, groups
    from harness.trials.settings import Settings

    kinds = forms(typing.get_type_hints(Settings)[name])
    defaults = {(tag_of(kind), line.path): line.default for kind in kinds for line in describe_fields(kind, name)}
    yield f"{purpose(name)}."
    for option in groups()[name]:
        path = CONF / name / f"{option}.yaml"
        comment, content = first_sentence(leading_comment(path)), read_yaml(path) or {}
        of_kind = [(content.get("kind"), path, value) for path, value in flat(content, name) if path != f"{name}.kind"]
        values = " ".join(f"{at}={value}" for kind, at, value in of_kind if defaults.get((kind, at)) != value)
        default = " (default)" * (option == default_options()[name])
        yield from wrap(f"{name}={option}{default}  {comment} {values}".strip(), WIDTH, subsequent_indent="    ")
    for form in kinds:
        lines, kind = list(describe_fields(form, name)), tag_of(form)
        yield f"\n{name}, kind {kind}:{'' if lines else ' nothing to set'}" if kind else ""
        for line in lines:
            yield from shown(line)


def shown(line: FieldDescription) -> Iterator[str]:
    """`recipe.steps = 600  (whole number)`, and its meaning below."""
    default = f" = {line.default}" if line.default else ""
    yield f"{line.path}{default}  ({line.type})"
    yield from wrap(line.text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def flat(content: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Paths of settings and their values, as written on the command line."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{where}.{key}")
        else:
            yield f"{where}.{key}", value_text(value)


def default_options() -> dict[str, str]:
    from harness.trials.compose import default_of, groups

    return {group: default_of(group) for group in groups()}


def purpose(name: str) -> str:
    """The first sentence of the module that defines the group's dataclasses."""
    from harness.trials.settings import Settings

    form = forms(typing.get_type_hints(Settings)[name])[0]
    return first_sentence(sys.modules[form.__module__].__doc__ or "").removesuffix(".")
