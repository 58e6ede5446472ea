"""Which operators compute in fp16: all but the angles of the time embedding.

An angle goes up to 1000 (`harness.models.embeddings.TIME_SCALE`), where neighbouring fp16 numbers are 0.5 apart: its
cosine would be noise. So cos, sin and what leads to them stay fp32: three small operators at the program's start.
"""

from typing import Any

ANGLES = ("cos", "sin")


def compute_precision(precision: str) -> Any:
    """coremltools' `compute_precision` for "fp16" or "fp32"."""
    import coremltools

    if precision == "fp32":
        return coremltools.precision.FLOAT32
    return coremltools.transform.FP16ComputePrecision(op_selector=_Selector())


class _Selector:
    """Whether an operator may be computed in fp16."""

    def __init__(self) -> None:
        self._exact: dict[int, set[str]] = {}  # block -> names of the operators that lead to an angle's cosine

    def __call__(self, operator: Any) -> bool:
        block = operator.enclosing_block
        if id(block) not in self._exact:
            self._exact[id(block)] = _leading_to_angles(block)
        return operator.name not in self._exact[id(block)]


def _leading_to_angles(block: Any) -> set[str]:
    names: set[str] = set()
    waiting = [operator for operator in block.operations if operator.op_type in ANGLES]
    while waiting:
        operator = waiting.pop()
        if operator is not None and operator.name not in names:
            names.add(operator.name)
            values = (
                x for value in operator.inputs.values() for x in (value if isinstance(value, tuple) else (value,))
            )
            waiting += [value.op for value in values]
    return names
