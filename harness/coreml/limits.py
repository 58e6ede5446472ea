"""What is known to keep a network, or a part of it, from the Neural Engine: each limit with how it is known.

Apple documents no list. `evidence` says what a limit rests on:
  documented  Apple's own text or code
  measured    third parties' experiments on the hardware, published
  published   a result printed in a paper
  folklore    repeated in public guides, tested by nobody we could find
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

Evidence: TypeAlias = Literal["documented", "measured", "published", "folklore"]
Shape: TypeAlias = tuple[int, ...]

ANE_GUIDE = "ane-guide.readthedocs.io, chapters 4 and 17"
ANEFORGE = "aneforge.readthedocs.io/en/latest/capabilities"
APPLE_RULES = "github.com/apple/coreai-models, neural_engine_rules.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class Op:
    """One operator of a program to be, or of one that was converted."""

    kind: str  # MIL's name
    place: str  # the module that calls it, or the name of its result
    shapes: tuple[Shape, ...]  # of its results
    dtypes: tuple[str, ...]  # float16, float32, int32, ...
    kernel: Shape = ()  # of a convolution
    dilated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One limit that a network meets, and where first."""

    limit: str
    message: str
    place: str
    times: int
    evidence: Evidence
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """`broken_by` says what of an operator is beyond it, or nothing."""

    name: str
    broken_by: Callable[[Op], str | None]
    evidence: Evidence
    source: str


MOST_WEIGHT_BYTES = 10**9
MOST_EXTENT, MOST_CHANNELS, MOST_RANK, MOST_KERNEL = 16_384, 65_536, 5, 13
MOST_TENSOR_BYTES = 2**29
FP16_BYTES = 2
LAST_AXIS_BYTES = 64  # to which the engine pads the last axis
WORTH_PADDING_BYTES = 2**20  # chosen: what is smaller once it is padded costs nothing beside the rest

LEAVES: dict[str, tuple[str, Evidence, str]] = {
    **dict.fromkeys(
        ("gather", "gather_along_axis", "gather_nd"),
        ("it is placed on the CPU in published compute plans", "measured", "WhisperKit's *.mlcomputeplan.json"),
    ),
    **dict.fromkeys(
        ("lstm", "gru", "rnn", "reduce_prod", "scatter", "scatter_along_axis", "scatter_nd"),
        ("the engine has none", "measured", ANE_GUIDE),
    ),
    "tile": ("it copies, which Apple's guidance asks to avoid", "documented", "Deploying Transformers on the ANE"),
}
"""Operators that are likely to run elsewhere, or to cost more than they compute: why, and how it is known."""


def _extent(op: Op) -> str | None:
    for shape in op.shapes:
        if any(size > MOST_EXTENT for size in shape[-2:]) or any(size > MOST_CHANNELS for size in shape[-3:-2]):
            return f"a tensor of {_times(shape)}; height and width end at {MOST_EXTENT:,} before the A16"
    return None


def _rank(op: Op) -> str | None:
    return next((f"a tensor of {_times(x)}: rank above {MOST_RANK}" for x in op.shapes if len(x) > MOST_RANK), None)


def _tensor(op: Op) -> str | None:
    """The SDXL and SD3 decoders' largest feature map has 2^29 bytes in fp16, and Tab. 2 prints "OOM" on the ANE of an
    iPhone 15 Pro; the paper's tiny decoder, whose largest has 3/4 of that in our reconstruction, runs there."""
    large = (shape for shape in op.shapes if FP16_BYTES * prod(shape) >= MOST_TENSOR_BYTES)
    return next((f"a tensor of {_times(x)}, {FP16_BYTES * prod(x) / 1e6:,.0f} MB in fp16" for x in large), None)


def _last_axis(op: Op) -> str | None:
    """A last axis of 1 takes 32 times the memory of its fp16 numbers."""
    for shape in op.shapes:
        wide = FP16_BYTES * shape[-1] if shape else LAST_AXIS_BYTES
        padded = prod(shape[:-1]) * LAST_AXIS_BYTES
        if wide < LAST_AXIS_BYTES and padded >= WORTH_PADDING_BYTES:
            times = LAST_AXIS_BYTES / wide
            return (
                f"a tensor of {_times(shape)} takes {times:.3g} times its memory: the last axis is padded to 64 bytes"
            )
    return None


def _kernel(op: Op) -> str | None:
    wide = op.kernel and max(op.kernel) > MOST_KERNEL
    return f"a kernel of {_times(op.kernel)}; {MOST_KERNEL} is the widest" if wide else None


def _dtype(op: Op) -> str | None:
    wider = sorted({x for x in op.dtypes if x not in ("float16", "bool")}) if op.kind != "cast" else []
    return f"'{op.kind}' gives {', '.join(wider)}; the engine computes in fp16" if wider else None


def _leaves(op: Op) -> str | None:
    return f"'{op.kind}': {LEAVES[op.kind][0]}" if op.kind in LEAVES else None


LIMITS = (
    Limit(name="tensor extent", broken_by=_extent, evidence="measured", source=f"{ANE_GUIDE}; {ANEFORGE}"),
    Limit(name="tensor rank", broken_by=_rank, evidence="documented", source=APPLE_RULES),
    Limit(name="last axis", broken_by=_last_axis, evidence="documented", source=APPLE_RULES),
    Limit(name="tensor size", broken_by=_tensor, evidence="published", source="SnapGen (arXiv 2412.09619), Tab. 2"),
    Limit(name="kernel", broken_by=_kernel, evidence="measured", source=ANE_GUIDE),
    Limit(
        name="dilated convolution",
        broken_by=lambda op: "a dilated convolution may leave the engine" if op.dilated else None,
        evidence="folklore",
        source="github.com/hollance/neural-engine, unsupported-layers.md",
    ),
    Limit(name="number format", broken_by=_dtype, evidence="documented", source=APPLE_RULES),
    *(
        Limit(
            name=kind,
            broken_by=lambda op, kind=kind: _leaves(op) if op.kind == kind else None,  # type: ignore[misc]
            evidence=evidence,
            source=source,
        )
        for kind, (_, evidence, source) in LEAVES.items()
    ),
)


def findings(operations: Iterable[Op], weight_bytes: int) -> tuple[Finding, ...]:
    """Every limit that the program meets, with the first operator that does and how many do."""
    return (*_of_weights(weight_bytes), *_of_operators(tuple(operations)))


def _of_weights(weight_bytes: int) -> Iterator[Finding]:
    if weight_bytes > MOST_WEIGHT_BYTES:
        yield Finding(
            limit="weights",
            message=f"{weight_bytes / 1e9:.2f} GB of weights; above about 1 GB a UNet has had to be split to run on an "
            "iPhone's engine: palettize it (--bits 8, 6 or 4)",
            place="",
            times=1,
            evidence="documented",
            source="github.com/apple/ml-stable-diffusion, --chunk-unet",
        )


def _of_operators(operations: tuple[Op, ...]) -> Iterator[Finding]:
    for limit in LIMITS:
        broken = [(op, message) for op in operations if (message := limit.broken_by(op))]
        if broken:
            op, message = broken[0]
            yield Finding(
                limit=limit.name,
                message=message,
                place=op.place,
                times=len(broken),
                evidence=limit.evidence,
                source=limit.source,
            )


def _times(shape: Shape) -> str:
    return " x ".join(f"{size:,}" for size in shape)
