"""What a sweep searches: knob values to architectures, architectures to trials at each budget, records to values.

A candidate is first counted, with its deployment twin, and held against the hard limits: the cheap gate. A record that
is complete may still lack a latency that waits in a queue. Then the candidate waits, too: it is in no level of
halving, on no front and among no finalists before the measurement is there. The sampler alone has values of it
meanwhile, the other objectives with what a model of the instrument predicts (`stand_in`); where nothing can be
predicted it has none: the trial runs, to it.

The other way round, the rungs of an ablation are placed into the space's knobs, to be a sweep's first candidates.
"""

import functools
import itertools
import operator
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.records.errors import UserError
from harness.records.judging import Judging
from harness.records.plain import fingerprint, identity
from harness.records.quantity import Counted, Failed, Quantity, Unavailable, known_or_expected, value_of
from harness.records.record import TrialRecord, why
from harness.search.candidates import Candidate
from harness.search.knob import Knob, Parameters, Value
from harness.search.pareto import Direction, Losses, all_scaled, losses_of
from harness.search.space import Space
from harness.search.study import CHECKPOINTS
from harness.training.recipe import Recipe
from harness.trials.ablation_study import read_ablation
from harness.trials.costs import before_training
from harness.trials.limits import LatencyLimit, Limits, checks, first_refusal
from harness.trials.outcomes import queued_backends
from harness.trials.prepared import Prepared
from harness.trials.spec import TrialSpec
from harness.trials.studies import SWEEPS, read_study
from harness.trials.twins import Twin
from harness.trials.varied import varied_recipe

UNKNOWN = 1.0
"""The violation of a limit that cannot be checked, as if the value were twice the limit: chosen, because a sampler
knows no unknown, and an infinity is no JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    quantities: Mapping[str, Quantity]
    violations: Mapping[str, float]  # limit -> value / limit - 1: at most 0 within it
    refusal: str | None  # the sentence for the first limit that is exceeded

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are known, by quantity; what was not counted says so: `latency_ms_predicted`."""
        numbers = {_name(name, quantity): value_of(quantity) for name, quantity in self.quantities.items()}
        return {name: value for name, value in numbers.items() if value is not None}


def _name(name: str, quantity: Quantity) -> str:
    says_so = isinstance(quantity, Counted) or name.endswith(quantity.kind)
    return name if says_so else f"{name}_{quantity.kind}"


