"""`python tests/measure/statistics_curves.py [PAGES]` simulates the statistics; writes docs/evidence/statistics.md."""

import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from statistics_simulation import (
    CONSTANT,
    EQUAL,
    NOISES,
    NULLS,
    POWERS,
    PROPORTIONAL,
    SEEDS,
    World,
    absolute,
    alone,
    equivalence,
    error_rate,
    fitted,
    holm,
    oracle,
    ours,
    overlap_rule,
    power,
    spread_known,
)

PLACE = Path("docs/evidence")
PAGES = 2000
METHODS = {
    "ours": lambda scores, _: ours(scores),
    "oracle, paired": lambda scores, world: oracle(scores, world, paired=True),
    "oracle, unpaired": lambda scores, world: oracle(scores, world, paired=False),
    "spread known": spread_known,
    "one absolute spread": lambda scores, _: holm(absolute(scores)),
    "overlap rule": lambda scores, _: holm(overlap_rule(scores)),
}
COLOURS = ("#0b6e4f", "#444444", "#999999", "#bbbbbb", "#d18f00", "#c0392b")

TEXT = """# Statistics: error rates and power

Written by `python tests/measure/statistics_curves.py {pages}`, run by hand ({pages:,} simulated pages a cell, so a
share of 5% is known to ±{error:.1f} points); `tests/measure/test_statistics_simulation.py` holds the same with fixed
seeds.

A page is a ladder of eight rungs with seven comparisons, as in `sweeps/fig3.yaml`; all rungs have the same seeds. A
comparison is stated where its p, corrected for the page, is below 5%: step down, by the joint distribution of the
page's differences (`harness/measure/statistics_joint.py`). The method is one for all worlds, and is not told which it
is in: `harness/measure/statistics.py` says it in a paragraph.

## False statements

Share of pages with at least one false statement. It should be at most 5%. Gamma noise has skewness 2 (left gamma -2),
lognormal 3.7. Where means differ, rungs of equal means stand beside rungs far away, and only statements on equal
ones are false.

{errors}

{error_summary}

What was replaced, on normal noise: one absolute spread pooled over all rungs states false things where noise is
proportional, because the highest rungs scatter more than it says.

{replaced_errors}

## Power

Share of true differences of 2 standard deviations that are stated, in percent. The *oracle* knows whether noise is
constant or proportional, estimates its size from all rungs as we do, and corrects by Holm (1979), as all lines but ours
do; paired, it also takes seeds as blocks. *Spread known* knows the standard deviations themselves, which nobody can.
The *overlap rule* is what was replaced: one absolute spread, and rungs whose seeds overlap are never told apart.

{powers}

![Power over seeds](statistics_power.svg)

The goal is to lose at most 5 points to the oracle that also knows whether seeds matter (it pairs where they do, and
only there). {shortfall}

It is lost because nobody tells us whether noise is constant or proportional. Where one rung alone differs, by 30 or
50%, whether it scatters more or less than the others decides the test, and its own few scores hardly tell: of five,
with four degrees of freedom, a spread 1.5 times as large is no surprise. A test of no difference takes one spread for
both of its rungs (the mean), which loses less there than each one's own. What would lose less still states false
things more often, as tried on other draws of some of these worlds: with the geometric mean, 1 to 2 points of power
more, on up to 6% of pages of proportional gamma noise, with the harmonic mean on more, and with likelihoods squared on
8 to 9% of pages of skewed noise at two seeds. Where noise is proportional and seeds matter, two or three seeds leave
few degrees of freedom to learn it. Part of it is won back by the correction: the differences of a page share rungs and
one estimated spread, so that their errors come together, which Holm's correction does not use.

All tests and intervals have the degrees of freedom that a variance has at the residuals' kurtosis. That costs one or
two points at few seeds on normal noise, whose kurtosis is not known either, and keeps skewed noise from being wrong
more often.

Shared seeds cost one degree of freedom each beyond the first: at two seeds seven are left of eight. Where seeds move
all rungs alike they win far more than that, and nobody looks at the scores to decide.

## The overlap rule

Of one true difference of 2 standard deviations, without a correction: how often it is stated, in percent.

{overlap}

## Equivalence

Share of pages that prove two rungs equivalent within 10% (two one-sided tests, noise of 3% of the mean), in percent. At
the margin's edge it should be at most 5. The degrees of freedom are those of a variance at the kurtosis of the
residuals; at the upper edge it still is about one point too much at three and five seeds. Here is one pair alone,
without a correction for others.

{equivalences}

## KID about or below 0

The unbiased KID of a good generator scatters around 0, so no logarithm and no proportional noise can hold there. Below
the crossover c the noise is constant; the worlds "means 0 to 1.4" above have rungs of mean 0, half of whose scores are
negative. A relative change has an interval (Fieller's) only against a rung clearly above 0.

## What is not held

Noise that is neither constant nor proportional nor between (one rung that diverges now and then) is not modelled: its
spread is shared among all rungs. What a seed does to all rungs is taken to be in proportion to each rung's own spread;
another pattern stays in the noise. With skewed noise the rates are those of the tables, not of a theorem. The grid of
crossovers, the mean of two spreads and the use of the kurtosis were chosen by such simulations of some of these
worlds, with other draws.
"""


