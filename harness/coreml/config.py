"""Whether and how a network is exported to the phone's format. No torch, no coremltools."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.records.errors import UserError

Target: TypeAlias = Literal["iOS16", "iOS17", "iOS18"]
Layout: TypeAlias = Literal["ane", "plain"]
WeightBits: TypeAlias = Literal[16, 8, 6, 4]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoCoreml:
    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mlprogram:
    """An ML program (.mlpackage)."""

    kind: Literal["mlprogram"] = "mlprogram"
    target: Target = "iOS17"  # the oldest system that loads it
    precision: Literal["fp16", "fp32"] = "fp16"
    layout: Layout = "ane"  # `harness.coreml.layout`, or the module as it is: fused attention on iOS18
    bits: WeightBits = 16  # of a weight; below 16 they index tables (`harness.coreml.palettize`)
    latent: int | None = None  # side of the latent; null: the data's own

    def __post_init__(self) -> None:
        if self.latent is not None and self.latent < 1:
            raise UserError(f"coreml.latent must be at least 1, not {self.latent}; or null for the data's own size")
        if self.bits < 16 and self.precision == "fp32":
            raise UserError(
                f"weights of {self.bits} bits stand for fp16 numbers; set coreml.precision=fp16 or coreml.bits=16"
            )


CoremlConfig: TypeAlias = NoCoreml | Mlprogram
