"""`harness sweep NAME`: the sweep's files, its study and its queue put together.

OUT/NAME/sweep.json      the folder's id, and where the study lies
OUT/NAME/study.db        the Optuna study (storage: sqlite); any Optuna tool opens it
OUT/NAME/attempts/       the jobs, and the lock that keeps a second driver out
OUT/NAME/checkpoints/    of candidates that may be trained longer: here, or after a promotion (see `halving`)
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from harness.architecture.catalogue import architecture
from harness.launch.pool import Pool
from harness.launch.stopping import DriverStopped
from harness.records.errors import UserError
from harness.records.manifest import study_folder
from harness.records.plain import identity, to_plain
from harness.records.quantity import Known
from harness.search.candidates import Candidates
from harness.search.definition import (
    SweepStudy,
    check_finalists,
    check_unchanged,
    definition_of,
    note_sampler,
)
from harness.search.finalists import rescore_finalists
from harness.search.knob_checks import check_carries_over, check_recipes, check_types_of_values
from harness.search.problem import Placed, Problem, rungs_of
from harness.search.space import Space
from harness.search.space import space as space_of
from harness.search.study import DEFINITION, FLOOR, mend_journal, open_storage, open_study, place, writing
from harness.search.sweep import Ending, Sweep
from harness.trials.controls import control_key, submit_controls
from harness.trials.costs import latency_backends, twin_latency_backends
from harness.trials.prepared import Prepared, prepare
from harness.trials.progress import Show
from harness.trials.queue import POLL_S, TrialQueue
from harness.trials.settings import Settings
from harness.trials.spec import store_of
from harness.trials.studies import read_study
from harness.trials.twins import PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    study: optuna.Study
    settings: Settings
    place: str  # of the study: a path, or a URL without its password
    ending: str


def sweep(name: str, overrides: Sequence[str], show: Show) -> Swept:
    """Run the sweep, or go on with it, to its end."""
    definition, settings = definition_of(name, overrides)
    name, folder = Path(name).stem, study_folder(settings.out, Path(name).stem)
    problem, enqueued, remarks = problem_of(name, definition, settings, folder)
    for remark in remarks:
        show.note(remark)
    with Pool(folder / "attempts", settings.launcher) as pool:
        mend_journal(folder)
        storage = open_storage(folder, definition.storage)
        study = open_study(folder, name, definition.storage, storage, definition.objectives)
        where = place(folder, definition.storage)
        with writing(where):
            check_unchanged(study, began(problem, definition))
            note_sampler(study, definition.sampler)
            study.set_user_attr(DEFINITION, to_plain(definition))
        queue = TrialQueue(pool, on_loss=show.lost)
        try:
            floor = floor_of(problem, queue, show) if problem.top > 0 else None
            with writing(where):
                study.set_user_attr(FLOOR, floor)
                candidates = Candidates(study, storage, problem.space, where, time.time)
            running = Sweep(problem, definition, candidates, queue, time.time, show, floor=floor, enqueued=enqueued)
            ending = running.run()
            if definition.finalists is not None and not ending.halts:
                ending = rescore_finalists(running, definition.finalists, ending)
        except DriverStopped as stopped:
            ending = Ending(f"{stopped}; the same command continues", halts=True)
    return Swept(study=study, settings=settings, place=where, ending=ending.reason)


def problem_of(
    name: str, definition: SweepStudy, settings: Settings, folder: Path
) -> tuple[Problem, list[Placed], list[str]]:
    """What is searched; the candidates that the sweep begins with; sentences on those that could not be placed."""
    space, twin = space_of(read_study("search_spaces", definition.space)), settings.twin
    check_types_of_values(space)
    if twin is not None:
        check_carries_over(space, twin)
    check_recipes(space, settings, several_budgets=len(definition.budgets) > 1)
    check_finalists(definition, space)
    prepared = prepare(settings)
    problem = Problem(
        name=name,
        space=space,
        base=architecture(space.base),
        twin_base=None if twin is None else twin.read(),
        objectives=definition.objectives,
        levels=tuple(prepared.with_steps(steps) for steps in definition.budgets) or (prepared,),
        folder=folder,
    )
    remarks = grid_remarks(space, definition) if definition.sampler == "grid" else []
    if definition.enqueue is None:
        return problem, [], remarks
    enqueued, unplaced = rungs_of(definition.enqueue, space, prepared.adapt_to_data, settings.recipe)
    return problem, enqueued, [*remarks, *unplaced]


def grid_remarks(space: Space, definition: SweepStudy) -> list[str]:
    """How many points the grid has. Errors: UserError where it has no end."""
    points = space.count()
    if points is None:
        name = next(name for name, knob in space.knobs.items() if knob.values() is None)
        raise UserError(f"a grid has an end, and knob '{name}' has too many values; give it choices, or a step")
    some = f"; trials={definition.trials:,} trains no more" if definition.trials < points else ""
    return [f"the grid has {points:,} points, those that a rule or a limit refuses among them{some}"]


def began(problem: Problem, definition: SweepStudy) -> dict[str, Any]:
    """What may not change while a study goes on."""
    settings, objectives = problem.levels[-1].settings, problem.objectives
    backends = {one.quantity: one for one in latency_backends(settings)}
    if settings.twin is not None:
        backends |= {f"{PREFIX}{one.quantity}": one for one in twin_latency_backends(settings)}
    of_twin = any(name.startswith(PREFIX) for name in objectives)
    return {
        "space": problem.space,
        "base": problem.base,  # its file may change while its name stays
        "objectives": problem.objectives,
        "budgets": problem.steps,
        "reduction": definition.reduction,
        "protocol": problem.levels[-1].protocol.sections,
        "latency": {name: identity(backends[name]) for name in objectives if name in backends},  # the chip among others
        "twin": {"latent": settings.twin.latent, "base": problem.twin_base} if settings.twin and of_twin else None,
        "seed": problem.seed,
    }


def floor_of(problem: Problem, queue: TrialQueue, show: Show) -> float:
    """The KID of a Gaussian fitted to the pixels, under the protocol of the top budget; computed now if it never was.

    Budgets share all of the protocol that it depends on. Errors: UserError where it has no value.
    """
    prepared: Prepared = problem.levels[-1]
    base = prepared.adapt_to_data(problem.base)
    key, store = control_key("pixel_gaussian", prepared, base), store_of(prepared.settings.out)
    if store.measurement(key) is None:
        show.note("computing the controls: what a Gaussian fitted to the pixels scores is the floor for promotions")
        submit_controls(queue, prepared, base)
        while queue.in_flight:
            queue.poll(POLL_S)
    found = store.measurement(key)
    quantity = None if found is None else found.quantities.get("kid")
    if not isinstance(quantity, Known):
        why = "; ".join(queue.failures) or str(quantity)
        raise UserError(
            f"budgets need a floor, the KID of a Gaussian fitted to the pixels, and it is not known: {why}; mend that, "
            "or give one budget"
        )
    show.note(f"floor: candidates are promoted below a KID of {quantity.value:.4g}, a pixel Gaussian's")
    return float(quantity.value)
