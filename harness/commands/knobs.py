"""`harness knobs [KNOB]`: every path that an edit or a search space may set, with its values, default and meaning."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.errors import UserError, unknown_name

if TYPE_CHECKING:
    from harness.records.fields import FieldDescription

WIDTH = 118
UNET, RECIPE = "unet", "recipe"
"""The study's UNet is the family without a `kind`; a setting of the recipe is a knob of every family that trains."""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", help="unet, dit, uvit, ldm, decoder or recipe; default: unet and recipe")


def run(arguments: argparse.Namespace) -> int:
    if arguments.overrides:
        raise UserError(f"knobs shows what there is, and takes none ('{arguments.overrides[0]}'); leave it out")
    families = _families()
    if arguments.family is not None and arguments.family not in families:
        raise unknown_name("family", arguments.family, families)
    chosen = (UNET, RECIPE) if arguments.family is None else (arguments.family,)
    lines = {name: list(families[name]) for name in chosen}
    if arguments.name is not None:
        paths = {line.path for of_family in lines.values() for line in of_family}
        lines = {name: [line for line in own if _matches(line.path, arguments.name)] for name, own in lines.items()}
        others = {family: own for family, own in _families().items() if family not in chosen}
        having = [name for name, own in others.items() if any(_matches(line.path, arguments.name) for line in own)]
        if not any(lines.values()) and having:
            raise UserError(
                f"knob '{arguments.name}' is none of {' and '.join(chosen)}, but of {', '.join(having)}; give --family "
                f"{having[0]}"
            )
        if not any(lines.values()):
            raise unknown_name("knob", arguments.name, paths)
    for name, own in lines.items():
        print("\n".join(_family_lines(name, own, with_rules=arguments.name is None)))
    return 0


VERB = Verb(
    summary="list every knob of an architecture and of the recipe, with its values, default and meaning",
    name="one knob, or a part of its path; default: all",
    operands="[KNOB]",
    example="harness knobs feed_forward --family unet",
    flags=flags,
    run=run,
)


def knobs(family: str) -> Iterator[FieldDescription]:
    """The knobs of a family, in the order of its configuration; `*` stands for every entry of a list."""
    return _families()[family]


def _families() -> dict[str, Iterator[FieldDescription]]:
    from harness.architecture.config import ArchitectureConfig
    from harness.records.fields import describe_fields
    from harness.training.recipe import Recipe

    families = {name or UNET: describe_fields(cls, "") for name, cls in ArchitectureConfig.forms.items()}
    return {**families, RECIPE: describe_fields(Recipe, RECIPE)}


def _rules(family: str) -> tuple[Any, ...]:
    from harness.architecture import decoder, peers, rules

    by_family = {UNET: rules.RULES, "dit": peers.DIT_RULES, "uvit": peers.UVIT_RULES, "ldm": peers.LDM_RULES}
    of_decoders = dict.fromkeys(("decoder", "autoencoder"), decoder.DECODER_RULES)
    return {**by_family, **of_decoders, RECIPE: ()}[family]


def _matches(path: str, query: str) -> bool:
    """The knob itself, what is inside it, or one whose path has the wanted part: `groups`, `stages.1.channels`."""
    as_path = ".".join("*" if step.isdigit() else step for step in query.split("."))
    return path == as_path or path.startswith(f"{as_path}.") or fnmatch(path, f"*{as_path}*")


def _family_lines(family: str, lines: Iterable[FieldDescription], *, with_rules: bool) -> Iterator[str]:
    yield f"{family}:"
    for line in lines:
        default = f" = {line.default}" if line.default else ""
        yield f"  {line.path}{default}  ({line.type})"
        yield from wrap(line.text, WIDTH, initial_indent="      ", subsequent_indent="      ")
    if with_rules and (rules := _rules(family)):
        yield "  and together:"
        for rule in rules:
            yield f"    {rule.sentence}"
