"""What a training minimises: the settings. No torch."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchingConfig:
    """The mean squared error of the velocity on the straight path: `harness.diffusion.flow_matching`."""

    kind: Literal["flow_matching"] = "flow_matching"


ObjectiveConfig: TypeAlias = FlowMatchingConfig
