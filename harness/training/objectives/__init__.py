"""Which objective a configuration is of. A new one is a file here, its configuration, and a line."""

from collections.abc import Callable, Mapping
from typing import Any

from harness.diffusion.flow_matching import Prompts
from harness.training.batches import TrainingData
from harness.training.device import resolve_device
from harness.training.objective import Objective
from harness.training.objective_config import FlowMatchingConfig, ObjectiveConfig
from harness.training.objectives.flow_matching import FlowMatching
from harness.training.recipe import Recipe

OBJECTIVES: Mapping[type, Callable[..., Objective[Any]]] = {FlowMatchingConfig: FlowMatching}


def build_objective(config: ObjectiveConfig, data: TrainingData, prompts: Prompts, recipe: Recipe) -> Objective[Any]:
    """On the recipe's device. UserError if the machine has no such device."""
    return OBJECTIVES[type(config)](config, data, prompts, recipe, resolve_device(recipe.device))
