r"""A page's main table as LaTeX, for a paper. Of an ablation every rung's values, and what its change did, with the
interval; of a sweep its finalists by their fresh seeds, or, where none was trained again, its front by the search's own
values.

It needs `\usepackage{booktabs}`. What is predicted is in italics; a word stands only where the page has it too.
"""

from collections.abc import Iterable, Sequence

from harness.records.conclusions import Finalist
from harness.records.sweep_summary import SweepSummary
from harness.reporting.cells import heads, interval, protocol_notes, shown
from harness.reporting.definition import Column
from harness.reporting.format import number
from harness.reporting.frames import Estimate
from harness.reporting.outcomes import Outcome, caption, columns_of, difference_texts, outcomes_of
from harness.reporting.section import Frames
from harness.reporting.sections.sweep_summary import mean_of
from harness.reporting.subjects import Subject

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\u2212": "$-$", "\u00d7": r"$\times$", "\u00b1": r"$\pm$", "\u2020": r"\dag{}", "\u2026": r"\ldots{}",
    "\u207b": "$^{-}$", **{digit: f"$^{at}$" for at, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}  # fmt: skip


def latex_table(frames: Frames) -> str:
    """The text of a `table` environment."""
    return _of_ablation(frames) if frames.study.search is None else _of_sweep(frames, frames.study.search)


def _of_ablation(frames: Frames) -> str:
    columns, outcomes = columns_of(frames), outcomes_of(frames)
    titles = ["", *(f"\\multicolumn{{2}}{{c}}{{{escaped(frames.title(column.quantity))}}}" for column in columns)]
    rules = "".join(f"\\cmidrule(lr){{{2 + 2 * at}-{3 + 2 * at}}}" for at in range(len(columns)))
    heading = [escaped(frames.study.noun.capitalize()), *(["value", "change"] * len(columns))]
    heads_of = [f"{' & '.join(titles)} \\\\", rules, f"{' & '.join(heading)} \\\\"]
    return _table(_caption(frames, columns), "l" + "rl" * len(columns), heads_of, _rows(frames, columns, outcomes))


def _of_sweep(frames: Frames, search: SweepSummary) -> str:
    finalists = search.conclusions.finalists if search.conclusions is not None else ()
    titles = ["Candidate", *(frames.title(name) for name in search.objectives)]
    title = f"{frames.definition.title or search.name}: "
    if finalists:
        titles.append("not distinguished from")
        caption_of = "the finalists, by means over fresh seeds and their standard errors"
        rows = [_finalist(each, search, frames) for each in finalists]
    else:
        caption_of = "the front, by the search's own values of one training each"
        front = [each for name in search.front for each in search.candidates if each.name == name]
        rows = [[escaped(each.name), *_objectives(each.name, each.values or (), frames)] for each in front]
    heading = f"{' & '.join(map(escaped, titles))} \\\\"
    lines = (f"{' & '.join(row)} \\\\" for row in rows)
    return _table(f"{title}{caption_of}; in italics what is predicted.", "l" * len(titles), [heading], lines)


def _finalist(finalist: Finalist, search: SweepSummary, frames: Frames) -> list[str]:
    learnt = search.conclusions.varying if search.conclusions is not None else ()
    means = _objectives(finalist.name, [finalist.objectives[name].mean for name in search.objectives], frames)
    cells = [
        escaped(mean_of(finalist.objectives[name])) if name in learnt else mean
        for name, mean in zip(search.objectives, means, strict=True)
    ]
    ties = dict.fromkeys(tie for name in learnt[:1] for tie in finalist.objectives[name].ties)
    return [escaped(finalist.name), *cells, escaped(", ".join(ties) or "none")]


def _objectives(name: str, values: Sequence[float], frames: Frames) -> list[str]:
    """Each in the look of what the candidate's record calls it."""
    cells = []
    for quantity, value in zip(frames.study.search.objectives if frames.study.search else (), values, strict=True):
        known, text = frames.estimates.get((name, quantity)), escaped(frames.text(quantity, value))
        cells.append(f"\\textit{{{text}}}" if known is not None and known.kind == "predicted" else text)
    return cells


def _table(caption_of: str, columns: str, heads_of: Iterable[str], rows: Iterable[str]) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escaped(caption_of)}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *heads_of,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Plain text as LaTeX prints it."""
    return "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def _caption(frames: Frames, columns: list[Column]) -> str:
    against = (
        "Values of scores with the range of their seeds; a change, against the rung whose number stands with it, with "
        "its interval; in italics what is predicted."
    )
    notes = protocol_notes(frames.shown)
    other = f" \u2020 of another protocol: {'; '.join(notes)}." if notes else ""
    return f"{frames.definition.title or frames.study.name}: {caption(frames, columns)} {against}{other}"


def _rows(frames: Frames, columns: list[Column], outcomes: dict[tuple[str, str], Outcome]) -> Iterable[str]:
    numbers = heads(frames)
    for rung in frames.study.subjects:
        head = numbers[rung.name]
        against = f" (against {numbers[rung.against].number})" if rung.against else ""
        cells = [f"{escaped(f'{head.number} {head.title}{against}')}"]
        for column in columns:
            cells += [_value(frames, rung, column), _change(outcomes.get((rung.name, column.quantity)))]
        yield f"{' & '.join(cells)} \\\\"


def _value(frames: Frames, rung: Subject, column: Column) -> str:
    estimate = frames.estimates[rung.name, column.quantity]
    text = escaped(shown(estimate)) + _spread(estimate, column)
    if estimate.other_protocol:
        text += escaped("\u2020")
    return f"\\textit{{{text}}}" if estimate.kind == "predicted" else text


def _spread(estimate: Estimate, column: Column) -> str:
    low, high = interval(estimate, column)
    return "" if low is None or high is None else f" [{escaped(number(float(low)))}, {escaped(number(float(high)))}]"


def _change(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    difference, ends = difference_texts(outcome)
    text = " ".join(filter(None, [difference, f"[{ends}]" if ends else "", outcome.word]))
    return f"\\textit{{{escaped(text)}}}" if outcome.kind == "predicted" else escaped(text)