def table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def errors(pool: Executor, pages: int, method: str, noises) -> str:
    cells = [(world, noise) for world in NULLS for noise in noises]
    rows = pool.map(error_row, *zip(*((pages, method, row, *cell) for row, cell in enumerate(cells)), strict=True))
    return table(("world", "noise", *(f"{n} seeds" for n in SEEDS)), rows)


def error_row(pages: int, method: str, row: int, world: World, noise: str) -> tuple[str, ...]:
    random = np.random.default_rng([17, row])
    pages_of = {n: world.draw(random, pages, n, noise) for n in SEEDS}
    shares = [error_rate(METHODS[method](scores, world), world) for scores in pages_of.values()]
    return world.name, noise, *map(percent, shares)


def error_summary(errors: str) -> str:
    """Of the table that `errors` gives."""
    rows = [line.split(" | ")[1:] for line in errors.replace(" |\n", "\n").removesuffix(" |").splitlines()[2:]]
    shares = np.array([row[1:] for row in rows], float)
    skewed = np.array([row[0] != "normal" for row in rows])
    return (
        f"The mean of these {shares.size} shares is {shares.mean():.1f}, the highest {shares.max():.1f}. Normal noise: "
        f"mean {shares[~skewed].mean():.1f}, highest {shares[~skewed].max():.1f}.\n"
        f"Skewed noise at 2 and 3 seeds: mean {shares[skewed, :2].mean():.1f}, highest {shares[skewed, :2].max():.1f} "
        f"(so few scores hardly tell how heavy their tails are);\n"
        f"from 5 seeds on: mean {shares[skewed, 2:].mean():.1f}, highest {shares[skewed, 2:].max():.1f}."
    )


def powers(pool: Executor, pages: int) -> dict[World, dict[str, list[float]]]:
    return dict(zip(POWERS, pool.map(powers_in, [pages] * len(POWERS), range(len(POWERS))), strict=True))


def powers_in(pages: int, row: int) -> dict[str, list[float]]:
    world, random = POWERS[row], np.random.default_rng([18, row])
    scores = [world.draw(random, pages, n) for n in SEEDS]
    return {name: [power(method(each, world), world) for each in scores] for name, method in METHODS.items()}


def shortfall(powers_of) -> str:
    """World by world, where ours is furthest below the oracle that knows whether seeds matter."""
    worst = {}
    for world, by in powers_of.items():
        known = by["oracle, paired" if world.seed_share else "oracle, unpaired"]
        worst[world.name] = max(one - own for own, one in zip(by["ours"], known, strict=True))
    missed = sum(points > 0.05 for points in worst.values())
    losses = "; ".join(f"{name}: {100 * points:.1f} points" for name, points in worst.items())
    return f"It is missed in {missed} of {len(worst)} worlds. Largest loss: {losses}."


