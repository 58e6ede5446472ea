"""The ablation's YAML and the settings it is run with. No torch: what is wrong with them is said at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.architecture.ladder import Ladder
from harness.records.plain import from_plain
from harness.trials.settings import Settings, settings_of
from harness.trials.studies import read_kind


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationStudy:
    """`sweeps/NAME.yaml` of an ablation."""

    architecture: Ladder
    settings: Mapping[str, Any] = field(default_factory=dict)  # overrides of config.yaml: {recipe: laptop, seeds: [0]}
    report: str | None = None  # reports/NAME.yaml: what to show; null: the ablation's own name


def ablation_study(name: str, overrides: Sequence[str]) -> tuple[AblationStudy, Settings]:
    """sweeps/NAME.yaml, and its settings with the command line's."""
    study = from_plain(AblationStudy, read_kind("ablation", name))
    return study, settings_of(overrides, study.settings)
