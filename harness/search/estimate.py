"""What a sweep would take: the estimate of `harness.trials.estimates` over its candidates, budgets and finalists.

Who is promoted is not known, how many are: of n results at a budget ceil(n / reduction), at most. A promoted candidate
goes on from its checkpoint, finalists train from step 0. Which networks come is not known either: they are taken to be
like the next ones, or like the space's base.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from harness.architecture.catalogue import architecture
from harness.search.definition import SweepStudy, check_epochs
from harness.search.halving import places
from harness.search.space import Space, read_space
from harness.trials.estimates import Training, lines_of
from harness.trials.rehearsal import NOTHING_DONE, rehearse
from harness.trials.settings import Settings
from harness.trials.spec import store_of
from harness.trials.study_data import Pictures, pictures_of

BASE = "base"


def sweep_trainings(definition: SweepStudy, steps: Sequence[int], network: Training, space: Space) -> list[Training]:
    """Every training of the whole sweep, at most, all of networks like this one."""
    trainings, candidates, before = [], definition.trials, 0
    for level, budget in enumerate(steps):
        candidates = candidates if level == 0 else places(candidates, definition.reduction, drained=True)
        trainings += [replace(network, steps=budget, begins_at=before)] * candidates
        before = budget
    if (finalists := definition.finalists) is not None:
        values = space.knobs[finalists.each].values() if finalists.each is not None else None
        most = min(candidates, finalists.most * len(values or (None,)))
        trainings += [replace(network, steps=steps[-1], begins_at=0)] * (most * finalists.seeds)
    return trainings


def like_all(networks: Sequence[Training]) -> Training:
    """One in their middle."""
    params, macs = (round(fmean(getattr(each, name) for each in networks)) for name in ("params", "macs"))
    return replace(networks[0], params=params, macs=macs)


def sweep_estimate(
    definition: SweepStudy, settings: Settings, steps: Sequence[int], networks: Sequence[Training]
) -> list[str]:
    """Lines on the whole sweep, of which nothing has run."""
    network = like_all(networks)
    trainings = sweep_trainings(definition, steps, network, read_space(definition.space))
    kept = definition.trials if settings.recipe.is_extendable else 0
    lines = lines_of(trainings, settings, store_of(settings.out).trials(), kept=kept)
    like = f"like these {len(networks)}" if len(networks) > 1 else "like this one"
    size = f"{network.params / 1e6:.4g} M parameters, {network.macs / 1e9:.4g} G multiply-adds as trained"
    return [f"the whole sweep, {definition.trials:,} candidates {like} ({size}):", *lines]


def without_data(definition: SweepStudy, settings: Settings) -> str:
    """A dry run of a sweep that names no data: the space's base counted, ImageNet's pictures assumed."""
    space, pictures = read_space(definition.space), pictures_of(settings)
    check_epochs(definition, space)
    steps = definition.budgets_for(pictures.train, settings.recipe.batch_size) or (settings.recipe.steps,)
    twins = {BASE: settings.twin.of(settings.twin.read())} if settings.twin is not None else {}
    rehearsed = rehearse(settings, {BASE: architecture(space.base)}, steps=steps[-1], twins=twins)
    lines = [
        *rehearsed.about_data,
        f"budgets: {', '.join(f'{each:,}' for each in steps)} steps{_epochs(definition, pictures, settings)}",
        *rehearsed.about_limits,
    ]
    if BASE in rehearsed.refused:
        nothing = "the space's base is refused, and tells nothing of candidates, which come where the data is"
        lines.append(f"{nothing}: {rehearsed.refused[BASE]}")
    else:
        lines.append("candidates are proposed where the data is; this is the space's base")
        lines += sweep_estimate(definition, settings, steps, [rehearsed.trainings[BASE]])
    return "\n".join([*lines, NOTHING_DONE])


def _epochs(definition: SweepStudy, pictures: Pictures, settings: Settings) -> str:
    if not definition.epochs:
        return ""
    epochs = ", ".join(f"{each:g}" for each in definition.epochs)
    return f", {epochs} epochs of {pictures.train:,} pictures in batches of {settings.recipe.batch_size:,}"
