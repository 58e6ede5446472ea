"""A chain's stages under each other: each network's scores, what they are more or less than the one before, and what
it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from harness.records.chain_summary import ChainSummary, Cost, StageNetwork
from harness.records.quantity import Measured
from harness.records.record import Measurement
from harness.reporting.cells import Text, exact
from harness.reporting.definition import Column
from harness.reporting.format import duration, number
from harness.reporting.section import Content, Frames, Section
from harness.reporting.stage_differences import (
    ALIKE,
    FEW,
    Difference,
    differences,
    measured,
    scored_before,
    scores_alike,
)  # fmt: skip

TEMPLATE = """
{% from "macros.html.j2" import piece, attributes %}
{% macro score(cell) %}<td>{% if cell.value %}{{ piece(cell.value) }}{% endif %}
{% if cell.interval %}<span class="spread">{{ cell.interval }}</span>{% endif %}
{% if cell.seeds %}<span class="spread">{{ cell.seeds }}</span>{% endif %}
{% for one in cell.differences %}<span class="spread" title="{{ one.why }}"{{ attributes(one.data) }}>
{% if one.told != "unknown" %}<b>{{ one.told }}</b>, {% endif %}{{ one.shown }} from
{{ one.against }}</span>{% endfor %}</td>{% endmacro %}
<div class="wide"><table class="ladder stages">
<thead><tr><th scope="col">Stage</th>
{% for title in scores[:1] %}<th scope="col">{{ title }}</th>{% endfor %}
<th scope="col">Sampled in</th><th scope="col">Steps</th><th scope="col">Training<small>from step 0</small></th>
<th scope="col">Processor</th><th scope="col">FLOP</th>
{% for title in scores[1:] %}<th scope="col">{{ title }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}
<tr data-stage="{{ row.name }}"><th scope="row"><span class="title">{{ row.title }}</span>
<span class="name">{{ row.note }}</span></th>
{% for cell in row.cells[:1] %}{{ score(cell) }}{% endfor %}
<td>{{ row.sampling }}{% if row.passes %}<span class="spread">{{ row.passes }} passes a picture</span>{% endif %}</td>
<td>{{ row.steps }}</td><td>{{ row.training }}</td><td>{{ row.processor }}</td><td>{{ row.flops }}</td>
{% for cell in row.cells[1:] %}{{ score(cell) }}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="scale">A score: its value and interval, of the samples' noise; over several seeds the mean, with their
range. A difference stands with the 95% interval of that comparison alone{{ noise }}. "Better" and "worse" are told
where its p, corrected for the {{ tested }} differences of this page together, is below 5%, so that an interval may
leave out 0 where nothing is told. Times and FLOP are of a training from its step 0, whichever stage made the first of
them; a search's are of all that it trained.</p>
"""
ONE_SEED = (
    ", of the samples' noise alone: both networks' samples begin with the same noise, and another training would "
    "differ by more"
)
SEVERAL = ", of the noise over seeds, paired by seed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    value: Text | None = None
    interval: str = ""
    seeds: str = ""
    differences: Sequence[Difference] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    name: str
    title: str
    note: str
    cells: Sequence[Cell]
    sampling: str
    passes: int
    steps: str
    training: str
    processor: str
    flops: str


def content(frames: Frames) -> Content | None:
    if (chain := frames.study.chain) is None:
        return None
    columns = [column for column in frames.columns if column.spread == "seeds"]
    apart = differences(frames)
    rows = [*_search(chain, columns)]
    for network in chain.networks:
        if network.name == FEW:
            rows += _sampled_alike(frames, chain, network, columns)
        rows.append(_row(network, [_cell(frames, network.name, each, apart[each.quantity]) for each in columns]))
    several = len(frames.study.seeds) > 1
    titles = [column.title for column in columns]
    tested = sum(one.p is not None for by in apart.values() for each in by.values() for one in each)
    noise = SEVERAL if several else ONE_SEED
    return Content(context={"rows": rows, "scores": titles, "noise": noise, "tested": tested})


def _search(chain: ChainSummary, columns: Sequence[Column]) -> list[Row]:
    if chain.search is None or chain.search_cost is None:
        return []
    trainings = chain.search_cost.trainings
    note = f"{trainings} training{'s' if trainings != 1 else ''} of {len(chain.search.candidates)} candidates"
    return [_of_cost("search_all", "Search", note, [Cell() for _ in columns], chain.search_cost)]


def _row(network: StageNetwork, cells: Sequence[Cell]) -> Row:
    note = f"the best of {network.chosen_among}, by this score" if network.chosen_among > 1 else ""
    row = _of_cost(network.name, network.title, note or network.name, cells, network.cost)
    return replace(row, sampling=network.sampling, passes=network.passes)


def _of_cost(name: str, title: str, note: str, cells: Sequence[Cell], cost: Cost) -> Row:
    processor = f"{number(cost.cpu_seconds / 3600, 'h')}" if cost.cpu_seconds else ""
    gpu = f"{number(cost.gpu_seconds / 3600, 'GPU-h')}" if cost.gpu_seconds else ""
    return Row(
        name=name,
        title=title,
        note=note,
        cells=cells,
        sampling="",
        passes=0,
        steps=f"{cost.steps:,}" if cost.steps else "",
        training=duration(cost.train_seconds) if cost.train_seconds else "",
        processor=", ".join(filter(None, (processor, gpu))),
        flops=number(int(cost.flops)) if cost.flops else "",
    )


def _cell(frames: Frames, name: str, column: Column, apart: Mapping[str, Sequence[Difference]]) -> Cell:
    estimate, score = frames.estimates[name, column.quantity], measured(frames, name, column.quantity)
    if estimate.value is None or score is None:
        return Cell()
    data = {"subject": name, "quantity": column.quantity, "seed": "all", "kind": "measured"}
    data |= {"value": exact(estimate.value), "low": exact(score.low), "high": exact(score.high)}
    value = Text(kind="measured", text=number(estimate.value, estimate.unit), data=data, hint=estimate.note)
    return Cell(value=value, interval=_interval(score), seeds=_range(estimate.values), differences=apart.get(name, ()))


def _interval(score: Measured) -> str:
    return "" if score.low is None or score.high is None else f"{number(score.low)} to {number(score.high)}"


def _sampled_alike(frames: Frames, chain: ChainSummary, network: StageNetwork, columns: Sequence[Column]) -> list[Row]:
    """The network before, sampled in the few steps of this one: over its seeds."""
    measurements = scored_before(frames, chain, network)
    if not measurements or network.before is None:
        return []
    cells = [_alike_cell(measurements, column.quantity) for column in columns]
    title = f"{frames.study.titles[network.before]}, sampled alike"
    row = _of_cost(ALIKE, title, "not trained for it", cells, Cost())
    return [replace(row, sampling=network.sampling, passes=network.passes)]


def _alike_cell(measurements: Mapping[int, Measurement], quantity: str) -> Cell:
    """The mean over the seeds that are scored, with the first one's interval, as other cells have it."""
    scores = list(scores_alike(measurements, quantity).values())
    if not scores:
        return Cell()
    mean = fmean(score.value for score in scores)
    data = {
        "measurement": " ".join(each.key for each in measurements.values()),
        "quantity": quantity,
        "kind": "measured",
    }
    text = Text(kind="measured", text=number(mean, scores[0].unit), data=data | {"value": exact(mean)})
    return Cell(value=text, interval=_interval(scores[0]), seeds=_range([score.value for score in scores]))


def _range(values: Sequence[float]) -> str:
    return f"{len(values)} seeds: {number(min(values))} to {number(max(values))}" if len(values) > 1 else ""


SECTION = Section(name="stages", title="Stages", template=TEMPLATE, content=content, kinds=("chain",))
