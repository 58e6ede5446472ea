"""The weights that a training begins with, where they are another's: `initial=NAME`.

The network is one that was trained (`harness.trials.trained`): its averaged weights, of exactly the architecture that
is trained. What they are, by the sum of their tensors, is part of the protocol; how they were named is not. The seed
still decides the order of the data and all noise; where each seed has a beginning of its own (`initial=[A,B]`), a trial
is what it is with that one alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.architecture.config import ArchitectureConfig
from harness.architecture.difference import difference
from harness.records.errors import UserError
from harness.trials.trained import weights_of

if TYPE_CHECKING:
    from torch import nn

    from harness.trials.settings import Settings

INITIAL = "initial"
"""The setting, and the protocol's section."""
RANDOM = "none"
"""What says that a training begins with random weights, where that is not the usual thing to do."""
SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialWeights:
    name: str
    path: Path
    architecture: ArchitectureConfig
    tensors_sha256: str

    @property
    def identity(self) -> dict[str, Any]:
        return {"weights": self.tensors_sha256[:16]}

    def check(self, architecture: ArchitectureConfig) -> None:
        """UserError where a network of this architecture cannot begin with them."""
        if self.architecture.fingerprint == architecture.fingerprint:
            return
        changes = difference(architecture, self.architecture)
        shown = "; ".join(f"its {each.path} is {each.before}, there {each.after}" for each in changes[:SHOWN])
        more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise UserError(
            f"{INITIAL}={self.name} has weights of another architecture than the one that is trained: {shown}{more}; "
            "name a network of the same one, or leave it out"
        )

    def load_into(self, network: "nn.Module") -> None:
        """UserError where the file is not what its head says."""
        from harness.models.weights import read_weights

        network.load_state_dict(dict(read_weights(self.path, self.architecture).tensors))


def initial_weights(settings: "Settings", seed: int | None = None) -> InitialWeights | None:
    """What the settings name for a seed, or the first, by the head of its file; None where its training begins with
    random weights. UserError where there is no such network."""
    name = settings.beginning(settings.seeds[0] if seed is None else seed)
    if name is None or name == RANDOM or settings.count_only:
        return None
    from harness.models.weights import read_head  # loads torch

    try:
        path = weights_of(name, settings.out)
    except UserError as error:
        raise UserError(f"{INITIAL}: {error}") from error
    architecture, _, tensors_sha256 = read_head(path)
    return InitialWeights(name=name, path=path, architecture=architecture, tensors_sha256=tensors_sha256)


def all_initial_weights(settings: "Settings") -> list[InitialWeights]:
    """Those of all seeds. UserError where one is not here."""
    each = {settings.beginning(seed): seed for seed in settings.seeds}
    return [weights for seed in each.values() if (weights := initial_weights(settings, seed)) is not None]


def initial_section(weights: InitialWeights | None) -> Mapping[str, Any]:
    """Of a protocol: nothing where trainings begin with random weights, as all did once."""
    return {} if weights is None else {INITIAL: weights.identity}
