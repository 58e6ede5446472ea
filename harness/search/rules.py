"""The rules by which a promotion chooses, each with its reasons.

best    the best value of a score
knee    the point of the front of a score against a cost that lies farthest below the chord between the front's ends,
        both on the scale of ratios that samplers use (`pareto.scaled`: a logarithm, linear below the noise of a KID)
limit   the best value of a score among those that are within limits

The knee's distance is told in the box in which each axis goes from 0, the better end, to 1: (1 - x - y) / sqrt(2), 0 on
the chord. Whose it is does not hang on that: however the axes are stretched, the farthest from a chord is the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.records.better import front_of
from harness.records.errors import UserError
from harness.records.manifest import Rule
from harness.records.quantities import is_better, is_learnt, more_is_better, scale_of, title_of
from harness.search.contest import Contender, Contest, Value
from harness.search.pareto import scaled


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Who was chosen, and why the others were not."""

    rule: Rule
    chosen: Contender
    said: str
    """The rule with what it was asked: `the lowest KID`."""
    quantities: tuple[str, ...]
    """Those that decided."""
    ties: tuple[str, ...]
    """Of those that might have been chosen, whom the first quantity does not tell apart from the chosen one."""
    why_not: Mapping[str, str]
    """Another contender -> why it was not chosen."""
    distances: Mapping[str, float] = field(default_factory=dict)
    """A knee's: member of the front -> its distance to the chord."""


def by_rule(contest: Contest, rule: Rule, score: str | None, cost: str | None, limits: Mapping[str, float]) -> Choice:
    """None of a score or a cost: the one that the study has first."""
    score = score or contest.first
    if rule == "knee":
        return knee(contest, score, cost or contest.cost)
    return limit(contest, score, limits) if rule == "limit" else best(contest, score)


def best(contest: Contest, score: str) -> Choice:
    _known(contest, "best", score)
    return _best_of(contest, "best", f"the {_best(score)}", score, contest.may_win(score))


def limit(contest: Contest, score: str, limits: Mapping[str, float]) -> Choice:
    if not limits:
        raise UserError("--rule limit needs limits: --at-most QUANTITY=VALUE ..., e.g. --at-most macs=1e6")
    if wrong := next((name for name, most in limits.items() if not 0 < most < math.inf), None):
        raise UserError(f"a limit is a number above 0, and --at-most has {wrong}={limits[wrong]:g}; give another one")
    _known(contest, "limit", score)
    held = {name: _known(contest, "limit", name) for name in limits}
    above = _above(contest, limits, held)
    within = {who: value for who, value in contest.may_win(score).items() if who not in above}
    if not within:
        raise UserError(_nobody(contest, limits, held))
    said = f"the {_best(score)} among those with {_limits(limits)}"
    return replace(_best_of(contest, "limit", said, score, within, above), quantities=(score, *limits))


def knee(contest: Contest, score: str, cost: str) -> Choice:
    if score == cost:
        raise UserError(f"a knee weighs a score against a cost, and both are {score}; give another --cost")
    _known(contest, "knee", score), _known(contest, "knee", cost)
    scores, costs = contest.may_win(score), contest.may_win(cost)
    names = [who for who in scores if who in costs]
    points = [(costs[who].value, scores[who].value) for who in names]
    front = [names[at] for at in front_of(points, [_direction(cost), _direction(score)])]
    distances = _distances(contest, score, cost, scores, costs, front)
    chosen = max(distances, key=lambda who: distances[who])
    if distances[chosen] <= 0:
        raise UserError(
            f"the front of {title_of(score)} against {title_of(cost)} has no knee: none of {', '.join(front)} lies "
            "below the chord between its ends; choose by --rule best or --rule limit"
        )
    why_not = {who: f"on the front, {distances[who]:.3f} from the chord" for who in front}
    beaten = {who: _beaten_by(who, front, score, cost, scores, costs) for who in names if who not in front}
    return Choice(
        rule="knee",
        chosen=_contender(contest, chosen),
        said=f"the knee of the front of {title_of(score)} against {title_of(cost)}",
        quantities=(score, cost),
        ties=tuple(contest.ties(score, chosen, front)),
        why_not=_others(contest, chosen, {**beaten, **why_not}, (score, cost)),
        distances=distances,
    )


def _distances(
    contest: Contest,
    score: str,
    cost: str,
    scores: Mapping[str, Value],
    costs: Mapping[str, Value],
    front: Sequence[str],
) -> dict[str, float]:
    """Of the front's members, which come with the best cost first."""
    losses = {who: (_loss(contest, cost, costs[who], who), _loss(contest, score, scores[who], who)) for who in front}
    cheap, good = front[0], front[-1]
    width, height = losses[good][0] - losses[cheap][0], losses[cheap][1] - losses[good][1]
    if len(front) < 3 or width <= 0 or height <= 0:
        raise UserError(
            f"a knee lies between the ends of a front, and that of {title_of(score)} against {title_of(cost)} is "
            f"{', '.join(front)}; choose by --rule best or --rule limit, or name another --cost"
        )
    return {
        who: (1 - (x - losses[cheap][0]) / width - (y - losses[good][1]) / height) / math.sqrt(2)
        for who, (x, y) in losses.items()
    }


