"""How violations of the hard limits are written, so that every tool that opens the study sees them.

Optuna 5 writes one system attribute a constraint, `constraints:NAME` (`Trial.set_constraint`); optuna-dashboard 0.21
reads one list, the system attribute `constraints`, as Optuna before 5 wrote it. Both are written here. Optuna reads
both: a list's entries under their places "0", "1", ... beside the named ones, with the same values.
"""

from collections.abc import Mapping
from typing import Any


def constraint_attributes(violations: Mapping[str, float]) -> dict[str, Any]:
    """System attributes for `violations`: limit -> by how much it is exceeded; at most 0 where it is met."""
    if not violations:
        return {}
    return {"constraints": list(violations.values()), **{f"constraints:{name}": v for name, v in violations.items()}}


def violations_of(system_attributes: Mapping[str, Any]) -> dict[str, float]:
    """What `constraint_attributes` wrote."""
    prefix = "constraints:"
    named = {name: value for name, value in system_attributes.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): float(value) for name, value in named.items()}
