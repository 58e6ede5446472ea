"""`harness space NAME`: what may vary, how many architectures that makes, and some of them drawn at random."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.errors import UserError, of_file
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.architecture.config import ArchitectureConfig
    from harness.search.knob import Parameters
    from harness.search.space import Space
    from harness.trials.twins import DeploymentTwin

ENUMERATED = 10_000
"""Combinations up to which every architecture is made, to count the distinct ones."""
DRAWS = 1_000
"""Draws in a row that rules may refuse before a space counts as impossible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Census:
    """A space enumerated: combinations of knob values, those that a rule refuses, and distinct candidates."""

    combinations: int
    refused: int
    distinct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What is shown of a space."""

    name: str
    space: Space
    combinations: int | None  # None: a continuum
    census: Census | None  # where all combinations were made
    samples: list[dict[str, Any]]
    twin: str | None  # the base on which every value was checked to mean something


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="draw N architectures at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default 0")
    parser.add_argument("--latent", type=int, help="height and width of the latent of the samples' counts")
    parser.add_argument("--twin", metavar="BASE", help="check that every value means something on this larger network")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    from harness.architecture.catalogue import architecture
    from harness.architecture.latents import deployment_latent
    from harness.diffusion.config import LAST_SEED
    from harness.search.knob_checks import check_carries_over, check_types_of_values
    from harness.search.space import SPACES, read_space
    from harness.trials.studies import find_study

    if arguments.overrides:
        raise UserError(f"space takes no settings, not '{arguments.overrides[0]}'; edit a copy of its YAML")
    if arguments.samples < 0:
        raise UserError(f"--samples is at least 0, not {arguments.samples}")
    if not 0 <= arguments.seed <= LAST_SEED:
        raise UserError(f"--seed is a whole number from 0 to {LAST_SEED}, not {arguments.seed}")
    space = read_space(arguments.name)
    if arguments.samples:
        deployment_latent(arguments.latent, architecture(space.base))
    twin = _twin(arguments.twin) if arguments.twin is not None else None
    with of_file(find_study(SPACES, arguments.name)):
        check_types_of_values(space)
        if twin is not None:
            check_carries_over(space, twin)
        combinations = space.count()
        enumerated = census(space) if combinations is not None and combinations <= ENUMERATED else None
    drawn = itertools.islice(draws(space, arguments.seed), arguments.samples)
    samples = [_sampled(parameters, config, arguments.latent) for parameters, config in drawn]
    overview = Overview(
        name=arguments.name,
        space=space,
        combinations=combinations,
        census=enumerated,
        samples=samples,
        twin=arguments.twin,
    )
    print(_plain(overview) if arguments.json else _text(overview))
    return 0


VERB = Verb(
    summary="count a search space's architectures and draw from it",
    name="a space in search_spaces/, or the path of its YAML",
    example="harness space full --samples 5",
    lists="spaces",
    flags=flags,
    run=run,
)


def _twin(base: str) -> DeploymentTwin:
    """On that base; at the smallest latent, since nothing is counted at it."""
    from harness.architecture.catalogue import architecture
    from harness.trials.twins import DeploymentTwin

    return DeploymentTwin(base=base, latent=architecture(base).latent_multiple)


def census(space: Space) -> Census:
    """Every combination, told apart by its architecture's fingerprint and what it sets of the recipe. A millisecond or
    two each. UserError for a value of a knob that rules refuse in all of them."""
    from harness.records.eta import with_eta
    from harness.records.plain import canonical_json
    from harness.search.space import every_architecture

    combinations, refused, seen = 0, 0, set()
    every = with_eta(space.combinations(), "making every architecture", space.count() or 0)
    for parameters, config in every_architecture(space, every):
        combinations += 1
        if isinstance(config, UserError):
            refused += 1
        else:
            seen.add((config.fingerprint, canonical_json(space.recipe(parameters))))
    return Census(combinations=combinations, refused=refused, distinct=len(seen))


def draws(space: Space, seed: int) -> Iterator[tuple[Parameters, ArchitectureConfig]]:
    """Architectures drawn knob by knob, without end; combinations that a rule refuses are drawn again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    refused = 0
    while True:
        parameters = space.suggest(study.ask())
        try:
            config = space.architecture(parameters)
        except UserError as error:
            refused += 1
            if refused == DRAWS:
                raise UserError(f"rules refused {DRAWS} draws in a row, the last because {error}") from error
            continue
        refused = 0
        yield parameters, config


def _sampled(parameters: Parameters, config: ArchitectureConfig, latent: int | None) -> dict[str, Any]:
    from harness.architecture.latents import deployment_latent
    from harness.trials.costs import cost_of

    at = deployment_latent(latent, config)
    cost = cost_of(config, at)
    counts = {"params": cost.params, "macs": cost.macs, "latent": at}
    return {"fingerprint": config.fingerprint, **counts, "knobs": dict(parameters)}


def size_sentence(combinations: int | None, enumerated: Census | None, what: str = "architectures") -> str:
    """How many there are, and how that is known. `what` they are: candidates, if recipes differ too."""
    if enumerated is not None:
        refused = f", {enumerated.refused:,} of them refused by a rule" if enumerated.refused else ""
        return (
            f"{enumerated.distinct:,} distinct {what}: all {enumerated.combinations:,} combinations made"
            f"{refused}, told apart by {'fingerprint' if what == 'architectures' else 'fingerprint and recipe'}"
        )
    if combinations is None:
        return f"a continuum of {what}: some knob takes any number of its range"
    return (
        f"at most {combinations:,} ({combinations:.2g}) {what}: too many to make, so combinations of knobs are "
        "counted; those that a rule refuses, or that are the same network, are in the number"
    )


def _plain(shown: Overview) -> str:
    return json.dumps(
        {
            "name": shown.name,
            "base": shown.space.base,
            "knobs": len(shown.space.knobs),
            "twin": shown.twin,
            "combinations": shown.combinations,
            "distinct": shown.census.distinct if shown.census else None,
            "refused": shown.census.refused if shown.census else None,
            "samples": shown.samples,
        }
    )


def _text(shown: Overview) -> str:
    rows = [
        (
            name,
            ", ".join(map(str, knob.values() or (f"{knob.range[0]:g} to {knob.range[1]:g}" if knob.range else "",))),
            "; ".join(f"{other} is {' or '.join(map(str, values))}" for other, values in knob.when.items()),
        )
        for name, knob in shown.space.knobs.items()
    ]
    lines = [table(("knob", "values", "only where"), rows, f"{shown.name}: around {shown.space.base}")]
    what = "candidates" if shown.space.turns_recipe else "architectures"
    lines.append(size_sentence(shown.combinations, shown.census, what))
    if shown.twin is not None:
        lines.append(f"every value means something on {shown.twin}, as a deployment twin's base")
    for sample in shown.samples:
        knobs = " ".join(f"{knob}={value}" for knob, value in sample["knobs"].items())
        counts = f"{sample['params']:,} params, {sample['macs']:,} macs at {sample['latent']}x{sample['latent']}"
        lines.append(f"{sample['fingerprint']}  {counts}\n    {knobs}")
    return "\n".join(lines)
