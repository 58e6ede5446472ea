"""The verbs, and how a command line is read: `harness VERB [NAME] [key=value ...] [--flags]`.

A verb is one module of this package: its flags, its check, its work, and `VERB`. It starts light, so that
`harness --help` can read them all: what is heavy is imported by the function that uses it. A new verb is its file and
its name in NAMES.
"""

import argparse
import itertools
import re
import shlex
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from harness.launch.config import torchrun_size
from harness.records.errors import UserError, unknown_name
from harness.records.plain import covers

SETTING = re.compile(r"[+~]*[A-Za-z_][\w.*]*=")  # `recipe.steps=9`; `runs/lr=1.yaml` is a path


def no_flags(_parser: argparse.ArgumentParser) -> None:
    """For a verb that takes none."""


def no_check(_arguments: argparse.Namespace) -> None:
    """For a verb whose own modules are light enough to say at once what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    summary: str
    name: str  # what NAME is, for the help; "" where the verb takes none
    example: str
    run: Callable[[argparse.Namespace], int]
    """Its exit status."""
    flags: Callable[[argparse.ArgumentParser], None] = no_flags
    check: Callable[[argparse.Namespace], None] = no_check
    """UserError for a name that is not there, a setting that does not exist, a value that it cannot have: said before
    `run` loads torch, in a second and not in ten. It composes the settings for nothing else; `run` does so again."""
    operands: str = "NAME"
    settings: str = ""  # the verb's own, beside those of `harness settings`
    repeated: tuple[str, ...] = ()  # flags that may be given more than once
    lists: str = ""  # what the verb alone lists, by `operands.listing`; "": it needs its operand

    @property
    def first_operand(self) -> str:
        """What the help calls the first word after the verb, as the usage line does: NAME, FOLDER, UNET, A."""
        word = re.search(r"[A-Z]+", self.operands)
        return word[0] if word else "NAME"


NAMES = (
    "ablate",
    "sweep",
    "chain",
    "status",
    "stop",
    "promote",
    "proxies",
    "measure",
    "compare",
    "draw",
    "space",
    "export",
    "train",
    "convert",
    "publish",
    "latency agent",
    "latency queue",
    "latency picture",
    "latency total",
    "latency collect",
    "latency predict",
    "latency calibrate",
    "latency published",
    "sample",
    "evaluate",
    "bits",
    "report",
    "dashboard",
    "dashboard wandb",
    "clean",
    "store merge",
    "data",
    "data prepare",
    "settings",
    "knobs",
    "config",
)
"""In the order of the overview. The module of `latency predict` is `latency_predict`."""


def verb(name: str) -> Verb:
    """The verb of that name, its module imported."""
    loaded = import_module(f"{__package__}.{name.replace(' ', '_')}").VERB
    assert isinstance(loaded, Verb)
    return loaded


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` shows the use")


def run(words: Sequence[str]) -> int:
    """What one command line asks for; its exit status. UserError for what is wrong with it."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"unet-harness {version('unet-harness')}")
        return 0
    if len(words) == 1 or words[1] in ("-h", "--help"):
        group = [name for name in NAMES if name.startswith(f"{words[0]} ")]
        if group and words[0] not in NAMES:
            print(overview(group))
            return 0
    name, rest = split_verb(words)
    chosen = verb(name)
    if not rest and chosen.lists:
        from harness.commands.operands import listing

        print(listing(chosen.lists, name))
        return 0
    arguments = parse(name, rest)
    if torchrun_size() == 1:
        return _checked(chosen, arguments)
    from harness.training.torchrun import run_together

    return run_together(lambda: _checked(chosen, arguments))


def _checked(chosen: Verb, arguments: argparse.Namespace) -> int:
    chosen.check(arguments)
    return chosen.run(arguments)


