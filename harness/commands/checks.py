"""What a command's words alone are wrong about, said before its module loads torch: in a second and not in ten.

A check reads the names and composes the settings, and throws the result away; the verb's module does so again.
"""

import argparse
from collections.abc import Callable, Mapping

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.trials.ablation_study import ablation_study, twins_of
from harness.trials.compose import parsed
from harness.trials.settings import settings_of
from harness.trials.studies import KINDS, read_study


def check(verb: str, arguments: argparse.Namespace) -> None:
    """UserError for a name that is not there, a setting that does not exist, a value that it cannot have."""
    if verb in CHECKS:
        CHECKS[verb](arguments)


def _ablation(arguments: argparse.Namespace) -> None:
    twins_of(*ablation_study(arguments.name, arguments.overrides))


def _sweep(arguments: argparse.Namespace) -> None:
    from harness.search.study import sweep_study  # loads Optuna, which few checks need

    sweep_study(arguments.name, arguments.overrides)


def _place(arguments: argparse.Namespace) -> None:
    from harness.commands.places import out_of  # loads Optuna, as above

    out_of(arguments.overrides, arguments.name)


def _either(arguments: argparse.Namespace) -> None:
    study = _ablation if KINDS["ablation"] in read_study("sweeps", arguments.name) else _sweep
    study(arguments)


def _settings(arguments: argparse.Namespace) -> None:
    settings_of(arguments.overrides)


def _train(arguments: argparse.Namespace) -> None:
    architecture(arguments.name)
    settings_of(arguments.overrides)


def _edited(arguments: argparse.Namespace) -> None:
    with_edits(architecture(arguments.name), parsed(arguments.overrides))


def _data(arguments: argparse.Namespace) -> None:
    settings_of([*([f"data={arguments.name}"] if arguments.name else []), *arguments.overrides])


CHECKS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "ablate": _ablation,
    "sweep": _sweep,
    "train": _train,
    "evaluate": _settings,
    "promote": _place,
    "clean": _place,
    "proxies": _either,
    "latency collect": _settings,
    "latency calibrate": _settings,
    "measure": _edited,
    "export": _edited,
    "data": _data,
}