def overlap(pages: int) -> str:
    world = World("", (1, 1.2, *EQUAL[2:]), 0.1, 0)
    scores = [world.draw(np.random.default_rng(n), pages, n) for n in SEEDS]
    methods = {
        "overlap rule": overlap_rule,
        "one absolute spread": absolute,
        "ours": lambda scores: alone(fitted(scores)),
    }
    rows = [
        (name, *(percent((method(each)[:, 0] < 0.05).mean()) for each in scores)) for name, method in methods.items()
    ]
    return table(("", *(f"{n} seeds" for n in SEEDS)), rows)


def equivalences(pool: Executor, pages: int) -> str:
    cells = [(apart, noise) for apart in (0.1, -0.1) for noise in NOISES] + [(0.05, "normal"), (0.0, "normal")]
    rows = pool.map(equivalence_row, *zip(*((pages, row, *cell) for row, cell in enumerate(cells)), strict=True))
    return table(("true difference", "noise", *(f"{n} seeds" for n in SEEDS)), rows)


def equivalence_row(pages: int, row: int, apart: float, noise: str) -> tuple[str, ...]:
    random = np.random.default_rng([19, row])
    return f"{apart:+.0%}", noise, *(percent(equivalence(random, pages, n, apart, noise)) for n in SEEDS)


def drawn(powers_of) -> str:
    """Power over seeds in the two main worlds, as SVG."""
    width, height, gap = 360, 220, 60
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (width + gap) + 20}" height="{height + 150}" '
             'font-family="sans-serif" font-size="12">']  # fmt: skip
    at = {n: index * width / (len(SEEDS) - 1) for index, n in enumerate(SEEDS)}
    for panel, world in enumerate((CONSTANT, PROPORTIONAL)):
        left = gap + panel * (width + gap)
        parts.append(f'<text x="{left}" y="20">{world.name}: % of differences of 2 sd stated</text>')
        for share in (0, 25, 50, 75, 100):
            y = 40 + height * (1 - share / 100)
            parts.append(
                f'<path d="M{left} {y}h{width}" stroke="#e5e5e5"/><text x="{left - 28}" y="{y + 4}">{share}</text>'
            )
        parts += [f'<text x="{left + x - 4:.0f}" y="{height + 60}">{n}</text>' for n, x in at.items()]
        parts.append(f'<text x="{left + width / 2 - 20}" y="{height + 78}">seeds</text>')
        for (name, shares), colour in zip(powers_of[world].items(), COLOURS, strict=True):
            points = " ".join(
                f"{left + x:.1f},{40 + height * (1 - y):.1f}" for x, y in zip(at.values(), shares, strict=True)
            )
            weight = 3 if name == "ours" else 1.5
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{weight}"/>')
    for index, (name, colour) in enumerate(zip(METHODS, COLOURS, strict=True)):
        x, y = gap + 140 * index, height + 110
        parts.append(
            f'<path d="M{x} {y - 4}h20" stroke="{colour}" stroke-width="3"/><text x="{x + 24}" y="{y}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    pages = int(sys.argv[1]) if len(sys.argv) > 1 else PAGES
    with ProcessPoolExecutor() as pool:
        write(pool, pages)


def write(pool: Executor, pages: int) -> None:
    powers_of = powers(pool, pages)
    rows = [
        (world.name, name, *map(percent, shares))
        for world, by_name in powers_of.items()
        for name, shares in by_name.items()
    ]
    error_table = errors(pool, pages, "ours", NOISES)
    text = TEXT.format(
        pages=pages,
        error=100 * 1.96 * (0.05 * 0.95 / pages) ** 0.5,
        errors=error_table,
        error_summary=error_summary(error_table),
        replaced_errors=errors(pool, pages, "one absolute spread", ("normal",)),
        powers=table(("world", "method", *(f"{n} seeds" for n in SEEDS)), rows),
        shortfall=shortfall(powers_of),
        overlap=overlap(pages),
        equivalences=equivalences(pool, pages),
    )
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / "statistics.md").write_text(text)
    (PLACE / "statistics_power.svg").write_text(drawn(powers_of))


if __name__ == "__main__":
    main()