def split_verb(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The verb, of one word or two (`latency predict`), and the words after it."""
    for length in (2, 1):
        if (name := " ".join(words[:length])) in NAMES:
            return name, words[length:]
    if group := [name for name in NAMES if name.startswith(f"{words[0]} ")]:
        raise unknown_name("verb", " ".join(words[:2]), group)
    raise unknown_name("verb", words[0], NAMES)


def parse(name: str, words: Sequence[str]) -> argparse.Namespace:
    """The verb's arguments: `name`, `overrides` (key=value texts), and its flags, in any order."""
    chosen = verb(name)
    overrides = [word for word in words if SETTING.match(word) and not Path(word).is_file()]
    _check_once(overrides)
    parser = Parser(
        allow_abbrev=False,
        prog=f"harness {name}",
        description=f"{chosen.summary[0].upper()}{chosen.summary[1:]}.",
        epilog=f"settings: key=value ..., for example\n  {chosen.example}{_own_settings(chosen)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=" ".join(filter(None, ("harness", name, chosen.operands, "[key=value ...] [--flags]"))),
    )
    optional = "?" if chosen.operands == "" or chosen.operands.startswith("[") else None
    parser.add_argument("name", metavar=chosen.first_operand, nargs=optional, help=_operand_help(chosen))
    chosen.flags(parser)
    others = [_as_path(word) for word in words if word not in overrides]
    arguments, unknown = parser.parse_known_intermixed_args(others)
    if unknown:
        raise _unrecognized(unknown, parser.prog)
    flags = [word.partition("=")[0] for word in others if word.startswith("--")]
    if twice := next((flag for flag in flags if flags.count(flag) > 1 and flag not in chosen.repeated), None):
        raise UserError(f"{twice} is given twice; keep one of them")
    arguments.overrides = overrides
    arguments.command = shlex.join(["harness", *name.split(), *words])
    return arguments


def _as_path(word: str) -> str:
    """`./-x.yaml` of the file `-x.yaml`, which would be a flag."""
    return f"./{word}" if word.startswith("-") and Path(word).is_file() else word


def _unrecognized(words: Sequence[str], prog: str) -> UserError:
    """What was meant by words that are neither flags nor settings: most often a setting in another tool's spelling."""
    from dataclasses import fields

    from harness.search.definition import OWN_SETTINGS
    from harness.trials.compose import PROTOCOL
    from harness.trials.settings import Settings

    name, _, value = words[0].lstrip("-~+").partition("=")
    value = value or (words[1] if len(words) > 1 and words[0].startswith("--") else "VALUE")
    if name.split(".")[0].replace("-", "_") in {*OWN_SETTINGS, PROTOCOL, *(field.name for field in fields(Settings))}:
        advice = f"a setting is written without dashes, and with its value: {name.replace('-', '_')}={value}"
    elif not name:
        advice = "a setting is written key=value"
    else:
        advice = f"`{prog} --help` shows the use"
    return UserError(f"unrecognized arguments: {' '.join(words)}; {advice}")


def _check_once(overrides: Sequence[str]) -> None:
    """Refuse a setting that a later one on the same line undoes. The choice of a group undoes nothing inside it."""
    given: dict[str, str] = {}
    for text in overrides:
        key = text.partition("=")[0].lstrip("+~")
        if key in given:
            raise UserError(f"{given[key]!r} and {text!r} set the same; keep one of them")
        given[key] = text
    for later, earlier in ((one, two) for one, two in itertools.permutations(given, 2) if covers(one, two)):
        from harness.trials.compose import groups

        if later not in groups() and list(given).index(later) > list(given).index(earlier):
            raise UserError(f"{given[later]!r} undoes {given[earlier]!r} before it; turn them, or keep one of them")


def _own_settings(chosen: Verb) -> str:
    """Those that `harness settings` does not list."""
    listed = textwrap.fill(chosen.settings, 78, initial_indent="  ", subsequent_indent="  ")
    return f"\nits own, beside those that `harness settings` lists:\n{listed}" if listed else ""


def _operand_help(chosen: Verb) -> str:
    return f"{chosen.name}; the verb alone lists them" if chosen.lists else chosen.name or argparse.SUPPRESS


def overview(names: Sequence[str] = NAMES) -> str:
    """The text of `harness --help`, or of a group of verbs (`harness latency --help`)."""
    lines = ["usage: harness VERB [NAME] [key=value ...] [--flags]", ""]
    lines += [f"  {name:<17} {verb(name).summary}" for name in names]
    lines += [
        "",
        "`harness VERB --help` shows a verb's flags and an example; `harness --version` the version.",
        "for example: harness ablate fig3",
    ]
    return "\n".join(lines)
