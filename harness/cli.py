"""`harness VERB [NAME] [key=value ...] [--flags]`: the only entry point.

Starts without torch, Hydra, Optuna or Core ML: a verb imports them when it runs.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness.commands.operands import listing
from harness.commands.verb import NAMES, Verb, verb
from harness.records.errors import UserError, unknown_name

SETTING = re.compile(r"[+~]*[A-Za-z_][\w.*]*=")  # `recipe.steps=9`; `runs/lr=1.yaml` is a path
INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` shows the use")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. A user's mistake is one sentence on stderr and status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:  # Ctrl-C says nothing, `harness stop` does
        print(f"harness: {stopped.args[0] if stopped.args else 'stopped'}; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        print(f"harness: {error.strerror or error}{place}; nothing finished is lost, mend it and run the same "
              "command again", file=sys.stderr)  # fmt: skip
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if len(words) == 1 or words[1] in ("-h", "--help"):
        group = [name for name in NAMES if name.startswith(f"{words[0]} ")]
        if group:
            print(overview(group))
            return 0
    name, rest = split_verb(words)
    chosen = verb(name)
    if not rest and chosen.lists:
        print(listing(chosen.lists, name))
        return 0
    arguments = parse(name, rest)
    chosen.check(arguments)
    return chosen.run(arguments)


def split_verb(words: list[str]) -> tuple[str, list[str]]:
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
    parser = Parser(
        prog=f"harness {name}",
        description=f"{chosen.summary[0].upper()}{chosen.summary[1:]}.",
        epilog=f"settings: key=value ..., for example\n  {chosen.example}{_own_settings(chosen)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=" ".join(filter(None, ("harness", name, chosen.operands, "[key=value ...] [--flags]"))),
    )
    optional = "?" if chosen.operands == "" or chosen.operands.startswith("[") else None
    parser.add_argument("name", metavar=chosen.first_operand, nargs=optional, help=_operand_help(chosen))
    chosen.flags(parser)
    arguments = parser.parse_intermixed_args([word for word in words if word not in overrides])
    arguments.overrides = overrides
    arguments.command = " ".join(["harness", name, *words])
    return arguments


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
    lines += ["", "`harness VERB --help` shows a verb's flags and an example.", "for example: harness ablate fig3"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
