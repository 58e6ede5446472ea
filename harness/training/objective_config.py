"""What a training minimises: the settings. No torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.architecture.kinds import kind_of


class ObjectiveConfig:
    """What a training minimises. Builder: (config, ...) -> `harness.training.objective.Objective`; what follows is what
    the tasks that it suits have to give: a denoiser's its data, prompts, recipe and device."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}


@kind_of(ObjectiveConfig, built_by="harness.training.objectives.flow_matching:FlowMatching")
@dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchingConfig(ObjectiveConfig):
    """The mean squared error of the velocity on the straight path: `harness.diffusion.flow_matching`."""

    kind: Literal["flow_matching"] = "flow_matching"
