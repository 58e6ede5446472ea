"""Candidates that a sweep begins with: the rungs of an ablation, placed into the space's knobs."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.records.errors import UserError
from harness.search.space import Knob, Parameters, Space, Value
from harness.trials.ablation_study import read_ablation
from harness.trials.studies import read_study

MOST = 10_000  # combinations looked at for one architecture


@dataclass(frozen=True, slots=True)
class Placed:
    name: str  # `fig3/ffn3`
    parameters: Parameters


def rungs_of(name: str, space: Space, fit: Callable[[ArchitectureConfig], ArchitectureConfig]) -> tuple[
    list[Placed], list[str]
]:  # fmt: skip
    """The rungs of sweeps/NAME.yaml as combinations of the space's knobs, and a sentence for each that is none."""
    if "architecture" not in read_study("sweeps", name):
        raise UserError(f"enqueue: {name} is no ablation; name one whose rungs are to be the first candidates")
    placed, remarks = [], []
    for rung, made in read_ablation(name).architecture.architectures():
        parameters = parameters_of(space, fit(made), fit)
        if parameters is None:
            remarks.append(f"{name}/{rung.name} is not enqueued: no combination of the space's knobs makes it")
        else:
            placed.append(Placed(f"{name}/{rung.name}", parameters))
    return placed, remarks


def parameters_of(
    space: Space, wanted: ArchitectureConfig, fit: Callable[[ArchitectureConfig], ArchitectureConfig]
) -> Parameters | None:
    """A combination of knob values whose architecture, fitted to the data, is `wanted`; None where there is none.

    A value comes into question if its edits leave the wanted architecture as it is.
    """
    base = architecture(space.base)
    fitting = {name: _leaving(knob, wanted) for name, knob in space.knobs.items()}
    for parameters in itertools.islice(_combined(space, fitting), MOST):
        try:
            if fit(with_edits(base, space.edits(parameters))) == wanted:
                return parameters
        except UserError:
            continue  # a rule refuses this one
    return None


def _leaving(knob: Knob, wanted: ArchitectureConfig) -> Sequence[Value]:
    found = []
    for value in knob.values() or ():
        try:
            if with_edits(wanted, knob.edits_for(value)) == wanted:
                found.append(value)
        except UserError:
            continue  # this architecture has no such place
    return found


def _combined(space: Space, fitting: dict[str, Sequence[Value]]) -> itertools.chain[dict[str, Value]]:
    layers: list[dict[str, Value]] = [{}]
    for name, knob in space.knobs.items():
        layers = [
            {**parameters, **option}
            for parameters in layers
            for option in ([{name: value} for value in fitting[name]] if knob.exists(parameters) else [{}])
        ][:MOST]
    return itertools.chain(layers)
