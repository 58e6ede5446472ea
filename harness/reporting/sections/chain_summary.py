"""The top of a chain's page: what each stage bought, what it cost, and what is still to come."""

from collections.abc import Iterable, Sequence

from harness.records.chain_summary import ChainSummary
from harness.records.quantities import title_of
from harness.reporting.entries import score_column
from harness.reporting.format import duration, inside, listed, number
from harness.reporting.remarks import remarks_in, teachers_played
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.notes import RESULTS, Line
from harness.reporting.sections.provenance import facts_of
from harness.reporting.stage_differences import Difference, differences


def content(frames: Frames) -> Content | None:
    if (chain := frames.study.chain) is None:
        return None
    lines = [*_warnings(frames, chain), *_networks(frames, chain), *_teachers(frames), *_phone(chain)]
    facts = [*facts_of(frames), ("In all", duration(sum(run.seconds for run in chain.runs)))]
    context = {"lines": lines, "facts": facts, "scale_note": frames.definition.scale_note}
    return Content(context={"sentence": sentence(frames), **context})


def _warnings(frames: Frames, chain: ChainSummary) -> Iterable[Line]:
    if left := [run.name for run in chain.runs if not run.done]:
        yield Line(lead="Not finished", text=f"still to come: {listed(left)}.", kind="warning")
    if remarks := remarks_in(frames.records, frames.study.titles):
        yield Line(lead="Told while training", text=f"{'; '.join(remarks)}.", kind="warning")


def sentence(frames: Frames) -> str:
    """The page's answer: what each stage bought in its first score; empty where there is nothing to compare yet."""
    column = score_column(frames)
    by_network = {} if column is None else differences(frames)[column.quantity]
    if column is None or not by_network:
        return ""
    bought = "; ".join(f"{frames.study.titles[name]}: {_in_short(each)}" for name, each in by_network.items())
    return f"What each stage bought in {inside(column.title)}. {bought}."


def _networks(frames: Frames, chain: ChainSummary) -> Iterable[Line]:
    """A line for each network, of the page's first score."""
    column = score_column(frames)
    if column is None:
        return
    title, by_network = inside(column.title), differences(frames)[column.quantity]
    for network in chain.networks:
        score = frames.estimates[network.name, column.quantity].value
        if score is None:
            continue
        value = f"{title} {number(score)}"
        several = [_sentence(each) for each in by_network.get(network.name, [])]
        if network.chosen_among > 1:
            several.append(f"the best of {network.chosen_among} by one training each, and partly the luckiest")
        yield Line(lead=network.title, text=f"{'; '.join([value, *several])}.")
    if chain.decoder:
        scores = (f"{inside(title_of(name))} {number(each)}" for name, each in chain.decoder.items())
        yield Line(lead="Decoder", text=f"{', '.join(scores)}.")


def _teachers(frames: Frames) -> Iterable[Line]:
    if played := teachers_played(frames.records, frames.study.titles):
        yield Line(lead="The few-step teacher", text=f"{'; '.join(played)}.")


def _in_short(several: Sequence[Difference]) -> str:
    """`better than Trained`, `not told from Distilled, sampled alike; worse than ...`."""
    words = {"better": "better than", "worse": "worse than", "not told": "not told from", "unknown": "not known beside"}
    return ", ".join(f"{words[each.told]} {each.against}" for each in several)


def _sentence(difference: Difference) -> str:
    """`−0.0120 (−0.0200 to −0.0040) from Trained: better`."""
    if difference.told == "unknown":
        return f"its difference from {difference.against} is not known: {difference.why}"
    return f"{difference.shown} from {difference.against}: {difference.told}"


def _phone(chain: ChainSummary) -> Iterable[Line]:
    """The last network's picture on the first chip."""
    if not chain.totals:
        return
    total, last = chain.totals[0], chain.networks[-1]
    line = next((each for each in total["totals"] if each["steps"] == last.passes), None)
    if line is not None and line["latency_ms"] is not None:
        text = f"a picture takes {number(float(line['latency_ms']), 'ms')} on the {total['chip']}, {line['kind']}"
        yield Line(lead="On the phone", text=f"{text}, in {last.passes} passes of its network.")


SECTION = Section(
    name="chain_summary", title="Summary", template=RESULTS, content=content, kinds=("chain",), place="header"
)
