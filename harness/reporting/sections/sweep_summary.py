"""The top of a sweep's report: what was searched, what came out, and how far that can be trusted."""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean

from harness.records.conclusions import Conclusions, RescoredObjective
from harness.records.quantities import better_side
from harness.records.sweep_summary import CandidateState, SweepSummary
from harness.records.terminal import count_text
from harness.reporting.format import duration, inside, listed, number, signed
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.notes import RESULTS, Line
from harness.reporting.sections.provenance import facts_of
from harness.reporting.sweep_costs import CPU_HOURS, GPU_HOURS, cpu_hours, hours_unit

MOST_NAMED = 10
TEMPLATE = RESULTS + '{% if reload_s %}<div data-reload="{{ reload_s }}" hidden></div>{% endif %}'


def content(frames: Frames) -> Content | None:
    if (search := frames.study.search) is None:
        return None
    lines = [*_warnings(search, frames), _counts(search), *_front(search, frames), *_luck(search, frames)]
    context = {
        "sentence": sentence(search, frames),
        "lines": lines,
        "facts": _facts(search, frames),
        "scale_note": frames.definition.scale_note,
    }
    return Content(context={**context, "reload_s": search.redrawn_every_s if search.driver_runs else None})


def _facts(search: SweepSummary, frames: Frames) -> list[tuple[str, str]]:
    objectives = [f"{direction} {inside(frames.title(name))}" for name, direction in search.objectives.items()]
    levels = f"{' to '.join(f'{steps:,}' for steps in search.levels)} steps"
    times = [duration(3600 * search.hours)]
    if hours_unit(frames) == GPU_HOURS:
        times.append(f"{search.gpu_hours:.3g} {GPU_HOURS}")
    elif (hours := cpu_hours(frames)) is not None:
        times.append(f"{hours:.3g} {CPU_HOURS}")
    return [
        ("Objectives", "; ".join(objectives)),
        ("Sampler", listed(search.samplers) or "not recorded"),
        ("Training", levels),
        *facts_of(frames),
        ("Driven for", ", ".join(times)),
    ]


def _warnings(search: SweepSummary, frames: Frames) -> Iterable[Line]:
    if search.driver_runs:
        now = "this page is of the moment it was made"
        if search.redrawn_every_s is not None:
            now = f"this page is drawn anew while it runs, and loads itself every {search.redrawn_every_s:.0f} s"
        yield Line(lead="Not finished", text=f"a driver runs; {now}.", kind="warning")
    if frames.unreadable:
        (name, _), why = next(iter(frames.unreadable.items()))
        count = len(frames.unreadable)
        many, of = (f"the records of {count} candidates", "them") if count > 1 else ("a record", "it")
        text = f"{many} cannot be read; of {of} the page has what the study knows. {name}: {why}."
        yield Line(lead="Damaged", text=text, kind="warning")
    yield from _held_against_the_floor(search, frames)
    if not search.front:
        first, floor, counts = search.judging.first, "", ""
        if search.floor is not None:
            does, score = "are promoted" if len(search.levels) > 1 else "count", inside(frames.title(first))
            floor = f" Candidates {does} {better_side(first)} a {score} of {number(search.floor)}."
            counts = " and better than the floor" if any(each.beaten for each in search.candidates) else ""
        text = f"no candidate is trained to {search.levels[-1]:,} steps{counts}, so that there is no front.{floor}"
        yield Line(lead="No front", text=text, kind="warning")
    elif search.conclusions is None:
        text = (
            "every value here is of one training. The best of many noisy scores is good partly by luck; "
            "`finalists` in the sweep's YAML trains the best again with fresh seeds."
        )
        yield Line(lead="Not re-scored", text=text, kind="warning")


def _held_against_the_floor(search: SweepSummary, frames: Frames) -> Iterable[Line]:
    """Who is no better than what needs no network; that nobody knows, where it is not known."""
    judging, finalists = search.judging, search.conclusions.finalists if search.conclusions is not None else ()
    if judging.floor is None:
        return
    title = inside(frames.title(judging.first))
    if search.floor is None and judging.first in search.objectives:
        text = f"the {title} of {judging.floor.what} is not known, so that no candidate was held against it."
        yield Line(lead="No floor", text=text, kind="warning")
    beaten = [each.name for each in search.candidates if each.beaten]
    beaten += [f"{each.name} with fresh seeds" for each in finalists if each.beaten]
    if beaten and search.floor is not None:
        names = listed(
            [*beaten[:MOST_NAMED], *([f"{len(beaten) - MOST_NAMED} more"] if len(beaten) > MOST_NAMED else [])]
        )
        than = f"{judging.floor.what}, a {title} of {number(search.floor)}"
        text = f"{names} {'is' if len(beaten) == 1 else 'are'} no better than {than}: grey, unranked, on no front."
        yield Line(lead="Beaten without training", text=text, kind="warning")


