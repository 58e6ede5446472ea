"""A chain's YAML, `sweeps/chains/NAME.yaml`: its stages in their order, each with its settings.

    settings: {data: digits, recipe: laptop, ...}      of every stage
    stages:
      search: {space: laptop, objectives: {kid: minimize, macs: minimize}, trials: 6, budgets: [50, 150]}
      promote: {rule: best}
      teacher: {architecture: laptop/teacher, settings: {recipe.steps: 600}}
      train: {settings: {recipe.steps: 600}}
      distil: {settings: {recipe.steps: 300}}
      few_steps: {settings: {objective.steps: 4, recipe.steps: 100}}
      export:
      total: {chip: A17 Pro}

A stage without more to say is its name and a colon. On the command line `recipe.steps=9` is said of every stage, and
`train.recipe.steps=9` of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from harness.records.errors import UserError, of_file, unknown_name
from harness.records.manifest import Rule, study_folder
from harness.records.plain import from_plain
from harness.trials.compose import merged, parsed
from harness.trials.scored_at import ScoredAt
from harness.trials.studies import find_study, read_study

CHAINS = "sweeps/chains"
"""Where chains lie."""
FOLDER = "chains"
"""In the folder of all studies, with a folder for each chain: OUT/chains/NAME."""

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Promote:
    """`harness promote`: whom of the search."""

    title: ClassVar[str] = "promote"
    rule: Rule = "best"
    score: str | None = None
    cost: str | None = None
    at_most: Mapping[str, float] = field(default_factory=dict)
    """Of rule limit: {twin.macs: 1e12}."""

    def __post_init__(self) -> None:
        if bool(self.at_most) != (self.rule == "limit"):
            raise UserError("at_most goes with rule: limit, and that one with it; give both, or neither")
        if self.cost is not None and self.rule != "knee":
            raise UserError("cost goes with rule: knee; leave it out, or give that rule")
        if wrong := [name for name, most in self.at_most.items() if not 0 < most < inf]:
            raise UserError(f"at_most is a number above 0, and {wrong[0]} has {self.at_most[wrong[0]]:g}; give another")


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """`harness train`."""

    architecture: str | None = None
    """A name of the catalogue, or a YAML's path; of a stage behind `promote` the promoted one."""
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class FewSteps:
    """`harness train objective=step_distillation`, and `harness evaluate` of its network and of the one before."""

    settings: Settings = field(default_factory=dict)
    scored_at: ScoredAt | None = None
    """Where both are scored, with one solver; null: at its own steps and at those of the one before, with that one's
    guidance and without."""

    def __post_init__(self) -> None:
        if self.scored_at is not None and len(self.scored_at.solvers) > 1:
            raise UserError(
                f"scored_at.solvers of a chain is one, not {list(self.scored_at.solvers)}; score with others by "
                "`harness evaluate KEY sampling.solver=NAME`"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """What makes pictures of latents, on the phone: exported, and timed; with settings trained, by `harness train
    task=decode`."""

    architecture: str = "decoder/tiny"
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """`harness export` of the last network, and of the decoder."""

    target: str | None = None
    layout: str | None = None
    bits: int | None = None
    parity: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """`harness latency total`."""

    chip: str | tuple[str, ...] = "A17 Pro"
    steps: tuple[int, ...] = ()
    """Passes of the network, beside those that its stages sample in."""

    def __post_init__(self) -> None:
        if not self.chips or not all(self.chips):
            raise UserError("stage total has no chip; name one, or several: total: {chip: A17 Pro}, or leave it out")

    @property
    def chips(self) -> tuple[str, ...]:
        return (self.chip,) if isinstance(self.chip, str) else self.chip


STAGES: Mapping[str, type | None] = {
    "search": None,  # a sweep, or the name of one
    "promote": Promote,
    "teacher": Training,
    "train": Training,
    "distil": Training,
    "few_steps": FewSteps,
    "decoder": Decoder,
    "export": Export,
    "total": Total,
}
"""In their order."""
TRAINED = ("teacher", "train", "distil", "few_steps")
"""Those that train a network."""
NEEDS: Mapping[str, str] = {
    "promote": "search",
    "distil": "train",
    "few_steps": "train",
    "export": "train",
    "total": "train",
    "decoder": "train",
}
SWEEP = "sweep"
"""In `search`: the sweep that what stands beside it changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainStudy:
    """`sweeps/chains/NAME.yaml`."""

    summary: str = ""
    """A line about it."""
    settings: Settings = field(default_factory=dict)
    """Overrides of config.yaml, of every stage."""
    stages: Mapping[str, Any]
    pictures: int = 32
    """Samples of each trained stage that its page shows, from the same noise; 0: none."""
    report: str | None = None
    """reports/NAME.yaml: the page; null: the default one."""
    said: Mapping[str, Settings] = field(default_factory=dict)
    """Stage -> what the command line says of its settings, the last word: of this one alone before that of all."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError(f"a chain has stages, of {', '.join(STAGES)}, in this order; write some")
        for name in self.stages:
            if name not in STAGES:
                raise unknown_name("stage", str(name), STAGES)
        order = [name for name in STAGES if name in self.stages]
        if list(self.stages) != order:
            raise UserError(f"stages come in this order: {', '.join(order)}, not {', '.join(self.stages)}; turn them")
        if not 0 <= self.pictures <= 1024:
            raise UserError(f"pictures is a number of samples from 0 to 1,024, not {self.pictures}")
        _check_needs(self)

    def stage(self, name: str) -> Any:
        """Its own keys, read."""
        cls = STAGES[name]
        assert cls is not None
        return from_plain(cls, self.stages[name] or {}, where=name)

    def own(self, name: str) -> dict[str, Any]:
        """The settings of that stage alone."""
        return dict((self.stages[name] or {}).get("settings") or {})

    def names_teacher(self, stage: str) -> bool:
        """Whether that stage learns from a network that is none of the chain's."""
        return "objective.teacher.name" in {**self.own(stage), **self.said.get(stage, {})}

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(name for name in self.stages if name in TRAINED)

    @property
    def last(self) -> str:
        """The stage whose network is exported."""
        return next(name for name in reversed(self.trained) if name != "teacher")


def _check_needs(study: ChainStudy) -> None:
    """Each stage has what it takes from another."""
    stages = study.stages
    for name, content in stages.items():
        if content is not None and not isinstance(content, Mapping):
            raise UserError(f"stage {name} is a mapping of what it does, {name}: {{...}}, not {content!r}")
        if (need := NEEDS.get(name)) is not None and need not in stages:
            raise UserError(f"stage {name} goes on from stage {need}, and there is none; add it, or leave out {name}")
    if "search" in stages and "promote" not in stages and "train" in stages:
        raise UserError("stage search finds architectures, and stage promote says which is trained; add it: promote:")
    for name in set(stages) - {"search"}:
        study.stage(name)
    _check_search(stages["search"] or {} if "search" in stages else {"space": ""})
    _check_architectures(study)
    if {"distil", "teacher"} & set(stages) == {"distil"} and not study.names_teacher("distil"):
        raise UserError(
            "stage distil learns from a teacher, and there is none; add stage teacher, or name a network that was "
            "trained: distil: {settings: {objective.teacher.name: KEY}}"
        )


def _check_search(search: Mapping[str, Any]) -> None:
    if SWEEP not in search and "space" not in search:
        raise UserError(
            "stage search is a sweep, search: {sweep: laptop}, or one written out, search: {space: laptop, objectives: "
            "{kid: minimize, macs: minimize}}; name one"
        )


def _check_architectures(study: ChainStudy) -> None:
    """What is trained is promoted, or named; what goes on from a network has its architecture."""
    stages = study.stages
    if "teacher" in stages and study.stage("teacher").architecture is None:
        raise UserError("stage teacher trains an architecture that it names: teacher: {architecture: laptop/teacher}")
    if "train" in stages:
        named = study.stage("train").architecture
        if named is None and "promote" not in stages:
            raise UserError(
                "stage train trains what stage promote chooses, or an architecture that it names: train: "
                "{architecture: laptop/thin_sdxl}; add one"
            )
        if named is not None and "promote" in stages:
            raise UserError(f"stage train is given two architectures, {named} and the promoted one; leave out one")
    if "distil" in stages and (named := study.stage("distil").architecture) is not None:
        raise UserError(f"stage distil trains the network of stage train on, and not {named}; leave out architecture")


def chain_study(name: str, overrides: Sequence[str]) -> tuple[ChainStudy, Path, Path]:
    """The chain, with what the command line says of it; its file; and the folder `out`. UserError for what is wrong
    with the YAML itself: `harness.chain.settings` has what is wrong with a stage's settings."""
    file = find_study(CHAINS, name)
    content = read_study(CHAINS, name)
    for verb, key in (("ablate", "architecture"), ("sweep", "space")):
        if "stages" not in content and key in content:
            raise UserError(f"'{name}' is no chain: it has no 'stages'; `harness {verb} {name}` runs it")
    typed = parsed(overrides)
    with of_file(file):
        for key in content:
            if key == "said" or key not in (names := [each.name for each in fields(ChainStudy) if each.name != "said"]):
                raise unknown_name("setting", str(key), names)
        settings = dict(content.get("settings") or {})
        out = Path(str(typed.pop("out", settings.pop("out", "runs"))))
        stages = _with_typed(content.get("stages") or {}, typed)
        said = {name: _said_of(name, typed) for name in STAGES}
        study = from_plain(ChainStudy, {**content, "settings": merged(settings, {}), "stages": stages, "said": said})
    study_folder(out, file.stem)  # a name that a folder can have
    return study, file, out


def _with_typed(stages: Any, typed: Mapping[str, Any]) -> Any:
    """The stages with what the command line says of one: `train.recipe.steps=9`, `search.trials=4`."""
    changed = {name: dict(content or {}) for name, content in stages.items()} if isinstance(stages, Mapping) else stages
    for path, value in typed.items():
        name, _, below = path.partition(".")
        if name not in STAGES:
            continue
        if not isinstance(changed, dict) or name not in changed:
            raise UserError(f"{path} says something of stage {name}, and this chain has none; leave it out")
        if not below:
            raise UserError(f"{path} is a whole stage; name what differs: {name}.recipe.steps=9")
        if below.split(".")[0] in own_keys(name):
            _set(changed[name], below.split("."), value)
        else:
            changed[name]["settings"] = {**(changed[name].get("settings") or {}), below: value}
    return {name: content or None for name, content in changed.items()} if isinstance(changed, dict) else changed


def _said_of(stage: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    of_all = {path: value for path, value in typed.items() if path.partition(".")[0] not in STAGES}
    below = {path.partition(".")[2]: value for path, value in typed.items() if path.partition(".")[0] == stage}
    return merged(of_all, {path: each for path, each in below.items() if path.split(".")[0] not in own_keys(stage)})


def own_keys(stage: str) -> tuple[str, ...]:
    """What a stage has beside its settings."""
    from harness.search.definition import SweepStudy

    cls = STAGES[stage] or SweepStudy
    return (*(each.name for each in fields(cls) if each.name != "settings"), *((SWEEP,) if stage == "search" else ()))


def _set(content: dict[str, Any], path: Sequence[str], value: Any) -> None:
    first, *below = path
    if below:
        content[first] = dict(content.get(first) or {})
        _set(content[first], below, value)
    else:
        content[first] = value


def chain_folder(out: Path, name: str) -> Path:
    return out / FOLDER / name
