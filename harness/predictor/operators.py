"""From the rows of a count to what a phone's Neural Engine has to do: work by kind, weights, memory traffic, launches.

Shapes are all that is known. Four things that Core ML's compiler does to every model are done here, so that what it
removes costs nothing: constants are folded, a batch norm goes into the convolution before it, an activation is part
of the layer before it, and an addition to a layer's result reads only the other operand.

Views cost nothing, as in PyTorch: a `permute` that Core ML has to carry out as a transposition is not seen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.measure.cost_run import Row

COLUMNS = ("dense", "depthwise", "attention", "norm", "vector", "scores", "weights", "activations", "launches")
"""Of an operator list: multiply-adds of regular convolutions and linear layers, of depthwise convolutions, of matmuls
between activations; elements that norms and element-wise operators go over; scores of an attention (heads x queries x
keys); weights read; activations read and written; launches. Numbers of elements, not bytes."""

Operators = NDArray[np.float64]
"""(operators, 1 + len(COLUMNS)): how often it comes, then COLUMNS."""

NORMS = frozenset({"group_norm", "layer_norm", "instance_norm", "rms_norm"})
MOVES = frozenset(
    """cat concat stack hstack vstack reshape flatten contiguous clone copy_ pad constant_pad_nd index index_select
    gather tile repeat repeat_interleave roll flip _unsafe_view pixel_shuffle pixel_unshuffle unfold _to_copy to
    embedding""".split()  # noqa: SIM905
)
"""Operators that only copy: traffic and a launch, no work."""
LAYERS = frozenset({"dense", "depthwise"})
POINTWISE = frozenset(
    """add add_ sub sub_ mul mul_ div div_ neg abs square sqrt rsqrt exp clamp clamp_ clamp_min clamp_max relu relu_
    relu6 relu6_ leaky_relu leaky_relu_ prelu elu celu gelu silu silu_ mish sigmoid sigmoid_ hardsigmoid hardsigmoid_
    hardswish hardswish_ hardtanh hardtanh_ softplus tanh tanh_""".split()  # noqa: SIM905
)
"""Operators that can become part of the layer before them: each result needs one element of it."""


def operators_of(rows: Iterable["Row"]) -> Operators:
    """The operator list, equal operators counted together; without operators (0, 1 + len(COLUMNS))."""
    counted = Counter(work for _, work in works(rows))
    table = [(float(times), *work) for work, times in counted.items()]
    return np.array(table, dtype=np.float64).reshape(-1, 1 + len(COLUMNS))


def each_operator(rows: Sequence["Row"]) -> tuple[list["Row"], Operators]:
    """The rows that are work of their own, and the operator list with a line for each."""
    own = list(works(rows))
    table = [(1.0, *work) for _, work in own]
    return [row for row, _ in own], np.array(table, dtype=np.float64).reshape(-1, 1 + len(COLUMNS))


def works(rows: Iterable["Row"]) -> Iterator[tuple["Row", tuple[float, ...]]]:
    """Each row that is left with work of its own, and that work by COLUMNS."""
    before = ""  # what the operator before it was, for what becomes part of it
    for row in rows:
        if not row.reads:  # made of nothing but weights and numbers: a constant in the package
            continue
        kind = _kind(row)
        if before in LAYERS and row.operator == "batch_norm":
            continue
        if kind == "vector" and before in (*LAYERS, "norm") and _pointwise(row):
            if len(row.reads) == 1:
                continue
            if before in LAYERS:
                yield row, _work(activations=_elements(row.reads) - _largest(row.reads))
                before = kind
                continue
        yield row, _work_of(row, kind)
        before = kind


def _kind(row: "Row") -> str:
    if row.cost.macs:
        if row.cost.attention:
            return "attention"
        return "depthwise" if _is_depthwise(row) else "dense"
    if row.operator in NORMS:
        return "norm"
    return "move" if row.operator in MOVES else "vector"


def _is_depthwise(row: "Row") -> bool:
    """Every output channel reads one input channel: the weight's shape is (C_out, 1, K, K)."""
    weight = row.weights[0] if row.weights else ()
    return "conv" in row.operator and len(weight) > 2 and weight[1] == 1 and weight[0] > 1


def _pointwise(row: "Row") -> bool:
    return row.operator in POINTWISE and len(row.writes) == 1 and _largest(row.reads) == prod(row.writes[0])


def _work_of(row: "Row", kind: str) -> tuple[float, ...]:
    read, written = _elements(row.reads), _elements(row.writes)
    amount = {"norm": written, "vector": max(read, written), "move": 0}.get(kind, row.cost.macs)
    arithmetic = {} if kind == "move" else {kind: amount}
    return _work(
        **arithmetic, scores=_scores(row), weights=_elements(row.weights), activations=read + written, launches=1
    )


def _scores(row: "Row") -> int:
    """Of the fused attention, which softmaxes inside: Q (..., T, D) and K (..., S, D) make (..., T, S)."""
    if row.operator != "scaled_dot_product_attention":
        return 0
    query, key = row.reads[:2]
    return prod(query[:-1]) * key[-2]


def _work(**amounts: float) -> tuple[float, ...]:
    return tuple(float(amounts.get(name, 0)) for name in COLUMNS)


def _elements(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(prod(shape) for shape in shapes)


def _largest(shapes: Iterable[tuple[int, ...]]) -> int:
    return max(prod(shape) for shape in shapes)