def gate(prepared: Prepared, architecture: ArchitectureConfig, twin: Twin | None = None) -> Gated:
    """Count the candidate and its deployment twin, predict what a limit on latency asks for, and hold the settings'
    limits."""
    settings = prepared.settings
    quantities = before_training(prepared.spec("", architecture, settings.seeds[0], twin=twin))
    return Gated(
        quantities=quantities,
        violations={
            check.name: check.excess if isfinite(check.excess) else UNKNOWN
            for check in checks(quantities, settings.limits)
        },
        refusal=first_refusal(quantities, settings.limits),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One of `values`, `awaits` and `failed`."""

    values: tuple[float, ...] | None = None
    awaits: tuple[str, ...] = ()  # objectives
    stand_in: tuple[float, ...] | None = None
    failed: str = ""


def outcome_of(record: TrialRecord, objectives: Iterable[str], queued: Collection[str]) -> Outcome:
    """`queued` are the quantities that queues are asked for: what they lack now they may have later, also where the
    queue's folder was out of reach."""
    if record.state != "complete":
        return Outcome(failed=why(record))
    quantities = {name: record.quantities.get(name) for name in objectives}
    lacking = {name: quantity for name, quantity in quantities.items() if value_of(quantity) is None}
    for name, quantity in lacking.items():
        if not isinstance(quantity, Unavailable) or name not in queued:
            return Outcome(failed=f"no {name}: {_reason(quantity)}")
    if lacking:
        expected = [_or_expected(quantity) for quantity in quantities.values()]
        stand_in = [value for value in expected if value is not None]
        return Outcome(awaits=tuple(lacking), stand_in=tuple(stand_in) if len(stand_in) == len(expected) else None)
    return Outcome(values=tuple(value for each in quantities.values() if (value := value_of(each)) is not None))


def awaited(count: int) -> str:
    """`2 candidates await a measurement: ...`"""
    who = "1 candidate awaits" if count == 1 else f"{count:,} candidates await"
    return (
        f"{who} a measurement: the same command goes on when it has come, and with it (`harness latency queue` says "
        "what keeps it)"
    )


def _or_expected(quantity: Quantity | None) -> float | None:
    return value_of(known_or_expected(quantity))


def _reason(quantity: Quantity | None) -> str:
    if isinstance(quantity, Failed):
        return f"{quantity.phase}: {quantity.message}"
    return quantity.reason if isinstance(quantity, Unavailable) else "its record has none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What a combination of knob values stands for."""

    architecture: ArchitectureConfig  # what is trained: fitted to the data
    twin: Twin | None  # what it would be where it is deployed, if the study names that
    recipe: Recipe | None = None  # how, at the lowest budget; None: as all of the sweep
    parameters: Parameters = field(default_factory=dict, compare=False)

    @property
    def fingerprint(self) -> str:
        """What tells candidates apart: two that train the same network alike are one, whatever their twins."""
        if self.recipe is None:
            return self.architecture.fingerprint
        trained = {"architecture": self.architecture.fingerprint, "recipe": identity(self.recipe)}
        return fingerprint(trained, schema="candidate-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    name: str
    space: Space
    base: ArchitectureConfig  # the space's, read once
    twin_base: ArchitectureConfig | None = None  # the deployment twin's, read once
    objectives: Mapping[str, Direction]
    levels: tuple[Prepared, ...]  # one a budget, lowest first
    folder: Path  # OUT/NAME

    @property
    def steps(self) -> tuple[int, ...]:
        """Training steps of each level."""
        return tuple(level.settings.recipe.steps for level in self.levels)

    @property
    def top(self) -> int:
        return len(self.levels) - 1

    @property
    def seed(self) -> int:
        return self.levels[0].settings.seeds[0]

    @property
    def judging(self) -> Judging:
        return self.levels[0].settings.task.judging

    @property
    def checkpoints(self) -> Path:
        """Of candidates that may be trained longer: a folder each, named by the key of its trial at the first level."""
        return self.folder / CHECKPOINTS

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether a longer training, here or after a promotion, can go on from them."""
        settings = self.levels[0].settings
        return self.top > 0 or (settings.recipe.is_extendable and not settings.count_only)

    def drop_checkpoints(self, keys: Iterable[str]) -> None:
        for key in keys:
            shutil.rmtree(self.checkpoints / key, ignore_errors=True)

    def point(self, parameters: Parameters) -> Point:
        """A rule that refuses the combination, its twin or its recipe, raises UserError."""
        settings = self.levels[0].settings
        config = self.levels[0].adapt_to_data(with_edits(self.base, self.space.edits(parameters)))
        recipe = varied_recipe(settings.recipe, self.space.recipe(parameters)) if self.space.turns_recipe else None
        twin = None
        if settings.twin is not None and self.twin_base is not None:
            twin = settings.twin.edited(self.twin_base, self.space.twin_edits(parameters))
        return Point(architecture=config, twin=twin, recipe=recipe, parameters=parameters)

    def prepared(self, point: Point, level: int) -> Prepared:
        """What the level's trials share, under the candidate's own recipe; the level says for how many steps."""
        prepared, recipe = self.levels[level], point.recipe
        return prepared if recipe is None else prepared.with_recipe(replace(recipe, steps=self.steps[level]))

    def gate(self, point: Point) -> Gated:
        return gate(self.levels[0], point.architecture, point.twin)

    def spec(self, name: str, point: Point, level: int) -> TrialSpec:
        """The trial that an ablation with this level's recipe would run, but its checkpoints may outlive it."""
        kept = None
        if self.keeps_checkpoints:
            kept = self.checkpoints / self.prepared(point, 0).spec(name, point.architecture, self.seed).key
        return self.prepared(point, level).spec(
            name,
            point.architecture,
            self.seed,
            group=self.name,
            checkpoints=kept,
            twin=point.twin,
            knobs=point.parameters,
        )

    def fresh_spec(self, name: str, parameters: Parameters, number: int, *, parent: str) -> TrialSpec:
        """The top budget's trial with another seed and other samples, both of this fresh number; it re-scores the trial
        `parent`."""
        point = self.point(parameters)
        level = self.prepared(point, self.top).with_scoring_seed(number)
        return level.spec(
            name,
            point.architecture,
            number,
            group=self.name,
            parent=parent,
            fidelity="final",
            twin=point.twin,
            knobs=parameters,
        )

    def outcome(self, record: TrialRecord) -> Outcome:
        """What the record says of the objectives."""
        return outcome_of(record, self.objectives, queued_backends(self.levels[0].settings))

    @property
    def samples(self) -> int:
        """How many a candidate is scored on."""
        return self.levels[-1].samples

    def scaled(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Every objective on the scale on which its distances are judged; the order stays."""
        return all_scaled(dict(zip(self.objectives, values, strict=True)), self.samples)

    def losses(self, values: tuple[float, ...]) -> Losses:
        """Lower is better, for every objective; scaled."""
        return losses_of(self.scaled(values), tuple(self.objectives.values()))


MOST = 10_000  # combinations looked at for one architecture


@dataclass(frozen=True, slots=True)
class Placed:
    name: str  # `fig3/ffn3`
    parameters: Parameters


def rungs_of(
    name: str, space: Space, fit: Callable[[ArchitectureConfig], ArchitectureConfig], recipe: Recipe
) -> tuple[list[Placed], list[str]]:
    """The rungs of sweeps/NAME.yaml, trained by the sweep's `recipe`, as combinations of the space's knobs; a sentence
    for each that is none."""
    try:
        content = read_study(SWEEPS, name)
    except UserError as error:
        raise UserError(f"enqueue: {error}") from error
    if "architecture" not in content:
        raise UserError(f"enqueue: {name} is no ablation; name one whose rungs are to be the first candidates")
    placed, remarks = [], []
    for rung, config in read_ablation(name).architecture.architectures():
        parameters = parameters_of(space, fit(config), fit, recipe)
        if parameters is None:
            remarks.append(f"{name}/{rung.name} is not enqueued: no combination of the space's knobs makes it")
        else:
            placed.append(Placed(f"{name}/{rung.name}", parameters))
    return placed, remarks


def parameters_of(
    space: Space,
    target: ArchitectureConfig,
    fit: Callable[[ArchitectureConfig], ArchitectureConfig],
    recipe: Recipe,
) -> Parameters | None:
    """A combination of knob values whose architecture, fitted to the data, is `target`, and whose recipe is `recipe`;
    None where there is none.

    A value comes into question if its edits leave both as they are.
    """
    base = architecture(space.base)
    fitting = {name: _leaving(space, name, target, recipe) for name in space.knobs}
    for parameters in itertools.islice(_combined(space, fitting), MOST):
        try:
            config = fit(with_edits(base, space.edits(parameters)))
            if config == target and varied_recipe(recipe, space.recipe(parameters)) == recipe:
                return parameters
        except UserError:
            continue  # a rule refuses this one
    return None


def _leaving(space: Space, name: str, target: ArchitectureConfig, recipe: Recipe) -> Sequence[Value]:
    """The knob's values that leave both as they are: by themselves, or with values of the knobs that exist beside them,
    which set again what they set."""
    fitting = []
    for value in _tried(space.knobs[name], recipe):
        beside = {other: knob for other, knob in space.knobs.items() if value in knob.when.get(name, ())}
        options = [[{}, *({other: each} for each in _tried(knob, recipe))] for other, knob in beside.items()]
        combined = (functools.reduce(operator.or_, chosen, {name: value}) for chosen in itertools.product(*options))
        if any(_leaves(space, parameters, target, recipe) for parameters in combined):
            fitting.append(value)
    return fitting


def _leaves(space: Space, parameters: Parameters, target: ArchitectureConfig, recipe: Recipe) -> bool:
    try:
        kept = with_edits(target, space.edits(parameters)) == target
        return kept and varied_recipe(recipe, space.recipe(parameters)) == recipe
    except UserError:
        return False  # this architecture has no such place


def _tried(knob: Knob, recipe: Recipe) -> Sequence[Value]:
    """The knob's values; of a continuum, the recipe's own, if it lies in it."""
    values, ends = knob.values(), knob.range
    if values is not None or ends is None or not knob.of_recipe:
        return values or ()
    setting = getattr(recipe, knob.of_recipe[0])
    return (setting,) if isinstance(setting, int | float) and ends[0] <= setting <= ends[1] else ()


def _combined(space: Space, fitting: dict[str, Sequence[Value]]) -> itertools.chain[dict[str, Value]]:
    layers: list[dict[str, Value]] = [{}]
    for name, knob in space.knobs.items():
        layers = [
            {**parameters, **option}
            for parameters in layers
            for option in ([{name: value} for value in fitting[name]] if knob.exists(parameters) else [{}])
        ][:MOST]
    return itertools.chain(layers)


def why_all_are_refused(refused: Sequence[Candidate], reasons: Sequence[str], limits: Limits) -> str:
    """Which limits all of these candidates exceed, and the smallest value seen; if there is none, the last reason."""
    counted = [candidate for candidate in refused if candidate.violations]
    sentences = []
    for name, limit in limits.items():
        smallest = min((candidate.violations[name] for candidate in counted), default=0.0)
        if smallest > 0 and smallest != UNKNOWN:
            most = limit.at_most if isinstance(limit, LatencyLimit) else limit
            sentences.append(
                f"none has {name} of at most {most:,.6g}, the smallest seen is {(1 + smallest) * most:,.6g}"
            )
    if not sentences or any(isinstance(limit, LatencyLimit) for limit in limits.values()):
        sentences.append(f"the last because {reasons[-1]}")  # it says whether a latency was measured or predicted
    what = "; ".join(sentences)
    return f"{len(reasons):,} candidates in a row were refused: {what}; loosen the limits or change the space"
