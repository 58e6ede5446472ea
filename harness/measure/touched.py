"""How much of a network a change touches: whether a small network is a test of the change at all.

Multi-query attention changes a hundredth of what a network of a million parameters computes on an 8 x 8 image, and a
tenth of what its like computes at the size that is deployed.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from harness.measure.cost import count
from harness.measure.cost_structure import NoStructureError, own_structure

Place = str
"""A module's dotted path; '' is the network."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a network consists of, module by module, each without its children."""

    structure: Mapping[Place, Hashable]
    """Class, own settings, names of children, shapes of own parameters, and the operators of its own forward."""
    macs: Mapping[Place, int]
    """Multiply-adds of the operators that the module itself calls."""


def anatomy(module: nn.Module, inputs: Sequence[Any]) -> Anatomy:
    """Of one forward pass on these inputs; nothing is allocated. Errors: as `cost.count`."""
    operators: dict[Place, list[Hashable]] = {}
    macs: dict[Place, int] = {}
    for row in count(module, inputs).rows:
        operators.setdefault(row.place, []).append((row.operator, row.cost.macs))
        macs[row.place] = macs.get(row.place, 0) + row.cost.macs
    structure = {
        place: (_structure_of(part), tuple(name for name, _ in part.named_children()), tuple(operators.get(place, ())))
        for place, part in module.named_modules(remove_duplicate=False)
    }
    return Anatomy(structure, macs)


def touched_share(before: Anatomy, after: Anatomy) -> float:
    """The share of `before`'s multiply-adds in modules that `after` does not have as they were: absent at their place,
    of another class or setting, with other children, other shapes, or another cost of their own. 0 to 1.

    What only `after` has is work that `before` never did: its surroundings count as touched, by their children's names.
    """
    total = sum(before.macs.values())
    changed = (macs for place, macs in before.macs.items() if after.structure.get(place) != before.structure.get(place))
    return sum(changed) / total if total else 0.0


def _structure_of(module: nn.Module) -> Hashable:
    """Its class, scalar settings and parameters' shapes: a setting that is a whole configuration is its children's."""
    try:
        return own_structure(module)
    except NoStructureError:
        return type(module), tuple((name, x.shape) for name, x in module.named_parameters(recurse=False))
