"""The ablation's YAML and the settings it is run with. No torch: a mistake in them is reported at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.architecture.factorial import Factorial
from harness.architecture.ladder import Ladder
from harness.records.errors import UserError, of_file, unknown_name
from harness.records.plain import from_plain, to_plain
from harness.trials.compose import merged, parsed
from harness.trials.scored_at import ScoredAt
from harness.trials.settings import Settings, settings_of, study_from
from harness.trials.studies import SWEEPS, find_study, read_kind
from harness.trials.twins import DeploymentTwin, Twin, with_twin
from harness.trials.varied import varied

MODES = ("cumulative", "one_at_a_time", "factorial")


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationStudy:
    """`sweeps/NAME.yaml` of an ablation."""

    architecture: Ladder
    """Written out; or `{ladder: fig3, base: thin_sdxl}`, the rungs of another ablation on another base; or
    `{base: laptop/thin_sdxl, mode: factorial, knobs: {...}}`, every combination of choices (see `factorial`)."""
    twin: DeploymentTwin | None = None
    """The size that costs are for, with the same edits: {base: thin_sdxl, latent: 128}."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of config.yaml, {recipe: laptop, seeds: [0]}; once it is read, the command line's among them."""
    scored_at: ScoredAt | None = None
    """Settings of sampling at which every network is scored, once all are trained, beside its trial's own score:
    {steps: [1, 4, 28], guidance: [1, 1.5], solvers: [euler, heun]}."""
    report: str | None = None  # reports/NAME.yaml: what to show; null: the ablation's own name


def ablation_study(name: str, overrides: Sequence[str]) -> tuple[AblationStudy, Settings]:
    """sweeps/NAME.yaml, and its settings with the command line's."""
    study = read_ablation(name)
    file = find_study(SWEEPS, name)
    settings = settings_of(overrides, with_twin(study.settings, study.twin), file=file)
    return replace(study, settings=merged(dict(study.settings), parsed(overrides))), settings


def read_ablation(name: str) -> AblationStudy:
    """sweeps/NAME.yaml, a ladder that it names filled in."""
    content, file = read_kind("ablation", name), find_study(SWEEPS, name)
    with of_file(file):
        return study_from(AblationStudy, _written_out(content, name, ()), file)


def twins_of(study: AblationStudy, settings: Settings) -> dict[str, Twin]:
    """Each rung's deployment twin; UserError names a rung that has none on that base."""
    if (twin := settings.twin) is None:
        return {}
    return {rung.name: twin.of(config) for rung, config in study.architecture.on(twin.base).architectures()}


def trainings_of(study: AblationStudy, settings: Settings) -> dict[str, Settings]:
    """Of each rung, whose edits may be of how it is trained. UserError names a rung whose edits cannot be."""
    trainings = {}
    for name, edits in study.architecture.trainings().items():
        if edits and settings.count_only:
            raise UserError(f"rung '{name}' sets {next(iter(edits))}, and count_only trains nothing; leave out one")
        try:
            trainings[name] = varied(settings, edits, study.settings) if edits else settings
        except UserError as error:
            raise UserError(f"rung '{name}': {error}") from error
    return trainings


def refusals(study: AblationStudy) -> list[str]:
    """A sentence for each combination of a factorial ablation that a rule refuses."""
    return [f"{name} is left out, a rule refuses it: {reason}" for name, reason in study.architecture.refused.items()]


def _written_out(content: Mapping[str, Any], name: str, through: tuple[str, ...]) -> dict[str, Any]:
    """The study with its ladder's rungs, wherever they are written; `through` are the studies that name this one."""
    ladder = content["architecture"]
    if isinstance(ladder, Mapping) and (mode := ladder.get("mode", MODES[0])) not in MODES:
        raise unknown_name("value for 'architecture.mode':", str(mode), MODES)
    if isinstance(ladder, Mapping) and ladder.get("mode") == "factorial":
        combinations = from_plain(Factorial, ladder, where="architecture").ladder()
        return {**content, "architecture": to_plain(combinations)}
    if not isinstance(ladder, Mapping) or "ladder" not in ladder:
        return dict(content)
    if unknown := set(ladder) - {"ladder", "base"}:
        raise unknown_name("setting", f"architecture.{min(unknown)}", ("architecture.ladder", "architecture.base"))
    other = str(ladder["ladder"])
    if other in (*through, name):
        raise UserError(f"the ladder of {name} is that of {other}, which is {name}'s again; name another")
    written = _written_out(read_kind("ablation", other), other, (*through, name))["architecture"]
    rungs = from_plain(Ladder, written, where=f"sweeps/{other}.yaml: architecture")
    return {**content, "architecture": to_plain(rungs.on(str(ladder["base"])) if "base" in ladder else rungs)}
