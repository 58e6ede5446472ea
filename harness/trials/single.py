"""One network, trained with every seed of its settings: what `harness train` trains."""

from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.trials.prepared import Prepared
from harness.trials.promoted import Origin
from harness.trials.spec import TrialSpec
from harness.trials.task_config import DEFAULT, takers

DEFAULTS = {"seeds": [0]}
"""Of its settings, under those of its file."""


def defaults_of(architecture: ArchitectureConfig) -> dict[str, Any]:
    """`DEFAULTS`; and the task, where one alone trains such networks, and it is not the one that settings name by
    themselves."""
    tasks = takers(architecture)
    return DEFAULTS if len(tasks) != 1 or DEFAULT.name in tasks else {**DEFAULTS, "task": tasks[0]}


def specs_of(prepared: Prepared, name: str, architecture: ArchitectureConfig, origin: Origin | None) -> list[TrialSpec]:
    """One a seed; children of the trial that the network was promoted from, if it was."""
    settings = prepared.settings
    return [
        prepared.spec(
            name,
            architecture,
            seed,
            group=name,
            limits=settings.limits,
            parent=origin and origin.trial,
            fidelity="full",
        )
        for seed in settings.seeds
    ]


def unedited(origin: Origin | None, architecture: ArchitectureConfig) -> Origin | None:
    """The trial that a file was promoted from; None where it names none, or was edited since."""
    if origin is None or not origin.trial or origin.fingerprint != architecture.fingerprint:
        return None
    return origin