def _counts(search: SweepSummary) -> Line:
    states = Counter(candidate.state for candidate in search.candidates)
    trained = sum(states.values()) - states["refused"]
    of = f" of {search.trials:,}" if search.trials is not None else ""
    how: dict[CandidateState, str] = {
        "complete": f"trained to {search.levels[-1]:,} steps",
        "stopped": "stopped before",
        "failed": "failed",
        "running": "not ended",
    }
    fates = [f"{states[state]:,} {text}" for state, text in how.items() if states[state]]
    refused = f" {states['refused']:,} more were refused untrained." if states["refused"] else ""
    return Line(
        lead="Searched", text=f"{trained:,}{of} candidates were trained: {', '.join(fates) or 'none'}.{refused}"
    )


def _front(search: SweepSummary, frames: Frames) -> Iterable[Line]:
    if not search.front:
        return
    many = f"{len(search.front)} candidates that no other beats in every objective" if len(search.front) > 1 else "one"
    best = f"; {_lowest(search, frames)}" if search.conclusions is not None else ""  # else the sentence has it
    yield Line(lead="The front", text=f"{many}, by the search's own values{best}.")
    rungs = {each.name: each.rung for each in search.candidates if each.rung}
    if rungs:
        there = [rungs[name] for name in search.front if name in rungs]
        complete = sum(each.state == "complete" for each in search.candidates if each.rung)
        were = "1 rung was a candidate" if len(rungs) == 1 else f"{len(rungs)} rungs were candidates"
        text = f"{were}, {complete} trained to the last level; on the front: "
        yield Line(lead="The ladder", text=f"{text}{listed(there) or 'none'}.")


def _lowest(search: SweepSummary, frames: Frames) -> str:
    return "; ".join(_best(search, frames, at) for at in range(len(search.objectives)))


def _best(search: SweepSummary, frames: Frames, at: int) -> str:
    """The best of one objective: `lowest KID 0.41 (trial-7)`."""
    name, direction = list(search.objectives.items())[at]
    front = [each for each in search.candidates if each.name in search.front and each.values is not None]
    pick = max if direction == "maximize" else min
    best = pick(front, key=lambda each: (each.values or ())[at])
    value = frames.text(name, (best.values or ())[at])
    return f"{'highest' if direction == 'maximize' else 'lowest'} {inside(frames.title(name))} {value} ({best.name})"


def sentence(search: SweepSummary, frames: Frames) -> str:
    """The page's answer: who is best by fresh seeds; without any, by one training each, which is partly luck."""
    conclusions = search.conclusions
    if conclusions is not None and conclusions.varying and conclusions.finalists:
        return _of_finalists(conclusions, frames)
    so_far = "So far, by" if search.driver_runs else "By"
    if search.front:
        return f"{so_far} one training each, which is partly luck: {_lowest(search, frames)}."
    if any(each.beaten for each in search.candidates):
        return "No candidate is better than what needs no network."
    stopped = sum(each.state == "stopped" for each in search.candidates)
    before = f"; {count_text(stopped, 'candidate')} stopped before" if stopped else ""
    return f"No candidate is trained to {search.levels[-1]:,} steps{' yet' if search.driver_runs else ''}{before}."


def _of_finalists(conclusions: Conclusions, frames: Frames) -> str:
    objective = conclusions.varying[0]
    title, best = inside(frames.title(objective)), conclusions.finalists[0]
    scored = best.objectives[objective]
    if best.beaten:  # as all are, then: those that are come last
        return "By fresh seeds no finalist is better than what needs no network."
    costs = [
        f"its {inside(frames.title(name))} is {frames.text(name, best.objectives[name].mean)}"
        for name in conclusions.directions
        if name not in conclusions.varying
    ]
    if len(conclusions.finalists) == 1:
        opening = f"By fresh seeds {best.name}, the only finalist, has a {title} of {mean_of(scored)}"
    else:
        ties = f"not distinguished from {listed(scored.ties)}" if scored.ties else "distinguished from every other"
        opening = f"By fresh seeds {best.name} is best in {title}, {mean_of(scored)}; it is {ties}"
    return f"{'; '.join([opening, *costs])}."


def _luck(search: SweepSummary, frames: Frames) -> Iterable[Line]:
    conclusions = search.conclusions
    if conclusions is None or not conclusions.varying:
        return
    objective = conclusions.varying[0]
    title = inside(frames.title(objective))
    if (luck := luck_of(conclusions, objective)) is not None:
        text = f"on average the search's {title} of the finalists differs from the re-scored mean by {signed(luck)}."
        yield Line(lead="Luck of the search", text=text)


def mean_of(objective: RescoredObjective) -> str:
    """`0.412 ± 0.031 (2 seeds)`: the mean and its standard error."""
    error = "" if objective.standard_error is None else f" ± {number(objective.standard_error)}"
    count = len(objective.scores)
    return f"{number(objective.mean)}{error} ({count} seed{'s' if count != 1 else ''})"


def luck_of(conclusions: Conclusions, objective: str) -> float | None:
    """By how much the search's values differ from the re-scored means, on average over the finalists."""
    differences = [each.objectives[objective].search_minus_mean for each in conclusions.finalists]
    return fmean(differences) if differences else None


SECTION = Section(
    name="sweep_summary", title="Summary", template=TEMPLATE, content=content, kinds=("sweep",), place="header"
)
