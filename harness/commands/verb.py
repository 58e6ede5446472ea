"""What `harness` can be told to do. A verb is one module of this package: its flags, its check, its work, and `VERB`.

A module starts light, so that `harness --help` can read them all: what is heavy is imported by the function that uses
it. A new verb is its file and its name in NAMES.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module


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
    lists: str = ""  # what the verb alone lists, by `operands.listing`; "": it needs its operand

    @property
    def first_operand(self) -> str:
        """What the help calls the first word after the verb, as the usage line does: NAME, FOLDER, UNET, A."""
        word = re.search(r"[A-Z]+", self.operands)
        return word[0] if word else "NAME"


NAMES = (
    "ablate",
    "sweep",
    "status",
    "stop",
    "promote",
    "proxies",
    "measure",
    "compare",
    "space",
    "export",
    "train",
    "latency agent",
    "latency queue",
    "latency total",
    "latency collect",
    "latency predict",
    "latency calibrate",
    "latency published",
    "evaluate",
    "report",
    "clean",
    "store merge",
    "data",
    "settings",
)
"""In the order of the overview. The module of `latency predict` is `latency_predict`."""


def verb(name: str) -> Verb:
    """The verb of that name, its module imported."""
    found = import_module(f"{__package__}.{name.replace(' ', '_')}").VERB
    assert isinstance(found, Verb)
    return found