def _loss(contest: Contest, name: str, value: Value, who: str) -> float:
    """On the quantity's scale, lower is better."""
    sign = -1.0 if more_is_better(name) else 1.0
    return sign * scaled(name, value.value, _samples(contest, name, who))


def _samples(contest: Contest, name: str, who: str) -> int:
    """How many a score is of, where its scale hangs on that."""
    if scale_of(name) in ("ratio", "few"):
        return 1
    value = _contender(contest, who).told_value(name)
    samples = getattr(value, "conditions", {}).get("samples")
    if samples is None:
        raise UserError(
            f"a knee needs the scale of {title_of(name)}, and the record of {who} does not say of how many samples it "
            "is; choose by --rule best or --rule limit"
        )
    return int(samples)


def _best_of(
    contest: Contest,
    rule: Rule,
    said: str,
    score: str,
    values: Mapping[str, Value],
    out: Mapping[str, str] | None = None,
) -> Choice:
    """`out`: those that are out of the question, and why."""
    sign = -1.0 if more_is_better(score) else 1.0
    chosen = min(values, key=lambda who: sign * values[who].value)
    ties = contest.ties(score, chosen, values)
    tied = _tied(contest, score, chosen)
    why_not = {who: _worse(score, value, values[chosen], tied if who in ties else "") for who, value in values.items()}
    return Choice(
        rule=rule,
        chosen=_contender(contest, chosen),
        said=said,
        quantities=(score,),
        ties=tuple(ties),
        why_not=_others(contest, chosen, {**why_not, **(out or {})}, (score,)),
    )


def _others(contest: Contest, chosen: str, reasons: Mapping[str, str], needed: Sequence[str]) -> dict[str, str]:
    """Those without a reason of their own lack one of the quantities `needed`, or some seeds of it."""

    def lacking(each: Contender) -> str:
        lacks = (each.lacks(name) for name in needed if is_learnt(name) and each.scores(name))
        return next((lack for lack in lacks if lack), f"no {' or '.join(needed)}")

    others = (each for each in contest.contenders if each.name != chosen)
    return {each.name: reasons.get(each.name) or lacking(each) for each in others}


def _tied(contest: Contest, score: str, chosen: str) -> str:
    """What is said of those that tie."""
    once = is_learnt(score) and all(len(of) < 2 for of in contest.scores(score).values())
    return f"not told apart from {chosen}{' (one training each)' * once}"


def _worse(score: str, value: Value, best_value: Value, tied: str) -> str:
    """`tied`: that the two are not told apart; empty where they are."""
    difference = abs(value.value - best_value.value)
    side = "lower" if more_is_better(score) else "higher"
    said = f"{title_of(score)} {difference:.3g} {side}" if difference else f"the same {title_of(score)}"
    return f"{said}, {tied}" if tied else said


def _beaten_by(
    who: str,
    front: Iterable[str],
    score: str,
    cost: str,
    scores: Mapping[str, Value],
    costs: Mapping[str, Value],
) -> str:
    """Members of the front beat everyone else: one that does, in both."""
    by = next(
        other
        for other in front
        if not is_better(score, scores[who].value, scores[other].value)
        and not is_better(cost, costs[who].value, costs[other].value)
    )
    return f"not on the front: {by} is as good or better in both"


def _above(contest: Contest, limits: Mapping[str, float], held: Mapping[str, Mapping[str, Value]]) -> dict[str, str]:
    """Who is not within the limits -> why."""
    above: dict[str, str] = {}
    for name, most in limits.items():
        for each in contest.contenders:
            value = held[name].get(each.name)
            if value is None:
                above.setdefault(each.name, f"{name} is not known")
            elif value.value > most:
                above.setdefault(each.name, f"{name} {value.text} is above {most:,.10g}")
    return above


def _nobody(contest: Contest, limits: Mapping[str, float], held: Mapping[str, Mapping[str, Value]]) -> str:
    """That none is within, and who is nearest: whose worst ratio to a limit is the least."""

    def excess(who: str) -> float:
        ratios = [held[name][who].value / most if who in held[name] else math.inf for name, most in limits.items()]
        return max(ratios)

    nearest = min(contest.names, key=excess)
    nearest_values = [f"{name} {held[name][nearest].text if nearest in held[name] else 'not known'}" for name in limits]
    return (
        f"none of {len(contest.contenders)} in '{contest.study}' has {_limits(limits)}; the nearest is {nearest}, with "
        f"{', '.join(nearest_values)}: raise a limit, or search under it"
    )


def _known(contest: Contest, rule: Rule, name: str) -> dict[str, Value]:
    contest.check(name)
    values = contest.values(name)
    if not values:
        need = f"takes the {_best(name)}" if is_learnt(name) else f"needs {title_of(name)}"
        raise UserError(f"--rule {rule} {need}, and no trial here has one; name a trial: {', '.join(contest.names)}")
    return values


def _best(name: str) -> str:
    return f"{'highest' if more_is_better(name) else 'lowest'} {title_of(name)}"


def _limits(limits: Mapping[str, float]) -> str:
    return " and ".join(f"{name} of at most {most:,.10g}" for name, most in limits.items())


def _direction(name: str) -> str:
    return "maximize" if more_is_better(name) else "minimize"


def _contender(contest: Contest, name: str) -> Contender:
    (contender,) = (each for each in contest.contenders if each.name == name)
    return contender
