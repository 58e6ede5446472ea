"""What a reader sees of a network: its levels of one resolution each, the blocks on the way down and up, where tokens
attend and to what, and the skips. Read from the plan of what is built, so that a drawing cannot say anything else.

    UNet, LDM     levels from the highest resolution to the lowest, each with a way down and a way up; a middle; skips
    autoencoder   the same without skips: the encoder is the way down, the decoder the way up
    decoder       levels from the latent's resolution to the picture's, one after the other
    DiT, U-ViT    one level of tokens; U-ViT has a way down and up of it, joined by skips

`harness.architecture.outlines` makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from harness.architecture.knobs import Convolution
from harness.records.plain import to_plain

PartKind = Literal["self_attention", "cross_attention", "feed_forward"]
NodeKind = Literal["convolution", "residual", "transformer", "downsample", "upsample", "norm", "linear"]
Settings = Mapping[str, str]
"""What is to know of a place, as a reader takes it: `channels` -> `320 to 640`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What every layer of a transformer has."""

    kind: PartKind
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One module of the network, or several equal ones behind each other."""

    place: str
    """Where it stands, as counts and weights name it: `down.1.attention.0`."""
    kind: NodeKind
    title: str
    settings: Settings = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    """Of a transformer, in the order of execution."""
    layers: int = 1
    """How often all of it stands there, one behind the other."""


Row = tuple[Node, ...]
"""A block, and the transformer behind it where it has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """All that has one resolution."""

    factor: Fraction
    """Height and width over the input's."""
    channels: int
    down: tuple[Row, ...] = ()
    """In the order of execution, as `up` is; of a network without a way up, all."""
    up: tuple[Row, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    levels: tuple[Level, ...]
    """On the way down in the order of execution, on the way up in reverse."""
    middle: tuple[Row, ...] = ()
    """Between the ways down and up, at the last level's resolution."""
    skips: tuple[tuple[str, str], ...] = ()
    """From the place whose output is joined, to the place that it is joined at."""
    input: str
    output: str

    def rows(self) -> list[Row]:
        """In the order of execution."""
        down = [row for level in self.levels for row in level.down]
        return [*down, *self.middle, *(row for level in reversed(self.levels) for row in level.up)]

    def nodes(self) -> dict[str, Node]:
        """By place, in the order of execution."""
        return {node.place: node for row in self.rows() for node in row}

    def parts(self, kind: PartKind) -> int:
        """How many there are, every layer's counted."""
        return sum(node.layers for node in self.nodes().values() for part in node.parts if part.kind == kind)


def ends(what: str, channels: int) -> str:
    """`latent of 1 channel`: what goes in or comes out."""
    return f"{what} of {channels} channel{'s' if channels > 1 else ''}"


def convolution(place: str, c_in: int, c_out: int) -> Node:
    """One that no knob changes."""
    settings = {"channels": f"{c_in} to {c_out}", "convolution": "regular, 3 x 3"}
    return Node(place=place, kind="convolution", title="convolution", settings=settings)


def resampling(place: str, kind: Literal["downsample", "upsample"], by: object, *, channels: str, conv: object) -> Node:
    """A layer that halves or doubles the sides; by pixels that are shuffled, its title says so."""
    way = knob_text(by)
    title = f"{kind} by 2" + (f", {way.replace('_', ' ')}" if way.startswith("pixel") else "")
    settings = {"channels": channels, "by": way, "convolution": knob_text(conv)}
    return Node(place=place, kind=kind, title=title, settings=settings)


def knob_text(knob: object) -> str:
    """A knob's value: `separable, kernel_size 3, expansion 2, ...`; of none, `none`."""
    plain = to_plain(knob)
    if plain is None:
        return "none"
    if not isinstance(plain, dict):
        return str(plain)
    if isinstance(knob, Convolution):
        side = plain.pop("kernel_size")
        return ", ".join([str(plain.pop("kind")), f"{side} x {side}", *_pairs(plain)])
    return ", ".join([str(plain.pop("kind")), *_pairs(plain)])


def _pairs(plain: Mapping[str, Any]) -> Sequence[str]:
    return [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()]


def whole(value: float) -> str:
    """`64`, of a width that is computed."""
    return f"{value:g}"
